"""open(2) of a file that is there."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, DIRECT, LARGEFILE, LNK, errno_of, there

from fusewire import FOpenFlag, InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, attr, opened
from fusewire.wire.flags import FAttr, OpenInFlag

pytestmark = BOTH


@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_SYNC]
)
def test_the_daemon_gets_the_flags(mock_daemon: MockDaemon, fuse_process: Process, flags: int) -> None:
    there(mock_daemon)
    mock_daemon.expect.open(2, flags=flags | LARGEFILE).reply(opened(7))
    fuse_process.open("/f", flags)


@pytest.mark.parametrize("flags", [os.O_CREAT, os.O_NOCTTY, os.O_CLOEXEC])
def test_some_flags_are_not_its_business(mock_daemon: MockDaemon, fuse_process: Process, flags: int) -> None:
    there(mock_daemon)
    mock_daemon.expect.open(2, flags=os.O_RDWR | LARGEFILE).reply(opened(7))
    fuse_process.open("/f", os.O_RDWR | flags)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO, errno.EMFILE])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    there(mock_daemon)
    mock_daemon.expect.open(2).error(number)
    assert errno_of(fuse_process.open, "/f", os.O_RDONLY) == number


def test_its_handle_is_in_all_that_follows(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    handle = (1 << 64) - 3
    mock_daemon.expect.open(2).reply(opened(handle, DIRECT))
    mock_daemon.expect.read(2, fh=handle).reply(b"")
    mock_daemon.expect.flush(2, fh=handle)
    mock_daemon.expect.release(2, fh=handle)
    fd = fuse_process.open("/f", os.O_RDONLY)
    fuse_process.read(fd, 1)
    fuse_process.close(fd)


def test_enosys_means_without_handles_from_then_on(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, size=0)
    mock_daemon.expect.open(2).error(errno.ENOSYS)
    mock_daemon.expect.flush(2, fh=0).times(2)
    mock_daemon.expect.release().times(0)
    for _ in range(2):
        fuse_process.close(fuse_process.open("/f", os.O_RDONLY))


@pytest.mark.mock_daemon(flags=InitFlag.ATOMIC_O_TRUNC)
def test_a_daemon_that_truncates_itself_gets_o_trunc(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, size=5)
    mock_daemon.default.getxattr(2).error(errno.ENODATA)
    mock_daemon.expect.open(2, flags=os.O_RDWR | os.O_TRUNC | LARGEFILE).reply(opened(7))
    mock_daemon.expect.setattr().times(0)
    fuse_process.open("/f", os.O_RDWR | os.O_TRUNC)


def test_for_any_other_the_file_is_truncated_after_it_was_opened(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon, size=5)
    mock_daemon.default.getxattr(2).error(errno.ENODATA)
    with mock_daemon.in_order():
        mock_daemon.expect.open(2, flags=os.O_RDWR | LARGEFILE).reply(opened(7))
        mock_daemon.expect.setattr(2, size=0, valid=FAttr.SIZE | FAttr.LOCKOWNER).reply(attr(2))
    fuse_process.open("/f", os.O_RDWR | os.O_TRUNC)


def test_a_truncation_that_fails_is_that_of_open_and_the_handle_is_released(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon, size=5)
    mock_daemon.default.getxattr(2).error(errno.ENODATA)
    mock_daemon.expect.open(2).reply(opened(7))
    mock_daemon.expect.setattr(2).error(errno.EROFS)
    mock_daemon.expect.release(2, fh=7)
    assert errno_of(fuse_process.open, "/f", os.O_RDWR | os.O_TRUNC) == errno.EROFS


@pytest.mark.mock_daemon(flags=InitFlag.ATOMIC_O_TRUNC | InitFlag.HANDLE_KILLPRIV_V2)
def test_a_daemon_that_clears_set_id_bits_is_told_when(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    there(mock_daemon, size=5)
    mock_daemon.expect.open(2, open_flags=OpenInFlag.KILL_SUIDGID).reply(opened(7))
    fuse_kernel.process(uid=1000, gid=1000).open("/f", os.O_RDWR | os.O_TRUNC)


def test_o_path_opens_nothing(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.open().times(0)
    mock_daemon.expect.flush().times(0)
    fd = fuse_process.open("/f", os.O_PATH)
    assert errno_of(fuse_process.read, fd, 1) == errno.EBADF
    fuse_process.close(fd)


def test_o_nofollow_and_o_directory_are_checked_here(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"l", 3, LNK)
    there(mock_daemon, b"d", 4, DIR)
    assert errno_of(fuse_process.open, "/l", os.O_RDONLY | os.O_NOFOLLOW) == errno.ELOOP
    assert errno_of(fuse_process.open, "/f", os.O_RDONLY | os.O_DIRECTORY) == errno.ENOTDIR
    assert errno_of(fuse_process.open, "/d", os.O_WRONLY) == errno.EISDIR


def test_a_stream_has_no_positions(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.open(2).reply(opened(7, DIRECT | FOpenFlag.STREAM))
    fd = fuse_process.open("/f", os.O_RDONLY)
    assert errno_of(fuse_process.lseek, fd, 0, os.SEEK_CUR) == errno.ESPIPE
    assert errno_of(fuse_process.pread, fd, 1, 0) == errno.ESPIPE
