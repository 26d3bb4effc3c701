"""Open files: as those functions of ``os`` that take a descriptor, and fcntl's locks, poll and ioctl."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ...kernel.vfs import UserMemory
from ...kernel.vfs import syscalls as sc
from ...kernel.vfs.locks import F_UNLCK, F_WRLCK
from ...wire.layouts import FileLock
from .base import Caller, Path, at, to_bytes

Data = bytes | bytearray | memoryview
F_ULOCK, F_LOCK, F_TLOCK, F_TEST = 0, 1, 2, 3


class FileCalls(Caller):
    """``os.open`` and what is done with what it returns."""

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """As os.open(): the descriptor is not inherited by exec."""
        return self._call(sc.sys_open, to_bytes(path), flags | os.O_CLOEXEC, mode, at(dir_fd))

    def pipe(self) -> tuple[int, int]:
        """As os.pipe()."""
        return self.pipe2(os.O_CLOEXEC)

    def pipe2(self, flags: int) -> tuple[int, int]:
        """As os.pipe2(): O_CLOEXEC and O_NONBLOCK."""
        return self._call(sc.sys_pipe, flags)

    def close(self, fd: int) -> None:
        """As os.close()."""
        self._call(sc.sys_close, fd)

    def closerange(self, fd_low: int, fd_high: int) -> None:
        """As os.closerange()."""
        self._call(sc.sys_close_range, fd_low, fd_high - 1)

    def dup(self, fd: int) -> int:
        """As os.dup()."""
        return self._call(sc.sys_dup, fd, 0, True)

    def dup2(self, fd: int, fd2: int, inheritable: bool = True) -> int:
        """As os.dup2()."""
        return self._call(sc.sys_dup2, fd, fd2, not inheritable)

    def get_inheritable(self, fd: int) -> bool:
        """As os.get_inheritable()."""
        self.program.files.get(fd)
        return fd not in self.program.files.cloexec

    def set_inheritable(self, fd: int, inheritable: bool) -> None:
        """As os.set_inheritable()."""
        self.program.files.get(fd)
        if inheritable:
            self.program.files.cloexec.discard(fd)
        else:
            self.program.files.cloexec.add(fd)

    def getfl(self, fd: int) -> int:
        """As fcntl.fcntl(fd, F_GETFL)."""
        return sc.fd_flags(self._main, fd)

    def setfl(self, fd: int, flags: int) -> None:
        """As fcntl.fcntl(fd, F_SETFL, flags)."""
        sc.set_fd_flags(self._main, fd, flags)

    def get_blocking(self, fd: int) -> bool:
        """As os.get_blocking()."""
        return not self.getfl(fd) & os.O_NONBLOCK

    def set_blocking(self, fd: int, blocking: bool) -> None:
        """As os.set_blocking()."""
        flags = self.getfl(fd)
        self.setfl(fd, flags & ~os.O_NONBLOCK if blocking else flags | os.O_NONBLOCK)

    # -- contents ---------------------------------------------------------------------------------------------------

    def read(self, fd: int, n: int) -> bytes:
        """As os.read()."""
        return self._read(fd, n, None)

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        """As os.pread()."""
        return self._read(fd, n, offset)

    def _read(self, fd: int, n: int, offset: int | None) -> bytes:
        memory = bytearray(n)
        size = self._call(sc.sys_read, fd, memoryview(memory), offset)
        return bytes(memory) if size == n else bytes(memory[:size])

    def readinto(self, fd: int, buffer: bytearray | memoryview | UserMemory, offset: int | None = None) -> int:
        """As os.readinto(); with ``offset`` as os.preadv() of one buffer. ``UserMemory`` is faulted in."""
        if isinstance(buffer, UserMemory):
            return self._call(sc.sys_read, fd, buffer, offset)
        return self._call(sc.sys_read, fd, memoryview(buffer).cast("B"), offset)

    def readv(self, fd: int, buffers: Sequence[bytearray | memoryview]) -> int:
        """As os.readv()."""
        return self.preadv(fd, buffers, None)

    def preadv(self, fd: int, buffers: Sequence[bytearray | memoryview], offset: int | None, flags: int = 0) -> int:
        """As os.preadv(). Flags are not supported."""
        _no_flags("preadv", flags)
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data = self._read(fd, sum(map(len, views)), offset)
        at = 0
        for view in views:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        return len(data)

    def write(self, fd: int, data: Data | UserMemory) -> int:
        """As os.write(). ``UserMemory`` is faulted in."""
        return self._call(sc.sys_write, fd, (data,))

    def pwrite(self, fd: int, data: Data | UserMemory, offset: int) -> int:
        """As os.pwrite()."""
        return self._call(sc.sys_write, fd, (data,), offset)

    def writev(self, fd: int, buffers: Sequence[Data]) -> int:
        """As os.writev()."""
        return self._call(sc.sys_write, fd, tuple(buffers) or (b"",))

    def pwritev(self, fd: int, buffers: Sequence[Data], offset: int, flags: int = 0) -> int:
        """As os.pwritev(). Flags are not supported."""
        _no_flags("pwritev", flags)
        return self._call(sc.sys_write, fd, tuple(buffers) or (b"",), offset)

    def lseek(self, fd: int, position: int, whence: int) -> int:
        """As os.lseek()."""
        return self._call(sc.sys_lseek, fd, position, whence)

    def ftruncate(self, fd: int, length: int) -> None:
        """As os.ftruncate()."""
        self._call(sc.sys_ftruncate, fd, length)

    def posix_fallocate(self, fd: int, offset: int, length: int) -> None:
        """As os.posix_fallocate()."""
        self.fallocate(fd, 0, offset, length)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2)."""
        self._call(sc.sys_fallocate, fd, mode, offset, length)

    def copy_file_range(
        self, src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
    ) -> int:
        """As os.copy_file_range()."""
        if count < 0:
            raise ValueError("negative value for 'count' not allowed")
        return self._call(sc.sys_copy_file_range, src, dst, count, offset_src, offset_dst)

    def sendfile(self, out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
        """As os.sendfile()."""
        return self._call(sc.sys_sendfile, out_fd, in_fd, offset, count)

    def splice(
        self,
        src: int,
        dst: int,
        count: int,
        offset_src: int | None = None,
        offset_dst: int | None = None,
        flags: int = 0,
    ) -> int:
        """As os.splice(): one of the two is a pipe."""
        if count < 0:
            raise ValueError("negative value for 'count' not allowed")
        return self._call(sc.sys_splice, src, offset_src, dst, offset_dst, count, flags)

    def posix_fadvise(self, fd: int, offset: int, length: int, advice: int) -> None:
        """As os.posix_fadvise(): how it will be read, and what of it is to be read ahead or to be forgotten."""
        self._call(sc.sys_fadvise, fd, offset, length, advice)

    def sync(self) -> None:
        """As os.sync()."""
        self._call(sc.sys_sync, self.kernel.page_lru)

    def fsync(self, fd: int) -> None:
        """As os.fsync()."""
        self._call(sc.sys_fsync, fd)

    def fdatasync(self, fd: int) -> None:
        """As os.fdatasync()."""
        self._call(sc.sys_fsync, fd, True)

    def syncfs(self, fd: int) -> None:
        """syncfs(2)."""
        self._call(sc.sys_syncfs, fd)

    # -- locks ------------------------------------------------------------------------------------------------------

    def flock(self, fd: int, operation: int) -> None:
        """As fcntl.flock()."""
        self._call(sc.sys_flock, fd, operation)

    def lockf(self, fd: int, command: int, length: int) -> None:
        """As os.lockf(): from the file's position on."""
        if command == F_TEST:
            if self.getlk(fd, F_WRLCK, 0, length, os.SEEK_CUR).type != F_UNLCK:
                raise PermissionError(13, "Permission denied: another process has locked it")
            return
        if command not in (F_ULOCK, F_LOCK, F_TLOCK):
            raise OSError(22, f"lockf command {command}")
        type = F_UNLCK if command == F_ULOCK else F_WRLCK
        self.setlk(fd, type, 0, length, os.SEEK_CUR, wait=command == F_LOCK)

    def setlk(
        self,
        fd: int,
        type: int,
        start: int = 0,
        length: int = 0,
        whence: int = 0,
        *,
        wait: bool = False,
        ofd: bool = False,
    ) -> None:
        """fcntl(2)'s F_SETLK, with ``wait`` F_SETLKW; ``ofd``: the lock is the open file description's (F_OFD_SETLK).
        ``type`` is F_RDLCK 0, F_WRLCK 1 or F_UNLCK 2; a ``length`` of 0 reaches to the end."""
        self._call(sc.sys_setlk, fd, type, start, length, whence, wait, ofd)

    def getlk(
        self, fd: int, type: int, start: int = 0, length: int = 0, whence: int = 0, *, ofd: bool = False
    ) -> FileLock:
        """fcntl(2)'s F_GETLK: a lock in the way, or one of type F_UNLCK."""
        return self._call(sc.sys_getlk, fd, type, start, length, whence, ofd)

    # -- events -----------------------------------------------------------------------------------------------------

    def poll(self, fds: Iterable[tuple[int, int]], timeout: int | None = None) -> list[tuple[int, int]]:
        """poll(2): which events are there of those asked for each descriptor. ``timeout`` in milliseconds; None: for ever."""
        driver = self.kernel.driver
        return self._call(sc.sys_poll, list(fds), timeout, driver.now, driver.call_at)

    def ioctl(self, fd: int, request: int, arg: int | Data = 0, mutate_flag: bool = True) -> int | bytes:
        """As fcntl.ioctl(): a bytearray is written to, for bytes a new value is returned."""
        request &= 0xFFFFFFFF
        if isinstance(arg, int):
            return self._call(sc.sys_ioctl, fd, request, arg & ((1 << 64) - 1), None)
        memory = arg if isinstance(arg, bytearray) and mutate_flag else bytearray(arg)
        result = self._call(sc.sys_ioctl, fd, request, id(memory) & ((1 << 64) - 1), memory)
        if isinstance(arg, memoryview) and not arg.readonly and mutate_flag:
            arg.cast("B")[:] = memory
            return result
        return result if memory is arg else bytes(memory)


def _no_flags(name: str, flags: int) -> None:
    if flags:
        raise NotImplementedError(f"{name}: flags {flags:#x} are not supported")
