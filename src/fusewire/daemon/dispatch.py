"""How each opcode is served: which method, how its arguments are decoded, how what it returns is encoded. One row an opcode.

Bound once, when the session starts; nothing is looked up by name while requests are served.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..wire.flags import InitFlag, Opcode
from ..wire.layout import Buffer
from ..wire.table import OPERATIONS, Dialect
from . import decode, encode
from .operations import Operations

Decode = Callable[[int, memoryview, int], tuple[Any, ...]]
Encode = Callable[[Operations, Any, int, memoryview], tuple[Buffer, ...]]


class Row(NamedTuple):
    """How one opcode is served: see ``decode`` and ``encode`` for what they get."""

    method: str
    decode: Decode
    encode: Encode


@dataclass(frozen=True, slots=True)
class Bound:
    """A row for one filesystem: its own method, found. ``least``: how long a message must be for its structs."""

    method: Callable[..., Any]
    decode: Decode
    encode: Encode
    least: int
    is_async: bool
    name: str


ROWS: dict[Opcode, Row] = {
    Opcode.LOOKUP: Row("lookup", decode.take_name, encode.pack_entry),
    Opcode.GETATTR: Row("getattr", decode.take_getattr, encode.pack_attr),
    Opcode.SETATTR: Row("setattr", decode.take_setattr, encode.pack_attr),
    Opcode.READLINK: Row("readlink", decode.take_node, encode.pack_text),
    Opcode.SYMLINK: Row("symlink", decode.take_symlink, encode.pack_made),
    Opcode.MKNOD: Row("mknod", decode.take_mknod, encode.pack_made),
    Opcode.MKDIR: Row("mkdir", decode.take_mkdir, encode.pack_made),
    Opcode.UNLINK: Row("unlink", decode.take_name, encode.pack_nothing),
    Opcode.RMDIR: Row("rmdir", decode.take_name, encode.pack_nothing),
    Opcode.RENAME: Row("rename", decode.take_rename, encode.pack_nothing),
    Opcode.RENAME2: Row("rename", decode.take_rename2, encode.pack_nothing),
    Opcode.LINK: Row("link", decode.take_link, encode.pack_made),
    Opcode.OPEN: Row("open", decode.take_first, encode.pack_opened),
    Opcode.READ: Row("read", decode.take_read, encode.pack_data),
    Opcode.WRITE: Row("write", decode.take_write, encode.pack_written),
    Opcode.STATFS: Row("statfs", decode.take_node, encode.pack_statfs_out),
    Opcode.RELEASE: Row("release", decode.take_release, encode.pack_nothing),
    Opcode.FSYNC: Row("fsync", decode.take_fsync, encode.pack_nothing),
    Opcode.SETXATTR: Row("setxattr", decode.take_setxattr, encode.pack_nothing),
    Opcode.GETXATTR: Row("getxattr", decode.take_getxattr, encode.pack_xattr),
    Opcode.LISTXATTR: Row("listxattr", decode.take_node, encode.pack_xattr_names),
    Opcode.REMOVEXATTR: Row("removexattr", decode.take_name, encode.pack_nothing),
    Opcode.FLUSH: Row("flush", decode.take_flush, encode.pack_nothing),
    Opcode.OPENDIR: Row("opendir", decode.take_first, encode.pack_opened),
    Opcode.READDIR: Row("readdir", decode.take_readdir, encode.pack_dirents),
    Opcode.READDIRPLUS: Row("readdirplus", decode.take_readdir, encode.pack_direntplus),
    Opcode.RELEASEDIR: Row("releasedir", decode.take_release, encode.pack_nothing),
    Opcode.FSYNCDIR: Row("fsyncdir", decode.take_fsync, encode.pack_nothing),
    Opcode.GETLK: Row("getlk", decode.take_lk, encode.pack_lock_out),
    Opcode.SETLK: Row("setlk", decode.take_setlk, encode.pack_nothing),
    Opcode.SETLKW: Row("setlk", decode.take_setlkw, encode.pack_nothing),
    Opcode.ACCESS: Row("access", decode.take_first, encode.pack_nothing),
    Opcode.CREATE: Row("create", decode.take_create, encode.pack_created),
    Opcode.TMPFILE: Row("tmpfile", decode.take_tmpfile, encode.pack_created),
    Opcode.BMAP: Row("bmap", decode.take_bmap, encode.pack_number),
    Opcode.IOCTL: Row("ioctl", decode.take_ioctl, encode.pack_ioctl_out),
    Opcode.POLL: Row("poll", decode.take_poll, encode.pack_events),
    Opcode.FALLOCATE: Row("fallocate", decode.take_fallocate, encode.pack_nothing),
    Opcode.LSEEK: Row("lseek", decode.take_lseek, encode.pack_found),
    Opcode.COPY_FILE_RANGE: Row("copy_file_range", decode.take_copy_file_range, encode.pack_copied),
    Opcode.COPY_FILE_RANGE_64: Row("copy_file_range", decode.take_copy_file_range, encode.pack_copied_64),
    Opcode.STATX: Row("statx", decode.take_statx, encode.pack_statx_out),
    Opcode.SYNCFS: Row("syncfs", decode.take_node, encode.pack_nothing),
    Opcode.SETUPMAPPING: Row("setupmapping", decode.take_setupmapping, encode.pack_nothing),
    Opcode.REMOVEMAPPING: Row("removemapping", decode.take_removemapping, encode.pack_nothing),
}


def bind(operations: Operations, dialect: Dialect) -> dict[int, Bound]:
    """What ``operations`` supports: the methods that its class overrides, and the few whose default is an answer."""
    rows = ROWS | _EXTENDED if dialect.flags & InitFlag.SETXATTR_EXT else ROWS
    return {
        int(opcode): _bind(operations, opcode, row, dialect)
        for opcode, row in rows.items()
        if row.method in _ANSWERED_BY_DEFAULT
        or overrides(operations, row.method)
        or (opcode in _FLOCK and overrides(operations, "flock"))
    }


def bind_flock(operations: Operations, dialect: Dialect) -> dict[int, Bound]:
    """flock(2) comes as SETLK and SETLKW with a flag."""
    if not overrides(operations, "flock"):
        return {}
    return {int(opcode): _bind(operations, opcode, row, dialect) for opcode, row in _FLOCK.items()}


def _bind(operations: Operations, opcode: Opcode, row: Row, dialect: Dialect) -> Bound:
    method = getattr(operations, row.method)
    least = decode.BODY + sum(dialect.size(layout) for layout in OPERATIONS[opcode].request.structs)
    return Bound(method, row.decode, row.encode, least, inspect.iscoroutinefunction(method), row.method)


_EXTENDED = {Opcode.SETXATTR: Row("setxattr", decode.take_setxattr_ext, encode.pack_nothing)}
_FLOCK = {
    Opcode.SETLK: Row("flock", decode.take_setlk, encode.pack_nothing),
    Opcode.SETLKW: Row("flock", decode.take_setlkw, encode.pack_nothing),
}
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
