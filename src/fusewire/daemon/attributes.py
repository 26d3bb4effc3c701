"""What handlers return: attributes, entries, open files, directory entries. Plain objects, checked when they are packed."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK
from typing import NamedTuple

from ..wire.layouts import ATTR, KSTATFS

NANO = 1_000_000_000


class BadAnswer(Exception):
    """A handler returned what cannot be sent."""


_Split = tuple[int, int, int, int, int, int, int, int, int]


def _split(atime: int, mtime: int, ctime: int) -> _Split:
    """Times, and what of them ``fuse_attr`` has: seconds and nanoseconds."""
    asec, ansec = divmod(atime, NANO)
    msec, mnsec = divmod(mtime, NANO)
    csec, cnsec = divmod(ctime, NANO)
    return atime, mtime, ctime, asec, msec, csec, ansec, mnsec, cnsec


@dataclass(slots=True)
class Attributes:
    """What stat(2) shows of an inode.

    ``mode`` with the type (``stat.S_IFREG | 0o644``), ``size`` in bytes, times in nanoseconds since 1970, ``blocks`` in units
    of 512 bytes (None: as many as ``size`` takes), ``blksize`` the preferred size of I/O in bytes.
    """

    ino: int
    mode: int
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    size: int = 0
    rdev: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    btime_ns: int = 0
    blksize: int = 4096
    blocks: int | None = None
    flags: int = 0
    _split: _Split | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, st: os.stat_result, ino: int = 0) -> Attributes:
        """The attributes that os.stat() found, under the number ``ino`` (0: the file's own)."""
        return cls(
            ino or st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_rdev,
            st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns, 0, st.st_blksize, st.st_blocks,
        )  # fmt: skip

    def fields(self) -> tuple[int, ...]:
        """In the order of ``fuse_attr``."""
        return ATTR.unpack_fields(self.packed())

    def packed(self) -> bytes:
        """The ``fuse_attr``. Raises struct.error or TypeError for what does not fit in it, BadAnswer for a mode without a
        type or a size that Linux has no room for (looked at when the times are new)."""
        split = self._split
        # The very same numbers as last time: splitting them takes longer than all the rest.
        if (
            split is None
            or split[0] is not self.atime_ns
            or split[1] is not self.mtime_ns
            or split[2] is not self.ctime_ns
        ):
            if self.ino:  # 0: a name that is not there
                check_attr(self.mode, self.size)
            split = self._split = _split(self.atime_ns, self.mtime_ns, self.ctime_ns)
        _, _, _, asec, msec, csec, ansec, mnsec, cnsec = split
        blocks = self.blocks
        return _pack_attr(
            self.ino, self.size, (self.size + 511) >> 9 if blocks is None else blocks,
            asec, msec, csec, ansec, mnsec, cnsec,
            self.mode, self.nlink, self.uid, self.gid, self.rdev, self.blksize, self.flags,
        )  # fmt: skip


def check_attr(mode: int, size: int) -> None:
    """Raises BadAnswer for what the kernel would turn into EIO without a word."""
    if mode >> 12 not in _TYPES:
        raise BadAnswer(f"a mode without a type: {mode:#o} (stat.S_IFREG, S_IFDIR, ... belong in it)")
    if size >> 63:
        raise BadAnswer(f"a size of {size} bytes")


@dataclass(slots=True)
class Entry:
    """A name's inode, as LOOKUP and everything that makes one answers it. It grants the kernel one more reference.

    ``ino`` 0: nothing is there (``Entry(Attributes(0, 0))``), and the kernel may remember that for ``entry_timeout``.
    Timeouts are in seconds; None takes the filesystem's own. ``generation`` tells inodes apart that had the same number at
    different times.
    """

    attributes: Attributes
    ino: int | None = None
    generation: int = 0
    entry_timeout: float | None = None
    attr_timeout: float | None = None


class Opened(NamedTuple):
    """An open file: ``fh`` comes back with every request on it, ``flags`` are ``FOpenFlag``, ``backing_id`` for
    passthrough (7.40)."""

    fh: int = 0
    flags: int = 0
    backing_id: int = 0


class DirEntry(NamedTuple):
    """A name in a directory. ``offset`` is where reading goes on behind it (never 0, nor where it
    began); ``mode``'s type is shown.

    With ``entry`` it also answers a LOOKUP, in READDIRPLUS (not for ``.`` and ``..``).
    """

    name: bytes
    ino: int
    mode: int
    offset: int
    entry: Entry | None = None


class Lock(NamedTuple):
    """A byte-range lock: ``start`` to ``end`` inclusive, ``type`` F_RDLCK, F_WRLCK or F_UNLCK, ``owner`` the kernel's
    number for who holds it (the descriptor table of a process; for flock the open file)."""

    start: int
    end: int
    type: int
    pid: int = 0
    owner: int = 0


class StatFS(NamedTuple):
    """What statvfs(3) shows: ``blocks``, ``bfree`` and ``bavail`` in units of ``frsize`` bytes."""

    blocks: int = 0
    bfree: int = 0
    bavail: int = 0
    files: int = 0
    ffree: int = 0
    bsize: int = 4096
    namelen: int = 255
    frsize: int = 4096

    def pack(self) -> bytes:
        return _pack_kstatfs(*self, 0, bytes(24))


_TYPES = frozenset(kind >> 12 for kind in (S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK))
_pack_kstatfs = KSTATFS.pack_fields
# ``fuse_attr``, whose seconds are a two's complement.
_pack_attr = struct.Struct(ATTR.format.replace("QQQQQQ", "QQQqqq", 1)).pack
