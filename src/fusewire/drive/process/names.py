"""Names and attributes: as those functions of ``os`` that take a path."""

from __future__ import annotations

import contextlib
import os
import stat as _stat

from ...kernel.vfs import syscalls as sc
from ...wire.layouts import Attr, Kstatfs, Statx
from .base import Caller, Path, PathOrFd, at, to_bytes, where

NANO = 1_000_000_000
F_OK = 0
ST_RDONLY = 1
XATTR_FIRST_TRY, XATTR_SIZE_MAX = 128, 65536
Time = int | float


class NameCalls(Caller):
    """``os.stat``, ``os.mkdir``, ``os.rename``, ..."""

    def stat(self, path: PathOrFd, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        """As os.stat()."""
        if isinstance(path, int):
            return self.fstat(path)
        return _stat_result(*self._call(sc.sys_stat, os.fsencode(path), at(dir_fd), follow_symlinks))

    def lstat(self, path: Path, *, dir_fd: int | None = None) -> os.stat_result:
        """As os.lstat()."""
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        """As os.fstat()."""
        return _stat_result(*self._call(sc.sys_fstat, fd))

    def statx(
        self,
        path: PathOrFd,
        mask: int = 0x7FF,
        *,
        flags: int = 0,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> Statx:
        """statx(2): ``mask`` 0x800 asks for the birth time; ``flags`` AT_STATX_FORCE_SYNC 0x2000, AT_STATX_DONT_SYNC 0x4000."""
        if isinstance(path, int):
            return self._call(sc.sys_statx, None, path, True, flags, mask)
        return self._call(sc.sys_statx, os.fsencode(path), at(dir_fd), follow_symlinks, flags, mask)

    def access(
        self,
        path: Path,
        mode: int,
        *,
        dir_fd: int | None = None,
        effective_ids: bool = False,
        follow_symlinks: bool = True,
    ) -> bool:
        """As os.access()."""
        try:
            self._call(sc.sys_access, to_bytes(path), mode, at(dir_fd), effective_ids, follow_symlinks)
        except OSError:
            return False
        return True

    def statvfs(self, path: PathOrFd) -> os.statvfs_result:
        """As os.statvfs()."""
        if isinstance(path, int):
            return self.fstatvfs(path)
        return _statvfs_result(*self._call(sc.sys_statfs, os.fsencode(path)))

    def fstatvfs(self, fd: int) -> os.statvfs_result:
        """As os.fstatvfs()."""
        return _statvfs_result(*self._call(sc.sys_fstatfs, fd))

    # -- making and removing ----------------------------------------------------------------------------------------

    def mkdir(self, path: Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """As os.mkdir()."""
        self._call(sc.sys_mkdir, to_bytes(path), mode, at(dir_fd))

    def makedirs(self, name: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
        """As os.makedirs()."""
        head, tail = os.path.split(to_bytes(name))
        if not tail:
            head, tail = os.path.split(head)
        if head and tail and not self.access(head, F_OK):
            self.makedirs(head, exist_ok=True)
        try:
            self.mkdir(name, mode)
        except OSError:
            if not exist_ok or not _stat.S_ISDIR(self.stat(name).st_mode):
                raise

    def removedirs(self, name: Path) -> None:
        """As os.removedirs()."""
        self.rmdir(name)
        head, tail = os.path.split(to_bytes(name))
        if not tail:
            head = os.path.dirname(head)
        while head.strip(b"/"):
            try:
                self.rmdir(head)
            except OSError:
                break
            head = os.path.dirname(head)

    def renames(self, old: Path, new: Path) -> None:
        """As os.renames()."""
        head, tail = os.path.split(to_bytes(new))
        if head and tail and not self.access(head, F_OK):
            self.makedirs(head)
        self.rename(old, new)
        head, tail = os.path.split(to_bytes(old))
        if head and tail:
            with contextlib.suppress(OSError):
                self.removedirs(head)

    def mknod(self, path: Path, mode: int = 0o600, device: int = 0, *, dir_fd: int | None = None) -> None:
        """As os.mknod()."""
        self._call(sc.sys_mknod, to_bytes(path), mode, device, at(dir_fd))

    def mkfifo(self, path: Path, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
        """As os.mkfifo()."""
        self.mknod(path, _stat.S_IFIFO | mode, dir_fd=dir_fd)

    def symlink(self, src: Path, dst: Path, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
        """As os.symlink()."""
        self._call(sc.sys_symlink, to_bytes(src), to_bytes(dst), at(dir_fd))

    def readlink(self, path: Path, *, dir_fd: int | None = None) -> str | bytes:
        """As os.readlink(): bytes for a path of bytes."""
        path = os.fspath(path)
        target = self._call(sc.sys_readlink, to_bytes(path), at(dir_fd))
        return target if isinstance(path, bytes) else os.fsdecode(target)

    def link(
        self,
        src: PathOrFd,
        dst: Path,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = False,
    ) -> None:
        """As os.link(); a descriptor as ``src`` gives a name to an open file (O_TMPFILE). Links are not followed unless asked
        for, as os.link() does it on Linux."""
        if isinstance(src, int):
            self._call(sc.sys_link, None, to_bytes(dst), src, at(dst_dir_fd))
            return
        self._call(sc.sys_link, os.fsencode(src), to_bytes(dst), at(src_dir_fd), at(dst_dir_fd), follow_symlinks)

    def unlink(self, path: Path, *, dir_fd: int | None = None) -> None:
        """As os.unlink()."""
        self._call(sc.sys_unlink, to_bytes(path), at(dir_fd))

    remove = unlink

    def rmdir(self, path: Path, *, dir_fd: int | None = None) -> None:
        """As os.rmdir()."""
        self._call(sc.sys_rmdir, to_bytes(path), at(dir_fd))

    def rename(
        self,
        src: Path,
        dst: Path,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        flags: int = 0,
    ) -> None:
        """As os.rename(); ``flags`` are renameat2(2)'s: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4."""
        self._call(sc.sys_rename, to_bytes(src), to_bytes(dst), at(src_dir_fd), at(dst_dir_fd), flags)

    def replace(self, src: Path, dst: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        """As os.replace()."""
        self.rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    # -- changing ---------------------------------------------------------------------------------------------------

    def truncate(self, path: PathOrFd, length: int) -> None:
        """As os.truncate()."""
        if isinstance(path, int):
            self._call(sc.sys_ftruncate, path, length)
        else:
            self._call(sc.sys_truncate, os.fsencode(path), length)

    def chmod(self, path: PathOrFd, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        """As os.chmod()."""
        self._call(sc.sys_chmod, where(path, dir_fd, follow_symlinks), mode)

    def fchmod(self, fd: int, mode: int) -> None:
        """As os.fchmod()."""
        self.chmod(fd, mode)

    def chown(
        self, path: PathOrFd, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        """As os.chown()."""
        self._call(sc.sys_chown, where(path, dir_fd, follow_symlinks), uid, gid)

    def lchown(self, path: Path, uid: int, gid: int) -> None:
        """As os.lchown()."""
        self.chown(path, uid, gid, follow_symlinks=False)

    def fchown(self, fd: int, uid: int, gid: int) -> None:
        """As os.fchown()."""
        self.chown(fd, uid, gid)

    def utime(
        self,
        path: PathOrFd,
        times: tuple[Time, Time] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """As os.utime()."""
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        atime = mtime = None
        if ns is not None:
            atime, mtime = divmod(ns[0], NANO), divmod(ns[1], NANO)
        elif times is not None:
            atime, mtime = _timespec(times[0]), _timespec(times[1])
        self._call(sc.sys_utimensat, where(path, dir_fd, follow_symlinks), atime, mtime)

    # -- extended attributes ------------------------------------------------------------------------------------------

    def getxattr(self, path: PathOrFd, attribute: Path, *, follow_symlinks: bool = True) -> bytes:
        """As os.getxattr()."""
        name = to_bytes(attribute)
        at = where(path, None, follow_symlinks)
        for size in (XATTR_FIRST_TRY, XATTR_SIZE_MAX):
            try:
                value = self._call(sc.sys_getxattr, at, name, size)
                return value if isinstance(value, bytes) else b""
            except OSError as error:
                if error.errno != 34 or size == XATTR_SIZE_MAX:  # ERANGE
                    raise
        raise AssertionError

    def listxattr(self, path: PathOrFd | None = None, *, follow_symlinks: bool = True) -> list[str]:
        """As os.listxattr()."""
        at = where("." if path is None else path, None, follow_symlinks)
        for size in (2 * XATTR_FIRST_TRY, XATTR_SIZE_MAX):
            try:
                names = self._call(sc.sys_listxattr, at, size)
                return [os.fsdecode(name) for name in names.split(b"\0") if name] if isinstance(names, bytes) else []
            except OSError as error:
                if error.errno != 34 or size == XATTR_SIZE_MAX:  # ERANGE
                    raise
        raise AssertionError

    def setxattr(
        self,
        path: PathOrFd,
        attribute: Path,
        value: bytes | bytearray | memoryview,
        flags: int = 0,
        *,
        follow_symlinks: bool = True,
    ) -> None:
        """As os.setxattr()."""
        self._call(sc.sys_setxattr, where(path, None, follow_symlinks), to_bytes(attribute), bytes(value), flags)

    def removexattr(self, path: PathOrFd, attribute: Path, *, follow_symlinks: bool = True) -> None:
        """As os.removexattr()."""
        self._call(sc.sys_removexattr, where(path, None, follow_symlinks), to_bytes(attribute))


def _timespec(seconds: Time) -> tuple[int, int]:
    whole = int(seconds // 1)
    return whole, int((seconds - whole) * NANO)


def _stat_result(attr: Attr, device: int) -> os.stat_result:
    ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, _ = (
        attr
    )
    if (atime | mtime | ctime) >> 63:  # before 1970
        atime, mtime, ctime = _signed(atime), _signed(mtime), _signed(ctime)
    return os.stat_result(
        (
            mode, ino, device, nlink, uid, gid, size, atime, mtime, ctime,
            atime + atimensec / NANO, mtime + mtimensec / NANO, ctime + ctimensec / NANO,
            atime * NANO + atimensec, mtime * NANO + mtimensec, ctime * NANO + ctimensec,
            blksize, blocks, rdev,
        )
    )  # fmt: skip


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >> 63 else seconds


def _statvfs_result(st: Kstatfs, read_only: bool) -> os.statvfs_result:
    flags = ST_RDONLY if read_only else 0
    return os.statvfs_result(
        (st.bsize, st.frsize or st.bsize, st.blocks, st.bfree, st.bavail, st.files, st.ffree, st.ffree, flags, st.namelen)
    )  # fmt: skip
