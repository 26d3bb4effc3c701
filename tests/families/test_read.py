"""read(2) of a file that is not cached (FOPEN_DIRECT_IO): what is asked for is what is sent."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, errno_of, open_file

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon
from fusewire.wire.flags import ReadFlag

pytestmark = BOTH


def test_the_daemon_learns_offset_size_and_flags(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDONLY | os.O_NONBLOCK)
    asked = mock_daemon.expect.read(2, fh=7, offset=100, size=50, read_flags=ReadFlag.LOCKOWNER).reply(b"x" * 50)
    assert fuse_process.pread(fd, 50, 100) == b"x" * 50
    assert asked.wait().flags & os.O_NONBLOCK


def test_a_short_answer_is_the_end_of_the_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, size=1000)
    mock_daemon.expect.read(2).reply(b"short")
    assert fuse_process.pread(fd, 1000, 0) == b"short"


def test_nothing_is_the_end_of_the_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2).reply(b"")
    assert fuse_process.pread(fd, 10, 1 << 40) == b""


def test_the_position_moves_by_what_was_read(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2, offset=0).reply(b"abc")
    mock_daemon.expect.read(2, offset=3).reply(b"de")
    assert fuse_process.read(fd, 3) == b"abc"
    assert fuse_process.read(fd, 3) == b"de"


def test_a_large_read_is_cut_into_pieces_of_32_pages(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    piece = 32 * 4096
    with mock_daemon.in_order():
        mock_daemon.expect.read(2, offset=0, size=piece).reply(b"a" * piece)
        mock_daemon.expect.read(2, offset=piece, size=10).reply(b"b" * 10)
    assert fuse_process.pread(fd, piece + 10, 0) == b"a" * piece + b"b" * 10


@pytest.mark.mock_daemon(flags=InitFlag.MAX_PAGES, max_pages=2, max_write=8192)
def test_the_daemon_may_want_smaller_ones(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2, offset=0, size=8192).reply(bytes(8192))
    mock_daemon.expect.read(2, offset=8192, size=8192).reply(bytes(100))
    assert len(fuse_process.pread(fd, 65536, 0)) == 8292


@pytest.mark.parametrize("number", [errno.EIO, errno.EISDIR, errno.EACCES])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2).error(number)
    assert errno_of(fuse_process.read, fd, 10) == number


@pytest.mark.mock_daemon(flags=InitFlag.MAX_PAGES, max_pages=1, max_write=4096)
def test_an_error_behind_the_first_piece_is_a_short_read(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2, offset=0).reply(b"a" * 4096)
    mock_daemon.expect.read(2, offset=4096).error(errno.EIO)
    assert fuse_process.pread(fd, 8192, 0) == b"a" * 4096


def test_a_descriptor_for_writing_alone_is_ebadf_without_a_request(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_WRONLY)
    assert errno_of(fuse_process.read, fd, 10) == errno.EBADF


def test_no_bytes_are_no_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    assert fuse_process.read(fd, 0) == b""
    assert "READ" not in mock_daemon.names


def test_several_buffers_are_one_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2, size=6).reply(b"abcde")
    first, second = bytearray(2), bytearray(4)
    assert fuse_process.readv(fd, [first, second]) == 5
    assert (first, second) == (b"ab", b"cde\0")
