"""A filesystem in memory on mfusepy, by path. An inode's dict of attributes is what answers; open files need no path."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Any

import mfusepy

from .mfusepy_run import arguments, run


class Node:
    __slots__ = ("attributes", "children", "data")

    def __init__(self, mode: int, uid: int, gid: int) -> None:
        now = time.time_ns()
        self.attributes = {
            "st_mode": mode, "st_nlink": 1, "st_uid": uid, "st_gid": gid, "st_size": 0,
            "st_atime": now, "st_mtime": now, "st_ctime": now,
        }  # fmt: skip
        self.data = bytearray()
        self.children: dict[str, Node] = {}


class Memory(mfusepy.Operations):
    use_ns = True
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755, os.getuid(), os.getgid())
        self.paths = {"/": self.root}
        self.files: dict[int, Node] = {}
        self.last = 0

    def _node(self, path: str) -> Node:
        try:
            return self.paths[path]
        except KeyError:
            raise OSError(errno.ENOENT, "") from None

    def _directory(self, path: str) -> tuple[Node, str]:
        parent, _, name = path.rpartition("/")
        return self._node(parent or "/"), name

    def _add(self, path: str, mode: int) -> Node:
        directory, name = self._directory(path)
        if path in self.paths:
            raise OSError(errno.EEXIST, "")
        uid, gid, _ = mfusepy.fuse_get_context()
        node = self.paths[path] = directory.children[name] = Node(mode, uid, gid)
        _touch(directory)
        return node

    def _opened(self, node: Node) -> int:
        self.last += 1
        self.files[self.last] = node
        return self.last

    def getattr(self, path: str | None, fi: Any = None) -> dict[str, int]:
        if path is None:
            return self.files[fi.fh].attributes
        return self._node(path).attributes

    def chmod(self, path: str, mode: int) -> int:
        self._node(path).attributes["st_mode"] = mode
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        self._node(path).attributes.update(st_uid=uid, st_gid=gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        atime, mtime = times or (time.time_ns(), time.time_ns())
        self._node(path).attributes.update(st_atime=atime, st_mtime=mtime)
        return 0

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        node = self._node(path) if path is not None else self.files[fh or 0]
        if length < len(node.data):
            del node.data[length:]
        else:
            node.data.extend(bytes(length - len(node.data)))
        node.attributes["st_size"] = length
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        fi.fh = self._opened(self._add(path, stat.S_IFREG | stat.S_IMODE(mode)))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._add(path, stat.S_IFDIR | stat.S_IMODE(mode)).attributes["st_nlink"] = 2
        return 0

    def unlink(self, path: str) -> int:
        directory, name = self._directory(path)
        self._node(path)
        del self.paths[path], directory.children[name]
        _touch(directory)
        return 0

    def rename(self, old: str, new: str) -> int:
        node = self._node(old)
        if node.children:  # paths below it would have to follow; nothing here renames directories
            raise OSError(errno.EXDEV, "")
        source, name = self._directory(old)
        target, newname = self._directory(new)
        del self.paths[old], source.children[name]
        self.paths[new] = target.children[newname] = node
        _touch(source)
        _touch(target)
        return 0

    def open(self, path: str, fi: Any) -> int:
        fi.fh = self._opened(self._node(path))
        return 0

    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        return bytes(memoryview(self.files[fi.fh].data)[offset : offset + size])

    def write(self, path: str | None, data: bytes, offset: int, fi: Any) -> int:
        node = self.files[fi.fh]
        have = len(node.data)
        if offset > have:
            node.data.extend(bytes(offset - have))
        node.data[offset : offset + len(data)] = data
        attributes = node.attributes
        attributes["st_size"] = len(node.data)
        attributes["st_mtime"] = attributes["st_ctime"] = time.time_ns()
        return len(data)

    def flush(self, path: str | None, fi: Any) -> int:
        return 0

    def release(self, path: str | None, fi: Any) -> int:
        del self.files[fi.fh]
        return 0

    def opendir(self, path: str) -> int:
        return self._opened(self._node(path))

    def readdir(self, path: str | None, fh: int) -> Any:
        yield "."
        yield ".."
        for name, node in list(self.files[fh].children.items()):
            yield name, node.attributes["st_mode"], 0

    def releasedir(self, path: str | None, fh: int) -> int:
        del self.files[fh]
        return 0


def _touch(directory: Node) -> None:
    directory.attributes["st_mtime"] = directory.attributes["st_ctime"] = time.time_ns()


if __name__ == "__main__":
    mountpoint, _, cached = arguments()
    run(Memory(), mountpoint, cached, kernel_cache=cached)
