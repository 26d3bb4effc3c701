"""readlink(2)."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, LNK, errno_of, there

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon

pytestmark = BOTH


@pytest.mark.parametrize("target", [b"f", b"/absolute/path", b"../up", "ä".encode(), b"\xff\xfe", b"x" * 4095])
def test_the_target_is_any_bytes(mock_daemon: MockDaemon, fuse_process: Process, target: bytes) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.expect.readlink(3).reply(target)
    assert fuse_process.readlink(b"/l") == target


def test_it_ends_at_a_nul(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.expect.readlink(3).reply(b"target\0junk")
    assert fuse_process.readlink("/l") == "target"


def test_a_target_longer_than_a_path_is_refused(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.expect.readlink(3).wrong(body=b"x" * 4096, refused=errno.EINVAL).never()
    assert errno_of(fuse_process.readlink, "/l") == errno.EIO


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOENT])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.expect.readlink(3).error(number)
    assert errno_of(fuse_process.readlink, "/l") == number


def test_what_is_no_link_is_einval_without_a_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.readlink, "/f") == errno.EINVAL


def test_it_is_asked_for_each_time(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.expect.readlink(3).times(2).reply(b"x")
    for _ in range(2):
        fuse_process.readlink("/l")


@pytest.mark.mock_daemon(flags=InitFlag.CACHE_SYMLINKS)
def test_unless_the_daemon_said_that_links_may_be_cached(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.expect.readlink(3).reply(b"x")
    mock_daemon.expect.readlink(3).reply(b"y")
    assert [fuse_process.readlink("/l") for _ in range(2)] == ["x", "x"]
    mock_daemon.notify.inval_inode(3)
    assert fuse_process.readlink("/l") == "y"
