"""fsync(2) of a directory."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, errno_of, there

from fusewire import Process
from fusewire.testing import MockDaemon, opened
from fusewire.wire.flags import FsyncFlag

pytestmark = BOTH


@pytest.fixture
def fd(mock_daemon: MockDaemon, fuse_process: Process) -> int:
    """A directory, node 3, handle 4."""
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    return fuse_process.open("/d", os.O_RDONLY)


def test_it_has_an_operation_of_its_own(mock_daemon: MockDaemon, fuse_process: Process, fd: int) -> None:
    mock_daemon.expect.fsyncdir(3, fh=4, fsync_flags=0)
    fuse_process.fsync(fd)


def test_fdatasync_says_so(mock_daemon: MockDaemon, fuse_process: Process, fd: int) -> None:
    mock_daemon.expect.fsyncdir(3, fh=4, fsync_flags=FsyncFlag.FDATASYNC)
    fuse_process.fdatasync(fd)


def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, fd: int) -> None:
    mock_daemon.expect.fsyncdir(3).error(errno.EIO)
    assert errno_of(fuse_process.fsync, fd) == errno.EIO


def test_enosys_is_success_and_is_not_that_of_files(mock_daemon: MockDaemon, fuse_process: Process, fd: int) -> None:
    mock_daemon.expect.fsyncdir(3).error(errno.ENOSYS)
    fuse_process.fsync(fd)
    fuse_process.fsync(fd)
    there(mock_daemon)
    mock_daemon.expect.open(2).reply(opened(7))
    mock_daemon.expect.fsync(2, fh=7)
    fuse_process.fsync(fuse_process.open("/f", os.O_RDONLY))
