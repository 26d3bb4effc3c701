"""Scenario 1 of kernel.txt: reproduced, named and ended on our own kernel half."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable

import pytest

from fusewire import Deadlock, Kernel, Process
from fusewire.drive import Buried
from fusewire.filesystems import MemoryFS


class SelfUser(MemoryFS):
    """Its handler of UNLINK unlinks the same name on the mount that it serves."""

    process: Process | None = None

    def unlink(self, parent: int, name: bytes) -> None:
        if self.process is not None:
            self.process.unlink(b"/" + name)
        super().unlink(parent, name)


CYCLE = (
    'daemon:2, in sys_unlink, waits on inode semaphore for "/", which only rm:3 could end;\n'
    "rm:3, in sys_unlink, waits on req->waitq, which only daemon:2 could end."
)


def scenario(kernel: Kernel, workers: int = 1) -> tuple[SelfUser, Process]:
    filesystem = SelfUser({"file": b""})
    filesystem.process = kernel.mount(filesystem, "/", workers=workers).daemon
    rm = kernel.process("rm")
    return filesystem, rm


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException | None]]:
    outcome: list[BaseException | None] = []

    def body() -> None:
        try:
            call()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread, outcome


def test_inline_raises_it_with_the_cycle_in_words() -> None:
    with Kernel() as kernel:
        _, rm = scenario(kernel)
        with pytest.raises(Deadlock) as caught:
            rm.unlink("/file")
        assert caught.value.words == CYCLE


def test_after_it_was_raised_the_kernel_goes_on() -> None:
    with Kernel() as kernel:
        filesystem, rm = scenario(kernel)
        with pytest.raises(Deadlock):
            rm.unlink("/file")
        filesystem.process = None
        rm.unlink("/file")
        assert rm.listdir("/") == []


def test_on_threads_the_youngest_waiter_gets_edeadlk_and_all_are_freed() -> None:
    with Kernel("threads") as kernel:
        filesystem, rm = scenario(kernel)
        with pytest.raises(OSError) as caught:
            rm.unlink("/file")
        assert caught.value.errno == errno.EDEADLK  # the handler passed on what it got
        assert [found.words() for found in kernel.driver.deadlocks] == [CYCLE]
        filesystem.process = None
        rm.unlink("/file")


def test_interrupting_the_caller_frees_it_and_leaves_the_daemon_to_wait_for_itself() -> None:
    with Kernel("threads", on_deadlock="report") as kernel:
        _, rm = scenario(kernel)
        rm_thread, outcome = in_thread(lambda: rm.unlink("/file"))
        assert kernel.wait_deadlock(timeout=20).words() == CYCLE
        rm.kill(signal.SIGINT)
        rm_thread.join(20)
        assert isinstance(outcome[0], InterruptedError)
        assert kernel.wait_deadlock(timeout=20).words() == (
            "daemon:2, in sys_unlink, waits on req->waitq, which only it itself could end."
        )
        daemon = kernel.mounts[0].daemon
        daemon.kill(signal.SIGKILL)
        assert kernel.driver.settle(kernel.mounts[0].workers, timeout=20) == []


def test_an_abort_frees_everyone() -> None:
    with Kernel("threads", on_deadlock="report") as kernel:
        _, rm = scenario(kernel)
        thread, outcome = in_thread(lambda: rm.unlink("/file"))
        kernel.wait_deadlock(timeout=20)
        kernel.mounts[0].abort()
        thread.join(20)
        assert isinstance(outcome[0], OSError)
        assert outcome[0].errno == errno.ECONNABORTED
        assert kernel.driver.settle(kernel.mounts[0].workers, timeout=20) == []


def test_under_the_linux_policy_no_signal_frees_the_caller_but_an_abort_does() -> None:
    with Kernel("threads", policy="linux", on_deadlock="report") as kernel:
        _, rm = scenario(kernel)
        thread, outcome = in_thread(lambda: rm.unlink("/file"))
        kernel.wait_deadlock(timeout=20)
        rm.kill(signal.SIGKILL)
        # The signal leads to one more wait, which nothing but an abort can end: that too is seen as a deadlock.
        assert 'waits on inode semaphore for "/"' in kernel.wait_deadlock(timeout=20).words()
        assert not outcome
        kernel.mounts[0].abort()
        thread.join(20)
        assert isinstance(outcome[0], OSError)


def test_a_second_worker_does_not_help_against_a_semaphore() -> None:
    with Kernel("threads", on_deadlock="report") as kernel:
        _, rm = scenario(kernel, workers=2)
        thread, _ = in_thread(lambda: rm.unlink("/file"))
        assert "inode semaphore" in kernel.wait_deadlock(timeout=20).words()
        kernel.mounts[0].abort()
        thread.join(20)


def test_a_handler_that_only_looks_needs_a_second_worker() -> None:
    class Looker(MemoryFS):
        process: Process | None = None

        def unlink(self, parent: int, name: bytes) -> None:
            assert self.process is not None
            self.process.statvfs("/")
            super().unlink(parent, name)

    for workers in (1, 2):
        with Kernel() as kernel:
            filesystem = Looker({"file": b""})
            filesystem.process = kernel.mount(filesystem, "/", workers=workers).daemon
            rm = kernel.process("rm")
            if workers == 1:
                with pytest.raises(Deadlock, match="only it itself could end"):
                    rm.unlink("/file")
            else:
                rm.unlink("/file")


def test_a_call_beneath_anothers_frames_is_reported_as_buried_and_not_as_a_deadlock() -> None:
    class Crossed(MemoryFS):
        """UNLINK of a makes a third program unlink b, whose handler waits for something that the first handler does."""

        process: Process | None = None
        other: Process | None = None

        def lookup(self, parent: int, name: bytes) -> object:  # type: ignore[override]
            if name == b"outer" and self.process is not None:
                self.process.statvfs("/")
            return super().lookup(parent, name)

        def statfs(self, ino: int) -> object:  # type: ignore[override]
            assert self.other is not None
            self.other.stat("/outer")
            return super().statfs(ino)

    with Kernel() as kernel:
        filesystem = Crossed({"outer": b""})
        mount = kernel.mount(filesystem, "/", workers=2)
        filesystem.process = mount.daemon
        filesystem.other = kernel.process("other")
        first = kernel.process("first")
        with pytest.raises((Buried, OSError)):
            first.stat("/outer")


def test_no_such_policy_or_driver() -> None:
    with pytest.raises(ValueError, match="on_deadlock"):
        Kernel(on_deadlock="ignore")
    with pytest.raises(ValueError, match="drivers"):
        Kernel("fibers")
