"""Inodes and dentries: the one inode table, with lookup counts, and the names that lead to it.

An inode lives while a dentry or an open file holds it; then it is evicted, and its lookup count goes back to the daemon as a
FORGET of exactly that many.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from ...wire.layouts import Attr
from ..queue import Semaphore

if TYPE_CHECKING:
    from .program import ProgramTask
    from .super import Super


class Inode:
    """``nodeid`` is the daemon's name for it; ``nlookup`` how many references we owe back; ``count`` who holds it here.

    ``attr_expires`` is in nanoseconds of the driver's clock.
    """

    __slots__ = (
        "attr", "attr_expires", "count", "generation", "nlookup", "nodeid", "sb", "semaphore",
    )  # fmt: skip

    def __init__(self, sb: Super, nodeid: int, generation: int, attr: Attr) -> None:
        self.sb = sb
        self.nodeid = nodeid
        self.generation = generation
        self.attr = attr
        self.attr_expires = 0
        self.nlookup = 0
        self.count = 0
        self.semaphore = Semaphore(f"inode semaphore for node {nodeid}", sb.connection)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.attr.mode)

    def put(self, task: ProgramTask | None) -> None:
        """Let go of one reference; at the last the inode is evicted."""
        self.count -= 1
        if not self.count:
            self.sb.evict(task, self)


class Dentry:
    """A name in a directory. ``inode`` None: cached as absent. ``expires``: until when (ns) it needs no look-up."""

    __slots__ = ("children", "expires", "inode", "mounted", "name", "parent")

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name = name
        self.parent = parent
        self.inode = inode
        self.children: dict[bytes, Dentry] = {}
        self.expires = 0
        self.mounted: Dentry | None = None
        if inode is not None:
            inode.count += 1

    @property
    def path(self) -> bytes:
        """From the root of its own mount, for messages."""
        parts = []
        dentry: Dentry | None = self
        while dentry is not None and dentry.parent is not None:
            parts.append(dentry.name)
            dentry = dentry.parent
        return b"/" + b"/".join(reversed(parts))

    def add(self, name: bytes, inode: Inode | None, expires: int) -> Dentry:
        """Put a name under this one."""
        child = Dentry(name, self, inode)
        child.expires = expires
        self.children[name] = child
        return child

    def drop(self, task: ProgramTask) -> None:
        """Take this name, and all that is cached beneath it, out of its parent."""
        for child in list(self.children.values()):
            child.drop(task)
        if self.parent is not None and self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]
        if self.inode is not None:
            inode, self.inode = self.inode, None
            inode.put(task)
