"""Any message as one line for people: ``LOOKUP 2 nodeid=1 "file"``."""

from __future__ import annotations

from enum import IntFlag
from typing import Any

from . import flags as F
from .codec import (
    OUT_HEADER_SIZE,
    Message,
    decode_notification,
    decode_out_header,
    decode_reply,
    decode_request,
)
from .errno import error_name
from .layout import Buffer, ProtocolError
from .table import LATEST, OPERATIONS, Dialect

_FLAG_FIELDS: dict[tuple[str, str], type[IntFlag]] = {
    ("SetattrIn", "valid"): F.FAttr,
    ("GetattrIn", "getattr_flags"): F.GetattrFlag,
    ("StatxIn", "getattr_flags"): F.GetattrFlag,
    ("OpenIn", "open_flags"): F.OpenInFlag,
    ("CreateIn", "open_flags"): F.OpenInFlag,
    ("OpenOut", "open_flags"): F.FOpenFlag,
    ("ReadIn", "read_flags"): F.ReadFlag,
    ("WriteIn", "write_flags"): F.WriteFlag,
    ("ReleaseIn", "release_flags"): F.ReleaseFlag,
    ("FsyncIn", "fsync_flags"): F.FsyncFlag,
    ("LkIn", "lk_flags"): F.LkFlag,
    ("IoctlIn", "flags"): F.IoctlFlag,
    ("IoctlOut", "flags"): F.IoctlFlag,
    ("PollIn", "flags"): F.PollFlag,
    ("Attr", "flags"): F.AttrFlag,
    ("SetxattrIn", "setxattr_flags"): F.SetxattrFlag,
    ("NotifyInvalEntryOut", "flags"): F.InvalEntryFlag,
    ("SetupmappingIn", "flags"): F.SetupmappingFlag,
}
_OCTAL = {"mode", "umask"}
_SHOWN = 24  # bytes of data shown


def render_request(buffer: Buffer, dialect: Dialect = LATEST) -> str:
    """One request. Never raises: what is not FUSE is shown as such."""
    try:
        header, message = decode_request(buffer, dialect)
    except ProtocolError as error:
        return f"malformed request of {len(buffer)} bytes: {error}"
    parts = [opcode_name(header.opcode), str(header.unique)]
    if header.nodeid:
        parts.append(f"nodeid={header.nodeid}")
    return " ".join(parts + _body(message))


def render_reply(opcode: int, buffer: Buffer, *, probe: bool = False) -> str:
    """One answer to a request of ``opcode``, or a notification (unique 0). Never raises."""
    try:
        header = decode_out_header(buffer)
        if not header.unique:
            code, message = decode_notification(buffer)
            return " ".join([f"notify {F.NotifyCode(code).name}", *_body(message)])
        header, message = decode_reply(opcode, buffer, probe=probe)
    except ProtocolError as error:
        return f"malformed answer of {len(buffer)} bytes: {error}"
    if header.error:
        return f"{header.unique} {error_name(-header.error)}"
    body = _body(message)
    return " ".join([str(header.unique), "ok", *body])


def opcode_name(opcode: int) -> str:
    """``10`` -> ``"UNLINK"``; an unknown one as ``opcode 77``."""
    row = OPERATIONS.get(opcode)
    return row.opcode.name if row else f"opcode {opcode}"


def _body(message: Message) -> list[str]:
    parts = [text for value in message.structs for text in _struct(value)]
    parts += [_quote(name) for name in message.names]
    parts += ["(" + " ".join(_struct(item)) + ")" for item in message.items]
    if message.data:
        more = "..." if len(message.data) > _SHOWN else ""
        parts.append(f"{len(message.data)} bytes {_quote(message.data[:_SHOWN])}{more}")
    if message.extensions:
        parts.append(f"{len(message.extensions)} bytes of extensions")
    return parts


def _struct(value: Any) -> list[str]:
    """The fields that are not zero, by name; flag words by their flags."""
    kind = type(value).__name__
    out = []
    for field in value._fields:
        item = getattr(value, field)
        if isinstance(item, tuple):
            inner = " ".join(_struct(item))
            if inner:
                out.append(f"{field}({inner})")
        elif isinstance(item, bytes):
            continue
        elif item:
            out.append(f"{field}={_number(kind, field, item)}")
    return out


def _number(kind: str, field: str, value: int) -> str:
    flags = _FLAG_FIELDS.get((kind, field))
    if kind in ("InitIn", "InitOut") and field in ("flags", "flags2"):
        word = value << 32 if field == "flags2" else value
        return _flag_names(F.InitFlag, word)
    if flags is not None:
        return _flag_names(flags, value)
    return f"{value:#o}" if field in _OCTAL else str(value)


def _flag_names(flags: type[IntFlag], value: int) -> str:
    names = [flag.name or "" for flag in flags if flag & value]
    rest = value & ~sum(int(flag) for flag in flags)
    return "|".join([*names, f"{rest:#x}"] if rest else names)


def _quote(name: bytes) -> str:
    text = name.decode("utf-8", "backslashreplace")
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) + '"'


__all__ = ["OUT_HEADER_SIZE", "opcode_name", "render_reply", "render_request"]
