"""lseek(2): only SEEK_DATA and SEEK_HOLE are the daemon's business."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIRECT, errno_of, open_file

from fusewire import FOpenFlag, Process
from fusewire.testing import MockDaemon, attr

pytestmark = BOTH


@pytest.mark.parametrize("whence", [os.SEEK_DATA, os.SEEK_HOLE])
def test_holes_are_asked_for_and_the_position_moves(
    mock_daemon: MockDaemon, fuse_process: Process, whence: int
) -> None:
    fd = open_file(mock_daemon, fuse_process, size=10_000)
    mock_daemon.expect.lseek(2, fh=7, offset=100, whence=whence).reply(offset=4096)
    assert fuse_process.lseek(fd, 100, whence) == 4096
    assert fuse_process.lseek(fd, 0, os.SEEK_CUR) == 4096


def test_the_daemons_error_is_the_callers_and_the_position_stays(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, size=10)
    fuse_process.lseek(fd, 5, os.SEEK_SET)
    mock_daemon.expect.lseek(2).error(errno.ENXIO)
    assert errno_of(fuse_process.lseek, fd, 20, os.SEEK_DATA) == errno.ENXIO
    assert fuse_process.lseek(fd, 0, os.SEEK_CUR) == 5


def test_enosys_means_that_all_is_data_from_then_on(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, size=10)
    mock_daemon.expect.lseek(2).error(errno.ENOSYS)
    assert fuse_process.lseek(fd, 3, os.SEEK_DATA) == 3
    assert fuse_process.lseek(fd, 3, os.SEEK_HOLE) == 10
    assert errno_of(fuse_process.lseek, fd, 10, os.SEEK_DATA) == errno.ENXIO


def test_the_end_is_where_the_daemon_says(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, entry_valid=60, attr_valid=0, size=1)
    mock_daemon.expect.getattr(2, fh=7).reply(attr(2, size=500))
    assert fuse_process.lseek(fd, -10, os.SEEK_END) == 490


def test_elsewhere_nobody_is_asked(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.lseek().times(0)
    assert fuse_process.lseek(fd, 1 << 40, os.SEEK_SET) == 1 << 40
    assert fuse_process.lseek(fd, -1, os.SEEK_CUR) == (1 << 40) - 1
    assert errno_of(fuse_process.lseek, fd, -1, os.SEEK_SET) == errno.EINVAL


def test_a_file_without_positions_is_espipe(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=DIRECT | FOpenFlag.NONSEEKABLE)
    assert errno_of(fuse_process.lseek, fd, 0, os.SEEK_CUR) == errno.ESPIPE


def test_a_position_that_cannot_be_is_einval(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, size=10)
    mock_daemon.expect.lseek(2).reply(offset=1 << 63)
    assert errno_of(fuse_process.lseek, fd, 0, os.SEEK_DATA) == errno.EINVAL
