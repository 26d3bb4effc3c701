"""What a mounted filesystem answers to the system calls, whatever is behind it. The base refuses everything: it is empty."""

from __future__ import annotations

from typing import NoReturn

from ...wire.errno import Errno
from ...wire.layouts import Kstatfs, SetattrIn
from ..queue import Connection
from .files import File
from .inode import Dentry, Inode
from .program import ProgramTask


class Super:
    """A super block: the root and the operations on what is below it. Names are ``bytes``, times nanoseconds."""

    connection: Connection | None = None
    device_number = 0
    mountpoint_dentry: Dentry | None = None  # what this filesystem covers

    def evict(self, task: ProgramTask | None, inode: Inode) -> None:
        """Nobody holds the inode any more."""

    async def lookup(self, task: ProgramTask, parent: Dentry, name: bytes) -> Dentry:
        """The dentry of ``name``, positive or negative, asking the daemon where nothing valid is cached."""
        return parent.children.get(name) or Dentry(name, parent, None)

    async def getattr(self, task: ProgramTask, inode: Inode, file: File | None = None) -> None:
        """Bring ``inode.attr`` up to date."""

    async def setattr(self, task: ProgramTask, dentry: Dentry, changes: SetattrIn, file: File | None = None) -> None:
        self._read_only()

    async def create(self, task: ProgramTask, parent: Dentry, name: bytes, flags: int, mode: int) -> File:
        self._read_only()

    async def mkdir(self, task: ProgramTask, parent: Dentry, name: bytes, mode: int) -> None:
        self._read_only()

    async def unlink(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        self._read_only()

    async def rmdir(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        self._read_only()

    async def open(self, task: ProgramTask, dentry: Dentry, flags: int) -> File:
        assert dentry.inode is not None
        return File(dentry, dentry.inode, flags)

    async def flush(self, task: ProgramTask, file: File) -> None:
        return

    async def release(self, task: ProgramTask, file: File) -> None:
        return

    async def read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        self._read_only()

    async def write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> int:
        self._read_only()

    async def readdir(self, task: ProgramTask, file: File) -> list[tuple[bytes, int, int]]:
        """All entries but ``.`` and ``..``: name, inode number, type (DT_*)."""
        return [
            (name, child.inode.nodeid, child.inode.attr.mode >> 12)
            for name, child in file.dentry.children.items()
            if child.inode is not None
        ]

    async def statfs(self, task: ProgramTask, dentry: Dentry) -> Kstatfs:
        return Kstatfs(bsize=4096, namelen=255, frsize=4096)

    def _read_only(self) -> NoReturn:
        raise OSError(int(Errno.EROFS), "nothing is mounted here")
