"""A file for each of some places, which always holds the time there. ``python examples/clock.py MOUNTPOINT``

Contents that change by themselves: the size is not known before the read, so the kernel must not cache (DIRECT_IO).
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import fusewire
from fusewire import Attributes, DirEntry, Entry, Opened
from fusewire.daemon import FOpenFlag

ROOT = 1
ZONES = {b"UTC": 0, b"Berlin": 1, b"Delhi": 5.5, b"Tokyo": 9, b"New_York": -5}  # hours, in winter


class Clock(fusewire.Operations):
    """Nodes 2, 3, ... are the zones in their order."""

    attr_timeout = 0.0

    def lookup(self, parent: int, name: bytes) -> Entry:
        if name not in ZONES:
            raise FileNotFoundError
        return Entry(self.getattr(2 + list(ZONES).index(name), None))

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        if ino == ROOT:
            return Attributes(ROOT, stat.S_IFDIR | 0o755, nlink=2)
        now = int(datetime.now().timestamp() * 1e9)
        return Attributes(ino, stat.S_IFREG | 0o444, mtime_ns=now, ctime_ns=now, atime_ns=now)

    def readdir(self, ino: int, fh: int, offset: int) -> Iterable[DirEntry]:
        return [DirEntry(name, 2 + place, stat.S_IFREG, place + 1) for place, name in enumerate(ZONES)][offset:]

    def open(self, ino: int, flags: int) -> Opened:
        return Opened(flags=FOpenFlag.DIRECT_IO)

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        hours = list(ZONES.values())[ino - 2]
        now = datetime.now(timezone(timedelta(hours=hours)))
        return f"{now:%H:%M:%S}\n".encode()[offset : offset + size]


if __name__ == "__main__":
    fusewire.run(Clock(), sys.argv[1])
