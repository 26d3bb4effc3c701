"""Inodes that the kernel knows: an O_PATH descriptor each, found by mount, device and inode number, never by path.

The descriptor is what makes this safe: it stays with its inode whatever is renamed, and while it is open the inode's number
cannot go to another file. The mount is the one it was reached by: by another (a bind mount) the same directory may have
other filesystems mounted in it, or be read-only.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
import threading
from collections.abc import Iterable, Iterator

from . import syscalls
from .descriptors import Descriptor
from .directory import Raw
from .numbers import Numbers

log = logging.getLogger("fusewire.passthrough")

ROOT = 1
Key = tuple[int, int, int]


class Node(Descriptor):
    """An inode of the source; ``ino`` is the number that is shown, ``mount`` the number of its mount.

    ``path`` leads to it through ``fd``, for calls that do not take an O_PATH descriptor; ``kind`` is its S_IF* type.
    ``opens`` counts its open files, all of them through ``backing_id`` (0: ordinary reads and writes). ``lock_files`` are
    the open file descriptions that stand for owners of POSIX locks.
    """

    __slots__ = ("backing_id", "ino", "key", "kind", "lock_files", "mount", "nlookup", "nodeid", "opens", "path")

    def __init__(self, nodeid: int, fd: int, st: os.stat_result, mount: int, ino: int) -> None:
        super().__init__(fd)
        self.nodeid = nodeid
        self.path = b"/proc/self/fd/%d" % fd
        self.mount = mount
        self.key = (mount, st.st_dev, st.st_ino)
        self.ino = ino
        self.kind = stat.S_IFMT(st.st_mode)
        self.nlookup = 0
        self.opens = 0
        self.backing_id = 0
        self.lock_files: dict[int, tuple[int, int]] = {}

    def __del__(self) -> None:
        for fd, _ in self.lock_files.values():
            os.close(fd)
        super().__del__()


class File(Descriptor):
    """An open file of ``node``; ``appends``: whether it was opened to append."""

    __slots__ = ("appends", "node")

    def __init__(self, fd: int, node: Node, appends: bool) -> None:
        super().__init__(fd)
        self.node = node
        self.appends = appends


class Nodes:
    """The table of inodes. Numbers are never used twice, so a late FORGET meets no stranger."""

    def __init__(self, root_fd: int) -> None:
        self._lock = threading.Lock()
        st = os.fstat(root_fd)
        self._numbers = Numbers(st.st_dev)
        root = self._new(ROOT, root_fd, st, syscalls.mount_of(root_fd)[1])
        root.nlookup = 1
        self._root_ino = root.ino
        self._by_id = {ROOT: root}
        self._by_key: dict[Key, Node] = {root.key: root}
        self._last = ROOT
        self._asked = ROOT

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, nodeid: int) -> Node:
        try:
            return self._by_id[nodeid]
        except KeyError:
            raise OSError(errno.ESTALE, f"inode {nodeid} is forgotten") from None

    def refer(self, fd: int, st: os.stat_result, mount: int) -> Node:
        """The inode behind an O_PATH descriptor, with one more reference. The descriptor is the table's from here on.

        It is open while the table is searched, which is why the number in ``st`` cannot mean anything else.
        """
        key = (mount, st.st_dev, st.st_ino)
        with self._lock:
            node = self._by_key.get(key)
            known = node is not None
            if node is None:
                self._last += 1
                node = self._by_id[self._last] = self._by_key[key] = self._new(self._last, fd, st, mount)
            node.nlookup += 1
        if known:
            os.close(fd)
        return node

    def _new(self, nodeid: int, fd: int, st: os.stat_result, mount: int) -> Node:
        return Node(nodeid, fd, st, mount, self._numbers.shown(st.st_dev, st.st_ino))

    def listed(self, directory: Node, entries: Iterable[Raw]) -> Iterator[Raw]:
        """Directory entries, with the numbers that are shown. What lies above the root is nobody's business: its ``..`` is
        itself."""
        device, shown, is_root = directory.key[1], self._numbers.shown, directory.nodeid == ROOT
        for name, ino, kind, behind in entries:
            yield name, self._root_ino if is_root and name == b".." else shown(device, ino), kind, behind

    def forget(self, nodeid: int, nlookup: int) -> None:
        """Give back references; with the last the table lets go of the inode, and of its descriptor."""
        with self._lock:
            node = self._by_id.get(nodeid)
            if node is None or nodeid == ROOT:
                return
            node.nlookup -= nlookup
            if node.nlookup > 0:
                return
            del self._by_id[nodeid], self._by_key[node.key]

    def idle(self, count: int) -> list[int]:
        """The numbers of some inodes that are open nowhere: each call goes on behind the last, and then from the start."""
        with self._lock:
            behind = (nodeid for nodeid, node in self._by_id.items() if nodeid > self._asked and not node.opens)
            found = list(itertools.islice(behind, count))
            self._asked = found[-1] if len(found) == count else ROOT
        return found

    def clear(self) -> None:
        """Forget all of them, the root as well."""
        with self._lock:
            self._by_id.clear()
            self._by_key.clear()


def open_at(path: bytes, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
    """openat(2); when descriptors run out it says so, and the caller gets ENFILE: EMFILE would blame it for our limit."""
    try:
        return os.open(path, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        log.error(
            "out of descriptors (each inode that the kernel remembers takes one): raise the hard limit, ulimit -Hn"
        )
        raise OSError(errno.ENFILE, "the filesystem has no descriptor left") from None


def check_name(name: bytes) -> bytes:
    """A name in a directory, and nothing that leads out of it. Linux sends no other; we do not rely on it."""
    if b"/" in name or name in (b"", b".", b".."):
        raise OSError(errno.EINVAL, f"{name!r} is no name")
    return name
