"""ioctl(2): size and direction of the data stand in the command."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from mocked import BOTH, DIR, errno_of, open_file, there

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon, opened
from fusewire.wire.flags import IoctlFlag

pytestmark = BOTH
NONE, WRITE, READ = 0, 1, 2


def command(direction: int, size: int, number: int = 1) -> int:
    """_IOC() of <asm/ioctl.h>."""
    return direction << 30 | size << 16 | ord("x") << 8 | number


def test_one_without_data_has_its_argument_and_its_result(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2, fh=7, cmd=command(NONE, 0), arg=5, in_size=0, out_size=0, flags=0, data=b"").reply(
        result=42
    )
    assert fuse_process.ioctl(fd, command(NONE, 0), 5) == 42


def test_what_is_written_is_sent(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2, in_size=4, out_size=0, data=b"abcd").reply(result=0)
    fuse_process.ioctl(fd, command(WRITE, 4), bytearray(b"abcd"))


def test_what_is_read_is_filled_in(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2, in_size=0, out_size=4, data=b"").reply(result=0, data=b"wxyz")
    memory = bytearray(4)
    fuse_process.ioctl(fd, command(READ, 4), memory)
    assert memory == b"wxyz"


def test_both_ways_at_once(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2, in_size=8, out_size=8, data=bytes(8)).reply(result=0, data=b"12345678")
    memory = bytearray(8)
    fuse_process.ioctl(fd, command(READ | WRITE, 8), memory)
    assert memory == b"12345678"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.EIO])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2).error(number)
    assert errno_of(fuse_process.ioctl, fd, command(NONE, 0)) == number


def test_enosys_is_enotty_and_not_remembered(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2).times(2).error(errno.ENOSYS)
    for _ in range(2):
        assert errno_of(fuse_process.ioctl, fd, command(NONE, 0)) == errno.ENOTTY


def test_a_filesystem_does_not_get_at_other_memory(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2).reply(flags=IoctlFlag.RETRY, in_iovs=1)
    assert errno_of(fuse_process.ioctl, fd, command(NONE, 0)) == errno.EIO


def test_a_negative_result_is_an_error(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.ioctl(2).reply(result=-errno.EBUSY)
    assert errno_of(fuse_process.ioctl, fd, command(NONE, 0)) == errno.EBUSY


@pytest.mark.mock_daemon(flags=InitFlag.HAS_IOCTL_DIR)
def test_one_of_a_directory_says_so(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    mock_daemon.expect.ioctl(3, fh=4, flags=IoctlFlag.DIR).reply(result=1)
    assert fuse_process.ioctl(fuse_process.open("/d", os.O_RDONLY), command(NONE, 0)) == 1


def test_a_daemon_that_does_not_take_them_of_directories_is_not_asked(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    fd = fuse_process.open("/d", os.O_RDONLY)
    assert errno_of(fuse_process.ioctl, fd, command(NONE, 0)) == errno.ENOTTY


def test_how_much_is_left_to_read_is_answered_here(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, size=100)
    fuse_process.lseek(fd, 30, os.SEEK_SET)
    memory = bytearray(4)
    fuse_process.ioctl(fd, 0x541B, memory)  # FIONREAD
    assert struct.unpack("=i", memory) == (70,)


def test_an_inodes_flags_are_asked_for_by_a_handle_of_the_kernels_own(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.open(2).reply(opened(33))
    mock_daemon.expect.ioctl(2, fh=33, cmd=0x80086601, out_size=4).reply(result=0, data=b"\x10\0\0\0")
    mock_daemon.expect.release(2, fh=33)
    memory = bytearray(8)
    fuse_process.ioctl(fd, 0x80086601, memory)
    assert memory[:4] == b"\x10\0\0\0"
