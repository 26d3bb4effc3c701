"""A filesystem in memory on pyfuse3. An inode's EntryAttributes are its attributes: nothing is built to answer."""

from __future__ import annotations

import errno
import stat
import time
from typing import Any

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError

from .pyfuse3_run import arguments, run


class Node:
    __slots__ = ("attributes", "data", "entries", "nlookup", "parent")

    def __init__(self, attributes: EntryAttributes, parent: int) -> None:
        self.attributes = attributes
        self.parent = parent
        self.data = bytearray()
        self.entries: dict[bytes, int] = {}
        self.nlookup = 0


class Memory(pyfuse3.Operations):
    """A file's handle is its inode number."""

    def __init__(self, cached: bool) -> None:
        super().__init__()
        self.timeout = 1.0 if cached else 0.0
        self.cached = cached
        self.last = 0
        self.nodes: dict[int, Node] = {}
        self._new(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o755, 0, 0).nlookup = 1
        self.listings: dict[int, list[tuple[bytes, int]]] = {}
        self.handles = 0

    def _new(self, parent: int, mode: int, uid: int, gid: int) -> Node:
        self.last += 1
        attributes = EntryAttributes()
        attributes.st_ino = self.last
        attributes.st_mode = mode
        attributes.st_nlink = 2 if stat.S_ISDIR(mode) else 1
        attributes.st_uid = uid
        attributes.st_gid = gid
        attributes.st_blksize = 4096
        attributes.entry_timeout = attributes.attr_timeout = self.timeout
        now = time.time_ns()
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = now
        node = self.nodes[self.last] = Node(attributes, parent)
        return node

    def _add(self, parent: int, name: bytes, mode: int, ctx: Any) -> Node:
        directory = self.nodes[parent]
        if name in directory.entries:
            raise FUSEError(errno.EEXIST)
        node = self._new(parent, mode, ctx.uid, ctx.gid)
        node.nlookup = 1
        directory.entries[name] = node.attributes.st_ino
        _touch(directory)
        return node

    def _child(self, parent: int, name: bytes) -> Node:
        try:
            return self.nodes[self.nodes[parent].entries[name]]
        except KeyError:
            raise FUSEError(errno.ENOENT) from None

    def _drop(self, node: Node) -> None:
        if node.nlookup <= 0 and node.attributes.st_nlink <= 0:
            self.nodes.pop(node.attributes.st_ino, None)

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> EntryAttributes:
        node = self._child(parent, name)
        node.nlookup += 1
        return node.attributes

    async def forget(self, inodes: Any) -> None:
        for ino, nlookup in inodes:
            node = self.nodes.get(ino)
            if node is not None:
                node.nlookup -= nlookup
                self._drop(node)

    async def getattr(self, ino: int, ctx: Any) -> EntryAttributes:
        return self.nodes[ino].attributes

    async def setattr(self, ino: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> EntryAttributes:
        node = self.nodes[ino]
        attributes = node.attributes
        if fields.update_size:
            size = attr.st_size
            if size < len(node.data):
                del node.data[size:]
            else:
                node.data.extend(bytes(size - len(node.data)))
            attributes.st_size = size
        if fields.update_mode:
            attributes.st_mode = attr.st_mode
        if fields.update_uid:
            attributes.st_uid = attr.st_uid
        if fields.update_gid:
            attributes.st_gid = attr.st_gid
        if fields.update_atime:
            attributes.st_atime_ns = attr.st_atime_ns
        if fields.update_mtime:
            attributes.st_mtime_ns = attr.st_mtime_ns
        attributes.st_ctime_ns = time.time_ns()
        return attributes

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        node = self._add(parent, name, stat.S_IFREG | stat.S_IMODE(mode), ctx)
        return self._file(node.attributes.st_ino), node.attributes

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> EntryAttributes:
        node = self._add(parent, name, stat.S_IFDIR | stat.S_IMODE(mode), ctx)
        self.nodes[parent].attributes.st_nlink += 1
        return node.attributes

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        node = self._child(parent, name)
        directory = self.nodes[parent]
        del directory.entries[name]
        node.attributes.st_nlink -= 1
        node.attributes.st_ctime_ns = time.time_ns()
        _touch(directory)
        self._drop(node)

    async def rename(self, old: int, name: bytes, new: int, newname: bytes, flags: int, ctx: Any) -> None:
        if flags:
            raise FUSEError(errno.EINVAL)
        node = self._child(old, name)
        source, target = self.nodes[old], self.nodes[new]
        replaced = target.entries.get(newname)
        del source.entries[name]
        target.entries[newname] = node.attributes.st_ino
        node.parent = new
        _touch(source)
        _touch(target)
        if replaced is not None and replaced != node.attributes.st_ino:
            gone = self.nodes[replaced]
            gone.attributes.st_nlink -= 1
            self._drop(gone)

    def _file(self, ino: int) -> FileInfo:
        return FileInfo(fh=ino, direct_io=not self.cached, keep_cache=self.cached)

    async def open(self, ino: int, flags: int, ctx: Any) -> FileInfo:
        return self._file(ino)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        return bytes(memoryview(self.nodes[fh].data)[offset : offset + size])

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        node = self.nodes[fh]
        have = len(node.data)
        if offset > have:
            node.data.extend(bytes(offset - have))
        node.data[offset : offset + len(data)] = data
        attributes = node.attributes
        attributes.st_size = len(node.data)
        attributes.st_mtime_ns = attributes.st_ctime_ns = time.time_ns()
        return len(data)

    async def flush(self, fh: int) -> None:
        pass

    async def release(self, fh: int) -> None:
        pass

    async def opendir(self, ino: int, ctx: Any) -> int:
        self.handles += 1
        self.listings[self.handles] = list(self.nodes[ino].entries.items())
        return self.handles

    async def readdir(self, fh: int, start: int, token: Any) -> None:
        listing = self.listings[fh]
        nodes = self.nodes
        for place in range(start, len(listing)):
            name, ino = listing[place]
            node = nodes.get(ino)
            if node is None:
                continue
            if not pyfuse3.readdir_reply(token, name, node.attributes, place + 1):
                break
            node.nlookup += 1

    async def releasedir(self, fh: int) -> None:
        del self.listings[fh]


def _touch(directory: Node) -> None:
    directory.attributes.st_mtime_ns = directory.attributes.st_ctime_ns = time.time_ns()


if __name__ == "__main__":
    mountpoint, _, cached = arguments()
    run(Memory(cached), mountpoint)
