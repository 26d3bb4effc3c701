"""Where serving gets stuck elsewhere: logs on the mount itself, a trace that nobody reads, no threads, forks, many mounts."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading

import pytest
from conftest import wait_until
from test_whose_request import MKDIR, Channel, Served, Slow

import fusewire
from fusewire import Session
from fusewire.filesystems import MemoryFS
from fusewire.transport.devfuse import DevFuse
from fusewire.transport.readers import Readers
from fusewire.transport.trace import Traced
from fusewire.wire import layouts as L
from fusewire.wire.codec import Message, encode_request
from fusewire.wire.flags import Opcode


def test_a_log_on_the_very_mount_is_written_while_handlers_block(caplog: pytest.LogCaptureFixture) -> None:
    operations = Slow()
    served = Served(operations)
    served.readers.limit = 3
    answered: list[str] = []

    class OnTheMount(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            served.channel.ask(Opcode.MKDIR, 1000, MKDIR, nodeid=1)
            served.channel.answered(1000)
            answered.append(record.getMessage())

    log, handler = logging.getLogger("fusewire.transport"), OnTheMount()
    log.addHandler(handler)
    try:
        for unique in (4, 6):
            served.channel.ask(Opcode.STATFS, unique, nodeid=1)
            assert operations.began.acquire(timeout=20)
        wait_until(lambda: answered)
    finally:
        log.removeHandler(handler)
        operations.let_go.set()
        served.end()
    assert answered == ["3 handlers block at the same time: requests wait until one comes back"]


def test_a_trace_that_nobody_reads_answers_nothing_twice_and_takes_nothing_back() -> None:
    def show(line: str) -> None:
        raise BrokenPipeError

    filesystem, channel = MemoryFS({"f": b""}), Channel()
    readers = Readers(Session(filesystem), Traced(channel, show))
    thread = threading.Thread(target=readers.run, daemon=True)
    thread.start()
    channel.ask(Opcode.INIT, 2, Message((L.InitIn(7, 45),)))
    channel.ask(Opcode.LOOKUP, 4, Message((), (b"f",)), nodeid=1)
    assert channel.answered(4) == 0
    channel.asked.put(None)
    thread.join(20)
    assert channel.answers == {2: 0, 4: 0}
    assert filesystem.nodes[2].nlookup == 1


@pytest.mark.parametrize("which", ["monitor", "reader"])
def test_where_linux_gives_no_thread_serving_is_over_and_says_why(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if which in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    readers = Readers(Session(MemoryFS()), Channel())
    known_at_the_end: list[BaseException | None] = []
    readers.at_end = lambda: known_at_the_end.append(readers.failure)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        readers.run()
    assert [type(failure) for failure in known_at_the_end] == [RuntimeError]
    assert readers.ended()


def test_a_child_gives_back_a_device_that_another_thread_was_closing() -> None:
    channel = DevFuse(os.open(os.devnull, os.O_RDWR))
    channel._ending.acquire()  # by a thread that the child does not have
    channel.close_in_child()
    assert channel.fd == -1


def test_any_number_of_serves_ends_when_it_is_cancelled() -> None:
    """More than asyncio has threads of its own (32 at most)."""

    def ask_for_init(kernel: socket.socket) -> None:
        kernel.send(encode_request(Opcode.INIT, Message((L.InitIn(7, 45, 1 << 17, 0, 0),)), unique=2))
        kernel.recv(4096)

    async def main() -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(40)]
        serving = [asyncio.create_task(fusewire.serve(MemoryFS(), f"/dev/fd/{daemon.detach()}")) for _, daemon in pairs]
        for kernel, _ in pairs:
            await asyncio.to_thread(ask_for_init, kernel)
        for task in serving:
            task.cancel()
        done, pending = await asyncio.wait(serving, timeout=20)
        assert not pending
        assert all(task.cancelled() for task in done)
        for kernel, _ in pairs:
            kernel.close()

    asyncio.run(main())
