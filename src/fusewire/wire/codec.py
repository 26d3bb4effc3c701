"""Messages to bytes and back, both directions, by the table and nothing else.

Whatever the bytes are, decoding gives a message or raises :class:`ProtocolError`. Encoding is the exact inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .flags import UNIQUE_RESEND
from .layout import Buffer, Layout, ProtocolError
from .layouts import (
    DIRENT,
    DIRENTPLUS,
    ENTRY_OUT,
    IN_HEADER,
    OUT_HEADER,
    Dirent,
    EntryOut,
    InHeader,
    OutHeader,
)
from .table import LATEST, NOTIFICATIONS, OPERATIONS, Body, Dialect, Operation

IN_HEADER_SIZE = IN_HEADER.size
OUT_HEADER_SIZE = OUT_HEADER.size


class Message(NamedTuple):
    """What follows a header, taken apart as the table's :class:`Body` says."""

    structs: tuple[Any, ...] = ()
    names: tuple[bytes, ...] = ()
    items: tuple[Any, ...] = ()
    data: bytes = b""
    extensions: bytes = b""


def operation(opcode: int) -> Operation:
    """The table's row of ``opcode``. Raises :class:`ProtocolError` for one that FUSE does not have."""
    try:
        return OPERATIONS[opcode]
    except KeyError:
        raise ProtocolError(f"opcode {opcode} is none of FUSE's") from None


def encode_request(
    opcode: int,
    message: Message = Message(),
    *,
    unique: int = 0,
    nodeid: int = 0,
    uid: int = 0,
    gid: int = 0,
    pid: int = 0,
    dialect: Dialect = LATEST,
) -> bytes:
    """A request as the kernel's half sends it, header included."""
    body = _encode(operation(opcode).request, message, dialect)
    extensions = len(message.extensions) // 8
    header = InHeader(IN_HEADER_SIZE + len(body), opcode, unique, nodeid, uid, gid, pid, extensions)
    return IN_HEADER.pack(header) + body


def decode_request(buffer: Buffer, dialect: Dialect = LATEST) -> tuple[InHeader, Message]:
    """The header and the body of one whole request."""
    header = IN_HEADER.unpack(buffer)
    if header.len != len(buffer):
        raise ProtocolError(f"the header says {header.len} bytes, {len(buffer)} are there")
    extensions = header.total_extlen * 8
    end = len(buffer) - extensions
    if end < IN_HEADER_SIZE:
        raise ProtocolError(f"{extensions} bytes of extensions in {len(buffer)} bytes of message")
    body = operation(header.opcode).request
    if extensions and not body.extensions:
        raise ProtocolError(f"opcode {header.opcode} takes no extensions")
    view = memoryview(buffer)
    message = _decode(body, view[IN_HEADER_SIZE:end], dialect)
    return header, message._replace(extensions=bytes(view[end:]))


def encode_reply(
    opcode: int,
    unique: int,
    message: Message = Message(),
    *,
    error: int = 0,
    probe: bool = False,
    dialect: Dialect = LATEST,
) -> bytes:
    """An answer as the daemon's half writes it; ``error`` is a positive errno, with which the body is left away."""
    body = b"" if error else _encode(_reply_body(opcode, probe), message, dialect)
    return OUT_HEADER.pack(OutHeader(OUT_HEADER_SIZE + len(body), -error, unique)) + body


def decode_reply(
    opcode: int, buffer: Buffer, *, probe: bool = False, dialect: Dialect = LATEST
) -> tuple[OutHeader, Message]:
    """The header and the body of one whole answer to a request of ``opcode``."""
    header = decode_out_header(buffer)
    view = memoryview(buffer)[OUT_HEADER_SIZE:]
    if header.error:
        if len(view):
            raise ProtocolError(f"an error answer carries {len(view)} bytes of body")
        return header, Message()
    return header, _decode(_reply_body(opcode, probe), view, dialect)


def encode_notification(code: int, message: Message = Message()) -> bytes:
    """A notification: unique 0, the code where an answer has its error."""
    body = _encode(_notification(code), message, LATEST)
    return OUT_HEADER.pack(OutHeader(OUT_HEADER_SIZE + len(body), code, 0)) + body


def decode_notification(buffer: Buffer) -> tuple[int, Message]:
    """The code and the body of one whole notification."""
    header = decode_out_header(buffer)
    if header.unique:
        raise ProtocolError(f"unique {header.unique}: an answer, no notification")
    return header.error, _decode(_notification(header.error), memoryview(buffer)[OUT_HEADER_SIZE:], LATEST)


