"""poll(2) of a file: POLL, and who waits is told by NOTIFY_POLL."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable

import pytest
from mocked import BOTH, errno_of, open_file

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon
from fusewire.testing.mock import Asked
from fusewire.wire.flags import PollFlag

pytestmark = BOTH
IN, OUT, ERR, NVAL = select.POLLIN, select.POLLOUT, select.POLLERR, select.POLLNVAL


def test_the_daemon_learns_which_events_and_nobody_waits(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.poll(2, fh=7, flags=0, events=lambda events: bool(events & IN)).reply(revents=IN)
    assert fuse_process.poll([(fd, IN)], 0) == [(fd, IN)]


def test_what_was_not_asked_for_is_not_told(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.poll(2).reply(revents=IN | OUT)
    assert fuse_process.poll([(fd, OUT)], 0) == [(fd, OUT)]


def test_who_waits_says_so(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.poll(2, flags=PollFlag.SCHEDULE_NOTIFY).times(2).reply(revents=0)  # before and after the wait
    assert fuse_process.poll([(fd, IN)], 20) == []


def test_a_handle_is_the_open_files_own(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    first, second = (open_file(mock_daemon, fuse_process) for _ in range(2))
    mock_daemon.default.poll(2).reply(revents=IN)
    for fd in (first, first, second):
        fuse_process.poll([(fd, IN)], 0)
    one, again, other = (asked.kh for asked in mock_daemon.came("poll"))
    assert one == again != other


def test_enosys_means_always_ready_from_then_on(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.poll(2).error(errno.ENOSYS)
    for _ in range(2):
        assert fuse_process.poll([(fd, IN | OUT)], 0) == [(fd, IN | OUT)]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_any_other_error_is_an_event(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.poll(2).error(number)
    assert fuse_process.poll([(fd, IN)], 0) == [(fd, ERR)]


def test_a_descriptor_that_is_closed_is_an_event_of_its_own(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    fuse_process.close(fd)
    assert fuse_process.poll([(fd, IN)], 0) == [(fd, NVAL)]
    assert errno_of(fuse_process.fstat, fd) == errno.EBADF


def test_who_is_woken_for_nothing_sets_no_second_timer(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process)

    def wake(asked: Asked) -> None:
        if len(mock_daemon.came("poll")) < 4:
            mock_daemon.notify.poll(asked.kh)

    mock_daemon.default.poll(2).do(wake).reply(revents=0)
    timers: list[int] = []
    call_at = fuse_kernel.driver.call_at

    def counted(when: int, function: Callable[[], None]) -> None:
        timers.append(when)
        call_at(when, function)

    fuse_kernel.driver.call_at = counted  # type: ignore[method-assign]
    assert fuse_process.poll([(fd, IN)], 20) == []
    assert len(timers) == 1
