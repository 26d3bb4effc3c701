"""A filesystem in memory, small enough to read in one sitting.

An inode lives while a name leads to it or the kernel holds references (``nlookup``); an open file keeps its inode that way.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping

from ..daemon import Attributes, Changes, DirEntry, Entry, Operations, StatFS, current_request

ROOT = 1


class Node:
    """An inode: attributes, and what is in it (``data`` of a file, ``entries`` of a directory)."""

    __slots__ = ("attributes", "data", "entries", "nlookup", "parent")

    def __init__(self, attributes: Attributes, parent: int) -> None:
        self.attributes = attributes
        self.parent = parent
        self.data = bytearray()
        self.entries: dict[bytes, int] = {}
        self.nlookup = 0

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.attributes.mode)


class MemoryFS(Operations):
    """Files and directories in memory, owned by whoever makes them.

    ``files``: what is there from the start, paths to contents; directories above them are made.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self._last = ROOT
        root = Attributes(ROOT, stat.S_IFDIR | 0o755, nlink=2, uid=os.getuid(), gid=os.getgid())
        self.nodes = {ROOT: Node(root, ROOT)}
        _touch(root, "atime_ns", "mtime_ns", "ctime_ns")
        for path, data in (files or {}).items():
            self._add(path, data)

    # -- names ----------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Entry:
        return self._granted(self._child(parent, name))

    def forget(self, ino: int, nlookup: int) -> None:
        node = self.nodes.get(ino)
        if node is not None:
            node.nlookup -= nlookup
            self._drop_if_unused(node)

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> tuple[Entry, int]:
        return self._granted(self._make(parent, name, stat.S_IFREG | stat.S_IMODE(mode))), 0

    def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
        node = self._make(parent, name, stat.S_IFDIR | stat.S_IMODE(mode))
        node.attributes.nlink = 2
        self._node(parent).attributes.nlink += 1
        return self._granted(node)

    def unlink(self, parent: int, name: bytes) -> None:
        node = self._child(parent, name)
        if node.is_dir:
            raise IsADirectoryError
        self._remove(parent, name, node)

    def rmdir(self, parent: int, name: bytes) -> None:
        node = self._child(parent, name)
        if not node.is_dir:
            raise NotADirectoryError
        if node.entries:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        node.attributes.nlink = 1
        self._remove(parent, name, node)
        self._node(parent).attributes.nlink -= 1

    def readdir(self, ino: int, fh: int, offset: int) -> Iterable[DirEntry]:
        for place, (name, child) in enumerate(self._listing(ino)):
            if place >= offset:
                yield DirEntry(name, child, self.nodes[child].attributes.mode, place + 1)

    # -- attributes and contents ----------------------------------------------------------------------------------

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        return self._node(ino).attributes

    def setattr(self, ino: int, changes: Changes, fh: int | None) -> Attributes:
        node = self._node(ino)
        attributes = node.attributes
        if changes.size is not None:
            self._resize(node, changes.size)
        if changes.mode is not None:
            attributes.mode = stat.S_IFMT(attributes.mode) | stat.S_IMODE(changes.mode)
        for field in ("uid", "gid", "atime_ns", "mtime_ns"):
            value = getattr(changes, field)
            if value is not None:
                setattr(attributes, field, value)
        _touch(attributes, "ctime_ns")
        return attributes

    def open(self, ino: int, flags: int) -> int:
        self._node(ino)
        return 0

    def opendir(self, ino: int, flags: int) -> int:
        self._node(ino)
        return 0

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        return bytes(memoryview(self._node(ino).data)[offset : offset + size])

    def write(self, ino: int, fh: int, offset: int, data: memoryview) -> int:
        node = self._node(ino)
        if offset > len(node.data):
            self._resize(node, offset)
        node.data[offset : offset + len(data)] = data
        node.attributes.size = len(node.data)
        _touch(node.attributes, "mtime_ns", "ctime_ns")
        return len(data)

    def flush(self, ino: int, fh: int) -> None:
        """Nothing is held back."""

    def statfs(self, ino: int) -> StatFS:
        free = os.sysconf("SC_AVPHYS_PAGES")
        return StatFS(os.sysconf("SC_PHYS_PAGES"), free, free, len(self.nodes), 1 << 20)

    # -- helpers --------------------------------------------------------------------------------------------------

    def _node(self, ino: int) -> Node:
        try:
            return self.nodes[ino]
        except KeyError:
            raise OSError(errno.ESTALE, "the inode is gone") from None

    def _child(self, parent: int, name: bytes) -> Node:
        try:
            return self.nodes[self._node(parent).entries[name]]
        except KeyError:
            raise FileNotFoundError from None

    @staticmethod
    def _granted(node: Node) -> Entry:
        node.nlookup += 1
        return Entry(node.attributes)

    def _make(self, parent: int, name: bytes, mode: int) -> Node:
        directory = self._node(parent)
        if name in directory.entries:
            raise FileExistsError
        request = current_request()
        return self._new(directory, parent, name, mode, request.uid, request.gid)

    def _add(self, path: str, data: bytes) -> None:
        """Put a file there, with the directories above it."""
        *above, last = [os.fsencode(name) for name in path.split("/") if name]
        root = self.nodes[ROOT].attributes
        ino = ROOT
        for name in above:
            directory = self.nodes[ino]
            if name not in directory.entries:
                self._new(directory, ino, name, stat.S_IFDIR | 0o755, root.uid, root.gid).attributes.nlink = 2
                directory.attributes.nlink += 1
            ino = directory.entries[name]
        node = self._new(self.nodes[ino], ino, last, stat.S_IFREG | 0o644, root.uid, root.gid)
        node.data[:] = data
        node.attributes.size = len(data)

    def _new(self, directory: Node, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Node:
        self._last += 1
        node = Node(Attributes(self._last, mode, uid=uid, gid=gid), parent)
        _touch(node.attributes, "atime_ns", "mtime_ns", "ctime_ns")
        self.nodes[self._last] = node
        directory.entries[name] = self._last
        _touch(directory.attributes, "mtime_ns", "ctime_ns")
        return node

    def _remove(self, parent: int, name: bytes, node: Node) -> None:
        directory = self._node(parent)
        del directory.entries[name]
        node.attributes.nlink -= 1
        _touch(directory.attributes, "mtime_ns", "ctime_ns")
        _touch(node.attributes, "ctime_ns")
        self._drop_if_unused(node)

    def _drop_if_unused(self, node: Node) -> None:
        if node.nlookup <= 0 and node.attributes.nlink <= 0:
            self.nodes.pop(node.attributes.ino, None)

    def _listing(self, ino: int) -> Iterator[tuple[bytes, int]]:
        node = self._node(ino)
        yield b".", ino
        yield b"..", node.parent
        yield from list(node.entries.items())

    @staticmethod
    def _resize(node: Node, size: int) -> None:
        if size < len(node.data):
            del node.data[size:]
        else:
            node.data.extend(bytes(size - len(node.data)))
        node.attributes.size = size
        _touch(node.attributes, "mtime_ns")


def _touch(attributes: Attributes, *times: str) -> None:
    now = time.time_ns()
    for field in times:
        setattr(attributes, field, now)