def decode_out_header(buffer: Buffer) -> OutHeader:
    """The header of an answer or a notification; its length must be the buffer's."""
    header = OUT_HEADER.unpack(buffer)
    if header.len != len(buffer):
        raise ProtocolError(f"the header says {header.len} bytes, {len(buffer)} are there")
    return header


def without_resend(unique: int) -> int:
    """The unique of the request as it was first sent (7.40 sets bit 63 in one that is sent again)."""
    return unique & ~UNIQUE_RESEND


# -- directories ---------------------------------------------------------------------------------------------------


def pack_dirent(name: bytes, ino: int, offset: int, kind: int) -> bytes:
    """One entry of READDIR's answer. ``kind`` is a DT_* number (mode >> 12)."""
    entry = DIRENT.pack(Dirent(ino, offset, len(name), kind)) + name
    return entry + bytes(-len(entry) % 8)


def pack_direntplus(name: bytes, entry: EntryOut, ino: int, offset: int, kind: int) -> bytes:
    """One entry of READDIRPLUS's answer: a whole LOOKUP answer, then the entry."""
    return ENTRY_OUT.pack(entry) + pack_dirent(name, ino, offset, kind)


def iter_dirents(data: Buffer) -> Iterator[tuple[bytes, Dirent]]:
    """The entries of READDIR's answer. A truncated last one is left out, as Linux does; a bad name raises."""
    for name, dirent, _ in _iter_entries(data, 0):
        yield name, dirent


def iter_direntplus(data: Buffer) -> Iterator[tuple[bytes, Dirent, EntryOut]]:
    """The entries of READDIRPLUS's answer."""
    for name, dirent, start in _iter_entries(data, DIRENTPLUS.size - DIRENT.size):
        yield name, dirent, ENTRY_OUT.unpack(data, start)


def _iter_entries(data: Buffer, lead: int) -> Iterator[tuple[bytes, Dirent, int]]:
    start = 0
    while len(data) - start >= lead + DIRENT.size:
        dirent = DIRENT.unpack(data, start + lead)
        first = start + lead + DIRENT.size
        end = first + dirent.namelen
        if end > len(data):
            return
        name = bytes(data[first:end])
        if not 0 < dirent.namelen <= 4095 or b"/" in name:
            raise ProtocolError(f"a directory entry of {dirent.namelen} bytes named {name[:64]!r}")
        yield name, dirent, start
        start = end + (-(end - start) % 8)


# -- bodies --------------------------------------------------------------------------------------------------------


def _reply_body(opcode: int, probe: bool) -> Body:
    row = operation(opcode)
    return row.probe if probe and row.probe is not None else row.reply


def _notification(code: int) -> Body:
    try:
        return NOTIFICATIONS[code]
    except KeyError:
        raise ProtocolError(f"notify code {code} is none of FUSE's") from None


def _encode(body: Body, message: Message, dialect: Dialect) -> bytes:
    if len(message.structs) != len(body.structs) or len(message.names) != len(body.names):
        raise ProtocolError(f"{message!r} has not the shape of {body!r}")
    parts = [
        layout.pack(value)[: dialect.size(layout)] for layout, value in zip(body.structs, message.structs, strict=True)
    ]
    for name in message.names:
        if b"\0" in name:
            raise ProtocolError(f"a NUL in the name {name!r}")
        parts += (name, b"\0")
    if body.items is not None:
        parts += _pack_all(body.items, message.items)
    parts += (message.data, message.extensions)
    return b"".join(parts)


def _pack_all(layout: Layout[Any], items: Iterable[Any]) -> list[bytes]:
    return [layout.pack(item) for item in items]


def _decode(body: Body, view: memoryview, dialect: Dialect) -> Message:
    structs = []
    offset = 0
    for layout in body.structs:
        size = dialect.size(layout)
        if size == layout.size:
            structs.append(layout.unpack(view, offset))
        elif len(view) - offset < size:
            raise ProtocolError(f"{layout.name} takes {size} bytes, {len(view) - offset} are there")
        else:
            structs.append(layout.unpack_short(view[offset : offset + size]))
        offset += size
    rest = bytes(view[offset:])
    names = []
    for what in body.names:
        name, nul, rest = rest.partition(b"\0")
        if not nul:
            raise ProtocolError(f"the {what} has no NUL at its end")
        names.append(name)
    items: tuple[Any, ...] = ()
    if body.items is not None:
        count = structs[0].count
        if len(rest) != count * body.items.size:
            raise ProtocolError(f"{count} items announced, {len(rest)} bytes of them are there")
        items = tuple(body.items.unpack(rest, i * body.items.size) for i in range(count))
        rest = b""
    if rest and not body.data:
        raise ProtocolError(f"{len(rest)} bytes too many")
    return Message(tuple(structs), tuple(names), items, rest)
