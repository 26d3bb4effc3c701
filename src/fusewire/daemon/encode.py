"""From what a handler returned to its answer: a function a shape. Each gets the request's unique and message too, for its
limits. An answer is one buffer, or two where it would take longer to put a large body behind its header.

What cannot be sent raises :class:`BadAnswer`, or what packing it raises; the session tells the operation and the inode.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from ..wire import layouts as L
from ..wire.flags import ROOT_ID, FOpenFlag
from ..wire.layout import Layout
from .attributes import NANO, Attributes, BadAnswer, Entry, Lock, Opened, StatFS, check_attr
from .decode import BODY
from .operations import Listing, Operations

Buffers = bytes | bytearray | memoryview
Answer = tuple[Buffers, ...]
XATTR_MAX = 65536  # bytes of a value, or of all names, that Linux takes
NAME_MAX = 1024  # bytes; Linux takes no longer one from a daemon
SMALL = 4096  # bytes that are sooner put behind their header than written from two places


def _answer_of(layout: Layout[Any]) -> tuple[Any, int]:
    """How a header and a struct are packed at once, and how long they are."""
    whole = struct.Struct(L.OUT_HEADER.format + layout.format[1:])
    return whole.pack, whole.size


HEADER_SIZE = L.OUT_HEADER.size
pack_header = L.OUT_HEADER.pack_fields
# Up to the `fuse_attr` that ends them, which attributes pack themselves.
_pack_before_attr = struct.Struct(L.OUT_HEADER.format + "QII").pack
_pack_before_entry_attr = struct.Struct(L.OUT_HEADER.format + "QQQQII").pack
_pack_entry = struct.Struct("<QQQQII").pack
_ATTR_SIZE = HEADER_SIZE + L.ATTR_OUT.size
_ENTRY_SIZE = HEADER_SIZE + L.ENTRY_OUT.size
_pack_write, _WRITE_SIZE = _answer_of(L.WRITE_OUT)
_pack_open, _OPEN_SIZE = _answer_of(L.OPEN_OUT)
_asked_size = struct.Struct("<I").unpack_from
_u64_at = struct.Struct("<Q").unpack_from
_OFFSET_AT = BODY + L.READ_IN.offsets["offset"]
_LENGTH_AT = BODY + L.COPY_FILE_RANGE_IN.offsets["len"]
_SIZE_AT = BODY + L.READ_IN.offsets["size"]  # WRITE has its there too


def with_header(unique: int, body: Buffers) -> Answer:
    """A whole answer."""
    header = pack_header(HEADER_SIZE + len(body), 0, unique)
    return (header + body,) if len(body) < SMALL else (header, body)


def pack_nothing(ops: Operations, result: Any, unique: int, message: memoryview) -> Answer:
    if result is not None:
        raise BadAnswer(f"nothing is due, {result!r} came")
    return (pack_header(HEADER_SIZE, 0, unique),)


_known: dict[float, tuple[int, int]] = {}  # a filesystem uses few timeouts


def _valid(timeout: float) -> tuple[int, int]:
    """Seconds and nanoseconds, for how long something may be cached."""
    if not timeout >= 0:
        raise BadAnswer(f"a timeout of {timeout} seconds")
    seconds = int(min(timeout, 1 << 40))  # longer is for ever
    split = seconds, int((timeout - seconds) * NANO) if timeout < 1 << 40 else 0
    if len(_known) > 256:
        _known.clear()
    _known[timeout] = split
    return split


def pack_entry(ops: Operations, result: Entry, unique: int, message: memoryview) -> Answer:
    """A name's, for LOOKUP."""
    granted = _granted(ops, result)
    if granted[0] == ROOT_ID and bytes(message[BODY : BODY + 3]).rstrip(b"\0") not in (b".", b".."):
        raise BadAnswer("the root's number, 1, under a name")
    return (_pack_before_entry_attr(_ENTRY_SIZE, 0, unique, *granted) + result.attributes.packed(),)


def pack_made(ops: Operations, result: Entry, unique: int, message: memoryview) -> Answer:
    """What was made, or linked."""
    return (_pack_before_entry_attr(_ENTRY_SIZE, 0, unique, *_made(ops, result)) + result.attributes.packed(),)


def _made(ops: Operations, entry: Entry) -> tuple[int, int, int, int, int, int]:
    granted = _granted(ops, entry)
    if granted[0] <= ROOT_ID:
        raise BadAnswer(f"the number {granted[0]} for what was made")
    return granted


def _granted(ops: Operations, entry: Entry) -> tuple[int, int, int, int, int, int]:
    """``fuse_entry_out``, up to the attributes."""
    entry_timeout, attr_timeout = entry.entry_timeout, entry.attr_timeout
    if entry_timeout is None:
        entry_timeout = ops.entry_timeout
    if attr_timeout is None:
        attr_timeout = ops.attr_timeout
    entry_s, entry_n = _known.get(entry_timeout) or _valid(entry_timeout)
    attr_s, attr_n = _known.get(attr_timeout) or _valid(attr_timeout)
    ino = entry.attributes.ino if entry.ino is None else entry.ino
    return ino, entry.generation, entry_s, attr_s, entry_n, attr_n


