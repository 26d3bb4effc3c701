"""copy_file_range(2): the daemon copies; one that cannot is helped by reading and writing."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIRECT, errno_of, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon, opened, written

pytestmark = BOTH


def both_open(daemon: MockDaemon, process: Process, size: int = 1000) -> tuple[int, int]:
    """``/f`` (node 2, handle 7) to read from, ``/g`` (node 3, handle 8) to write to."""
    source = open_file(daemon, process, os.O_RDONLY, size=size)
    there(daemon, b"g", 3, size=0)
    daemon.default.open(3).reply(opened(8, DIRECT))
    daemon.default.getxattr(3).error(errno.ENODATA)
    return source, process.open("/g", os.O_WRONLY)


def test_the_daemon_learns_both_files_offsets_and_the_length(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    source, target = both_open(mock_daemon, fuse_process)
    mock_daemon.expect.copy_file_range_64(
        2, fh_in=7, off_in=10, nodeid_out=3, fh_out=8, off_out=20, len=100, flags=0
    ).reply(bytes_copied=100)
    assert fuse_process.copy_file_range(source, target, 100, 10, 20) == 100


def test_without_offsets_those_of_the_files_are_used_and_move(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    source, target = both_open(mock_daemon, fuse_process)
    fuse_process.lseek(source, 5, os.SEEK_SET)
    mock_daemon.expect.copy_file_range_64(2, off_in=5, off_out=0).reply(bytes_copied=30)
    assert fuse_process.copy_file_range(source, target, 50) == 30
    assert fuse_process.lseek(source, 0, os.SEEK_CUR) == 35
    assert fuse_process.lseek(target, 0, os.SEEK_CUR) == 30


def test_no_more_is_asked_for_than_the_source_has(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    source, target = both_open(mock_daemon, fuse_process, size=64)
    mock_daemon.expect.copy_file_range_64(2, off_in=60, len=4).reply(bytes_copied=4)
    assert fuse_process.copy_file_range(source, target, 100, 60, 0) == 4
    assert fuse_process.copy_file_range(source, target, 100, 64, 0) == 0


def test_a_daemon_of_before_7_45_is_asked_by_the_older_operation(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    source, target = both_open(mock_daemon, fuse_process)
    mock_daemon.expect.copy_file_range_64(2).error(errno.ENOSYS)
    mock_daemon.expect.copy_file_range(2, fh_in=7, nodeid_out=3, len=100).times(2).reply(written(100))
    for _ in range(2):
        assert fuse_process.copy_file_range(source, target, 100, 0, 0) == 100


def test_one_that_knows_neither_is_read_from_and_written_to(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    source, target = both_open(mock_daemon, fuse_process, size=3)
    mock_daemon.expect.copy_file_range_64(2).error(errno.ENOSYS)
    mock_daemon.expect.copy_file_range(2).error(errno.ENOSYS)
    mock_daemon.expect.read(2, fh=7, offset=0).reply(b"abc")
    mock_daemon.expect.write(3, fh=8, offset=9, data=b"abc").reply(written(3))
    assert fuse_process.copy_file_range(source, target, 100, 0, 9) == 3


def test_eopnotsupp_is_for_this_copy_alone(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    source, target = both_open(mock_daemon, fuse_process, size=3)
    mock_daemon.expect.copy_file_range_64(2).error(errno.EOPNOTSUPP)
    mock_daemon.expect.copy_file_range().times(
        0
    )  # the older operation is for a daemon that does not know the newer one
    mock_daemon.expect.read(2).reply(b"abc")
    mock_daemon.expect.write(3).reply(written(3))
    assert fuse_process.copy_file_range(source, target, 3, 0, 0) == 3
    mock_daemon.expect.copy_file_range_64(2).reply(bytes_copied=3)
    assert fuse_process.copy_file_range(source, target, 3, 0, 0) == 3


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EPERM])
def test_any_other_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    source, target = both_open(mock_daemon, fuse_process)
    mock_daemon.expect.copy_file_range_64(2).error(number)
    assert errno_of(fuse_process.copy_file_range, source, target, 100, 0, 0) == number


def test_more_copied_than_asked_for_is_eio(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    source, target = both_open(mock_daemon, fuse_process)
    mock_daemon.expect.copy_file_range_64(2).reply(bytes_copied=101)
    assert errno_of(fuse_process.copy_file_range, source, target, 100, 0, 0) == errno.EIO


def test_a_file_opened_for_appending_is_no_target(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    source = open_file(mock_daemon, fuse_process, os.O_RDONLY, size=9)
    target = fuse_process.open("/f", os.O_WRONLY | os.O_APPEND)
    assert errno_of(fuse_process.copy_file_range, source, target, 1, 0, 5) == errno.EBADF
