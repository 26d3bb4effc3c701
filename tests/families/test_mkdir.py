"""mkdir(2)."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, DIR, absent, errno_of, there

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon, attr, entry

pytestmark = BOTH


def test_the_daemon_learns_name_mode_and_umask(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"d")
    mock_daemon.expect.mkdir(1, b"d", mode=0o750, umask=0o027).reply(entry(3, DIR, valid=60))
    fuse_process.umask(0o027)
    fuse_process.mkdir("/d", 0o777)
    assert fuse_process.stat("/d").st_ino == 3


@pytest.mark.mock_daemon(flags=InitFlag.DONT_MASK)
def test_a_daemon_that_applies_the_umask_itself_gets_the_whole_mode(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    absent(mock_daemon, b"d")
    mock_daemon.expect.mkdir(1, b"d", mode=0o1777, umask=0o022).reply(entry(3, DIR))
    fuse_process.mkdir("/d", 0o1777)


def test_a_name_that_is_there_is_eexist_without_a_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.mkdir, "/f") == errno.EEXIST
    assert errno_of(fuse_process.mkdir, "/") == errno.EEXIST


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOSPC, errno.EMLINK, errno.ENOSYS])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    absent(mock_daemon, b"d")
    mock_daemon.expect.mkdir(1, b"d").error(number)
    assert errno_of(fuse_process.mkdir, "/d") == number


@pytest.mark.parametrize("answer", [entry(3), entry(0), entry(1, DIR), entry(3, 0)])
def test_an_answer_that_is_no_new_directory_is_eio(
    mock_daemon: MockDaemon, fuse_process: Process, answer: object
) -> None:
    absent(mock_daemon, b"d")
    mock_daemon.expect.mkdir(1, b"d").reply(answer)
    assert errno_of(fuse_process.mkdir, "/d") == errno.EIO


def test_a_slash_behind_the_name_is_allowed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"d")
    mock_daemon.expect.mkdir(1, b"d").reply(entry(3, DIR))
    fuse_process.mkdir("/d/")


def test_the_directory_above_has_changed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"d")
    mock_daemon.expect.mkdir(1, b"d").reply(entry(3, DIR))
    mock_daemon.expect.getattr(1).reply(attr(1, DIR, nlink=2, valid=60))
    mock_daemon.expect.getattr(1).reply(attr(1, DIR, nlink=3, valid=60))
    fuse_process.stat("/")
    fuse_process.mkdir("/d")
    assert fuse_process.stat("/").st_nlink == 3


@pytest.mark.mock_daemon(read_only=True)
def test_on_a_read_only_mount_it_is_erofs(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"d")
    assert errno_of(fuse_process.mkdir, "/d") == errno.EROFS
