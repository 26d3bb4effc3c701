"""read(2) by way of the page cache: which pages are asked for, how long they are believed, what an answer means."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, errno_of, open_file

from fusewire import FOpenFlag, InitFlag, Process
from fusewire.testing import MockDaemon, attr
from fusewire.wire.flags import PAGE_SIZE

pytestmark = BOTH
CACHED = FOpenFlag(0)
SIZE = 64 * PAGE_SIZE
AHEAD = pytest.mark.mock_daemon(flags=InitFlag.ASYNC_READ, max_readahead=32 * PAGE_SIZE)


def page(letter: bytes) -> bytes:
    return letter * PAGE_SIZE


def test_whole_pages_are_asked_for_and_once(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, fh=7, offset=PAGE_SIZE, size=PAGE_SIZE, read_flags=0).reply(page(b"a"))
    for _ in range(2):
        assert fuse_process.pread(fd, 10, PAGE_SIZE + 100) == b"a" * 10


@AHEAD
def test_a_read_that_begins_at_the_start_is_ahead_of_its_reader(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, offset=0, size=4 * PAGE_SIZE).reply(page(b"a") * 4)
    assert fuse_process.read(fd, PAGE_SIZE) == page(b"a")
    mock_daemon.expect.read(2, offset=4 * PAGE_SIZE, size=8 * PAGE_SIZE).reply(page(b"b") * 8)
    assert fuse_process.read(fd, PAGE_SIZE) == page(b"a")


@AHEAD
def test_a_short_answer_within_the_file_is_its_end(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=4 * PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0).reply(page(b"a") + b"end")
    assert fuse_process.pread(fd, SIZE, 0) == page(b"a") + b"end"
    mock_daemon.default.getattr(2).reply(attr(2, size=PAGE_SIZE + 3, valid=60))
    assert fuse_process.fstat(fd).st_size == PAGE_SIZE + 3


def test_what_lies_behind_the_end_is_not_asked_for(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=100)
    assert fuse_process.pread(fd, 10, 100) == b""
    assert "READ" not in mock_daemon.names


def test_a_size_that_is_out_of_date_is_asked_for_where_it_matters(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=100, entry_valid=60, attr_valid=0)
    mock_daemon.expect.read(2, offset=0).reply(b"x" * 100)
    assert fuse_process.pread(fd, 10, 0) == b"x" * 10
    mock_daemon.expect.getattr(2).reply(attr(2, size=100))
    assert fuse_process.pread(fd, 10, 95) == b"x" * 5


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_the_daemons_error_is_the_callers_and_nothing_is_cached(
    mock_daemon: MockDaemon, fuse_process: Process, number: int
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2).error(number)
    assert errno_of(fuse_process.read, fd, 10) == number
    mock_daemon.expect.read(2).reply(page(b"a"))
    assert fuse_process.read(fd, 10) == b"a" * 10


def test_an_error_behind_the_first_page_is_a_short_read(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, offset=0).reply(page(b"a"))
    mock_daemon.expect.read(2, offset=PAGE_SIZE).error(errno.EIO)
    assert fuse_process.pread(fd, 2 * PAGE_SIZE, 0) == page(b"a")


def test_reading_makes_the_time_of_access_be_asked_for_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2).reply(page(b"a"))
    mock_daemon.expect.getattr(2).reply(attr(2, size=SIZE, valid=60, atime=99))
    fuse_process.read(fd, 10)
    assert fuse_process.fstat(fd).st_atime == 99
    fuse_process.pread(fd, 10, 0)
    assert fuse_process.fstat(fd).st_atime == 99  # what was cached is no access that the daemon saw


# -- how long it is believed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [CACHED, FOpenFlag.KEEP_CACHE])
def test_an_open_throws_away_what_is_cached_unless_it_says_keep_cache(
    mock_daemon: MockDaemon, fuse_process: Process, how: FOpenFlag
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=how, size=SIZE)
    mock_daemon.expect.read(2).times(1 if how else 2).reply(page(b"a"))
    fuse_process.read(fd, 10)
    fuse_process.read(fuse_process.open("/f", os.O_RDONLY), 10)


def test_it_outlives_the_descriptor(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=FOpenFlag.KEEP_CACHE, size=SIZE)
    mock_daemon.expect.read(2).reply(page(b"a"))
    fuse_process.read(fd, 10)
    fuse_process.close(fd)
    assert fuse_process.read(fuse_process.open("/f", os.O_RDONLY), 10) == b"a" * 10


@pytest.mark.mock_daemon(flags=InitFlag.AUTO_INVAL_DATA)
@pytest.mark.parametrize("changed", ["mtime", "size", ""])
def test_attributes_that_changed_throw_it_away(mock_daemon: MockDaemon, fuse_process: Process, changed: str) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE, entry_valid=60, attr_valid=0, mtime=5)
    attributes = {"size": SIZE, "mtime": 5}
    mock_daemon.default.getattr(2).reply(lambda asked: attr(2, **attributes))
    mock_daemon.expect.read(2).times(2 if changed else 1).reply(page(b"a"))
    fuse_process.read(fd, 10)
    if changed:
        attributes[changed] += 1
    fuse_process.fstat(fd)
    fuse_process.pread(fd, 10, 0)


def test_without_auto_inval_data_another_mtime_does_not(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE, entry_valid=60, attr_valid=0, mtime=5)
    mock_daemon.default.getattr(2).reply(attr(2, size=SIZE, mtime=6))
    mock_daemon.expect.read(2).reply(page(b"a"))
    fuse_process.read(fd, 10)
    assert fuse_process.fstat(fd).st_mtime == 6
    fuse_process.pread(fd, 10, 0)


@pytest.mark.mock_daemon(flags=InitFlag.EXPLICIT_INVAL_DATA)
def test_with_explicit_inval_data_another_size_keeps_what_is_still_in_the_file(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE, entry_valid=60, attr_valid=0)
    mock_daemon.default.getattr(2).reply(attr(2, size=PAGE_SIZE))
    mock_daemon.expect.read(2).reply(page(b"a"))
    fuse_process.read(fd, 10)
    assert fuse_process.fstat(fd).st_size == PAGE_SIZE
    assert fuse_process.pread(fd, SIZE, 0) == page(b"a")


# -- what a daemon says of the cache -------------------------------------------------------------------------------------


def test_an_invalidated_range_is_asked_for_again_and_the_rest_is_not(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.default.getattr(2).reply(attr(2, size=SIZE, valid=60))
    for index in (0, 1, 2):
        mock_daemon.expect.read(2, offset=index * PAGE_SIZE).reply(page(b"a"))
    fuse_process.pread(fd, 3 * PAGE_SIZE, 0)
    mock_daemon.notify.inval_inode(2, off=PAGE_SIZE + 5, len=1)
    mock_daemon.expect.read(2, offset=PAGE_SIZE).reply(page(b"b"))
    assert fuse_process.pread(fd, 3 * PAGE_SIZE, 0) == page(b"a") + page(b"b") + page(b"a")


def test_attributes_alone_leave_the_pages(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.default.getattr(2).reply(attr(2, size=SIZE, valid=60))
    mock_daemon.expect.read(2).reply(page(b"a"))
    fuse_process.pread(fd, 10, 0)
    mock_daemon.notify.inval_inode(2, off=-1)
    assert fuse_process.pread(fd, 10, 0) == b"a" * 10


def test_what_was_stored_is_not_asked_for(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.notify.store(2, page(b"s") * 2, offset=PAGE_SIZE)
    assert fuse_process.pread(fd, 2 * PAGE_SIZE, PAGE_SIZE) == page(b"s") * 2
    assert "READ" not in mock_daemon.names


def test_a_part_of_a_page_is_stored_where_the_rest_is_known(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, offset=0).reply(page(b"a"))
    fuse_process.pread(fd, 1, 0)
    mock_daemon.notify.store(2, b"new", offset=10)
    assert fuse_process.pread(fd, 15, 0) == b"a" * 10 + b"new" + b"aa"


def test_what_is_cached_can_be_retrieved_and_nothing_else(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, offset=0).reply(page(b"a"))
    fuse_process.pread(fd, 1, 0)
    came = mock_daemon.expect.notify_reply(2, offset=100)
    mock_daemon.notify.retrieve(77, nodeid=2, offset=100, size=2 * PAGE_SIZE)
    assert came.wait().data == b"a" * (PAGE_SIZE - 100)


def test_a_direct_open_beside_a_cached_one_asks_for_itself(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, how=CACHED, size=SIZE)
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(page(b"a"))
    fuse_process.pread(fd, 1, 0)
    direct = fuse_process.open("/f", os.O_RDONLY | os.O_DIRECT)
    mock_daemon.expect.read(2, offset=0, size=10).reply(b"b" * 10)
    assert fuse_process.pread(direct, 10, 0) == b"b" * 10
