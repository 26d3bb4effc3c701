"""A filesystem notifies our kernel's half through ``session.notify``, from its handlers and from anywhere else."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fusewire import Buried, Entry, Kernel
from fusewire.filesystems import MemoryFS

DRIVERS = pytest.mark.parametrize("driver", ["inline", "threads"])


class Cached(MemoryFS):
    entry_timeout = attr_timeout = 1e6


@DRIVERS
def test_a_name_that_was_valid_for_long_is_looked_up_again_after_a_notification(driver: str) -> None:
    filesystem = Cached({"f": b""})
    lookups = []
    honest = filesystem.lookup
    filesystem.lookup = lambda parent, name: (lookups.append(name), honest(parent, name))[1]  # type: ignore[method-assign]
    with Kernel(driver) as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        process.stat("/f")
        process.stat("/f")
        assert lookups == [b"f"]
        filesystem.session.notify.inval_entry(1, b"f").result(timeout=10)
        process.stat("/f")
        assert lookups == [b"f", b"f"]


@DRIVERS
def test_the_kernels_error_comes_back(driver: str) -> None:
    filesystem = MemoryFS()
    with Kernel(driver) as kernel:
        kernel.mount(filesystem, "/")
        kernel.process().stat("/")  # INIT has been answered
        with pytest.raises(FileNotFoundError):
            filesystem.session.notify.inval_inode(4711).result(timeout=10)


@DRIVERS
def test_a_handler_may_notify_about_the_very_directory_that_its_caller_has_locked(driver: str) -> None:
    results: list[Any] = []

    class Notifying(MemoryFS):
        def unlink(self, parent: int, name: bytes) -> None:
            results.append(self.session.notify.inval_entry(parent, name))
            super().unlink(parent, name)

    with Kernel(driver) as kernel:
        kernel.mount(Notifying({"f": b""}), "/")
        kernel.process().unlink("/f")
        assert isinstance(results[0].exception(timeout=10), FileNotFoundError | None)


def test_a_handler_that_waits_for_that_notification_is_told_so_inline() -> None:
    class Waiting(MemoryFS):
        def lookup(self, parent: int, name: bytes) -> Entry:
            self.session.notify.inval_entry(parent, b"g").result()
            return super().lookup(parent, name)

    with Kernel() as kernel:
        kernel.mount(Waiting({"f": b""}), "/")
        with pytest.raises((Buried, OSError)):
            kernel.process().stat("/f")


def test_a_handler_that_waits_for_that_notification_is_a_deadlock_on_threads_that_an_abort_ends() -> None:
    entered = threading.Event()

    class Waiting(MemoryFS):
        def unlink(self, parent: int, name: bytes) -> None:
            result = self.session.notify.inval_entry(parent, name)
            entered.set()
            result.exception(timeout=10)

    def call() -> None:
        with pytest.raises(ConnectionAbortedError):
            kernel.process().unlink("/f")

    with Kernel("threads") as kernel:
        mount = kernel.mount(Waiting({"f": b""}), "/")
        caller = threading.Thread(target=call)
        caller.start()
        assert entered.wait(10)
        mount.abort()
        caller.join(10)
        assert not caller.is_alive()


def test_after_the_end_a_notification_is_refused() -> None:
    filesystem = MemoryFS()
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
    with pytest.raises(OSError, match=r"INVAL_INODE|gone"):
        filesystem.session.notify.inval_inode(1)
