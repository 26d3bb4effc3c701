"""Reading directories. Offsets are the host's own cookies, so they stay good whatever is made and removed meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from . import syscalls
from .descriptors import Descriptor

Raw = tuple[bytes, int, int, int]


class Stream(Descriptor):
    """An open directory: its descriptor, and the entries that the host gave last.

    The kernel often takes fewer than the host gave and comes back with the offset of the last it took: ``_places`` has where
    the list goes on from there. Any other offset is sought on the host.
    """

    __slots__ = ("_entries", "_lock", "_places")

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
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
