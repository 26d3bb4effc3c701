"""This machine's system calls, where ``os`` has them under other names than ``Process``, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import struct
from collections.abc import Iterator
from typing import NamedTuple

from fusewire.testing.conformance.world import AT_FDCWD, Os
from fusewire.wire.layouts import STATX, FileLock, Statx

FLOCK = struct.Struct("hhqqi4x")
OFFSET_MAX = (1 << 63) - 1
LONG = ctypes.c_long
MS_SYNC = 4
AT_SYMLINK_NOFOLLOW = 0x100


class Linux(Os):
    """Used like a ``Process``."""

    def __init__(self) -> None:
        super().__init__()
        self._libc.mmap.restype = LONG

    # -- memory: touched by system calls, which fail where a program would be killed

    def mmap(self, fd: int, length: int, prot: int, flags: int, offset: int = 0) -> Mapped:
        """Python's own mmap would duplicate the descriptor, and close it."""
        address = self._libc.mmap(None, LONG(length), prot, flags, fd, LONG(offset))
        if address == -1:
            self._check(-1)
        return Mapped(address)

    def load(self, address: int, length: int) -> bytes:
        with _scratch() as fd:
            _whole(os.pwrite(fd, _memory(address, length), 0), length)
            return os.pread(fd, length, 0)

    def store(self, address: int, data: bytes) -> None:
        with _scratch() as fd:
            os.pwrite(fd, data, 0)
            _whole(os.preadv(fd, [_memory(address, len(data))], 0), len(data))

    def msync(self, address: int, length: int) -> None:
        self._check(self._libc.msync(LONG(address), LONG(length), MS_SYNC))

    def munmap(self, address: int, length: int) -> None:
        self._check(self._libc.munmap(LONG(address), LONG(length)))

    # -- the rest

    def setlk(self, fd: int, *lock: int) -> None:
        fcntl.fcntl(fd, fcntl.F_SETLK, _flock(*lock))

    def getlk(self, fd: int, *lock: int) -> FileLock:
        type, _, start, length, pid = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _flock(*lock)))
        return FileLock(start, start + length - 1 if length else OFFSET_MAX, type, pid)

    def statx(self, path: str, mask: int, *, flags: int, dir_fd: int | None, follow_symlinks: bool) -> Statx:
        buffer = bytearray(256)
        at = AT_FDCWD if dir_fd is None else dir_fd
        flags |= 0 if follow_symlinks else AT_SYMLINK_NOFOLLOW
        self._check(self._libc.statx(at, os.fsencode(path), flags, mask, ctypes.byref(_memory_of(buffer))))
        return STATX.unpack(buffer)

    def poll(self, fds: list[tuple[int, int]], timeout: int) -> list[tuple[int, int]]:
        poll = select.poll()
        for fd, events in fds:
            poll.register(fd, events)
        return poll.poll(timeout)


class Mapped(NamedTuple):
    address: int


def _memory(address: int, length: int) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * length).from_address(address)


def _memory_of(buffer: bytearray) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * len(buffer)).from_buffer(buffer)


@contextlib.contextmanager
def _scratch() -> Iterator[int]:
    fd = os.memfd_create("scratch")
    try:
        yield fd
    finally:
        os.close(fd)


def _whole(done: int, length: int) -> None:
    if done < length:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))


def _flock(type: int, start: int = 0, length: int = 0, whence: int = 0) -> bytes:
    return FLOCK.pack(type, whence, start, length, 0)
