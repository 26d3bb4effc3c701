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

    def readdirplus(self, ino: int, fh: int, offset: int) -> Iterator[DirEntry]:
        with self._lock:
            directory = self._directory(ino)
            links = directory.listing(offset)
        return self._entries_plus(directory, links, offset)

    def _entries_plus(self, directory: Directory, links: Iterator[Link], offset: int) -> Iterator[DirEntry]:
        yield from _dots(directory, offset)
        for link in links:
            node = link.node
            with self._lock:
                node.nlookup += 1
                self.nodes[node.ino] = node  # should it have lost its last name meanwhile, it is kept until forgotten
            yield DirEntry(link.name, node.ino, node.mode, link.cookie, Entry(node))


def _entries(directory: Directory, links: Iterator[Link], offset: int) -> Iterator[DirEntry]:
    yield from _dots(directory, offset)
    for cookie, name, node in links:
        yield DirEntry(name, node.ino, node.mode, cookie)


def _dots(directory: Directory, offset: int) -> Iterator[DirEntry]:
    if offset < 1:
        yield DirEntry(b".", directory.ino, directory.mode, 1)
    if offset < 2:
        yield DirEntry(b"..", directory.parent.ino, directory.parent.mode, 2)
