"""close(2) asks FLUSH, each time; what it answers is close's result, and the descriptor is gone all the same."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, DIRECT, errno_of, open_file, there

from fusewire import FOpenFlag, Process
from fusewire.testing import MockDaemon, opened

pytestmark = BOTH


def test_every_close_flushes_and_only_the_last_one_releases(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.flush(2, fh=7).times(2)
    mock_daemon.expect.release(2, fh=7)
    duplicate = fuse_process.dup(fd)
    fuse_process.close(fd)
    mock_daemon.settle()
    assert "RELEASE" not in mock_daemon.names
    fuse_process.close(duplicate)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_its_error_is_that_of_close(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.flush(2).error(number)
    mock_daemon.expect.release(2)
    assert errno_of(fuse_process.close, fd) == number
    assert errno_of(fuse_process.close, fd) == errno.EBADF


def test_enosys_is_success_and_never_ask_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.flush(2).error(errno.ENOSYS)
    mock_daemon.expect.release(2).times(2)
    for _ in range(2):
        fuse_process.close(open_file(mock_daemon, fuse_process))


def test_it_carries_the_owner_of_the_descriptor_table(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.flush(2).times(3)
    child = fuse_process.fork()
    fuse_process.close(fuse_process.dup(fd))
    fuse_process.close(fd)
    child.close(fd)
    first, second, of_the_child = mock_daemon.came("flush")
    assert first.lock_owner == second.lock_owner != of_the_child.lock_owner


def test_noflush_is_no_flush(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=DIRECT | FOpenFlag.NOFLUSH)
    mock_daemon.expect.flush().times(0)
    mock_daemon.expect.release(2)
    fuse_process.close(fd)


def test_a_directory_is_not_flushed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    mock_daemon.expect.flush().times(0)
    mock_daemon.expect.releasedir(3, fh=4)
    fuse_process.close(fuse_process.open("/d", os.O_RDONLY))


def test_dup2_over_an_open_file_flushes_it_and_tells_nothing(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    other = fuse_process.dup(fd)
    mock_daemon.expect.flush(2).error(errno.EIO)
    fuse_process.dup2(fd, other)


def test_a_process_that_ends_flushes_what_it_has_open(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    open_file(mock_daemon, fuse_process)
    mock_daemon.expect.flush(2, pid=fuse_process.pid)
    mock_daemon.expect.release(2)
    fuse_process.exit()
