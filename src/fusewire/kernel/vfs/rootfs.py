"""The tree that mountpoints stand in: directories made by mounting, and nothing else."""

from __future__ import annotations

import stat

from ...wire.layouts import Attr
from .inode import Dentry, Inode
from .program import ProgramTask
from .super import Super


class RootSuper(Super):
    """An empty read-only filesystem whose directories come into being when something is mounted there."""

    read_only = True
    checks_permissions = True

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self.root = Dentry(b"", None, self._directory(b"/"))

    def may_walk(self, task: ProgramTask, inode: Inode) -> bool:
        return True

    def want_write(self) -> None:
        """Each operation refuses by itself: that a name is a mountpoint is told first."""

    async def permission(self, task: ProgramTask, inode: Inode, mask: int) -> None:
        """Everybody may try."""

    def mountpoint(self, path: bytes) -> Dentry:
        """The directory ``path``, made with all above it. ``path`` is absolute and has no ``.`` or ``..``."""
        dentry = self.root
        for name in filter(None, path.split(b"/")):
            dentry = dentry.children.get(name) or dentry.add(name, self._directory(name), 0)
        return dentry

    def _directory(self, name: bytes) -> Inode:
        self._count += 1
        return Inode(self, self._count, 0, Attr(self._count, mode=stat.S_IFDIR | 0o755, nlink=2), name)
