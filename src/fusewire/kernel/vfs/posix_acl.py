"""POSIX access control lists, as the kernel checks access by them: the rules are acl(5)'s, the layout that of
``<linux/posix_acl_xattr.h>``."""

from __future__ import annotations

import struct

from ...wire.errno import Errno

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")

Acl = list[tuple[int, int, int]]
"""Entries: tag, permissions, id."""


def parse(value: bytes | memoryview) -> Acl:
    """The entries of an extended attribute's value. Raises EINVAL, EOPNOTSUPP for another version."""
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        raise OSError(int(Errno.EINVAL), f"{len(value)} bytes are no access control list")
    (version,) = _HEADER.unpack_from(value)
    if version != _VERSION:
        raise OSError(int(Errno.EOPNOTSUPP), f"an access control list of version {version}")
    return list(_ENTRY.iter_unpack(memoryview(value)[_HEADER.size :]))


def allows(acl: Acl, owner: int, group: int, uid: int, groups: tuple[int, ...], want: int) -> bool:
    """Whether ``uid``, in ``groups``, may do ``want`` (rwx) with what ``owner`` and ``group`` own."""
    mask = next((perms for tag, perms, _ in acl if tag == MASK), 7)
    in_group = False
    for tag, perms, who in acl:
        if tag == USER_OBJ and uid == owner:
            return want & ~perms == 0
        if tag == USER and uid == who:
            return want & ~(perms & mask) == 0
        if (tag == GROUP_OBJ and group in groups) or (tag == GROUP and who in groups):
            in_group = True
            if want & ~perms == 0:
                return want & ~mask == 0
        if tag == OTHER:
            return not in_group and want & ~perms == 0
    return False
