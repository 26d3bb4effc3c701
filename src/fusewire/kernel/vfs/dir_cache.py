"""The cached listing of a directory (FOPEN_CACHE_DIR), as fs/fuse/readdir.c has it.

It is made while a program reads the directory from its start to its end, and used from its start only if nothing changed since:
not here (then it is gone), nor, by the directory's mtime, at the daemon.
"""

from __future__ import annotations

from .super import Listing

_DIRENT = 20  # bytes that getdents64(2) needs for an entry besides its name


class DirCache:
    """``pos``: up to which of the daemon's offsets it is filled; ``complete``: to the end; ``mtime`` when it was begun."""

    __slots__ = ("_entries", "_places", "complete", "mtime", "pos")

    def __init__(self, mtime: tuple[int, int]) -> None:
        self.mtime = mtime
        self.complete = False
        self.pos = 0
        self._entries: list[tuple[bytes, int, int, int]] = []  # with the offset of what follows
        self._places = {0: 0}  # by the daemon's offset, which entry follows

    def add(self, start: int, entries: list[tuple[bytes, int, int, int]], end: int) -> None:
        """What the daemon answered from offset ``start`` to ``end``; none there: it was the directory's end. Who reads from
        somewhere else adds nothing."""
        if start != self.pos or self.complete:
            return
        if start == end:
            self.complete = True
            return
        for entry in entries:
            self._entries.append(entry)
            self._places[entry[3]] = len(self._entries)
        self._places[end] = len(self._entries)
        self.pos = end

    def read(self, start: int, size: int) -> tuple[Listing, int] | None:
        """The entries from the daemon's offset ``start`` on, as many as fit into ``size`` bytes, and the offset behind
        them. None: it does not know that place."""
        at = self._places.get(start)
        if at is None:
            return None
        found: Listing = []
        for name, ino, kind, after in self._entries[at:]:
            size -= _DIRENT + len(name)
            if size < 0 and found:
                break
            found.append((name, ino, kind))
            start = after
        return found, start
