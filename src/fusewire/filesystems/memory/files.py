"""Contents and attributes: opening, reading, writing, allocating, chmod and its kin."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from time import time_ns

from ...daemon import (
    Attributes,
    Changes,
    Opened,
    OpenInFlag,
    StatFS,
    Statx,
    SxTime,
    WriteFlag,
    current_request,
    posix_acl,
)
from . import acl, pages
from .inodes import SUID_SGID, Inodes
from .names import OPENED
from .nodes import INODE, NAME, Directory, File, Node, Symlink, error

# fallocate(2), <linux/falloc.h>
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE = 1, 2, 16
# lseek(2)
SEEK_DATA, SEEK_HOLE = 3, 4
# statx(2): the basic fields, and the birth time
STATX_KNOWN = 0x7FF | 0x800

MAX_SIZE = (1 << 63) - 1
COPIED_AT_ONCE = 16 << 20  # bytes; others wait meanwhile


class Files(Inodes):
    """Operations on an inode."""

    # -- opening --------------------------------------------------------------------------------------------------

    def open(self, ino: int, flags: int) -> Opened:
        with self._lock:
            node = self._node(ino)
            mode = node.mode
            if flags & os.O_TRUNC and isinstance(node, File):
                pages.truncate(node, self._space, 0)
                self._written(node, bool(current_request().args.open_flags & OpenInFlag.KILL_SUIDGID))
            node.opens += 1
        self._tell_mode(node, mode)
        return OPENED

    # -- contents ---------------------------------------------------------------------------------------------------

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes | bytearray:
        with self._lock:
            node = self._file(ino)
            if node.atime_ns <= node.mtime_ns and not current_request().args.flags & os.O_NOATIME:
                node.atime_ns = time_ns()  # as relatime does it: the first time after a change
            return pages.read(node, offset, size)

    def write(self, ino: int, fh: int, offset: int, data: memoryview) -> int:
        with self._lock:
            node = self._file(ino)
            mode = node.mode
            written = pages.write(node, self._space, offset, data)
            if mode & SUID_SGID or node.xattrs:
                self._written(node, bool(current_request().args.write_flags & WriteFlag.KILL_SUIDGID))
            else:
                node.mtime_ns = node.ctime_ns = time_ns()
        if node.mode != mode:
            self._tell_mode(node, mode)
        return written

    def fallocate(self, ino: int, fh: int, mode: int, offset: int, length: int) -> None:
        if offset + length > MAX_SIZE:
            raise error(errno.EFBIG)
        with self._lock:
            node = self._file(ino)
            before = node.mode
            self._fallocate(node, mode, offset, length)
            if not mode & FALLOC_FL_KEEP_SIZE:
                node.size = max(node.size, offset + length)
            self._written(node, current_request().uid != 0)
        self._tell_mode(node, before)

    def _fallocate(self, node: File, mode: int, offset: int, length: int) -> None:
        if mode & ~FALLOC_FL_KEEP_SIZE == 0:
            pages.allocate(node, self._space, offset, length)
        elif mode == FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
            pages.punch_hole(node, self._space, offset, length)
        elif mode & ~FALLOC_FL_KEEP_SIZE == FALLOC_FL_ZERO_RANGE:
            pages.zero_range(node, self._space, offset, length)
        else:
            raise error(errno.EOPNOTSUPP)

    def lseek(self, ino: int, fh: int, offset: int, whence: int) -> int:
        with self._lock:
            node = self._file(ino)
            if whence == SEEK_DATA:
                return pages.next_data(node, offset)
            if whence == SEEK_HOLE:
                return pages.next_hole(node, offset)
        raise error(errno.EINVAL)

    def copy_file_range(
        self, ino_in: int, fh_in: int, off_in: int, ino_out: int, fh_out: int, off_out: int, length: int, flags: int
    ) -> int:  # fmt: skip
        with self._lock:
            source, target = self._file(ino_in), self._file(ino_out)
            mode = target.mode
            data = pages.read(source, off_in, min(length, COPIED_AT_ONCE))
            written = pages.write(target, self._space, off_out, data)
            if written:
                self._written(target, current_request().uid != 0)
        self._tell_mode(target, mode)
        return written

    def readlink(self, ino: int) -> bytes:
        node = self._node(ino)
        if not isinstance(node, Symlink):
            raise error(errno.EINVAL)
        return node.target

    def _tell_mode(self, node: Node, before: int) -> None:
        """The kernel knows that contents changed, but not that set-ID bits went with that; have it ask again."""
        if node.mode != before:
            with contextlib.suppress(OSError):  # nothing that takes notifications serves us
                self.session.notify.inval_inode(node.ino, -1)

    # -- attributes ---------------------------------------------------------------------------------------------------

    def setattr(self, ino: int, changes: Changes, fh: int | None) -> Attributes:
        with self._lock:
            node = self._node(ino)
            if changes.size is not None:
                pages.truncate(self._file(ino), self._space, changes.size)
                self._written(node, changes.kill_suidgid)
            if changes.uid is not None or changes.gid is not None:
                self._chown(node, changes)
            if changes.mode is not None:
                self._chmod(node, changes.mode)
            if changes.atime_ns is not None:
                node.atime_ns = changes.atime_ns
            if changes.mtime_ns is not None:
                node.mtime_ns = changes.mtime_ns
            node.ctime_ns = changes.ctime_ns or time_ns()
        return node

    def _chown(self, node: Node, changes: Changes) -> None:
        """Nobody gives away a program that then runs with the new owner's rights."""
        if not isinstance(node, Directory):
            self._kill_privileges(node)
        if changes.uid is not None:
            node.uid = changes.uid
        if changes.gid is not None:
            node.gid = changes.gid

    def _chmod(self, node: Node, mode: int) -> None:
        mode = stat.S_IMODE(mode)
        if mode & stat.S_ISGID and not self._kernel_checks and not self._may_set_gid(node):
            mode &= ~stat.S_ISGID
        node.mode = stat.S_IFMT(node.mode) | mode
        if node.xattrs and posix_acl.ACCESS in node.xattrs:
            access = acl.with_permissions(acl.parse(node.xattrs[posix_acl.ACCESS]), mode)
            node.xattrs[posix_acl.ACCESS] = posix_acl.pack(access)

    def statx(self, ino: int, fh: int | None, flags: int, mask: int) -> Statx:
        node = self._node(ino)
        return Statx(
            mask=STATX_KNOWN,
            blksize=node.blksize,
            nlink=node.nlink,
            uid=node.uid,
            gid=node.gid,
            mode=node.mode,
            ino=node.ino,
            size=node.size,
            blocks=node.blocks or 0,
            atime=_sx_time(node.atime_ns),
            btime=_sx_time(node.btime_ns),
            ctime=_sx_time(node.ctime_ns),
            mtime=_sx_time(node.mtime_ns),
            rdev_major=os.major(node.rdev),
            rdev_minor=os.minor(node.rdev),
        )

    def statfs(self, ino: int) -> StatFS:
        free = self._space.free
        files = self._metadata.free // (INODE + NAME)
        return StatFS(self._space.capacity, free, free, len(self.nodes) + files, files)


def _sx_time(ns: int) -> SxTime:
    seconds, nanoseconds = divmod(ns, 10**9)
    return SxTime(seconds, nanoseconds)
