"""What an inode is. A node is its own ``Attributes``, so that answering GETATTR makes no object; the rest comes when needed.

An inode lives while a name leads to it (``nlink``) or the kernel holds references (``nlookup``); an open file keeps its
inode that way. Whoever calls holds the filesystem's lock.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from time import time_ns
from typing import ClassVar

from ...daemon import Attributes
from .locks import FileLocks

NAME_MAX = 255
BYTES_PER_NAME = 20  # a directory's size, as tmpfs shows it
# What each counts for against the limit, in bytes: about what it takes.
INODE, NAME, XATTR = 1024, 512, 256
FIRST_COOKIE = 3  # 1 and 2 are "." and ".."


class Node(Attributes):
    """An inode: a device, a FIFO, a socket, or what the classes below make of it.

    ``nlookup``: references of the kernel's; ``opens``: open files; ``xattrs`` and ``locks`` are None until there are some;
    ``charge``: what it counts for against the limit, without its names and its pages.
    """

    __slots__ = ("charge", "locks", "nlookup", "opens", "xattrs")

    def __init__(self, ino: int, mode: int, uid: int, gid: int, rdev: int = 0) -> None:
        now = time_ns()
        super().__init__(ino, mode, 1, uid, gid, 0, rdev, now, now, now, now, 4096, 0)
        self.nlookup = 0
        self.opens = 0
        self.charge = INODE
        self.xattrs: dict[bytes, bytes] | None = None
        self.locks: FileLocks | None = None

    def touch(self) -> None:
        """The contents changed."""
        self.mtime_ns = self.ctime_ns = time_ns()


class Symlink(Node):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, ino: int, uid: int, gid: int, target: bytes) -> None:
        super().__init__(ino, stat.S_IFLNK | 0o777, uid, gid)
        self.target = target
        self.size = len(target)
        self.charge += len(target)


class File(Node):
    """A regular file; ``pages`` says how its contents are kept.

    ``allocated``: fallocate(2) may have put pages behind the end of the file; their numbers are below this.
    """

    __slots__ = ("allocated", "pages")

    NO_PAGES: ClassVar[dict[int, bytes | bytearray]] = {}  # every empty file's; never written to

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        super().__init__(ino, mode, uid, gid)
        self.pages = File.NO_PAGES
        self.allocated = 0


@dataclass(slots=True)
class Link:
    """A name in a directory. ``cookie`` is its place in listings: it grows with each name that is added, for ever."""

    cookie: int
    name: bytes
    node: Node


class Directory(Node):
    """A directory: ``links`` by name, in the order of their cookies; ``parent`` is what ``..`` leads to.

    A listing that goes on behind some cookie finds its place in ``_listing``, a list of the links made when it is first
    asked for. Names that were removed since stay in it and are passed over, until they are too many: reading
    a directory takes O(n) in all, whatever happens to it meanwhile.
    """

    __slots__ = ("_listing", "_next", "_removed", "links", "parent")

    def __init__(self, ino: int, mode: int, uid: int, gid: int, parent: Directory | None = None) -> None:
        super().__init__(ino, mode, uid, gid)
        self.nlink = 2
        self.links: dict[bytes, Link] = {}
        self.parent = parent or self
        self._next = FIRST_COOKIE
        self._listing: list[Link] | None = None
        self._removed = 0

    def find(self, name: bytes) -> Node:
        """The inode that ``name`` leads to. Raises FileNotFoundError, or OSError(ENAMETOOLONG)."""
        link = self.links.get(name)
        if link is None:
            check_length(name)
            raise FileNotFoundError
        return link.node

    def add(self, name: bytes, node: Node) -> None:
        """A new name, behind all others."""
        link = Link(self._next, name, node)
        self._next += 1
        self.links[name] = link
        if self._listing is not None:
            self._listing.append(link)
        self._counted(node, 1)

    def replace(self, name: bytes, node: Node) -> Node:
        """Let a name lead to another inode; it keeps its place. Returns what it led to."""
        link = self.links[name]
        self.links[name] = Link(link.cookie, name, node)
        self._counted(link.node, -1)
        self._counted(node, 1)
        return link.node

    def remove(self, name: bytes) -> Node:
        """The name is gone. Returns what it led to."""
        node = self.links.pop(name).node
        self._counted(node, -1)
        if self._listing is not None:
            self._removed += 1
            if self._removed * 2 > len(self._listing):
                self._listing = None
        return node

    def _counted(self, node: Node, names: int) -> None:
        self.size += names * BYTES_PER_NAME
        if isinstance(node, Directory):
            self.nlink += names
            if names > 0:
                node.parent = self
        self.touch()

    def listing(self, cookie: int) -> Iterator[Link]:
        """The links behind ``cookie``, as they were: ``links`` tells which are still there, and where they lead now.

        Iterating needs no lock: names added or removed meanwhile may or may not be seen, all others come exactly once.
        """
        listing = self._listing
        if listing is None:
            listing = self._listing = list(self.links.values())
            self._removed = 0
        start = bisect_right(listing, cookie, key=attrgetter("cookie")) if cookie >= FIRST_COOKIE else 0
        return islice(listing, start, len(listing))


def xattr_charge(name: bytes, value: bytes) -> int:
    """What an extended attribute counts for."""
    return XATTR + len(name) + len(value)


def error(number: int) -> OSError:
    """An OSError with the system's own words."""
    return OSError(number, os.strerror(number))


def check_length(name: bytes) -> None:
    """Raises OSError(ENAMETOOLONG)."""
    if len(name) > NAME_MAX:
        raise error(errno.ENAMETOOLONG)
