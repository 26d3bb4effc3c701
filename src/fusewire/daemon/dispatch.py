"""From a request's body to a handler's arguments, and from what it returned to the answer's body: one row an opcode.

Bound once, when the session starts; nothing is looked up by name while requests are served.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..wire import layouts as L
from ..wire.flags import FAttr, GetattrFlag, InitFlag, LkFlag, Opcode, PollFlag
from ..wire.layout import ProtocolError
from .attributes import NANO, Attributes, Entry, Lock, Opened, StatFS
from .operations import Changes, Listing, Operations

# As plain numbers: an operation on an IntFlag costs more than all the rest of a row.
_FH, _SCHEDULE_NOTIFY, _FLOCK = int(GetattrFlag.FH), int(PollFlag.SCHEDULE_NOTIFY), int(LkFlag.FLOCK)
_MODE, _UID, _GID, _SIZE = int(FAttr.MODE), int(FAttr.UID), int(FAttr.GID), int(FAttr.SIZE)
_ATIME, _MTIME, _CTIME, _FATTR_FH = int(FAttr.ATIME), int(FAttr.MTIME), int(FAttr.CTIME), int(FAttr.FH)
_ATIME_NOW, _MTIME_NOW = int(FAttr.ATIME_NOW), int(FAttr.MTIME_NOW)
_LOCKOWNER, _KILL_SUIDGID = int(FAttr.LOCKOWNER), int(FAttr.KILL_SUIDGID)

Buffers = bytes | bytearray | memoryview
NAME_MAX = 1024  # bytes; Linux takes no longer one from a daemon
Decode = Callable[[int, memoryview], tuple[Any, ...]]
Encode = Callable[[Operations, Any, memoryview], Buffers]


class Row(NamedTuple):
    """How one opcode is served. ``encode`` gets what the handler returned, and the request's body for its limits."""

    method: str
    decode: Decode
    encode: Encode


class Bound(NamedTuple):
    """A row for one filesystem: its own method, found."""

    method: Callable[..., Any]
    decode: Decode
    encode: Encode
    is_async: bool
    name: str


class BadAnswer(Exception):
    """A handler returned what cannot be sent."""


# -- decoding ------------------------------------------------------------------------------------------------------


def _names(body: memoryview, count: int = 1) -> list[bytes]:
    raw = bytes(body)
    if raw.count(0) < count or raw[-1] != 0:
        raise ProtocolError("a name has no NUL at its end")
    names = raw[:-1].split(b"\0")
    if len(names) != count:
        raise ProtocolError(f"{count} names are due, {len(names)} came")
    return names


def _node(nodeid: int, body: memoryview) -> tuple[int]:
    return (nodeid,)


def _name(nodeid: int, body: memoryview) -> tuple[int, bytes]:
    return nodeid, _names(body)[0]


def _getattr(nodeid: int, body: memoryview) -> tuple[int, int | None]:
    flags, _, fh = L.GETATTR_IN.unpack_fields(body)
    return nodeid, fh if flags & _FH else None


def _statx(nodeid: int, body: memoryview) -> tuple[int, int | None, int, int]:
    flags, _, fh, sx_flags, mask = L.STATX_IN.unpack_fields(body)
    return nodeid, fh if flags & _FH else None, sx_flags, mask


def _setattr(nodeid: int, body: memoryview) -> tuple[int, Changes, int | None]:
    asked = L.SETATTR_IN.unpack(body)
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


def _mknod(nodeid: int, body: memoryview) -> tuple[int, bytes, int, int]:
    mode, rdev, _, _ = L.MKNOD_IN.unpack_fields(body)
    return nodeid, _names(body[16:])[0], mode, rdev


def _mkdir(nodeid: int, body: memoryview) -> tuple[int, bytes, int]:
    mode, _ = L.MKDIR_IN.unpack_fields(body)
    return nodeid, _names(body[8:])[0], mode


def _symlink(nodeid: int, body: memoryview) -> tuple[int, bytes, bytes]:
    name, target = _names(body, 2)
    return nodeid, name, target


def _rename(nodeid: int, body: memoryview) -> tuple[int, bytes, int, bytes, int]:
    (newdir,) = L.RENAME_IN.unpack_fields(body)
    old, new = _names(body[8:], 2)
    return nodeid, old, newdir, new, 0


def _rename2(nodeid: int, body: memoryview) -> tuple[int, bytes, int, bytes, int]:
    newdir, flags, _ = L.RENAME2_IN.unpack_fields(body)
    old, new = _names(body[16:], 2)
    return nodeid, old, newdir, new, flags


