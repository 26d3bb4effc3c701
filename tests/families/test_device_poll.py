"""poll(2) on /dev/fuse itself, as a daemon with an event loop uses it."""

from __future__ import annotations

import errno
import select

from mocked import BOTH, errno_of, open_file

from fusewire import FOpenFlag, Process
from fusewire.testing import MockDaemon

pytestmark = BOTH
IN, OUT, ERR = select.POLLIN, select.POLLOUT, select.POLLERR


def polled(daemon: MockDaemon, timeout: int | None = 0) -> int:
    """What is there of the daemon's descriptor."""
    found = daemon.mount.daemon.poll([(daemon.fd, IN | OUT)], timeout)
    return found[0][1] if found else 0


def test_it_can_always_be_written_to(mock_daemon: MockDaemon) -> None:
    assert polled(mock_daemon) == OUT


def test_it_is_readable_while_a_request_waits(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=FOpenFlag.NOFLUSH)
    seen = []

    def close_and_look(asked: object) -> None:
        seen.append(polled(mock_daemon))
        fuse_process.close(fd)  # all that is asked is RELEASE, which nobody waits for
        seen.append(polled(mock_daemon))

    mock_daemon.expect.statfs(1).do(close_and_look).reply()
    fuse_process.kernel.process().statvfs("/")
    assert seen == [OUT, IN | OUT]


def test_it_is_no_longer_readable_once_all_was_read(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fuse_process.close(open_file(mock_daemon, fuse_process))
    mock_daemon.settle()
    assert polled(mock_daemon) == OUT


def test_after_an_abort_it_shows_an_error(mock_daemon: MockDaemon) -> None:
    seen = []

    def abort_and_look(asked: object) -> None:
        mock_daemon.mount.abort()
        seen.append(polled(mock_daemon))

    mock_daemon.expect.statfs(1).do(abort_and_look).never()
    assert errno_of(mock_daemon.kernel.process().statvfs, "/") == errno.ECONNABORTED
    assert seen == [ERR]
