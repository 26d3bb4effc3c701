"""From a request to its handler's arguments: a function an opcode. Raises ProtocolError for what is not FUSE.

Each gets the message, in a buffer that may go on behind it, and where its body ends. The session has seen to it that the
struct in front of the body is there whole (``dispatch.Bound.least``).
"""

from __future__ import annotations

import time

from ..wire import layouts as L
from ..wire.flags import FAttr, GetattrFlag, LkFlag, PollFlag
from ..wire.layout import ProtocolError
from .attributes import NANO, Lock
from .operations import Changes

# To names of this module: each dot is a look-up. WRITE's struct has the layout of READ's.
_unpack_getattr, _unpack_read = L.GETATTR_IN.unpack_fields, L.READ_IN.unpack_fields
# As plain numbers: an operation on an IntFlag costs more than all the rest of a row.
_FH, _SCHEDULE_NOTIFY, _FLOCK = int(GetattrFlag.FH), int(PollFlag.SCHEDULE_NOTIFY), int(LkFlag.FLOCK)
_MODE, _UID, _GID, _SIZE = int(FAttr.MODE), int(FAttr.UID), int(FAttr.GID), int(FAttr.SIZE)
_ATIME, _MTIME, _CTIME, _FATTR_FH = int(FAttr.ATIME), int(FAttr.MTIME), int(FAttr.CTIME), int(FAttr.FH)
_ATIME_NOW, _MTIME_NOW = int(FAttr.ATIME_NOW), int(FAttr.MTIME_NOW)
_LOCKOWNER, _KILL_SUIDGID = int(FAttr.LOCKOWNER), int(FAttr.KILL_SUIDGID)
BODY = L.IN_HEADER.size  # where the body begins
_DATA = BODY + L.WRITE_IN.size


def _names(body: memoryview, count: int = 1) -> list[bytes]:
    raw = bytes(body)
    if raw.count(0) < count or raw[-1] != 0:
        raise ProtocolError("a name has no NUL at its end")
    names = raw[:-1].split(b"\0")
    if len(names) != count:
        raise ProtocolError(f"{count} names are due, {len(names)} came")
    return names


def take_node(nodeid: int, message: memoryview, end: int) -> tuple[int]:
    return (nodeid,)


def take_name(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes]:
    return nodeid, _names(message[BODY:end])[0]


def take_getattr(nodeid: int, message: memoryview, end: int) -> tuple[int, int | None]:
    flags, _, fh = _unpack_getattr(message, BODY)
    return nodeid, fh if flags & _FH else None


def take_statx(nodeid: int, message: memoryview, end: int) -> tuple[int, int | None, int, int]:
    flags, _, fh, sx_flags, mask = L.STATX_IN.unpack_fields(message, BODY)
    return nodeid, fh if flags & _FH else None, sx_flags, mask


def take_setattr(nodeid: int, message: memoryview, end: int) -> tuple[int, Changes, int | None]:
    asked = L.SETATTR_IN.unpack(message, BODY)
    valid = asked.valid
    atime_now, mtime_now = bool(valid & _ATIME_NOW), bool(valid & _MTIME_NOW)
    now = time.time_ns() if atime_now or mtime_now else 0
    changes = Changes(
        mode=asked.mode if valid & _MODE else None,
        uid=asked.uid if valid & _UID else None,
        gid=asked.gid if valid & _GID else None,
        size=asked.size if valid & _SIZE else None,
        ctime_ns=_ns(asked.ctime, asked.ctimensec) if valid & _CTIME else None,
        atime_now=atime_now,
        mtime_now=mtime_now,
        kill_suidgid=bool(valid & _KILL_SUIDGID),
        lock_owner=asked.lock_owner if valid & _LOCKOWNER else None,
    )
    if valid & _ATIME:
        changes.atime_ns = now if atime_now else _ns(asked.atime, asked.atimensec)
    if valid & _MTIME:
        changes.mtime_ns = now if mtime_now else _ns(asked.mtime, asked.mtimensec)
    return nodeid, changes, asked.fh if valid & _FATTR_FH else None


def _ns(seconds: int, nanoseconds: int) -> int:
    """Seconds come as a 64-bit two's complement: times before 1970 are negative."""
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * NANO + nanoseconds


def take_mknod(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, int, int]:
    mode, rdev, _, _ = L.MKNOD_IN.unpack_fields(message, BODY)
    return nodeid, _names(message[BODY + 16 : end])[0], mode, rdev


def take_mkdir(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, int]:
    mode, _ = L.MKDIR_IN.unpack_fields(message, BODY)
    return nodeid, _names(message[BODY + 8 : end])[0], mode


def take_symlink(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, bytes]:
    name, target = _names(message[BODY:end], 2)
    return nodeid, name, target


def take_rename(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, int, bytes, int]:
    (newdir,) = L.RENAME_IN.unpack_fields(message, BODY)
    old, new = _names(message[BODY + 8 : end], 2)
    return nodeid, old, newdir, new, 0


def take_rename2(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, int, bytes, int]:
    newdir, flags, _ = L.RENAME2_IN.unpack_fields(message, BODY)
    old, new = _names(message[BODY + 16 : end], 2)
    return nodeid, old, newdir, new, flags


def take_link(nodeid: int, message: memoryview, end: int) -> tuple[int, int, bytes]:
    (old,) = L.LINK_IN.unpack_fields(message, BODY)
    return old, nodeid, _names(message[BODY + 8 : end])[0]


