"""rmdir(2)."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, errno_of, forgotten, there

from fusewire import Process
from fusewire.testing import MockDaemon, attr, entry, opened

pytestmark = BOTH


def test_the_directory_is_gone_and_forgotten(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"d").reply(entry(3, DIR, valid=60))
    mock_daemon.expect.rmdir(1, b"d")
    mock_daemon.expect.lookup(1, b"d").error(errno.ENOENT)
    fuse_process.rmdir("/d")
    assert errno_of(fuse_process.stat, "/d") == errno.ENOENT
    assert forgotten(mock_daemon) == {3: 1}


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EACCES, errno.EBUSY, errno.ENOSYS])
def test_the_daemons_error_is_the_callers_and_it_is_still_there(
    mock_daemon: MockDaemon, fuse_process: Process, number: int
) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.rmdir(1, b"d").error(number)
    assert errno_of(fuse_process.rmdir, "/d") == number
    assert fuse_process.stat("/d").st_ino == 3


def test_a_file_is_enotdir_without_a_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.rmdir, "/f") == errno.ENOTDIR


@pytest.mark.parametrize(("path", "number"), [("/d/.", errno.EINVAL), ("/d/..", errno.ENOTEMPTY), ("/", errno.EBUSY)])
def test_what_has_no_name_of_its_own_cannot_be_removed(
    mock_daemon: MockDaemon, fuse_process: Process, path: str, number: int
) -> None:
    there(mock_daemon, b"d", 3, DIR)
    assert errno_of(fuse_process.rmdir, path) == number


def test_in_a_removed_directory_nothing_can_be_made(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    mock_daemon.expect.rmdir(1, b"d")
    mock_daemon.default.lookup(3, b"x").error(errno.ENOENT)
    fd = fuse_process.open("/d", os.O_RDONLY)
    fuse_process.rmdir("/d")
    assert errno_of(fuse_process.mkdir, "x", dir_fd=fd) == errno.ENOENT


def test_the_directory_above_has_changed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.rmdir(1, b"d")
    mock_daemon.expect.getattr(1).reply(attr(1, DIR, nlink=3, valid=60))
    mock_daemon.expect.getattr(1).reply(attr(1, DIR, nlink=2, valid=60))
    fuse_process.stat("/")
    fuse_process.rmdir("/d")
    assert fuse_process.stat("/").st_nlink == 2
