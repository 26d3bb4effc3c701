"""What a mock daemon answers: the structs of the wire with less to write, and how they become bytes."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import Any

from ...wire.codec import Message, encode_reply, pack_dirent, pack_direntplus
from ...wire.flags import Opcode
from ...wire.layouts import Attr, AttrOut, EntryOut, OpenOut, WriteOut
from ...wire.table import OPERATIONS, Body, Dialect
from .shapes import build

NANO = 1_000_000_000
REG = stat.S_IFREG | 0o644


def entry(
    nodeid: int,
    mode: int = REG,
    *,
    valid: float = 0,
    entry_valid: float | None = None,
    attr_valid: float | None = None,
    generation: int = 0,
    **attributes: int,
) -> EntryOut:
    """The answer to LOOKUP and its kin. ``valid`` is in seconds, of name and attributes alike unless one is given for itself;
    ``attributes`` are fields of :class:`Attr`. ``nodeid`` 0 with ``valid`` is a name that may be remembered as absent."""
    entry_s, entry_ns = _split(valid if entry_valid is None else entry_valid)
    attr_s, attr_ns = _split(valid if attr_valid is None else attr_valid)
    made = _attributes(nodeid, mode, attributes) if nodeid else Attr()
    return EntryOut(nodeid, generation, entry_s, attr_s, entry_ns, attr_ns, made)


def attr(nodeid: int, mode: int = REG, *, valid: float = 0, **attributes: int) -> AttrOut:
    """The answer to GETATTR and SETATTR; ``valid`` in seconds, ``attributes`` are fields of :class:`Attr`."""
    seconds, nanoseconds = _split(valid)
    return AttrOut(seconds, nanoseconds, attr=_attributes(nodeid, mode, attributes))


def opened(fh: int = 0, flags: int = 0) -> OpenOut:
    """The answer to OPEN and OPENDIR; ``flags`` are FOPEN_*."""
    return OpenOut(fh, int(flags))


def created(
    nodeid: int, fh: int = 0, flags: int = 0, *, mode: int = REG, valid: float = 0, **attributes: int
) -> tuple[EntryOut, OpenOut]:
    """The answer to CREATE and TMPFILE: an :func:`entry` and an :func:`opened`."""
    return entry(nodeid, mode, valid=valid, **attributes), opened(fh, flags)


def written(size: int) -> WriteOut:
    """The answer to WRITE and COPY_FILE_RANGE: how many bytes."""
    return WriteOut(size)


def dirents(*entries: tuple[bytes, int, int], start: int = 0) -> bytes:
    """The answer to READDIR: names, inode numbers and modes (S_IF*). The first one's cookie is ``start + 1``."""
    return b"".join(
        pack_dirent(name, ino, start + place, mode >> 12) for place, (name, ino, mode) in enumerate(entries, 1)
    )


def direntplus(*entries: tuple[bytes, EntryOut], start: int = 0) -> bytes:
    """The answer to READDIRPLUS: names and what :func:`entry` gives. The first one's cookie is ``start + 1``."""
    return b"".join(
        pack_direntplus(name, out, out.attr.ino, start + place, out.attr.mode >> 12)
        for place, (name, out) in enumerate(entries, 1)
    )


def encode_answer(
    opcode: Opcode, unique: int, parts: tuple[Any, ...], fields: dict[str, Any], dialect: Dialect, probe: bool
) -> bytes:
    """``parts``: structs of the wire in their order, then data, alone or in a tuple; or its ``fields`` by name. Raises
    TypeError for what is no answer to ``opcode``."""
    row = OPERATIONS[opcode]
    body = row.probe if probe and row.probe is not None else row.reply
    message = _from_parts(opcode, body, _flat(parts)) if parts else build(body, f"the answer to {opcode.name}", fields)
    return encode_reply(opcode, unique, message, probe=probe, dialect=dialect)


def check_answer(opcode: Opcode, parts: tuple[Any, ...], fields: dict[str, Any]) -> None:
    """Raises TypeError where :func:`encode_answer` would in any case: at the line that says it, not at the request."""
    row = OPERATIONS[opcode]
    if parts and fields:
        raise TypeError("an answer is given by its structs or by its fields, not by both")
    bodies = [row.reply] if row.probe is None else [row.reply, row.probe]
    failures = []
    for body in bodies:
        try:
            if parts:
                _from_parts(opcode, body, _flat(parts))
            else:
                build(body, f"the answer to {opcode.name}", fields)
        except TypeError as wrong:
            failures.append(wrong)
    if len(failures) == len(bodies):
        raise failures[0]


def _from_parts(opcode: Opcode, body: Body, parts: list[Any]) -> Message:
    wanted = [layout.cls for layout in body.structs]
    given = [type(part) for part in parts]
    data = b""
    if body.data and len(given) == len(wanted) + 1 and issubclass(given[-1], (bytes, bytearray, memoryview)):
        data = bytes(parts.pop())
        given.pop()
    if given != wanted:
        shape = [kind.__name__ for kind in wanted] + (["bytes"] if body.data else [])
        raise TypeError(
            f"{opcode.name} is answered with {', '.join(shape) or 'nothing'}, not with"
            f" {', '.join(kind.__name__ for kind in given) or 'nothing'}"
        )
    return Message(tuple(parts), data=data)


def _flat(parts: Iterable[Any]) -> list[Any]:
    """A plain tuple holds parts; a struct is a tuple, too, and is one."""
    flat: list[Any] = []
    for part in parts:
        if type(part) is tuple:
            flat += part
        else:
            flat.append(part)
    return flat


def _attributes(nodeid: int, mode: int, given: dict[str, int]) -> Attr:
    return Attr(**{"ino": nodeid, "mode": mode, "nlink": 1, "blksize": 4096} | given)


def _split(seconds: float) -> tuple[int, int]:
    return divmod(round(seconds * NANO), NANO)
