"""Reading directories. Offsets are the host's own cookies, so they stay good whatever is made and removed meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

from ...daemon import DirEntry, Entry
from . import syscalls

Raw = tuple[bytes, int, int, int]


class Stream:
    """An open directory: its descriptor, and the entries that the host gave last.

    The kernel often takes fewer than the host gave and comes back with the offset of the last it took: ``_places`` has where
    the list goes on from there. Any other offset is sought on the host.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()  # an interrupted READDIR may still run when the next one comes
        self._entries: list[Raw] = []
        self._places: dict[int, int] = {}

    def read(self, offset: int) -> Iterator[Raw]:
        """Entries behind ``offset``, as syscalls.getdents64 has them. 0 starts anew, as rewinddir(3) does."""
        while entries := self._after(offset):
            yield from entries
            offset = entries[-1][3]

    def _after(self, offset: int) -> list[Raw]:
        with self._lock:
            place = self._places.get(offset) if offset else None
            if place is not None and place < len(self._entries):
                return self._entries[place:]
            os.lseek(self.fd, offset, os.SEEK_SET)
            self._entries = syscalls.getdents64(self.fd)
            self._places = {}
            for place, entry in enumerate(self._entries, 1):
                # Where the host's cookies collide, the first: an entry may come twice, but none is lost.
                self._places.setdefault(entry[3], place)
            return self._entries


class Plus:
    """What readdirplus returns: entries that grant references, ``granted`` called for each one that was sent.

    ``look`` makes the entry of a name; ``forget`` takes back the reference of one that did not fit.
    """

    def __init__(
        self, raw: Iterator[Raw], look: Callable[[bytes], Entry | None], forget: Callable[[Entry], None]
    ) -> None:
        self._raw = raw
        self._look = look
        self._forget = forget
        self._pending: Entry | None = None

    def __iter__(self) -> Iterator[DirEntry]:
        try:
            for name, ino, kind, offset in self._raw:
                self._pending = None if name in (b".", b"..") else self._look(name)
                yield DirEntry(name, ino, kind << 12, offset, self._pending)
                self._take_back()
        finally:
            self._take_back()

    def _take_back(self) -> None:
        entry, self._pending = self._pending, None
        if entry is not None:
            self._forget(entry)

    def granted(self, entry: DirEntry) -> None:
        """The session's: ``entry`` is in the answer."""
        self._pending = None
