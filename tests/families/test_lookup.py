"""From names to nodes."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, LNK, errno_of, forgotten, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, attr, entry

pytestmark = BOTH


def test_each_component_is_looked_up_in_the_one_before(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    with mock_daemon.in_order():
        mock_daemon.expect.lookup(1, b"a").reply(entry(2, DIR, valid=60))
        mock_daemon.expect.lookup(2, b"b").reply(entry(3, DIR, valid=60))
        mock_daemon.expect.lookup(3, b"c").reply(entry(4, valid=60))
    assert fuse_process.stat("/a/b/c").st_ino == 4


def test_dots_are_not_looked_up(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"a", 2, DIR)
    there(mock_daemon)
    assert fuse_process.stat("/a/./../a/.././f").st_ino == 2
    assert {asked.name for asked in mock_daemon.came("lookup")} == {b"a", b"f"}


def test_a_file_on_the_way_is_enotdir(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.stat, "/f/x") == errno.ENOTDIR
    assert errno_of(fuse_process.stat, "/f/") == errno.ENOTDIR


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.EACCES, errno.ENOMEM, errno.ENAMETOOLONG])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    mock_daemon.expect.lookup(1, b"f").error(number)
    assert errno_of(fuse_process.stat, "/f") == number


def test_a_name_is_any_bytes(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    name = bytes(set(range(1, 256)) - {ord("/")})
    mock_daemon.expect.lookup(1, name).reply(entry(2, valid=60))
    assert fuse_process.stat(b"/" + name).st_ino == 2


def test_a_name_that_is_too_long_is_refused_here(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"n" * 1024).error(errno.ENOENT)
    assert errno_of(fuse_process.stat, b"/" + b"n" * 1024) == errno.ENOENT
    assert errno_of(fuse_process.stat, b"/" + b"n" * 1025) == errno.ENAMETOOLONG


def test_the_same_node_under_two_names_is_one_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"g", 2)
    mock_daemon.expect.setattr(2).reply(attr(2, 0o100600, valid=60))
    fuse_process.stat("/g")
    fuse_process.chmod("/f", 0o600)
    assert fuse_process.stat("/g").st_mode == 0o100600


def test_an_expired_name_is_looked_up_again_and_kept(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").times(2).reply(entry(2, entry_valid=0, attr_valid=60))
    fuse_process.stat("/f")
    fuse_process.stat("/f")
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == {2: 2}


def test_an_expired_name_that_is_gone_is_forgotten(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, entry_valid=0, attr_valid=60))
    mock_daemon.expect.lookup(1, b"f").times(2).error(errno.ENOENT)
    fuse_process.stat("/f")
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT
    assert forgotten(mock_daemon) == {2: 1}


def test_a_symbolic_link_is_followed_where_it_leads(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"l", 3, LNK)
    there(mock_daemon)
    mock_daemon.expect.readlink(3).reply(b"f")
    assert fuse_process.stat("/l").st_ino == 2
    assert fuse_process.lstat("/l").st_ino == 3


def test_links_in_a_circle_are_eloop(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.default.readlink(3).reply(b"l")
    assert errno_of(fuse_process.stat, "/l") == errno.ELOOP


def test_a_relative_path_begins_at_the_descriptor(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.lookup(3, b"x").reply(entry(4, valid=60))
    fd = fuse_process.open("/d", os.O_PATH)
    assert fuse_process.stat("x", dir_fd=fd).st_ino == 4
