"""write(2) by way of the page cache: through it, and later (WRITEBACK_CACHE)."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, REG, errno_of, open_file

from fusewire import FOpenFlag, InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, attr, written
from fusewire.wire.flags import PAGE_SIZE, FAttr, WriteFlag

pytestmark = BOTH
CACHED = FOpenFlag(0)
LATER = pytest.mark.mock_daemon(flags=InitFlag.WRITEBACK_CACHE | InitFlag.HANDLE_KILLPRIV_V2, max_write=2 * PAGE_SIZE)
SIZE = 4 * PAGE_SIZE
PAGE = b"p" * PAGE_SIZE


# -- through -------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_sent_at_once_and_as_it_is(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    asked = mock_daemon.expect.write(2, fh=7, offset=100, data=b"text").reply(written(4))
    assert fuse_process.pwrite(fd, b"text", 100) == 4
    assert not asked.wait().write_flags & WriteFlag.CACHE
    assert "READ" not in mock_daemon.names


def test_a_whole_page_that_was_written_is_not_read(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.write(2).reply(written(PAGE_SIZE))
    mock_daemon.default.getattr(2).reply(attr(2, size=SIZE, valid=60))
    fuse_process.pwrite(fd, b"w" * PAGE_SIZE, PAGE_SIZE)
    assert fuse_process.pread(fd, 4, PAGE_SIZE) == b"wwww"
    assert "READ" not in mock_daemon.names


def test_a_part_of_a_page_that_was_not_there_is_read_from_the_daemon(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.default.getattr(2).reply(attr(2, size=SIZE, valid=60))
    mock_daemon.expect.write(2, offset=0, data=b"ab").reply(written(2))
    fuse_process.pwrite(fd, b"ab", 0)
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(b"AB" + PAGE[2:])
    assert fuse_process.pread(fd, 3, 0) == b"ABp"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_the_daemon_refused_is_not_what_is_read(
    mock_daemon: MockDaemon, fuse_process: Process, number: int
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.default.getattr(2).reply(attr(2, size=SIZE, valid=60))
    mock_daemon.expect.write(2).error(number)
    assert errno_of(fuse_process.pwrite, fd, b"w" * PAGE_SIZE, 0) == number
    mock_daemon.expect.read(2, offset=0).reply(PAGE)
    assert fuse_process.pread(fd, 2, 0) == b"pp"


def test_of_a_short_write_only_what_was_written_is_cached(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.default.getattr(2).reply(attr(2, size=SIZE, valid=60))
    mock_daemon.expect.write(2, offset=0, size=2 * PAGE_SIZE).reply(written(PAGE_SIZE))
    assert fuse_process.pwrite(fd, b"w" * 2 * PAGE_SIZE, 0) == PAGE_SIZE
    mock_daemon.expect.read(2, offset=PAGE_SIZE).reply(PAGE)
    assert fuse_process.pread(fd, 2, PAGE_SIZE - 1) == b"wp"


def test_a_daemon_that_claims_to_have_written_more_is_eio(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.write(2).reply(written(5))
    assert errno_of(fuse_process.pwrite, fd, b"abcd", 0) == errno.EIO


def test_a_file_that_grows_has_zeros_between(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=3)
    mock_daemon.expect.read(2, offset=0).reply(b"old")
    fuse_process.pread(fd, 3, 0)
    mock_daemon.expect.write(2, offset=10, data=b"new").reply(written(3))
    mock_daemon.default.getattr(2).reply(attr(2, size=13, valid=60))
    fuse_process.pwrite(fd, b"new", 10)
    assert fuse_process.pread(fd, 100, 0) == b"old" + bytes(7) + b"new"


# -- later ---------------------------------------------------------------------------------------------------------------


@LATER
def test_nothing_is_sent_before_close(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=0)
    for at in range(4):
        fuse_process.pwrite(fd, b"abc", 3 * at)
    assert "WRITE" not in mock_daemon.names
    with mock_daemon.in_order():
        sent = mock_daemon.expect.write(2, fh=7, offset=0, data=b"abc" * 4).reply(written(12))
        mock_daemon.expect.setattr(2, valid=lambda valid: valid & FAttr.MTIME).reply(attr(2, size=12, valid=60))
        mock_daemon.expect.flush(2, fh=7)
    fuse_process.close(fd)
    assert sent.wait().write_flags == WriteFlag.CACHE


@LATER
def test_what_was_written_is_read_without_the_daemon(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=0)
    fuse_process.pwrite(fd, b"abc", 0)
    assert fuse_process.pread(fd, 10, 0) == b"abc"
    assert fuse_process.fstat(fd).st_size == 3
    assert mock_daemon.names == ["INIT", "LOOKUP", "OPEN"]
    mock_daemon.default.write(2).reply(written(3))
    mock_daemon.default.setattr(2).reply(attr(2, size=3))
    fuse_process.close(fd)


@LATER
def test_a_part_of_a_page_of_the_file_is_read_first(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, offset=PAGE_SIZE, size=PAGE_SIZE).reply(PAGE)
    fuse_process.pwrite(fd, b"!", PAGE_SIZE + 1)
    fuse_process.pwrite(fd, b"w" * PAGE_SIZE, 2 * PAGE_SIZE)  # a whole one is not
    mock_daemon.expect.write(2, data=b"p!" + PAGE[2:] + b"w" * PAGE_SIZE).reply(written(2 * PAGE_SIZE))
    mock_daemon.expect.setattr(2).reply(attr(2, size=SIZE))
    mock_daemon.expect.fsync(2)
    fuse_process.fsync(fd)


@LATER
def test_a_file_that_was_opened_for_writing_alone_is_read_all_the_same(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_WRONLY, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, fh=7, offset=0).reply(PAGE)
    fuse_process.pwrite(fd, b"!", 0)
    mock_daemon.default.write(2).reply(written(PAGE_SIZE))
    mock_daemon.default.setattr(2).reply(attr(2, size=SIZE))


@LATER
def test_one_write_carries_no_more_than_max_write(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=0)
    fuse_process.pwrite(fd, b"w" * (3 * PAGE_SIZE), 0)
    mock_daemon.expect.write(2, offset=0, size=2 * PAGE_SIZE).reply(written(2 * PAGE_SIZE))
    mock_daemon.expect.write(2, offset=2 * PAGE_SIZE, size=PAGE_SIZE).reply(written(PAGE_SIZE))
    mock_daemon.expect.setattr(2).reply(attr(2, size=3 * PAGE_SIZE))
    fuse_process.close(fd)


@LATER
@pytest.mark.parametrize("how", ["fsync", "close"])
def test_an_error_shows_at_fsync_or_close_and_once(mock_daemon: MockDaemon, fuse_process: Process, how: str) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=0)
    other = fuse_process.dup(fd)
    fuse_process.pwrite(fd, b"abc", 0)
    mock_daemon.expect.write(2).error(errno.ENOSPC)
    mock_daemon.default.setattr(2).reply(attr(2, size=3))
    mock_daemon.default.fsync(2)
    assert errno_of(getattr(fuse_process, how), fd) == errno.ENOSPC
    getattr(fuse_process, how)(other)


@LATER
def test_the_daemons_size_is_not_believed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=0, entry_valid=60, attr_valid=0)
    mock_daemon.default.getattr(2).reply(attr(2, REG, size=0, uid=9))
    fuse_process.pwrite(fd, b"abc", 0)
    found = fuse_process.fstat(fd)
    assert (found.st_size, found.st_uid) == (3, 9)
    mock_daemon.default.write(2).reply(written(3))
    mock_daemon.default.setattr(2).reply(attr(2, size=3))


@LATER
def test_truncation_is_told_at_once_and_what_was_cut_off_is_not_written(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=0)
    fuse_process.pwrite(fd, b"w" * (2 * PAGE_SIZE), 0)
    mock_daemon.default.write(2).reply(lambda asked: written(asked.size))
    mock_daemon.expect.setattr(2, valid=lambda valid: valid & FAttr.SIZE, size=100).reply(attr(2, size=100, valid=60))
    fuse_process.ftruncate(fd, 100)
    before = len(mock_daemon.came("write"))
    mock_daemon.default.setattr(2).reply(attr(2, size=100, valid=60))
    fuse_process.close(fd)
    assert all(asked.offset + asked.size <= 100 for asked in mock_daemon.came("write")[before:])
    assert fuse_process.stat("/f").st_size == 100


@LATER
def test_an_unmount_does_not_wait_for_a_daemon_that_is_dead(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=0)
    fuse_process.pwrite(fd, b"abc", 0)
    mock_daemon.kill()
    assert errno_of(fuse_process.close, fd) in (errno.EIO, errno.ENOTCONN)
    fuse_kernel.mounts[0].unmount()