def take_first(nodeid: int, message: memoryview, end: int) -> tuple[int, int]:
    return nodeid, L.ACCESS_IN.unpack_fields(message, BODY)[0]


def take_create(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, int, int]:
    flags, mode, _, _ = L.CREATE_IN.unpack_fields(message, BODY)
    return nodeid, _names(message[BODY + 16 : end])[0], mode, flags


def take_tmpfile(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int]:
    flags, mode, _, _ = L.CREATE_IN.unpack_fields(message, BODY)
    return nodeid, mode, flags


def take_read(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int, int]:
    fh, offset, size, _, _, _, _ = _unpack_read(message, BODY)
    return nodeid, fh, offset, size


def take_readdir(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int]:
    fh, offset, _, _, _, _, _ = _unpack_read(message, BODY)
    return nodeid, fh, offset


def take_write(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int, memoryview]:
    fh, offset, size, _, _, _, _ = _unpack_read(message, BODY)
    if end - _DATA != size:
        raise ProtocolError(f"WRITE of {size} bytes carries {end - _DATA}")
    return nodeid, fh, offset, message[_DATA:end]


def take_flush(nodeid: int, message: memoryview, end: int) -> tuple[int, int]:
    return nodeid, L.FLUSH_IN.unpack_fields(message, BODY)[0]


def take_release(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int]:
    fh, flags, _, _ = L.RELEASE_IN.unpack_fields(message, BODY)
    return nodeid, fh, flags


def take_fsync(nodeid: int, message: memoryview, end: int) -> tuple[int, int, bool]:
    fh, flags, _ = L.FSYNC_IN.unpack_fields(message, BODY)
    return nodeid, fh, bool(flags & 1)


def take_fallocate(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int, int, int]:
    fh, offset, length, mode, _ = L.FALLOCATE_IN.unpack_fields(message, BODY)
    return nodeid, fh, mode, offset, length


def take_lseek(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int, int]:
    fh, offset, whence, _ = L.LSEEK_IN.unpack_fields(message, BODY)
    return nodeid, fh, offset, whence


def take_copy_file_range(nodeid: int, message: memoryview, end: int) -> tuple[int, ...]:
    return (nodeid, *L.COPY_FILE_RANGE_IN.unpack_fields(message, BODY))


def take_bmap(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int]:
    block, blocksize, _ = L.BMAP_IN.unpack_fields(message, BODY)
    return nodeid, block, blocksize


def take_ioctl(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int, int, memoryview, int, int]:
    fh, flags, cmd, arg, in_size, out_size = L.IOCTL_IN.unpack_fields(message, BODY)
    return nodeid, fh, cmd, arg, message[BODY + 32 : min(BODY + 32 + in_size, end)], out_size, flags


def take_poll(nodeid: int, message: memoryview, end: int) -> tuple[int, int, int, int | None]:
    fh, handle, flags, events = L.POLL_IN.unpack_fields(message, BODY)
    return nodeid, fh, events, handle if flags & _SCHEDULE_NOTIFY else None


def take_setxattr(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, bytes, int]:
    size, flags = L.GETXATTR_IN.unpack_fields(message, BODY)  # the 8 bytes that come without SETXATTR_EXT
    name, nul, value = bytes(message[BODY + 8 : end]).partition(b"\0")
    if not nul or len(value) != size:
        raise ProtocolError(f"SETXATTR of {size} bytes carries {len(value)}")
    return nodeid, name, value, flags


def take_setxattr_ext(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes, bytes, int]:
    """With SETXATTR_EXT (7.33) 8 more bytes come; ``setxattr_flags`` among them is in the request's ``args``."""
    short = bytes(message[: BODY + 8]) + bytes(message[BODY + 16 : end])
    return take_setxattr(nodeid, memoryview(short), len(short))


def take_getxattr(nodeid: int, message: memoryview, end: int) -> tuple[int, bytes]:
    return nodeid, _names(message[BODY + 8 : end])[0]


def take_lk(nodeid: int, message: memoryview, end: int) -> tuple[int, int, Lock]:
    fh, owner, start, end, kind, pid, _, _ = L.LK_IN.unpack_fields(message, BODY)
    return nodeid, fh, Lock(start, end, kind, pid, owner)


def take_setlk(nodeid: int, message: memoryview, end: int) -> tuple[int, int, Lock, bool]:
    return (*take_lk(nodeid, message, end), False)


def take_setlkw(nodeid: int, message: memoryview, end: int) -> tuple[int, int, Lock, bool]:
    return (*take_lk(nodeid, message, end), True)


def is_flock(message: memoryview) -> bool:
    """Whether a SETLK is flock(2)'s."""
    return bool(L.LK_IN.unpack_fields(message, BODY)[6] & _FLOCK)


def take_setupmapping(nodeid: int, message: memoryview, end: int) -> tuple[int, ...]:
    return (nodeid, *L.SETUPMAPPING_IN.unpack_fields(message, BODY))


def take_removemapping(nodeid: int, message: memoryview, end: int) -> tuple[list[tuple[int, int]]]:
    (count,) = L.REMOVEMAPPING_IN.unpack_fields(message, BODY)
    one = L.REMOVEMAPPING_ONE
    if end < BODY + 4 + count * one.size:
        raise ProtocolError(f"{count} mappings announced in {end - BODY} bytes")
    mappings = (one.unpack(message, BODY + 4 + i * one.size) for i in range(count))
    return ([(mapping.moffset, mapping.len) for mapping in mappings],)
