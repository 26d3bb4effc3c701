"""fcntl(2)'s locks and flock(2): the daemon's where it asked for them in INIT, else this machine's."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, errno_of, open_file, there

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon, opened
from fusewire.wire.flags import LkFlag, ReleaseFlag
from fusewire.wire.layouts import FileLock

pytestmark = BOTH
RDLCK, WRLCK, UNLCK = 0, 1, 2
SH, EX, NB, UN = 1, 2, 4, 8
EOF = (1 << 63) - 1
posix = pytest.mark.mock_daemon(flags=InitFlag.POSIX_LOCKS)
flocks = pytest.mark.mock_daemon(flags=InitFlag.FLOCK_LOCKS)


@posix
def test_a_lock_has_its_range_type_owner_and_process(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setlk(2, fh=7, lk=FileLock(10, 19, WRLCK, fuse_process.pid), lk_flags=0)
    fuse_process.setlk(fd, WRLCK, 10, 10)


@posix
def test_a_length_of_0_reaches_to_the_end(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setlk(2, lk=FileLock(5, EOF, RDLCK, fuse_process.pid))
    fuse_process.setlk(fd, RDLCK, 5, 0)


@posix
def test_unlocking_has_no_process(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setlk(2, lk=FileLock(0, EOF, UNLCK, 0))
    fuse_process.setlk(fd, UNLCK)


@posix
def test_waiting_for_a_lock_is_an_operation_of_its_own(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setlkw(2, lk=FileLock(0, EOF, WRLCK, fuse_process.pid)).reply_late(0.02)
    fuse_process.setlk(fd, WRLCK, wait=True)


@posix
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EDEADLK, errno.EINTR])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setlk(2).error(number)
    assert errno_of(fuse_process.setlk, fd, WRLCK) == number


@posix
def test_the_lock_in_the_way_is_asked_for(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.getlk(2, fh=7, lk=FileLock(0, EOF, WRLCK)).reply(lk=FileLock(3, 4, RDLCK, 77))
    assert fuse_process.getlk(fd, WRLCK) == FileLock(3, 4, RDLCK, 77)


@posix
@pytest.mark.parametrize("lock", [FileLock(1 << 63, EOF, WRLCK), FileLock(9, 3, WRLCK)])
def test_a_lock_that_cannot_be_is_eio(mock_daemon: MockDaemon, fuse_process: Process, lock: FileLock) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.getlk(2).reply(lk=lock)
    assert errno_of(fuse_process.getlk, fd, WRLCK) == errno.EIO


@posix
def test_enosys_is_not_remembered(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setlk(2).times(2).error(errno.ENOSYS)
    for _ in range(2):
        assert errno_of(fuse_process.setlk, fd, WRLCK) == errno.ENOSYS


@posix
def test_the_owner_is_that_of_flush(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    """By which the daemon ends the locks of a process that closes the file."""
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setlk(2)
    mock_daemon.expect.flush(2)
    fuse_process.setlk(fd, WRLCK)
    fuse_process.close(fd)
    assert mock_daemon.came("setlk")[0].owner == mock_daemon.came("flush")[0].lock_owner != 0


def test_without_posix_locks_this_machine_keeps_them(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    fuse_process.setlk(fd, WRLCK, 0, 10)
    other = fuse_process.fork()
    assert errno_of(other.setlk, fd, WRLCK, 5, 10) == errno.EAGAIN
    assert other.getlk(fd, WRLCK).pid == fuse_process.pid
    assert not {"SETLK", "SETLKW", "GETLK"} & set(mock_daemon.names)


@posix
def test_a_lock_for_writing_takes_a_descriptor_for_writing(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDONLY)
    assert errno_of(fuse_process.setlk, fd, WRLCK) == errno.EBADF


@flocks
def test_flock_is_of_the_open_file_and_says_so(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    whole = FileLock(0, EOF, WRLCK, fuse_process.pid)
    mock_daemon.expect.setlkw(2, lk=whole, lk_flags=LkFlag.FLOCK)
    mock_daemon.expect.setlk(2, lk_flags=LkFlag.FLOCK).error(errno.EAGAIN)
    fuse_process.flock(fd, EX)
    assert errno_of(fuse_process.flock, fd, SH | NB) == errno.EAGAIN


@flocks
def test_release_says_that_a_flock_ends(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    lock = mock_daemon.expect.setlkw(2)
    released = mock_daemon.expect.release(2, release_flags=ReleaseFlag.FLOCK_UNLOCK)
    fuse_process.flock(fd, EX)
    fuse_process.close(fd)
    assert released.wait().lock_owner == lock.wait().owner


@flocks
def test_directories_are_locked_by_this_machine(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.default.opendir(3).reply(opened(4))
    fd, other = (fuse_process.open("/d", os.O_RDONLY) for _ in range(2))
    fuse_process.flock(fd, EX)
    assert errno_of(fuse_process.flock, other, EX | NB) == errno.EAGAIN
    fuse_process.close(fd)
    fuse_process.flock(other, EX | NB)
    assert not {"SETLK", "SETLKW"} & set(mock_daemon.names)


def test_without_flock_locks_this_machine_keeps_them(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    other = fuse_process.open("/f", os.O_RDWR)
    fuse_process.flock(fd, EX)
    assert errno_of(fuse_process.flock, other, EX | NB) == errno.EAGAIN
    fuse_process.flock(fd, UN)
    fuse_process.flock(other, EX | NB)
