"""Reading directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import time_ns

from ...daemon import DirEntry, Entry
from .inodes import Inodes
from .nodes import Directory, Link


class Directories(Inodes):
    """READDIR and READDIRPLUS. Offsets are cookies (see ``nodes.Directory``), so an open directory has no state."""

    def opendir(self, ino: int, flags: int) -> int:
        node = self._directory(ino)
        if node.atime_ns <= node.mtime_ns and not flags & os.O_NOATIME:
            node.atime_ns = time_ns()
        return 0

    def readdir(self, ino: int, fh: int, offset: int) -> Iterator[DirEntry]:
        with self._lock:
            directory = self._directory(ino)
            links = directory.listing(offset)
        return _entries(directory, links, offset)

    def readdirplus(self, ino: int, fh: int, offset: int) -> Granting:
        with self._lock:
            directory = self._directory(ino)
            return Granting(self, directory, directory.listing(offset), offset)

    def _grant(self, link: Link) -> None:
        """The kernel was told of an inode. Should that have lost its last name meanwhile, it is kept until forgotten."""
        with self._lock:
            link.node.nlookup += 1
            self.nodes[link.node.ino] = link.node


class Granting:
    """READDIRPLUS's answer: the session says of each entry that it fits, and only then it grants a reference."""

    __slots__ = ("_directory", "_filesystem", "_last", "_links", "_offset")

    def __init__(self, filesystem: Directories, directory: Directory, links: Iterator[Link], offset: int) -> None:
        self._filesystem = filesystem
        self._directory = directory
        self._links = links
        self._offset = offset
        self._last: Link | None = None

    def __iter__(self) -> Iterator[DirEntry]:
        yield from _dots(self._directory, self._offset)
        for link in self._links:
            self._last = link
            yield DirEntry(link.name, link.node.ino, link.node.mode, link.cookie, Entry(link.node))

    def granted(self, entry: DirEntry) -> None:
        """``entry``, which came last, is in the answer."""
        assert self._last is not None
        self._filesystem._grant(self._last)


def _entries(directory: Directory, links: Iterator[Link], offset: int) -> Iterator[DirEntry]:
    yield from _dots(directory, offset)
    for cookie, name, node in links:
        yield DirEntry(name, node.ino, node.mode, cookie)


def _dots(directory: Directory, offset: int) -> Iterator[DirEntry]:
    if offset < 1:
        yield DirEntry(b".", directory.ino, directory.mode, 1)
    if offset < 2:
        yield DirEntry(b"..", directory.parent.ino, directory.parent.mode, 2)
