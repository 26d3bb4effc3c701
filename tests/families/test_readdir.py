"""Directories that are read: READDIR, READDIRPLUS, cookies, and answers that cannot be."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from mocked import BOTH, DIR, FOREVER, REG, errno_of

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon, attr, direntplus, dirents, entry, opened
from fusewire.wire.codec import pack_dirent

plus = pytest.mark.mock_daemon(flags=InitFlag.DO_READDIRPLUS)
auto = pytest.mark.mock_daemon(flags=InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO)
pytestmark = BOTH
FILE, DIRECTORY = stat.S_IFREG, stat.S_IFDIR


@pytest.fixture(autouse=True)
def _the_root(mock_daemon: MockDaemon) -> None:
    mock_daemon.default.opendir(1).reply(opened(4))
    mock_daemon.default.getattr(1).reply(attr(1, DIR, valid=FOREVER))


def test_the_handle_and_the_cookies_are_the_daemons(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    first = pack_dirent(b"a", 2, 1 << 40, 8) + pack_dirent(b"b", 3, 77, 8)
    with mock_daemon.in_order():
        mock_daemon.expect.readdir(1, fh=4, offset=0).reply(first)
        mock_daemon.expect.readdir(1, fh=4, offset=77).reply(pack_dirent(b"c", 4, 3, 8))
        mock_daemon.expect.readdir(1, fh=4, offset=3).reply(b"")
    assert fuse_process.listdir("/") == ["a", "b", "c"]


def test_dots_are_the_daemons_and_not_listed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.readdir(1, offset=0).reply(dirents((b".", 1, DIR), (b"..", 1, DIR), (b"a", 2, FILE)))
    mock_daemon.expect.readdir(1, offset=3).reply(b"")
    assert fuse_process.listdir("/") == ["a"]


def test_types_and_numbers_need_no_further_question(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.readdir(1, offset=0).reply(dirents((b"a", 12, FILE), (b"d", 13, DIRECTORY)))
    mock_daemon.expect.readdir(1, offset=2).reply(b"")
    with fuse_process.scandir("/") as entries:
        found = [(one.name, one.inode(), one.is_dir()) for one in entries]
    assert found == [("a", 12, False), ("d", 13, True)]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOSYS])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    mock_daemon.expect.readdir(1).error(number)
    mock_daemon.expect.releasedir(1, fh=4)
    assert errno_of(fuse_process.listdir, "/") == number


@pytest.mark.parametrize("name", [b"", b"a/b", b"n" * 4096])
def test_a_name_that_cannot_be_is_eio(mock_daemon: MockDaemon, fuse_process: Process, name: bytes) -> None:
    mock_daemon.expect.readdir(1).reply(dirents((name, 2, FILE)))
    assert errno_of(fuse_process.listdir, "/") == errno.EIO


def test_a_last_entry_that_is_cut_off_is_asked_for_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.readdir(1, offset=0).reply(dirents((b"a", 2, FILE), (b"long name", 3, FILE))[:-8])
    mock_daemon.expect.readdir(1, offset=1).reply(dirents((b"long name", 3, FILE), start=1))
    mock_daemon.expect.readdir(1, offset=2).reply(b"")
    assert fuse_process.listdir("/") == ["a", "long name"]


def test_rewinding_begins_anew(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.readdir(1, offset=0).times(2).reply(dirents((b"a", 2, FILE)))
    mock_daemon.expect.readdir(1, offset=1).times(2).reply(b"")
    fd = fuse_process.open("/", os.O_RDONLY)
    assert fuse_process.listdir(fd) == fuse_process.listdir(fd) == ["a"]


@plus
def test_readdirplus_brings_names_and_attributes(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.readdirplus(1, offset=0).reply(direntplus((b"a", entry(2, REG, size=55, valid=FOREVER))))
    mock_daemon.expect.readdirplus(1, offset=1).reply(b"")
    assert fuse_process.listdir("/") == ["a"]
    assert fuse_process.stat("/a").st_size == 55
    assert "LOOKUP" not in mock_daemon.names


@plus
def test_an_entry_without_a_node_is_only_a_name(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.readdirplus(1, offset=0).reply(direntplus((b"a", entry(0))))
    mock_daemon.expect.readdirplus(1, offset=1).reply(b"")
    mock_daemon.expect.lookup(1, b"a").reply(entry(2, valid=FOREVER))
    assert fuse_process.listdir("/") == ["a"]
    assert fuse_process.stat("/a").st_ino == 2


@auto
def test_by_itself_readdirplus_is_for_the_start_and_for_those_who_look_names_up(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mock_daemon.expect.readdirplus(1, offset=0).reply(direntplus((b"a", entry(2, valid=FOREVER))))
    mock_daemon.expect.readdir(1, offset=1).reply(dirents((b"b", 3, FILE), start=1))
    mock_daemon.expect.readdir(1, offset=2).reply(b"")
    assert fuse_process.listdir("/") == ["a", "b"]


@auto
def test_it_goes_on_where_its_names_are_used(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.readdirplus(1, offset=0).reply(direntplus((b"a", entry(2, valid=FOREVER))))
    mock_daemon.expect.readdirplus(1, offset=1).reply(direntplus((b"b", entry(3, valid=FOREVER)), start=1))
    mock_daemon.expect.readdirplus(1, offset=2).reply(b"")
    with fuse_process.scandir("/") as entries:
        assert [fuse_process.stat(one.path).st_ino for one in entries] == [2, 3]


@plus
def test_dots_and_dots_again_are_gone_through_to_the_end(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    answers = iter([direntplus((b".", entry(0, DIR)), start=place) for place in range(1500)])
    mock_daemon.default.readdirplus(1).do(lambda asked: asked.reply(next(answers, b"")))
    assert fuse_process.listdir("/") == []
