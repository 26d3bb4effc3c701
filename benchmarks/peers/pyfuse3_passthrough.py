"""A directory mirrored on pyfuse3: O_PATH descriptors by inode number, calls relative to them."""

from __future__ import annotations

import os
from typing import Any

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError

from .pyfuse3_run import arguments, run

_NODE = os.O_PATH | os.O_NOFOLLOW


class Node:
    __slots__ = ("fd", "key", "nlookup")

    def __init__(self, fd: int, key: tuple[int, int]) -> None:
        self.fd = fd
        self.key = key
        self.nlookup = 0


class Passthrough(pyfuse3.Operations):
    """A file's handle is its descriptor."""

    supports_dot_lookup = False

    def __init__(self, source: str, cached: bool) -> None:
        super().__init__()
        self.timeout = 1.0 if cached else 0.0
        self.direct_io = not cached
        self.last = pyfuse3.ROOT_INODE
        root = Node(os.open(source, os.O_PATH | os.O_DIRECTORY), (0, 0))
        root.nlookup = 1
        self.nodes = {self.last: root}
        self.numbers: dict[tuple[int, int], int] = {}
        self.listings: dict[int, list[str]] = {}

    def _attributes(self, st: os.stat_result, ino: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = ino
        entry.st_mode = st.st_mode
        entry.st_nlink = st.st_nlink
        entry.st_uid = st.st_uid
        entry.st_gid = st.st_gid
        entry.st_rdev = st.st_rdev
        entry.st_size = st.st_size
        entry.st_blksize = st.st_blksize
        entry.st_blocks = st.st_blocks
        entry.st_atime_ns = st.st_atime_ns
        entry.st_mtime_ns = st.st_mtime_ns
        entry.st_ctime_ns = st.st_ctime_ns
        entry.entry_timeout = entry.attr_timeout = self.timeout
        return entry

    def _entry(self, parent: int, name: bytes | str) -> EntryAttributes:
        """Look ``name`` up; one more reference."""
        try:
            fd = os.open(name, _NODE, dir_fd=self.nodes[parent].fd)
        except OSError as error:
            raise FUSEError(error.errno) from None
        st = os.fstat(fd)
        key = st.st_dev, st.st_ino
        ino = self.numbers.get(key)
        if ino is None:
            self.last += 1
            ino = self.numbers[key] = self.last
            self.nodes[ino] = Node(fd, key)
        else:
            os.close(fd)
        self.nodes[ino].nlookup += 1
        return self._attributes(st, ino)

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> EntryAttributes:
        return self._entry(parent, name)

    async def forget(self, inodes: Any) -> None:
        for ino, nlookup in inodes:
            self._forget(ino, nlookup)

    def _forget(self, ino: int, nlookup: int) -> None:
        node = self.nodes[ino]
        node.nlookup -= nlookup
        if node.nlookup <= 0:
            del self.nodes[ino]
            del self.numbers[node.key]
            os.close(node.fd)

    async def getattr(self, ino: int, ctx: Any) -> EntryAttributes:
        try:
            return self._attributes(os.fstat(self.nodes[ino].fd), ino)
        except OSError as error:
            raise FUSEError(error.errno) from None

    async def setattr(self, ino: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> EntryAttributes:
        path = f"/proc/self/fd/{self.nodes[ino].fd}"
        try:
            if fields.update_size:
                os.truncate(path if fh is None else fh, attr.st_size)
            if fields.update_mode:
                os.chmod(path, attr.st_mode & 0o7777)
            if fields.update_uid or fields.update_gid:
                os.chown(path, attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1)
            if fields.update_atime or fields.update_mtime:
                now = os.stat(path)
                atime = attr.st_atime_ns if fields.update_atime else now.st_atime_ns
                mtime = attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns
                os.utime(path, ns=(atime, mtime))
        except OSError as error:
            raise FUSEError(error.errno) from None
        return await self.getattr(ino, ctx)

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        try:
            fd = os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, mode, dir_fd=self.nodes[parent].fd)
        except OSError as error:
            raise FUSEError(error.errno) from None
        return self._file(fd), self._entry(parent, name)

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> EntryAttributes:
        try:
            os.mkdir(name, mode, dir_fd=self.nodes[parent].fd)
        except OSError as error:
            raise FUSEError(error.errno) from None
        return self._entry(parent, name)

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        try:
            os.unlink(name, dir_fd=self.nodes[parent].fd)
        except OSError as error:
            raise FUSEError(error.errno) from None

    async def rename(self, old: int, name: bytes, new: int, newname: bytes, flags: int, ctx: Any) -> None:
        if flags:
            raise FUSEError(22)
        try:
            os.rename(name, newname, src_dir_fd=self.nodes[old].fd, dst_dir_fd=self.nodes[new].fd)
        except OSError as error:
            raise FUSEError(error.errno) from None

    def _file(self, fd: int) -> FileInfo:
        return FileInfo(fh=fd, direct_io=self.direct_io, keep_cache=False)

    async def open(self, ino: int, flags: int, ctx: Any) -> FileInfo:
        try:
            return self._file(os.open(f"/proc/self/fd/{self.nodes[ino].fd}", flags & ~os.O_NOFOLLOW))
        except OSError as error:
            raise FUSEError(error.errno) from None

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        try:
            return os.pread(fh, size, offset)
        except OSError as error:
            raise FUSEError(error.errno) from None

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        try:
            return os.pwrite(fh, data, offset)
        except OSError as error:
            raise FUSEError(error.errno) from None

    async def flush(self, fh: int) -> None:
        """As libfuse's example does: an error of close(2) would come out here."""
        os.close(os.dup(fh))

    async def release(self, fh: int) -> None:
        os.close(fh)

    async def opendir(self, ino: int, ctx: Any) -> int:
        try:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.nodes[ino].fd)
        except OSError as error:
            raise FUSEError(error.errno) from None
        self.listings[fd] = os.listdir(fd)
        return fd

    async def readdir(self, fh: int, start: int, token: Any) -> None:
        """pyfuse3 knows READDIRPLUS only: each entry is looked up."""
        listing = self.listings[fh]
        for place in range(start, len(listing)):
            name = os.fsencode(listing[place])
            try:
                fd = os.open(name, _NODE, dir_fd=fh)
            except FileNotFoundError:
                continue
            st = os.fstat(fd)
            key = st.st_dev, st.st_ino
            known = self.numbers.get(key)
            ino = known or self.last + 1
            if not pyfuse3.readdir_reply(token, name, self._attributes(st, ino), place + 1):
                os.close(fd)
                break
            if known is None:
                self.last = self.numbers[key] = ino
                self.nodes[ino] = Node(fd, key)
            else:
                os.close(fd)
            self.nodes[ino].nlookup += 1

    async def releasedir(self, fh: int) -> None:
        del self.listings[fh]
        os.close(fh)


if __name__ == "__main__":
    mountpoint, source, cached = arguments()
    os.umask(0)
    run(Passthrough(source, cached), mountpoint)
