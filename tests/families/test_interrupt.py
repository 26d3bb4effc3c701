"""Signals and requests, as Linux treats them (the policy ``linux``): the daemon is told, and the caller waits for its answer.

What is unread goes with a caller that dies; what was read does not.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import wait_until
from mocked import BOTH, errno_of, open_file

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, opened, written
from fusewire.testing.mock import Asked

pytestmark = pytest.mark.fuse_kernel(policy="linux")


@pytest.fixture
def process(fuse_process: Process) -> Process:
    """One that handles SIGUSR1."""
    fuse_process.signal(signal.SIGUSR1, lambda number: None)
    return fuse_process


def signalled(process: Process, number: int = signal.SIGUSR1) -> Callable[[Asked], None]:
    """What sends the signal while the daemon has the request."""
    return lambda asked: process.kill(number)


@BOTH
def test_the_daemon_is_told_which_request(mock_daemon: MockDaemon, process: Process) -> None:
    lookup = mock_daemon.expect.lookup(1, b"f").do(signalled(process)).reply_late(0.05, nodeid=0)
    mock_daemon.expect.interrupt(unique=lambda unique: unique == lookup.asked[0].unique)
    assert errno_of(process.stat, "/f") == errno.ENOENT


@BOTH
def test_a_daemon_that_gives_up_answers_eintr(mock_daemon: MockDaemon, process: Process) -> None:
    lookup = mock_daemon.expect.lookup(1, b"f").do(signalled(process)).hold()
    mock_daemon.expect.interrupt().do(lambda asked: lookup.asked[0].error(errno.EINTR))
    assert errno_of(process.stat, "/f") == errno.EINTR


@BOTH
def test_a_daemon_that_ignores_it_has_its_answer_taken(mock_daemon: MockDaemon, process: Process) -> None:
    fd = open_file(mock_daemon, process)
    mock_daemon.expect.write(2).do(signalled(process)).reply_late(0.05, written(4))
    mock_daemon.expect.interrupt()
    assert process.pwrite(fd, b"text", 0) == 4


@BOTH
def test_enosys_to_interrupt_means_never_again(mock_daemon: MockDaemon, process: Process) -> None:
    mock_daemon.expect.lookup(1).times(2).do(signalled(process)).reply_late(0.05, nodeid=0)
    mock_daemon.expect.interrupt().error(errno.ENOSYS)
    for _ in range(2):
        assert errno_of(process.stat, "/f") == errno.ENOENT


@BOTH
def test_eagain_to_interrupt_means_once_more(mock_daemon: MockDaemon, process: Process) -> None:
    lookup = mock_daemon.expect.lookup(1, b"f").do(signalled(process)).hold()
    mock_daemon.expect.interrupt().error(errno.EAGAIN)
    mock_daemon.expect.interrupt().do(lambda asked: lookup.asked[0].error(errno.EINTR))
    assert errno_of(process.stat, "/f") == errno.EINTR


@BOTH
def test_an_answer_to_interrupt_after_the_requests_own_is_enoent(mock_daemon: MockDaemon, process: Process) -> None:
    lookup = mock_daemon.expect.lookup(1, b"f").do(signalled(process)).hold()
    late = mock_daemon.expect.interrupt().do(lambda asked: lookup.asked[0].error(errno.EINTR))
    late.wrong(error=-errno.EAGAIN, refused=errno.ENOENT)
    assert errno_of(process.stat, "/f") == errno.EINTR


@BOTH
def test_one_request_is_interrupted_once_however_many_signals_come(mock_daemon: MockDaemon, process: Process) -> None:
    twice = mock_daemon.expect.lookup(1, b"f").do(signalled(process)).do(signalled(process))
    twice.reply_late(0.05, nodeid=0)
    mock_daemon.expect.interrupt()
    assert errno_of(process.stat, "/f") == errno.ENOENT


@BOTH
def test_a_request_that_was_answered_is_not_interrupted(mock_daemon: MockDaemon, process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").error(errno.ENOENT)
    mock_daemon.expect.interrupt().times(0)
    assert errno_of(process.stat, "/f") == errno.ENOENT
    process.kill(signal.SIGUSR1)


@pytest.fixture
def in_threads() -> Iterator[Callable[..., threading.Thread]]:
    """Start calls on threads of their own; they have ended when the test has."""
    started: list[threading.Thread] = []

    def start(call: Callable[..., Any], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=call, args=args)
        thread.start()
        started.append(thread)
        return thread

    yield start
    for thread in started:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.fuse_kernel(driver="threads")
def test_a_fatal_signal_takes_an_unread_request_away(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process, in_threads: Callable[..., threading.Thread]
) -> None:
    goes_on = threading.Event()
    busy = mock_daemon.expect.statfs(1).do(lambda asked: goes_on.wait(20)).reply()  # its only worker is busy
    in_threads(fuse_kernel.process().statvfs, "/")
    busy.wait()
    caller = in_threads(errno_of, fuse_process.stat, "/f")
    wait_until(lambda: mock_daemon.connection.pending.requests)
    fuse_process.kill(signal.SIGKILL)
    caller.join(20)
    assert not caller.is_alive()
    goes_on.set()


@pytest.mark.fuse_kernel(driver="threads")
def test_a_fatal_signal_does_not_free_the_caller_of_a_request_that_was_read(
    mock_daemon: MockDaemon, fuse_process: Process, in_threads: Callable[..., threading.Thread]
) -> None:
    held = mock_daemon.expect.lookup(1, b"f").hold()
    interrupt = mock_daemon.expect.interrupt()
    caller = in_threads(errno_of, fuse_process.stat, "/f")
    asked = held.wait()
    fuse_process.kill(signal.SIGKILL)
    interrupt.wait()
    assert caller.is_alive()
    asked.error(errno.EINTR)


@BOTH
def test_a_signal_does_not_end_the_wait_for_flush(mock_daemon: MockDaemon, process: Process) -> None:
    fd = open_file(mock_daemon, process)
    mock_daemon.expect.flush(2).do(signalled(process, signal.SIGKILL)).reply_late(0.05)
    mock_daemon.expect.interrupt()
    mock_daemon.expect.release(2)
    process.close(fd)


@pytest.mark.fuse_kernel(policy="detach")
@BOTH
def test_by_the_policy_detach_the_caller_leaves_and_what_was_opened_is_released(
    mock_daemon: MockDaemon, process: Process
) -> None:
    open_file(mock_daemon, process)
    mock_daemon.expect.open(2).do(signalled(process)).reply_late(0.05, opened(9))
    mock_daemon.expect.interrupt().times(0)
    released = mock_daemon.expect.release(2, fh=9)
    assert errno_of(process.open, "/f", os.O_RDONLY) == errno.EINTR
    if process.kernel.driver.current is None and hasattr(process.kernel.driver, "advance"):
        process.kernel.advance(0.1)
    released.wait()
