"""From what a handler returned to the answer's body: a function a shape. Each gets the request's body too, for its limits.

What cannot be sent raises :class:`BadAnswer`, or what packing it raises; the session tells the operation and the inode.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from ..wire import layouts as L
from .attributes import NANO, Attributes, Entry, Lock, Opened, StatFS
from .operations import Listing, Operations

Buffers = bytes | bytearray | memoryview
NAME_MAX = 1024  # bytes; Linux takes no longer one from a daemon


class BadAnswer(Exception):
    """A handler returned what cannot be sent."""


def pack_nothing(ops: Operations, result: Any, body: memoryview) -> bytes:
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


def pack_entry(ops: Operations, result: Entry, body: memoryview | None = None) -> bytes:
    attributes = result.attributes
    entry_timeout = ops.entry_timeout if result.entry_timeout is None else result.entry_timeout
    attr_timeout = ops.attr_timeout if result.attr_timeout is None else result.attr_timeout
    entry_s, entry_n = _valid(entry_timeout)
    attr_s, attr_n = _valid(attr_timeout)
    ino = attributes.ino if result.ino is None else result.ino
    return L.ENTRY_OUT.pack_fields(ino, result.generation, entry_s, attr_s, entry_n, attr_n, *attributes.fields())


def pack_attr(ops: Operations, result: Attributes, body: memoryview) -> bytes:
    seconds, nanoseconds = _valid(ops.attr_timeout)
    return L.ATTR_OUT.pack_fields(seconds, nanoseconds, 0, *result.fields())


def pack_statx_out(ops: Operations, result: L.Statx, body: memoryview) -> bytes:
    seconds, nanoseconds = _valid(ops.attr_timeout)
    return L.STATX_OUT.pack(L.StatxOut(seconds, nanoseconds, stat=result))


def pack_opened(ops: Operations, result: Opened | int, body: memoryview | None = None) -> bytes:
    if isinstance(result, int):
        return L.OPEN_OUT.pack_fields(result, 0, 0)
    return L.OPEN_OUT.pack_fields(*result)


def pack_created(ops: Operations, result: tuple[Entry, Opened | int], body: memoryview) -> bytes:
    entry, opened = result
    return pack_entry(ops, entry) + pack_opened(ops, opened)


def pack_data(ops: Operations, result: Buffers, body: memoryview) -> Buffers:
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


def pack_text(ops: Operations, result: bytes, body: memoryview) -> bytes:
    if not isinstance(result, bytes) or not 0 < len(result) < 4096 or b"\0" in result:
        raise BadAnswer(f"a link's target of 1 to 4095 bytes is due, {result!r:.60} came")
    return result


def pack_written(ops: Operations, result: int, body: memoryview) -> bytes:
    if not 0 <= result <= len(body) - 40:
        raise BadAnswer(f"{result} bytes written, of {len(body) - 40}")
    return L.WRITE_OUT.pack_fields(result, 0)


def pack_copied(ops: Operations, result: int, body: memoryview) -> bytes:
    return L.WRITE_OUT.pack_fields(min(result, 0xFFFFFFFF), 0)


def pack_number(ops: Operations, result: int, body: memoryview) -> bytes:
    return L.LSEEK_OUT.pack_fields(result)


def pack_events(ops: Operations, result: int, body: memoryview) -> bytes:
    return L.POLL_OUT.pack_fields(result, 0)


def pack_ioctl_out(ops: Operations, result: tuple[int, Buffers], body: memoryview) -> bytes:
    number, data = result
    room = L.IOCTL_IN.unpack(body).out_size
    data = _bytes(data)
    if len(data) > room:
        raise BadAnswer(f"{len(data)} bytes, the caller has room for {room}")
    return L.IOCTL_OUT.pack_fields(number, 0, 0, 0) + bytes(data)


def pack_statfs_out(ops: Operations, result: StatFS, body: memoryview) -> bytes:
    return result.pack()


def pack_lock_out(ops: Operations, result: Lock | None, body: memoryview) -> bytes:
    if result is None:
        return L.LK_OUT.pack_fields(0, 0, 2, 0)  # F_UNLCK: nothing is in the way
    return L.LK_OUT.pack_fields(*result[:4])


def pack_xattr(ops: Operations, result: Buffers, body: memoryview) -> bytes:
    return _sized(bytes(_bytes(result)), body)


def pack_xattr_names(ops: Operations, result: Iterable[bytes], body: memoryview) -> bytes:
    return _sized(b"".join(name + b"\0" for name in result), body)


def _sized(value: bytes, body: memoryview) -> bytes:
    """The caller says how much room it has; 0 asks how much it takes."""
    size, _ = L.GETXATTR_IN.unpack_fields(body)
    if not size:
        return L.GETXATTR_OUT.pack_fields(len(value), 0)
    if len(value) > size:
        raise OSError(34, "Numerical result out of range")  # ERANGE
    return value


def pack_dirents(ops: Operations, result: Listing, body: memoryview) -> bytearray:
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


def pack_direntplus(ops: Operations, result: Listing, body: memoryview) -> bytearray:
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
            out += _NO_ENTRY if entry is None else pack_entry(ops, entry)
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
