"""A POSIX access control list as its extended attribute has it: the layout of ``<linux/posix_acl_xattr.h>``. What one means,
and which are in order, is not said here.
"""

from __future__ import annotations

import struct

from .layout import Buffer, ProtocolError

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")

Acl = list[tuple[int, int, int]]
"""Entries: tag, permissions, id."""


class AnotherVersion(ProtocolError):
    """Not :data:`VERSION`: what follows may be anything."""


def unpack(value: Buffer) -> Acl:
    """The entries of an attribute's value. Raises :class:`ProtocolError`, :class:`AnotherVersion`."""
    if len(value) < _HEADER.size:
        raise _malformed(value)
    (version,) = _HEADER.unpack_from(value)
    if version != VERSION:
        raise AnotherVersion(f"an access control list of version {version}")
    if (len(value) - _HEADER.size) % _ENTRY.size:
        raise _malformed(value)
    return list(_ENTRY.iter_unpack(memoryview(value)[_HEADER.size :]))


def pack(acl: Acl) -> bytes:
    """The value that stands for ``acl``."""
    return _HEADER.pack(VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def _malformed(value: Buffer) -> ProtocolError:
    return ProtocolError(f"{len(value)} bytes are no access control list")
