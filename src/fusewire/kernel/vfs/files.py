"""Open file descriptions and descriptor tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...wire.errno import Errno
from ..queue import Device
from . import locks
from .inode import Dentry

if TYPE_CHECKING:
    from .inode import Inode
    from .program import Cred, ProgramTask
    from .readahead import Readahead

O_LARGEFILE = 0o100000  # what a 64-bit Linux adds to every open; Python's constant is 0 there
NOT_KEPT = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC | os.O_CLOEXEC
OPEN_MAX = 1 << 20  # descriptors, as Linux's fs.nr_open


def path_get(dentry: Dentry) -> Dentry:
    """Use a place in the tree: what it is on cannot be unmounted meanwhile."""
    dentry.count += 1
    dentry.positive.sb.users += 1
    return dentry


def path_put(task: ProgramTask | None, dentry: Dentry) -> None:
    """Use it no longer. What was unmounted lazily ends with its last user."""
    sb = dentry.positive.sb
    dentry.put(task)
    sb.users -= 1
    if not sb.users and sb.detached:
        sb.shutdown(task)


class File:
    """An open file description: shared by every descriptor that was duplicated from the first.

    ``flags`` are those of open(2), ``pos`` the offset in bytes, ``fh`` the daemon's handle, ``open_flags`` its FOPEN_*;
    ``seekable``: it has an offset; ``positioned``: pread and pwrite work; ``opened``: RELEASE is due. ``ops`` is what reads and
    writes go to: the filesystem, or a pipe, of whose writers it has ``writers_seen``.
    """

    writers_seen = -1

    def __init__(self, dentry: Dentry, inode: Inode, flags: int, fh: int = 0, open_flags: int = 0, opened: bool = True):
        self.dentry = path_get(dentry)
        self.inode = inode
        self.ops = inode.sb
        self.flags = flags & ~NOT_KEPT
        self.fh = fh
        self.open_flags = open_flags
        self.opened = opened
        self.pos = 0
        self.count = 1
        self.seekable = True
        self.positioned = True
        self.flocked = False
        self.poll_handle = 0
        self.cred: Cred | None = None  # who opened it
        self.ra: Readahead | None = None  # how it is read ahead
        self.wb_seen = 0  # failed writes of pages that its fsync(2) has told of
        access = flags & os.O_ACCMODE
        self.readable = access in (os.O_RDONLY, os.O_RDWR) and not flags & os.O_PATH
        self.writable = access in (os.O_WRONLY, os.O_RDWR) and not flags & os.O_PATH
        if self.writable and inode.is_reg:
            inode.add_writer()

    @property
    def is_path(self) -> bool:
        """O_PATH: a place in the tree, and no open file."""
        return bool(self.flags & os.O_PATH)

    async def flush(self, task: ProgramTask) -> None:
        """At every close(2)."""
        if self.is_path:
            return
        try:
            await self.ops.flush(task, self)
        finally:
            if self.inode.locks is not None:
                self.inode.locks.release_posix(task.program.files)

    async def release(self, task: ProgramTask) -> None:
        """At the last reference."""
        try:
            if self.inode.locks is not None:
                self.inode.locks.release_file(self)
            if not self.is_path:
                await self.ops.release(task, self)
        finally:
            if self.writable and self.inode.is_reg:
                self.inode.put_write()
            path_put(task, self.dentry)

    def lock_context(self) -> locks.FileLockContext:
        """The locks that this machine itself keeps of the file."""
        if self.inode.locks is None:
            self.inode.locks = locks.FileLockContext(self.inode)
        return self.inode.locks


class DeviceFile:
    """A descriptor of /dev/fuse."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.flags = os.O_RDWR
        self.count = 1

    async def flush(self, task: ProgramTask) -> None:
        return

    async def release(self, task: ProgramTask) -> None:
        self.device.release(task)


class FilesStruct:
    """A descriptor table. Its identity is the lock owner that FLUSH carries; ``cloexec`` closes at exec."""

    def __init__(self) -> None:
        self.table: dict[int, File | DeviceFile] = {}
        self.cloexec: set[int] = set()

    def install(self, file: File | DeviceFile, *, cloexec: bool = False, lowest: int = 0) -> int:
        """The lowest free descriptor, from ``lowest`` on, now names ``file``."""
        fd = lowest
        while fd in self.table:
            fd += 1
        self.table[fd] = file
        if cloexec:
            self.cloexec.add(fd)
        return fd

    def get(self, fd: int) -> File | DeviceFile:
        """Raises EBADF."""
        try:
            return self.table[fd]
        except KeyError:
            raise OSError(int(Errno.EBADF), f"descriptor {fd} is not open") from None

    def path(self, fd: int) -> File:
        """A file that may be O_PATH. Raises EBADF, EINVAL for the device."""
        file = self.get(fd)
        if isinstance(file, DeviceFile):
            raise OSError(int(Errno.EINVAL), f"descriptor {fd} is /dev/fuse")
        return file

    def file(self, fd: int) -> File:
        """An open file, and not the device. Raises EBADF (also for O_PATH), EINVAL."""
        file = self.path(fd)
        if file.is_path:
            raise OSError(int(Errno.EBADF), f"descriptor {fd} was opened with O_PATH")
        return file

    def copy(self) -> FilesStruct:
        """fork(2): the descriptions are shared, the table is not."""
        new = FilesStruct()
        new.table = dict(self.table)
        new.cloexec = set(self.cloexec)
        for file in new.table.values():
            file.count += 1
        return new

    async def close(self, task: ProgramTask, fd: int) -> None:
        """Give the descriptor back, then flush; whatever the flush answers, the descriptor is gone."""
        file = self.get(fd)
        del self.table[fd]
        self.cloexec.discard(fd)
        await close_file(task, file)


async def close_file(task: ProgramTask, file: File | DeviceFile) -> None:
    """One descriptor fewer names ``file``: flush, and at the last release."""
    try:
        await file.flush(task)
    finally:
        await put_file(task, file)


async def put_file(task: ProgramTask, file: File | DeviceFile) -> None:
    """Let go of an open file description. Each system call that sleeps on one holds it (``file.count``)."""
    file.count -= 1
    if not file.count:
        await file.release(task)
