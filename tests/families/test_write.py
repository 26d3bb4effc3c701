"""write(2) to a file that is not cached (FOPEN_DIRECT_IO)."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIRECT, errno_of, open_file

from fusewire import InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, attr, written
from fusewire.wire.flags import WriteFlag

pytestmark = BOTH


def test_the_daemon_gets_offset_data_and_flags(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_WRONLY | os.O_NONBLOCK)
    asked = mock_daemon.expect.write(2, fh=7, offset=100, size=4, data=b"text").reply(written(4))
    assert fuse_process.pwrite(fd, b"text", 100) == 4
    assert asked.wait().flags & os.O_NONBLOCK
    assert asked.wait().write_flags & WriteFlag.LOCKOWNER
    assert asked.wait().lock_owner


def test_the_position_moves_by_what_was_written(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2, offset=0).reply(written(3))
    mock_daemon.expect.write(2, offset=3).reply(written(3))
    for _ in range(2):
        fuse_process.write(fd, b"abc")


def test_a_short_write_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2).reply(written(3))
    assert fuse_process.write(fd, b"abcdef") == 3
    assert fuse_process.lseek(fd, 0, os.SEEK_CUR) == 3


@pytest.mark.mock_daemon(max_write=4096)
def test_a_large_write_is_cut_into_pieces(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    data = os.urandom(10_000)
    fd = open_file(mock_daemon, fuse_process)
    with mock_daemon.in_order():
        for offset in (0, 4096, 8192):
            piece = data[offset : offset + 4096]
            mock_daemon.expect.write(2, offset=offset, data=piece).reply(written(len(piece)))
    assert fuse_process.write(fd, data) == 10_000


@pytest.mark.mock_daemon(max_write=4096)
def test_a_piece_that_is_written_in_part_is_the_last(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2, offset=0).reply(written(4096))
    mock_daemon.expect.write(2, offset=4096).reply(written(10))
    assert fuse_process.write(fd, bytes(20_000)) == 4106


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2).error(number)
    assert errno_of(fuse_process.write, fd, b"x") == number


@pytest.mark.mock_daemon(max_write=4096)
def test_an_error_behind_the_first_piece_is_a_short_write(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2, offset=0).reply(written(4096))
    mock_daemon.expect.write(2, offset=4096).error(errno.ENOSPC)
    assert fuse_process.write(fd, bytes(8192)) == 4096


def test_appending_asks_where_the_end_is(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_WRONLY | os.O_APPEND, entry_valid=60, attr_valid=0)
    mock_daemon.expect.getattr(2).reply(attr(2, size=500))
    mock_daemon.expect.write(2, offset=500).reply(written(1))
    fuse_process.write(fd, b"x")


def test_nothing_is_no_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    assert fuse_process.write(fd, b"") == 0
    assert "WRITE" not in mock_daemon.names


def test_a_descriptor_for_reading_alone_is_ebadf(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDONLY)
    assert errno_of(fuse_process.write, fd, b"x") == errno.EBADF


def test_who_may_not_keep_set_id_bits_says_so(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    process = fuse_kernel.process(uid=1000, gid=1000)
    fd = open_file(mock_daemon, process)
    kill = WriteFlag.KILL_SUIDGID | WriteFlag.LOCKOWNER
    mock_daemon.expect.write(2, write_flags=kill).reply(written(1))
    process.write(fd, b"x")


@pytest.mark.mock_daemon(flags=InitFlag.HANDLE_KILLPRIV_V2)
def test_a_daemon_that_clears_them_itself_is_not_asked_for_capabilities(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process, how=DIRECT)
    mock_daemon.expect.getxattr().times(0)
    mock_daemon.expect.write(2).reply(written(1))
    fuse_process.write(fd, b"x")


def test_several_buffers_are_one_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2, data=b"abcdef").reply(written(6))
    assert fuse_process.writev(fd, [b"ab", b"", bytearray(b"cdef")]) == 6