def _link(nodeid: int, body: memoryview) -> tuple[int, int, bytes]:
    (old,) = L.LINK_IN.unpack_fields(body)
    return old, nodeid, _names(body[8:])[0]


def _first(nodeid: int, body: memoryview) -> tuple[int, int]:
    return nodeid, L.ACCESS_IN.unpack_fields(body)[0]


def _create(nodeid: int, body: memoryview) -> tuple[int, bytes, int, int]:
    flags, mode, _, _ = L.CREATE_IN.unpack_fields(body)
    return nodeid, _names(body[16:])[0], mode, flags


def _tmpfile(nodeid: int, body: memoryview) -> tuple[int, int, int]:
    flags, mode, _, _ = L.CREATE_IN.unpack_fields(body)
    return nodeid, mode, flags


def _read(nodeid: int, body: memoryview) -> tuple[int, int, int, int]:
    fh, offset, size, _, _, _, _ = L.READ_IN.unpack_fields(body)
    return nodeid, fh, offset, size


def _readdir(nodeid: int, body: memoryview) -> tuple[int, int, int]:
    fh, offset, _, _, _, _, _ = L.READ_IN.unpack_fields(body)
    return nodeid, fh, offset


def _write(nodeid: int, body: memoryview) -> tuple[int, int, int, memoryview]:
    fh, offset, size, _, _, _, _ = L.WRITE_IN.unpack_fields(body)
    data = body[40:]
    if len(data) != size:
        raise ProtocolError(f"WRITE of {size} bytes carries {len(data)}")
    return nodeid, fh, offset, data


def _flush(nodeid: int, body: memoryview) -> tuple[int, int]:
    return nodeid, L.FLUSH_IN.unpack_fields(body)[0]


def _release(nodeid: int, body: memoryview) -> tuple[int, int, int]:
    fh, flags, _, _ = L.RELEASE_IN.unpack_fields(body)
    return nodeid, fh, flags


def _fsync(nodeid: int, body: memoryview) -> tuple[int, int, bool]:
    fh, flags, _ = L.FSYNC_IN.unpack_fields(body)
    return nodeid, fh, bool(flags & 1)


def _fallocate(nodeid: int, body: memoryview) -> tuple[int, int, int, int, int]:
    fh, offset, length, mode, _ = L.FALLOCATE_IN.unpack_fields(body)
    return nodeid, fh, mode, offset, length


def _lseek(nodeid: int, body: memoryview) -> tuple[int, int, int, int]:
    fh, offset, whence, _ = L.LSEEK_IN.unpack_fields(body)
    return nodeid, fh, offset, whence


def _copy_file_range(nodeid: int, body: memoryview) -> tuple[int, ...]:
    return (nodeid, *L.COPY_FILE_RANGE_IN.unpack_fields(body))


def _bmap(nodeid: int, body: memoryview) -> tuple[int, int, int]:
    block, blocksize, _ = L.BMAP_IN.unpack_fields(body)
    return nodeid, block, blocksize


def _ioctl(nodeid: int, body: memoryview) -> tuple[int, int, int, int, memoryview, int, int]:
    fh, flags, cmd, arg, in_size, out_size = L.IOCTL_IN.unpack_fields(body)
    return nodeid, fh, cmd, arg, body[32 : 32 + in_size], out_size, flags


def _poll(nodeid: int, body: memoryview) -> tuple[int, int, int, int | None]:
    fh, handle, flags, events = L.POLL_IN.unpack_fields(body)
    return nodeid, fh, events, handle if flags & _SCHEDULE_NOTIFY else None


def _setxattr(nodeid: int, body: memoryview) -> tuple[int, bytes, bytes, int]:
    size, flags = L.GETXATTR_IN.unpack_fields(body)  # the 8 bytes that come without SETXATTR_EXT
    name, nul, value = bytes(body[8:]).partition(b"\0")
    if not nul or len(value) != size:
        raise ProtocolError(f"SETXATTR of {size} bytes carries {len(value)}")
    return nodeid, name, value, flags


def _setxattr_ext(nodeid: int, body: memoryview) -> tuple[int, bytes, bytes, int]:
    """With SETXATTR_EXT (7.33) 8 more bytes come; ``setxattr_flags`` among them is in the request's ``args``."""
    return _setxattr(nodeid, memoryview(bytes(body[:8]) + bytes(body[16:])))


def _getxattr(nodeid: int, body: memoryview) -> tuple[int, bytes]:
    return nodeid, _names(body[8:])[0]


def _lk(nodeid: int, body: memoryview) -> tuple[int, int, Lock]:
    fh, owner, start, end, kind, pid, _, _ = L.LK_IN.unpack_fields(body)
    return nodeid, fh, Lock(start, end, kind, pid, owner)


