"""Under ``threads`` a large body is copied outside the big lock, into memory that its owner does not leave meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import wait_until

from fusewire import Kernel
from fusewire.filesystems import MemoryFS
from fusewire.kernel.queue import copy

SIZE = 4 * copy.LARGE


def around_copies(monkeypatch: pytest.MonkeyPatch, look: Callable[[int], None]) -> None:
    """``look`` is called, with the length, before each piece that is copied with the request locked."""
    original = copy._copy

    def looked(into: memoryview, at: int, chunk: Any) -> None:
        look(len(chunk))
        original(into, at, chunk)

    monkeypatch.setattr(copy, "_copy", looked)


def test_the_lock_is_free_while_a_large_body_is_copied_in_either_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    with Kernel("threads") as kernel:
        filesystem = MemoryFS()
        kernel.mount(filesystem, "/m")
        process = kernel.process()
        fd = process.open("/m/f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)

        def look(size: int) -> None:
            if size > copy.LARGE:
                with kernel.driver.locked():  # for ever, if it were this thread's
                    copied.append(size)

        around_copies(monkeypatch, look)
        data = os.urandom(SIZE)
        assert process.pwrite(fd, data, 0) == SIZE
        assert process.pread(fd, SIZE, 0) == data
        process.close(fd)
    assert sum(copied) == 2 * SIZE


def test_a_caller_that_is_interrupted_leaves_only_when_its_memory_is_no_longer_copied_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copying, go_on = threading.Event(), threading.Event()
    outcome: list[object] = []
    with Kernel("threads") as kernel:
        kernel.mount(MemoryFS({"f": bytes(SIZE)}), "/m")
        process = kernel.process()
        process.signal(signal.SIGUSR1, lambda number: None)
        fd = process.open("/m/f", os.O_RDONLY | os.O_DIRECT)

        def look(size: int) -> None:
            if size > copy.LARGE:
                copying.set()
                assert go_on.wait(20)

        around_copies(monkeypatch, look)

        def call() -> None:
            try:
                outcome.append(len(process.pread(fd, SIZE, 0)))
            except InterruptedError as error:
                outcome.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        assert copying.wait(20)
        process.kill(signal.SIGUSR1)
        # It was told, and yet it is still there: it sleeps until the copier unlocks.
        wait_until(lambda: any(waiting.what == "req->locked" for waiting in kernel.graph().waits.values()))
        assert not outcome
        go_on.set()
        caller.join(20)
        assert len(outcome) == 1
        assert process.stat("/m/f").st_size == SIZE
