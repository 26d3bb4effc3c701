"""fallocate(2)."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, errno_of, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon, attr

pytestmark = BOTH
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64


@pytest.mark.parametrize("mode", [0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, KEEP_SIZE | ZERO_RANGE])
def test_the_daemon_learns_mode_and_range(mock_daemon: MockDaemon, fuse_process: Process, mode: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fallocate(2, fh=7, offset=100, length=4000, mode=mode)
    fuse_process.fallocate(fd, mode, 100, 4000)


@pytest.mark.parametrize("mode", [COLLAPSE, INSERT, KEEP_SIZE | UNSHARE])
def test_modes_that_fuse_does_not_have_are_refused_here(
    mock_daemon: MockDaemon, fuse_process: Process, mode: int
) -> None:
    fd = open_file(mock_daemon, fuse_process)
    assert errno_of(fuse_process.fallocate, fd, mode, 0, 4096) == errno.EOPNOTSUPP


def test_a_hole_that_changes_the_size_is_refused_here(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    assert errno_of(fuse_process.fallocate, fd, PUNCH_HOLE, 0, 4096) == errno.EOPNOTSUPP


@pytest.mark.parametrize(("offset", "length"), [(-1, 10), (0, 0), (0, -5)])
def test_a_range_that_is_none_is_refused_here(
    mock_daemon: MockDaemon, fuse_process: Process, offset: int, length: int
) -> None:
    fd = open_file(mock_daemon, fuse_process)
    assert errno_of(fuse_process.fallocate, fd, 0, offset, length) == errno.EINVAL


def test_a_descriptor_that_is_not_for_writing_is_refused_here(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDONLY)
    assert errno_of(fuse_process.fallocate, fd, 0, 0, 10) == errno.EBADF


def test_enosys_is_remembered(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fallocate(2).error(errno.ENOSYS)
    for _ in range(2):
        assert errno_of(fuse_process.fallocate, fd, 0, 0, 10) == errno.EOPNOTSUPP


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EINTR, errno.EOPNOTSUPP])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fallocate(2).error(number)
    assert errno_of(fuse_process.fallocate, fd, 0, 0, 10) == number


def test_the_size_is_asked_for_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, size=3)
    mock_daemon.expect.fallocate(2)
    mock_daemon.expect.getattr(2).reply(attr(2, size=4096, valid=60))
    fuse_process.posix_fallocate(fd, 0, 4096)
    assert fuse_process.fstat(fd).st_size == 4096


def test_a_set_user_id_bit_is_cleared_for_who_may_not_keep_it(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    process = fuse_process.kernel.process(uid=1000, gid=1000)
    fd = open_file(mock_daemon, process, mode=0o104755)
    mock_daemon.expect.getattr(2).reply(attr(2, 0o104755))
    mock_daemon.expect.setattr(2, mode=0o100755).reply(attr(2, 0o100755))
    mock_daemon.expect.fallocate(2)
    process.fallocate(fd, 0, 0, 10)