def _setlk(nodeid: int, body: memoryview) -> tuple[int, int, Lock, bool]:
    return (*_lk(nodeid, body), False)


def _setlkw(nodeid: int, body: memoryview) -> tuple[int, int, Lock, bool]:
    return (*_lk(nodeid, body), True)


def is_flock(body: memoryview) -> bool:
    """Whether a SETLK is flock(2)'s."""
    return bool(L.LK_IN.unpack_fields(body)[6] & _FLOCK)


def _setupmapping(nodeid: int, body: memoryview) -> tuple[int, ...]:
    return (nodeid, *L.SETUPMAPPING_IN.unpack_fields(body))


def _removemapping(nodeid: int, body: memoryview) -> tuple[list[tuple[int, int]]]:
    (count,) = L.REMOVEMAPPING_IN.unpack_fields(body)
    one = L.REMOVEMAPPING_ONE
    mappings = (one.unpack(body, 4 + i * one.size) for i in range(count))
    return ([(mapping.moffset, mapping.len) for mapping in mappings],)


# -- encoding ------------------------------------------------------------------------------------------------------


def _nothing(ops: Operations, result: Any, body: memoryview) -> bytes:
    if result is not None:
        raise BadAnswer(f"nothing is due, {result!r} came")
    return b""


@functools.lru_cache(maxsize=256)
def _valid(timeout: float) -> tuple[int, int]:
    if not timeout >= 0:
        raise BadAnswer(f"a timeout of {timeout} seconds")
    if timeout > 1 << 40:  # for ever
        return 1 << 40, 0
    seconds = int(timeout)
    return seconds, int((timeout - seconds) * NANO)


def _entry(ops: Operations, result: Entry, body: memoryview | None = None) -> bytes:
    attributes = result.attributes
    entry_timeout = ops.entry_timeout if result.entry_timeout is None else result.entry_timeout
    attr_timeout = ops.attr_timeout if result.attr_timeout is None else result.attr_timeout
    entry_s, entry_n = _valid(entry_timeout)
    attr_s, attr_n = _valid(attr_timeout)
    ino = attributes.ino if result.ino is None else result.ino
    return L.ENTRY_OUT.pack_fields(ino, result.generation, entry_s, attr_s, entry_n, attr_n, *attributes.fields())


def _attr(ops: Operations, result: Attributes, body: memoryview) -> bytes:
    seconds, nanoseconds = _valid(ops.attr_timeout)
    return L.ATTR_OUT.pack_fields(seconds, nanoseconds, 0, *result.fields())


def _statx_out(ops: Operations, result: L.Statx, body: memoryview) -> bytes:
    seconds, nanoseconds = _valid(ops.attr_timeout)
    return L.STATX_OUT.pack(L.StatxOut(seconds, nanoseconds, stat=result))


def _opened(ops: Operations, result: Opened | int, body: memoryview | None = None) -> bytes:
    if isinstance(result, int):
        return L.OPEN_OUT.pack_fields(result, 0, 0)
    return L.OPEN_OUT.pack_fields(*result)


def _created(ops: Operations, result: tuple[Entry, Opened | int], body: memoryview) -> bytes:
    entry, opened = result
    return _entry(ops, entry) + _opened(ops, opened)


def _data(ops: Operations, result: Buffers, body: memoryview) -> Buffers:
    size = L.READ_IN.unpack_fields(body)[2]
    result = _bytes(result)
    if len(result) > size:
        raise BadAnswer(f"{len(result)} bytes, {size} were asked for")
    return result


def _bytes(result: Any) -> Buffers:
    """What can be written as it stands: a view of something else than bytes becomes one of bytes."""
    if isinstance(result, memoryview):
        if not result.c_contiguous:
            raise BadAnswer("a view with gaps in it came")
        return result if result.format == "B" and result.ndim == 1 else result.cast("B")
    if not isinstance(result, bytes | bytearray):
        raise BadAnswer(f"bytes are due, {type(result).__name__} came")
    return result


def _text(ops: Operations, result: bytes, body: memoryview) -> bytes:
    if not isinstance(result, bytes) or not 0 < len(result) < 4096 or b"\0" in result:
        raise BadAnswer(f"a link's target of 1 to 4095 bytes is due, {result!r:.60} came")
    return result


def _written(ops: Operations, result: int, body: memoryview) -> bytes:
    if not 0 <= result <= len(body) - 40:
        raise BadAnswer(f"{result} bytes written, of {len(body) - 40}")
    return L.WRITE_OUT.pack_fields(result, 0)


