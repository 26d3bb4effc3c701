"""System calls that ``os`` does not have, or has for the whole process where we need them for one thread.

They raise OSError. Names, arguments and constants are those of the man pages.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

AT_FDCWD = -100  # openat(2)
AT_EMPTY_PATH = 0x1000
AT_STATX_DONT_SYNC = 0x4000  # statx(2)
STATX_MNT_ID = 0x1000
RESOLVE_NO_XDEV = 1  # openat2(2)
CLONE_FS = 0x200  # unshare(2)
UTIME_NOW = (1 << 30) - 1  # utimensat(2)
UTIME_OMIT = (1 << 30) - 2
CAP_FSETID, CAP_SETGID, CAP_SETUID = 4, 6, 7  # capabilities(7)
_CAPABILITY_VERSION_3 = 0x20080522  # capset(2)

_libc = ctypes.CDLL(None, use_errno=True)
_off_t = ctypes.c_int64
_SYS_SETGROUPS = {"x86_64": 116, "ppc64le": 81, "s390x": 206, "i686": 206, "armv7l": 206}.get(os.uname().machine, 159)


_SYS_OPENAT2 = 437  # on every architecture of the table above
_openat2 = ctypes.CFUNCTYPE(
    ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, use_errno=True
)(("syscall", _libc))
_open_how = struct.Struct("=QQQ").pack


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


_libc.setfsuid.argtypes = _libc.setfsgid.argtypes = (ctypes.c_uint32,)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, _off_t, _off_t)
_libc.utimensat.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_Timespec), ctypes.c_int)
_libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_libc.statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
_libc.getdents64.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_libc.getdents64.restype = ctypes.c_ssize_t
_libc.capget.argtypes = _libc.capset.argtypes = (ctypes.c_char_p, ctypes.c_char_p)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# -- files -----------------------------------------------------------------------------------------------------------


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), which posix_fallocate is not: it has modes, and fails where the filesystem cannot."""
    _checked(_libc.fallocate(fd, mode, offset, length))


def utimensat(path: bytes, atime_ns: int, mtime_ns: int) -> None:
    """utimensat(2), times in nanoseconds since 1970, or NOW or OMIT."""
    times = (_Timespec * 2)(_timespec(atime_ns), _timespec(mtime_ns))
    _checked(_libc.utimensat(AT_FDCWD, path, times, 0))


# Out of reach of any real time: what stands for UTIME_NOW and UTIME_OMIT among nanoseconds.
NOW, OMIT = -(1 << 100), -(1 << 101)


def _timespec(ns: int) -> _Timespec:
    if ns == NOW:
        return _Timespec(0, UTIME_NOW)
    if ns == OMIT:
        return _Timespec(0, UTIME_OMIT)
    return _Timespec(*divmod(ns, 1_000_000_000))


def renameat2(olddir: int, old: bytes, newdir: int, new: bytes, flags: int) -> None:
    """renameat2(2)."""
    _checked(_libc.renameat2(olddir, old, newdir, new, flags))


def openat2(dir_fd: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2), close-on-exec; since Linux 5.6."""
    return _checked(_openat2(_SYS_OPENAT2, dir_fd, path, _open_how(flags | os.O_CLOEXEC, 0, resolve), 24))


def mount_of(fd: int) -> tuple[int, int]:
    """The st_dev of an open file and the number of the mount it was reached by (0 before Linux 5.8). Asks no daemon."""
    raw = statx(fd, AT_STATX_DONT_SYNC, STATX_MNT_ID)
    major, minor, mount_id = _unpack_mount(raw, 136)
    return os.makedev(major, minor), mount_id


def statx(fd: int, flags: int, mask: int) -> bytes:
    """statx(2) of an open file, O_PATH included; the 256 bytes of ``struct statx``."""
    buffer = ctypes.create_string_buffer(256)
    _checked(_libc.statx(fd, b"", flags | AT_EMPTY_PATH, mask, buffer))
    return buffer.raw


_unpack_mount = struct.Struct("=IIQ").unpack_from  # stx_dev_major, stx_dev_minor, stx_mnt_id
_unpack_dirent = struct.Struct("=QqHB").unpack_from  # d_ino, d_off, d_reclen, d_type; then the name


def getdents64(fd: int, size: int = 32768) -> list[tuple[bytes, int, int, int]]:
    """getdents64(2): name, inode number, DT_* type and the offset behind it, of as many entries as fit; none at the end."""
    buffer = ctypes.create_string_buffer(size)
    end = _checked(_libc.getdents64(fd, buffer, size))
    data = buffer.raw[:end]
    entries = []
    start = 0
    while start < end:
        ino, offset, length, kind = _unpack_dirent(data, start)
        name = data[start + 19 : data.index(0, start + 19)]
        entries.append((name, ino, kind, offset))
        start += length
    return entries


# -- this thread -----------------------------------------------------------------------------------------------------


def setfsuid(uid: int) -> None:
    """setfsuid(2) for this thread, checked. Leaving user 0 drops the capabilities that concern files; coming back
    restores them."""
    _libc.setfsuid(uid)
    if _libc.setfsuid(0xFFFFFFFF) != ctypes.c_int(uid).value:  # the call itself cannot say that it failed
        raise PermissionError(1, f"no permission to act as user {uid}")


def setfsgid(gid: int) -> None:
    """setfsgid(2) for this thread, checked."""
    _libc.setfsgid(gid)
    if _libc.setfsgid(0xFFFFFFFF) != ctypes.c_int(gid).value:
        raise PermissionError(1, f"no permission to act as group {gid}")


def setgroups(groups: Sequence[int]) -> None:
    """setgroups(2) for this thread alone: the C library's own would change every thread of the process."""
    array = (ctypes.c_uint32 * len(groups))(*groups)
    _checked(_libc.syscall(ctypes.c_long(_SYS_SETGROUPS), ctypes.c_long(len(groups)), array))


def unshare_fs() -> None:
    """unshare(2) with CLONE_FS: from now on this thread's umask and working directory are its own."""
    _checked(_libc.unshare(CLONE_FS))


def capabilities() -> tuple[int, int, int]:
    """This thread's effective, permitted and inheritable capabilities, as bit masks."""
    data = ctypes.create_string_buffer(24)
    _checked(_libc.capget(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), data))
    words = struct.unpack("=6I", data.raw)
    return words[0] | words[3] << 32, words[1] | words[4] << 32, words[2] | words[5] << 32


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2), for this thread."""
    low = 0xFFFFFFFF
    data = struct.pack(
        "=6I", effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32
    )  # fmt: skip
    _checked(_libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), data))
