"""Reading directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import time_ns

from ...daemon import Entry
from .inodes import Inodes
from .nodes import Directory, Link

Plain = tuple[bytes, int, int, int, Entry | None]


class Directories(Inodes):
    """READDIR and READDIRPLUS. Offsets are cookies (see ``nodes.Directory``), so an open directory has no state."""

    def opendir(self, ino: int, flags: int) -> int:
        with self._lock:
            node = self._directory(ino)
            if node.atime_ns <= node.mtime_ns and not flags & os.O_NOATIME:
                node.atime_ns = time_ns()
        return 0

    def readdir(self, ino: int, fh: int, offset: int) -> Iterator[Plain]:
        with self._lock:
            directory = self._directory(ino)
            links = directory.listing(offset)
        return _entries(directory, links, offset)

    def readdirplus(self, ino: int, fh: int, offset: int) -> Iterator[Plain]:
        with self._lock:
            directory = self._directory(ino)
            links = directory.listing(offset)
        return self._entries_plus(directory, links, offset)

    def _entries_plus(self, directory: Directory, links: Iterator[Link], offset: int) -> Iterator[Plain]:
        yield from _dots(directory, offset)
        find, lock = directory.links.get, self._lock
        for was in links:
            name = was.name
            with lock:  # found and counted in one: an inode that loses its last name in between would be gone
                link = find(name)
                if link is None or link.cookie != was.cookie:
                    continue
                node = link.node
                node.nlookup += 1
            yield name, node.ino, node.mode, link.cookie, Entry(node)


def _entries(directory: Directory, links: Iterator[Link], offset: int) -> Iterator[Plain]:
    yield from _dots(directory, offset)
    find = directory.links.get
    for was in links:
        name = was.name
        link = find(name)
        if link is not None and link.cookie == was.cookie:
            node = link.node
            yield name, node.ino, node.mode, link.cookie, None


def _dots(directory: Directory, offset: int) -> Iterator[Plain]:
    if offset < 1:
        yield b".", directory.ino, directory.mode, 1, None
    if offset < 2:
        yield b"..", directory.parent.ino, directory.parent.mode, 2, None
