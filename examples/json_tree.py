"""A JSON document as a tree: objects and lists are directories, everything else is a file.

``python examples/json_tree.py DOCUMENT MOUNTPOINT``
"""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterable
from typing import Any

import fusewire
from fusewire import Attributes, DirEntry, Entry

ROOT = 1


class JsonTree(fusewire.Operations):
    """Values are numbered as they are first seen; ``values[0]`` is not used, so that the document is node 1."""

    def __init__(self, document: Any) -> None:
        self.values: list[Any] = [None, document]
        self.numbers: dict[tuple[int, bytes], int] = {}

    def children(self, ino: int) -> dict[bytes, Any]:
        """The names in a directory and what they lead to. A key that cannot be a name is left out."""
        value = self.values[ino]
        items = enumerate(value) if isinstance(value, list) else value.items()
        named = ((str(key).encode(), child) for key, child in items)
        return {name: child for name, child in named if 0 < len(name) <= 255 and b"/" not in name and b"\0" not in name}

    def child(self, parent: int, name: bytes, value: Any) -> int:
        """The number of a child, the same each time."""
        ino = self.numbers.setdefault((parent, name), len(self.values))
        if ino == len(self.values):
            self.values.append(value)
        return ino

    def lookup(self, parent: int, name: bytes) -> Entry:
        children = self.children(parent)
        if name not in children:
            raise FileNotFoundError
        return Entry(self.getattr(self.child(parent, name, children[name]), None))

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        value = self.values[ino]
        if isinstance(value, dict | list):
            return Attributes(ino, stat.S_IFDIR | 0o555, nlink=2)
        return Attributes(ino, stat.S_IFREG | 0o444, size=len(text(value)))

    def readdir(self, ino: int, fh: int, offset: int) -> Iterable[DirEntry]:
        for place, (name, value) in enumerate(self.children(ino).items()):
            if place >= offset:
                number = self.child(ino, name, value)
                yield DirEntry(name, number, self.getattr(number, None).mode, place + 1)

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        return text(self.values[ino])[offset : offset + size]


def text(value: Any) -> bytes:
    """Strings as they are, the rest as JSON; a newline behind it."""
    return (value if isinstance(value, str) else json.dumps(value)).encode() + b"\n"


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        fusewire.run(JsonTree(json.load(file)), sys.argv[2])
