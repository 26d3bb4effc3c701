"""open(2) with O_CREAT: LOOKUP, then CREATE makes and opens at once."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from mocked import BOTH, DIR, DIRECT, LARGEFILE, REG, absent, errno_of, there

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon, attr, created, entry, opened

pytestmark = BOTH
MAKE = os.O_CREAT | os.O_RDWR


def test_the_daemon_learns_mode_umask_and_flags(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"f")
    mock_daemon.expect.create(
        1, b"f", mode=stat.S_IFREG | 0o640, umask=0o027, flags=os.O_CREAT | os.O_RDWR | LARGEFILE
    ).reply(created(2, 7))
    fuse_process.umask(0o027)
    fuse_process.open("/f", MAKE, 0o666)


@pytest.mark.mock_daemon(flags=InitFlag.DONT_MASK)
def test_a_daemon_that_applies_the_umask_itself_gets_the_whole_mode(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    absent(mock_daemon, b"f")
    mock_daemon.expect.create(1, b"f", mode=stat.S_IFREG | 0o666, umask=0o027).reply(created(2))
    fuse_process.umask(0o027)
    fuse_process.open("/f", MAKE, 0o666)


def test_what_was_made_is_open(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"f")
    mock_daemon.expect.create(1, b"f").reply(created(2, 9, DIRECT, valid=60))
    mock_daemon.expect.read(2, fh=9).reply(b"text")
    mock_daemon.expect.release(2, fh=9)
    fd = fuse_process.open("/f", MAKE)
    assert fuse_process.stat("/f").st_ino == 2
    assert fuse_process.pread(fd, 10, 0) == b"text"
    fuse_process.close(fd)


def test_a_file_that_is_there_is_opened(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.open(2, flags=os.O_RDWR | LARGEFILE).reply(opened(7))
    fuse_process.open("/f", MAKE)


def test_o_excl_refuses_a_file_that_is_there_without_asking_more(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.open, "/f", MAKE | os.O_EXCL) == errno.EEXIST
    assert mock_daemon.names == ["INIT", "LOOKUP"]


def test_o_excl_is_told_to_the_daemon(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"f")
    mock_daemon.expect.create(1, b"f", flags=lambda flags: bool(flags & os.O_EXCL)).error(errno.EEXIST)
    assert errno_of(fuse_process.open, "/f", MAKE | os.O_EXCL) == errno.EEXIST


def test_enosys_is_mknod_and_open_from_then_on(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    for name, nodeid in ((b"f", 2), (b"g", 3)):
        absent(mock_daemon, name)
        mock_daemon.expect.mknod(1, name, mode=REG, rdev=0).reply(entry(nodeid, REG, valid=60))
        mock_daemon.expect.open(nodeid).reply(opened(7))
    mock_daemon.expect.create(1, b"f").error(errno.ENOSYS)
    fuse_process.open("/f", MAKE, 0o666)
    fuse_process.open("/g", MAKE, 0o666)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    absent(mock_daemon, b"f")
    mock_daemon.expect.create(1, b"f").error(number)
    assert errno_of(fuse_process.open, "/f", MAKE) == number


@pytest.mark.parametrize(
    "made", [created(2, 7, mode=DIR), created(1, 7), created(2, 7, size=1 << 63), (entry(0), opened(7))]
)
def test_something_made_that_cannot_be_is_eio(mock_daemon: MockDaemon, fuse_process: Process, made: object) -> None:
    absent(mock_daemon, b"f")
    mock_daemon.expect.create(1, b"f").reply(made)
    assert errno_of(fuse_process.open, "/f", MAKE) == errno.EIO


def test_creating_changes_the_directory(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"f")
    mock_daemon.expect.create(1, b"f").reply(created(2))
    mock_daemon.expect.getattr(1).reply(attr(1, DIR, valid=60))
    mock_daemon.expect.getattr(1).reply(attr(1, DIR, valid=60, mtime=99))
    fuse_process.stat("/")
    fuse_process.open("/f", MAKE)
    assert fuse_process.stat("/").st_mtime == 99


def test_o_tmpfile_is_a_file_without_a_name(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.tmpfile(1, mode=stat.S_IFREG | 0o600).reply(created(2, 7))
    mock_daemon.expect.release(2, fh=7)
    mock_daemon.expect.forget(2, nlookup=1)
    fuse_process.close(fuse_process.open("/", os.O_TMPFILE | os.O_RDWR, 0o600))


def test_a_daemon_without_tmpfile_is_not_asked_twice(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.tmpfile(1).error(errno.ENOSYS)
    for _ in range(2):
        assert errno_of(fuse_process.open, "/", os.O_TMPFILE | os.O_RDWR) == errno.EOPNOTSUPP
