"""symlink(2)."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, LNK, absent, errno_of, there

from fusewire import Process
from fusewire.testing import MockDaemon, entry

pytestmark = BOTH


def test_the_daemon_learns_name_and_target(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"l")
    mock_daemon.expect.symlink(1, b"l", b"some/where").reply(entry(3, LNK, valid=60))
    fuse_process.symlink("some/where", "/l")
    assert fuse_process.lstat("/l").st_ino == 3


def test_the_target_is_any_bytes_and_need_not_exist(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"l")
    mock_daemon.expect.symlink(1, b"l", b"\xff//\n" + b"x" * 4000).reply(entry(3, LNK))
    fuse_process.symlink(b"\xff//\n" + b"x" * 4000, b"/l")


def test_an_empty_target_and_one_that_is_too_long_are_refused_here(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    assert errno_of(fuse_process.symlink, "", "/l") == errno.ENOENT
    assert errno_of(fuse_process.symlink, "x" * 4096, "/l") == errno.ENAMETOOLONG


def test_a_name_that_is_there_is_eexist(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.symlink, "x", "/f") == errno.EEXIST


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC, errno.ENOSYS])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    absent(mock_daemon, b"l")
    mock_daemon.expect.symlink(1, b"l").error(number)
    assert errno_of(fuse_process.symlink, "x", "/l") == number


def test_an_answer_that_is_no_link_is_eio(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"l")
    mock_daemon.expect.symlink(1, b"l").reply(entry(3))
    assert errno_of(fuse_process.symlink, "x", "/l") == errno.EIO
