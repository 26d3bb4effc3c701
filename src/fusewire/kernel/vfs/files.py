"""Open file descriptions and descriptor tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...wire.errno import Errno
from ..queue import Device

if TYPE_CHECKING:
    from .inode import Dentry, Inode
    from .program import ProgramTask


class File:
    """An open file description: shared by every descriptor that was duplicated from the first.

    ``flags`` are those of open(2), ``pos`` the offset in bytes, ``fh`` the daemon's handle, ``open_flags`` its FOPEN_*.
    """

    def __init__(self, dentry: Dentry, inode: Inode, flags: int, fh: int = 0, open_flags: int = 0):
        self.dentry = dentry
        self.inode = inode
        self.flags = flags
        self.fh = fh
        self.open_flags = open_flags
        self.pos = 0
        self.count = 1
        inode.count += 1

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)

    async def flush(self, task: ProgramTask) -> None:
        """At every close(2)."""
        await self.inode.sb.flush(task, self)

    async def release(self, task: ProgramTask) -> None:
        """At the last reference."""
        await self.inode.sb.release(task, self)
        self.inode.put(task)


class DeviceFile:
    """A descriptor of /dev/fuse."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.count = 1

    async def flush(self, task: ProgramTask) -> None:
        return

    async def release(self, task: ProgramTask) -> None:
        self.device.release(task)


class FilesStruct:
    """A descriptor table. Its identity is the lock owner that FLUSH carries."""

    def __init__(self) -> None:
        self.table: dict[int, File | DeviceFile] = {}

    def install(self, file: File | DeviceFile) -> int:
        """The lowest free descriptor now names ``file``."""
        fd = 0
        while fd in self.table:
            fd += 1
        self.table[fd] = file
        return fd

    def get(self, fd: int) -> File | DeviceFile:
        """Raises EBADF."""
        try:
            return self.table[fd]
        except KeyError:
            raise OSError(int(Errno.EBADF), f"descriptor {fd} is not open") from None

    def file(self, fd: int) -> File:
        """An open file, and not the device. Raises EBADF, EINVAL."""
        file = self.get(fd)
        if isinstance(file, DeviceFile):
            raise OSError(int(Errno.EINVAL), f"descriptor {fd} is /dev/fuse")
        return file

    async def close(self, task: ProgramTask, fd: int) -> None:
        """Give the descriptor back, then flush; whatever the flush answers, the descriptor is gone."""
        file = self.get(fd)
        del self.table[fd]
        try:
            await file.flush(task)
        finally:
            file.count -= 1
            if not file.count:
                await file.release(task)
