"""RELEASE: once for each successful open, when the last descriptor is closed, and nobody waits for it."""

from __future__ import annotations

import errno
import os

from mocked import BOTH, LARGEFILE, errno_of, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon, opened

pytestmark = BOTH


def test_it_has_the_handle_and_the_flags(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDWR | os.O_APPEND)
    mock_daemon.expect.release(2, fh=7, flags=LARGEFILE | os.O_RDWR | os.O_APPEND, uid=0, gid=0, pid=0)
    fuse_process.close(fd)


def test_its_error_is_nobodys(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.release(2).error(errno.EIO)
    fuse_process.close(fd)


def test_nobody_waits_for_it(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    held = mock_daemon.expect.release(2).hold()
    fuse_process.close(fd)
    held.wait().reply()


def test_each_open_has_its_own(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    for handle in (7, 8):
        mock_daemon.expect.open(2).reply(opened(handle))
        mock_daemon.expect.release(2, fh=handle)
    fds = [fuse_process.open("/f", os.O_RDONLY) for _ in range(2)]
    for fd in fds:
        fuse_process.close(fd)


def test_a_fork_holds_the_file_open(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    child = fuse_process.fork()
    fuse_process.close(fd)
    mock_daemon.settle()
    assert "RELEASE" not in mock_daemon.names
    mock_daemon.expect.release(2, fh=7)
    child.exit()


def test_an_open_that_failed_has_none(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.open(2).error(errno.EPERM)
    mock_daemon.expect.release().times(0)
    assert errno_of(fuse_process.open, "/f", os.O_RDONLY) == errno.EPERM


def test_exec_closes_what_is_marked_so(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.release(2, fh=7)
    fuse_process.exec("other")
    assert errno_of(fuse_process.close, fd) == errno.EBADF
