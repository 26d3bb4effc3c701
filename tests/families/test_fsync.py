"""fsync(2) and fdatasync(2)."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, errno_of, open_file

from fusewire import Process
from fusewire.testing import MockDaemon
from fusewire.wire.flags import FsyncFlag

pytestmark = BOTH


def test_fsync_asks_with_the_files_handle(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fsync(2, fh=7, fsync_flags=0)
    fuse_process.fsync(fd)


def test_fdatasync_says_that_it_is_for_the_contents_alone(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fsync(2, fh=7, fsync_flags=FsyncFlag.FDATASYNC)
    fuse_process.fdatasync(fd)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fsync(2).error(number)
    assert errno_of(fuse_process.fsync, fd) == number


def test_an_error_is_told_once_for_each_that_is_answered(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fsync(2).error(errno.EIO)
    mock_daemon.expect.fsync(2)
    assert errno_of(fuse_process.fsync, fd) == errno.EIO
    fuse_process.fsync(fd)


def test_enosys_is_success_and_never_ask_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fsync(2).error(errno.ENOSYS)
    fuse_process.fsync(fd)
    fuse_process.fdatasync(fd)


def test_a_file_that_is_open_for_reading_can_be_made_durable(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDONLY)
    mock_daemon.expect.fsync(2, fh=7)
    fuse_process.fsync(fd)


def test_syncfs_asks_a_plain_daemon_nothing(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.syncfs().times(0)
    fuse_process.syncfs(fd)
