"""A directory with one file in it. ``python examples/hello.py MOUNTPOINT``"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterable

import fusewire
from fusewire import Attributes, DirEntry, Entry

GREETING = b"hello, wire\n"
ROOT, HELLO = 1, 2


class Hello(fusewire.Operations):
    """The nodes never change, so they are made once."""

    def __init__(self) -> None:
        self.nodes = {
            ROOT: Attributes(ROOT, stat.S_IFDIR | 0o755, nlink=2),
            HELLO: Attributes(HELLO, stat.S_IFREG | 0o444, size=len(GREETING)),
        }

    def lookup(self, parent: int, name: bytes) -> Entry:
        if name != b"hello":
            raise FileNotFoundError
        return Entry(self.nodes[HELLO])

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        return self.nodes[ino]

    def readdir(self, ino: int, fh: int, offset: int) -> Iterable[DirEntry]:
        return [DirEntry(b"hello", HELLO, stat.S_IFREG, 1)][offset:]

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        return GREETING[offset : offset + size]


if __name__ == "__main__":
    fusewire.run(Hello(), sys.argv[1])
