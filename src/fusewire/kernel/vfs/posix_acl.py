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


_TAGS = (USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER)
_NOBODY = 0xFFFFFFFF


def parse(value: bytes | memoryview) -> Acl:
    """``posix_acl_from_xattr``: the entries of an extended attribute's value; none for an empty list, which is as good as no
    list. Raises EINVAL, EOPNOTSUPP for another version."""
    if not value:
        return []
    if len(value) < _HEADER.size:
        raise _malformed(value)
    (version,) = _HEADER.unpack_from(value)
    if version != _VERSION:
        raise OSError(int(Errno.EOPNOTSUPP), f"an access control list of version {version}")
    if (len(value) - _HEADER.size) % _ENTRY.size:
        raise _malformed(value)
    acl = list(_ENTRY.iter_unpack(memoryview(value)[_HEADER.size :]))
    if any(tag not in _TAGS or (tag in (USER, GROUP) and who == _NOBODY) for tag, _, who in acl):
        raise _malformed(value)
    return acl


def check_valid(acl: Acl) -> None:
    """``posix_acl_valid``: the owner's entry first, then users, the group's, groups, the mask that these need, and the
    others'. Raises EINVAL."""
    tags = [tag for tag, _, _ in acl]
    named = USER in tags or GROUP in tags
    once = all(tags.count(tag) == 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)) and named <= tags.count(MASK) <= 1
    if not once or tags != sorted(tags) or any(perms & ~7 for _, perms, _ in acl):
        raise OSError(int(Errno.EINVAL), "an access control list that is not in order")


def _malformed(value: bytes | memoryview) -> OSError:
    return OSError(int(Errno.EINVAL), f"{len(value)} bytes are no access control list")


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
