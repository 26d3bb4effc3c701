"""Scenario 1 of kernel.txt: reproduced, named and ended on our own kernel half."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from conftest import in_thread, wait_until

from fusewire import Deadlock, Entry, Kernel, Process
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


class Crossed(MemoryFS):
    """MKDIR's handler closes a file and asks for STATFS; RELEASE's, which comes first, unlinks something beside the new
    directory: it waits for the semaphore that the caller of MKDIR holds until the first handler goes on."""

    armed = False
    user: Process
    other: Process
    fd = 0

    def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
        if self.armed:
            self.user.close(self.fd)
            self.user.statvfs("/")
        return super().mkdir(parent, name, mode)

    def release(self, ino: int, fh: int, flags: int) -> None:
        if self.armed:
            self.armed = False
            self.other.unlink("/x")


def crossed(kernel: Kernel) -> Process:
    filesystem = Crossed({"x": b"", "y": b""})
    kernel.mount(filesystem, "/", workers=3)
    filesystem.user, filesystem.other = kernel.process("user"), kernel.process("other")
    filesystem.fd = filesystem.user.open("/y", os.O_RDONLY)
    filesystem.other.stat("/x")
    filesystem.armed = True
    return kernel.process("first")


def test_a_call_beneath_anothers_frames_is_reported_as_buried_and_not_as_a_deadlock() -> None:
    with Kernel() as kernel:
        first = crossed(kernel)
        with pytest.raises(Buried, match=r"lies beneath the call of other:\d+, which waits for it: use Kernel"):
            first.mkdir("/d")
        assert first.listdir("/") == ["x", "y", "d"]  # and all goes on


def test_on_threads_the_same_calls_go_through() -> None:
    with Kernel("threads") as kernel:
        first = crossed(kernel)
        first.mkdir("/d")
        wait_until(lambda: sorted(first.listdir("/")) == ["d", "y"])


def test_no_such_policy_or_driver() -> None:
    with pytest.raises(ValueError, match="on_deadlock"):
        Kernel(on_deadlock="ignore")
    with pytest.raises(ValueError, match="drivers"):
        Kernel("fibers")