def _copied(ops: Operations, result: int, body: memoryview) -> bytes:
    return L.WRITE_OUT.pack_fields(min(result, 0xFFFFFFFF), 0)


def _number(ops: Operations, result: int, body: memoryview) -> bytes:
    return L.LSEEK_OUT.pack_fields(result)


def _events(ops: Operations, result: int, body: memoryview) -> bytes:
    return L.POLL_OUT.pack_fields(result, 0)


def _ioctl_out(ops: Operations, result: tuple[int, Buffers], body: memoryview) -> bytes:
    number, data = result
    room = L.IOCTL_IN.unpack(body).out_size
    data = _bytes(data)
    if len(data) > room:
        raise BadAnswer(f"{len(data)} bytes, the caller has room for {room}")
    return L.IOCTL_OUT.pack_fields(number, 0, 0, 0) + bytes(data)


def _statfs_out(ops: Operations, result: StatFS, body: memoryview) -> bytes:
    return result.pack()


def _lock_out(ops: Operations, result: Lock | None, body: memoryview) -> bytes:
    if result is None:
        return L.LK_OUT.pack_fields(0, 0, 2, 0)  # F_UNLCK: nothing is in the way
    return L.LK_OUT.pack_fields(*result[:4])


def _xattr(ops: Operations, result: Buffers, body: memoryview) -> bytes:
    return _sized(bytes(_bytes(result)), body)


def _xattr_names(ops: Operations, result: Iterable[bytes], body: memoryview) -> bytes:
    return _sized(b"".join(name + b"\0" for name in result), body)


def _sized(value: bytes, body: memoryview) -> bytes:
    """The caller says how much room it has; 0 asks how much it takes."""
    size, _ = L.GETXATTR_IN.unpack_fields(body)
    if not size:
        return L.GETXATTR_OUT.pack_fields(len(value), 0)
    if len(value) > size:
        raise OSError(34, "Numerical result out of range")  # ERANGE
    return value


def _dirents(ops: Operations, result: Listing, body: memoryview) -> bytearray:
    """As many entries as the kernel has room for."""
    size = L.READ_IN.unpack_fields(body)[2]
    pack = L.DIRENT.pack_fields
    out = bytearray()
    for name, ino, mode, offset, _ in result:
        if not name or len(name) > NAME_MAX or b"/" in name or b"\0" in name:
            raise _bad_name(name)
        padded = (31 + len(name)) & ~7
        if len(out) + padded > size:
            break
        out += pack(ino, offset, len(name), mode >> 12)
        out += name.ljust(padded - 24, b"\0")
    return out


def _direntplus(ops: Operations, result: Listing, body: memoryview) -> bytearray:
    """The same, each behind its entry. The reference of one that was taken and did not fit is given back."""
    size = L.READ_IN.unpack_fields(body)[2]
    pack = L.DIRENT.pack_fields
    out = bytearray()
    granted: list[Entry] = []
    try:
        for name, ino, mode, offset, entry in result:
            if entry is not None:
                granted.append(entry)
            if not name or len(name) > NAME_MAX or b"/" in name or b"\0" in name:
                raise _bad_name(name)
            padded = (31 + len(name)) & ~7
            if len(out) + 128 + padded > size:
                if entry is not None:
                    _give_back(ops, (entry,))
                break
            out += _NO_ENTRY if entry is None else _entry(ops, entry)
            out += pack(ino, offset, len(name), mode >> 12)
            out += name.ljust(padded - 24, b"\0")
    except BaseException:
        _give_back(ops, granted)
        raise
    return out


_NO_ENTRY = bytes(L.ENTRY_OUT.size)


def _give_back(ops: Operations, entries: Iterable[Entry]) -> None:
    for entry in entries:
        ops.forget(entry.attributes.ino if entry.ino is None else entry.ino, 1)


def _bad_name(name: bytes) -> BadAnswer:
    return BadAnswer(f"a name of {len(name)} bytes: {name[:60]!r}")