def pack_attr(ops: Operations, result: Attributes, unique: int, message: memoryview) -> Answer:
    timeout = ops.attr_timeout
    seconds, nanoseconds = _known.get(timeout) or _valid(timeout)
    return (_pack_before_attr(_ATTR_SIZE, 0, unique, seconds, nanoseconds, 0) + result.packed(),)


def pack_statx_out(ops: Operations, result: L.Statx, unique: int, message: memoryview) -> Answer:
    seconds, nanoseconds = _valid(ops.attr_timeout)
    check_attr(result.mode, result.size)
    return with_header(unique, L.STATX_OUT.pack(L.StatxOut(seconds, nanoseconds, stat=result)))


def pack_opened(ops: Operations, result: Opened | int, unique: int, message: memoryview) -> Answer:
    return (_pack_open(_OPEN_SIZE, 0, unique, *_opened(ops, result)),)


def _opened(ops: Operations, result: Opened | int) -> tuple[int, ...]:
    if isinstance(result, int):
        return (result, 0, 0)
    if result[1] & FOpenFlag.PASSTHROUGH and result[2] not in ops.session.backing_ids:
        raise BadAnswer(f"FOpenFlag.PASSTHROUGH with {result[2]}, which is no backing_id of session.backing_open")
    return result


def pack_created(ops: Operations, result: tuple[Entry, Opened | int], unique: int, message: memoryview) -> Answer:
    entry, opened = result
    head = _pack_before_entry_attr(_ENTRY_SIZE + L.OPEN_OUT.size, 0, unique, *_made(ops, entry))
    return (head + entry.attributes.packed() + L.OPEN_OUT.pack_fields(*_opened(ops, opened)),)


def pack_data(ops: Operations, result: Buffers, unique: int, message: memoryview) -> Answer:
    (size,) = _asked_size(message, _SIZE_AT)
    result = _bytes(result)
    if len(result) > size:
        raise BadAnswer(f"{len(result)} bytes, {size} were asked for")
    return with_header(unique, result)


def _bytes(result: Any) -> Buffers:
    """What can be written as it stands: a view of something else than bytes becomes one of bytes."""
    if isinstance(result, memoryview):
        if not result.c_contiguous:
            raise BadAnswer("a view with gaps in it came")
        return result if result.format == "B" and result.ndim == 1 else result.cast("B")
    if not isinstance(result, bytes | bytearray):
        raise BadAnswer(f"bytes are due, {type(result).__name__} came")
    return result


def pack_text(ops: Operations, result: bytes, unique: int, message: memoryview) -> Answer:
    if not isinstance(result, bytes) or not 0 < len(result) < 4096 or b"\0" in result:
        raise BadAnswer(f"a link's target of 1 to 4095 bytes is due, {result!r:.60} came")
    return with_header(unique, result)


def pack_written(ops: Operations, result: int, unique: int, message: memoryview) -> Answer:
    (size,) = _asked_size(message, _SIZE_AT)
    if not 0 <= result <= size:
        raise BadAnswer(f"{result} bytes written, of {size}")
    return (_pack_write(_WRITE_SIZE, 0, unique, result, 0),)


def pack_copied(ops: Operations, result: int, unique: int, message: memoryview) -> Answer:
    return (_pack_write(_WRITE_SIZE, 0, unique, min(_copied(result, message), 0xFFFFFFFF), 0),)


def pack_copied_64(ops: Operations, result: int, unique: int, message: memoryview) -> Answer:
    return pack_number(ops, _copied(result, message), unique, message)


def _copied(result: int, message: memoryview) -> int:
    (length,) = _u64_at(message, _LENGTH_AT)
    if not 0 <= result <= length:
        raise BadAnswer(f"{result} bytes copied, of {length}")
    return result


def pack_found(ops: Operations, result: int, unique: int, message: memoryview) -> Answer:
    if not 0 <= result < 1 << 63:
        raise BadAnswer(f"an offset of {result}")
    return pack_number(ops, result, unique, message)


def pack_number(ops: Operations, result: int, unique: int, message: memoryview) -> Answer:
    return with_header(unique, L.LSEEK_OUT.pack_fields(result))


def pack_events(ops: Operations, result: int, unique: int, message: memoryview) -> Answer:
    return with_header(unique, L.POLL_OUT.pack_fields(result, 0))


def pack_ioctl_out(ops: Operations, result: tuple[int, Buffers], unique: int, message: memoryview) -> Answer:
    number, data = result
    room = L.IOCTL_IN.unpack(message, BODY).out_size
    data = _bytes(data)
    if len(data) > room:
        raise BadAnswer(f"{len(data)} bytes, the caller has room for {room}")
    return with_header(unique, L.IOCTL_OUT.pack_fields(number, 0, 0, 0) + bytes(data))


