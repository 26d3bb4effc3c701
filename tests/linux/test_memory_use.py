"""A million look-ups and their forgets leave the daemon's memory as it was."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from fusewire import Session
from fusewire.filesystems import MemoryFS
from fusewire.wire import codec
from fusewire.wire import layouts as L
from fusewire.wire.codec import Message
from fusewire.wire.flags import Opcode


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_memory_is_back_after_lookups_and_forgets(count: int) -> None:
    filesystem = MemoryFS({f"{n}": b"" for n in range(1000)})
    session = Session(filesystem)
    session.handle(codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 45),)), unique=2))
    requests = [
        codec.encode_request(Opcode.LOOKUP, Message(names=(str(n).encode(),)), unique=4, nodeid=1) for n in range(1000)
    ]
    inos = [L.ENTRY_OUT.unpack(b"".join(session.handle(raw))[16:]).nodeid for raw in requests]  # type: ignore[arg-type]
    forgets = [
        codec.encode_request(Opcode.FORGET, Message((L.ForgetIn(count // 1000),)), unique=6, nodeid=ino) for ino in inos
    ]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(count // 1000):
        for raw in requests:
            session.handle(raw)
    for raw in forgets:
        session.handle(raw)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 200_000, f"{after - before} bytes more after {count} look-ups"
    assert len(filesystem.nodes) == 1001