ROWS: dict[Opcode, Row] = {
    Opcode.LOOKUP: Row("lookup", _name, _entry),
    Opcode.GETATTR: Row("getattr", _getattr, _attr),
    Opcode.SETATTR: Row("setattr", _setattr, _attr),
    Opcode.READLINK: Row("readlink", _node, _text),
    Opcode.SYMLINK: Row("symlink", _symlink, _entry),
    Opcode.MKNOD: Row("mknod", _mknod, _entry),
    Opcode.MKDIR: Row("mkdir", _mkdir, _entry),
    Opcode.UNLINK: Row("unlink", _name, _nothing),
    Opcode.RMDIR: Row("rmdir", _name, _nothing),
    Opcode.RENAME: Row("rename", _rename, _nothing),
    Opcode.RENAME2: Row("rename", _rename2, _nothing),
    Opcode.LINK: Row("link", _link, _entry),
    Opcode.OPEN: Row("open", _first, _opened),
    Opcode.READ: Row("read", _read, _data),
    Opcode.WRITE: Row("write", _write, _written),
    Opcode.STATFS: Row("statfs", _node, _statfs_out),
    Opcode.RELEASE: Row("release", _release, _nothing),
    Opcode.FSYNC: Row("fsync", _fsync, _nothing),
    Opcode.SETXATTR: Row("setxattr", _setxattr, _nothing),
    Opcode.GETXATTR: Row("getxattr", _getxattr, _xattr),
    Opcode.LISTXATTR: Row("listxattr", _node, _xattr_names),
    Opcode.REMOVEXATTR: Row("removexattr", _name, _nothing),
    Opcode.FLUSH: Row("flush", _flush, _nothing),
    Opcode.OPENDIR: Row("opendir", _first, _opened),
    Opcode.READDIR: Row("readdir", _readdir, _dirents),
    Opcode.READDIRPLUS: Row("readdirplus", _readdir, _direntplus),
    Opcode.RELEASEDIR: Row("releasedir", _release, _nothing),
    Opcode.FSYNCDIR: Row("fsyncdir", _fsync, _nothing),
    Opcode.GETLK: Row("getlk", _lk, _lock_out),
    Opcode.SETLK: Row("setlk", _setlk, _nothing),
    Opcode.SETLKW: Row("setlk", _setlkw, _nothing),
    Opcode.ACCESS: Row("access", _first, _nothing),
    Opcode.CREATE: Row("create", _create, _created),
    Opcode.TMPFILE: Row("tmpfile", _tmpfile, _created),
    Opcode.BMAP: Row("bmap", _bmap, _number),
    Opcode.IOCTL: Row("ioctl", _ioctl, _ioctl_out),
    Opcode.POLL: Row("poll", _poll, _events),
    Opcode.FALLOCATE: Row("fallocate", _fallocate, _nothing),
    Opcode.LSEEK: Row("lseek", _lseek, _number),
    Opcode.COPY_FILE_RANGE: Row("copy_file_range", _copy_file_range, _copied),
    Opcode.COPY_FILE_RANGE_64: Row("copy_file_range", _copy_file_range, _number),
    Opcode.STATX: Row("statx", _statx, _statx_out),
    Opcode.SYNCFS: Row("syncfs", _node, _nothing),
    Opcode.SETUPMAPPING: Row("setupmapping", _setupmapping, _nothing),
    Opcode.REMOVEMAPPING: Row("removemapping", _removemapping, _nothing),
}


def bind(operations: Operations) -> dict[int, Bound]:
    """What ``operations`` supports: the methods that its class overrides, and the few whose default is an answer."""
    bound = {}
    for opcode, row in ROWS.items():
        if row.method in _ANSWERED_BY_DEFAULT or overrides(operations, row.method):
            bound[int(opcode)] = _bind(operations, row)
    return bound


def with_setxattr_ext(bound: Bound) -> Bound:
    """SETXATTR as it comes once SETXATTR_EXT is agreed on."""
    return bound._replace(decode=_setxattr_ext)


def bind_flock(operations: Operations) -> dict[int, Bound]:
    """flock(2) comes as SETLK and SETLKW with a flag."""
    if not overrides(operations, "flock"):
        return {}
    return {
        Opcode.SETLK: _bind(operations, Row("flock", _setlk, _nothing)),
        Opcode.SETLKW: _bind(operations, Row("flock", _setlkw, _nothing)),
    }


def _bind(operations: Operations, row: Row) -> Bound:
    method = getattr(operations, row.method)
    return Bound(method, row.decode, row.encode, inspect.iscoroutinefunction(method), row.method)


_ANSWERED_BY_DEFAULT = frozenset({"statfs", "release", "releasedir"})


def overrides(operations: Operations, method: str) -> bool:
    """Whether the filesystem has its own ``method`` (in its class, or hung on the object)."""
    own = getattr(operations, method)
    return getattr(own, "__func__", own) is not getattr(Operations, method)


def implied_flags(operations: Operations) -> InitFlag:
    """What overriding an operation means for INIT."""
    implied = InitFlag(0)
    for method, flags in (
        ("readdirplus", InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO),
        ("getlk", InitFlag.POSIX_LOCKS),
        ("setlk", InitFlag.POSIX_LOCKS),
        ("flock", InitFlag.FLOCK_LOCKS),
    ):
        if overrides(operations, method):
            implied |= flags
    return implied