def pack_statfs_out(ops: Operations, result: StatFS, unique: int, message: memoryview) -> Answer:
    return with_header(unique, result.pack())


def pack_lock_out(ops: Operations, result: Lock | None, unique: int, message: memoryview) -> Answer:
    if result is None:
        return with_header(unique, L.LK_OUT.pack_fields(0, 0, 2, 0))  # F_UNLCK: nothing is in the way
    return with_header(unique, L.LK_OUT.pack_fields(*result[:4]))


def pack_xattr(ops: Operations, result: Buffers, unique: int, message: memoryview) -> Answer:
    return _sized(bytes(_bytes(result)), unique, message)


def pack_xattr_names(ops: Operations, result: Iterable[bytes], unique: int, message: memoryview) -> Answer:
    names = list(result)
    for name in names:
        if not name or b"\0" in name:
            raise BadAnswer(f"the name of an extended attribute: {name[:60]!r}")
    return _sized(b"".join(name + b"\0" for name in names), unique, message)


def _sized(value: bytes, unique: int, message: memoryview) -> Answer:
    """The caller says how much room it has; 0 asks how much it takes."""
    if len(value) > XATTR_MAX:
        raise BadAnswer(f"{len(value)} bytes of extended attributes, {XATTR_MAX} are the most")
    size, _ = L.GETXATTR_IN.unpack_fields(message, BODY)
    if not size:
        return with_header(unique, L.GETXATTR_OUT.pack_fields(len(value), 0))
    if len(value) > size:
        raise OSError(34, "Numerical result out of range")  # ERANGE
    return with_header(unique, value)


def pack_dirents(ops: Operations, result: Listing, unique: int, message: memoryview) -> Answer:
    """As many entries as the kernel has room for."""
    room, pack = HEADER_SIZE + _asked_size(message, _SIZE_AT)[0], L.DIRENT.pack_fields
    out = bytearray(HEADER_SIZE)
    names = []
    for name, ino, mode, offset, _ in result:
        size = len(name)
        if size > NAME_MAX:
            raise _bad_name(name)
        if len(out) + 24 + (size + 7 & ~7) > room:
            break
        out += pack(ino, offset, size, mode >> 12)
        out += name
        out += _PADDING[size & 7]
        names.append(name)
    if names:
        _check_names(names)
        _check_progress(offset, message)
    out[:HEADER_SIZE] = pack_header(len(out), 0, unique)
    return (out,)


def pack_direntplus(ops: Operations, result: Listing, unique: int, message: memoryview) -> Answer:
    """The same, each behind its entry. The reference of one that was taken and did not fit is given back."""
    room, pack = HEADER_SIZE + _asked_size(message, _SIZE_AT)[0], L.DIRENT.pack_fields
    out = bytearray(HEADER_SIZE)
    names = []
    granted: list[Entry] = []
    try:
        for name, ino, mode, offset, entry in result:
            if entry is not None:
                granted.append(entry)
            size = len(name)
            if size > NAME_MAX:
                raise _bad_name(name)
            if len(out) + 152 + (size + 7 & ~7) > room:
                if entry is not None:
                    _give_back(ops, (granted.pop(),))
                break
            if entry is None:
                out += _NO_ENTRY
            else:
                out += _pack_entry(*_granted(ops, entry))
                out += entry.attributes.packed()
            out += pack(ino, offset, size, mode >> 12)
            out += name
            out += _PADDING[size & 7]
            names.append(name)
        if names:
            _check_names(names)
            _check_progress(offset, message)
    except BaseException:
        _give_back(ops, granted)
        raise
    out[:HEADER_SIZE] = pack_header(len(out), 0, unique)
    return (out,)


_NO_ENTRY = bytes(L.ENTRY_OUT.size)
_PADDING = [bytes(-size % 8) for size in range(8)]


def _check_names(names: list[bytes]) -> None:
    """All at once, which is quicker than one by one."""
    joined = b"/".join(names)
    if b"\0" in joined or joined.count(b"/") >= len(names) or not all(names):
        for name in names:
            if not name or b"/" in name or b"\0" in name:
                raise _bad_name(name)


def _check_progress(last: int, message: memoryview) -> None:
    """``last``: the offset of the last entry that was looked at."""
    (first,) = _u64_at(message, _OFFSET_AT)
    if last == first:
        raise BadAnswer(f"an entry whose offset is {last}, where reading began: who lists would get it for ever")


def _bad_name(name: bytes) -> BadAnswer:
    return BadAnswer(f"a name of {len(name)} bytes: {name[:60]!r}")


def _give_back(ops: Operations, entries: Iterable[Entry]) -> None:
    for entry in entries:
        ops.forget(entry.attributes.ino if entry.ino is None else entry.ino, 1)
