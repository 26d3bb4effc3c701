"""POSIX access control lists, as setxattr(2) has them on Linux: what they mean for the mode, and what new files inherit.

The kernel checks access by them itself; a filesystem keeps them in step with the mode. An entry is (tag, permissions,
id); the layout is that of ``<linux/posix_acl_xattr.h>``, the rules are acl(5)'s.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")

Acl = list[tuple[int, int, int]]


def parse(value: bytes) -> Acl:
    """The entries of an extended attribute's value. Raises OSError(EINVAL)."""
    body = value[_HEADER.size :]
    if len(value) < _HEADER.size or _HEADER.unpack_from(value)[0] != _VERSION or len(body) % _ENTRY.size:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    acl = list(_ENTRY.iter_unpack(body))
    if not {USER_OBJ, GROUP_OBJ, OTHER} <= {tag for tag, _, _ in acl}:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return acl


def pack(acl: Acl) -> bytes:
    """The value that stands for ``acl``."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def is_minimal(acl: Acl) -> bool:
    """Whether the mode says all that the list does."""
    return len(acl) == 3


def permissions(acl: Acl) -> int:
    """The nine permission bits of the mode that show ``acl``."""
    by_tag = {tag: perms for tag, perms, _ in acl if tag not in (USER, GROUP)}
    return by_tag[USER_OBJ] << 6 | by_tag.get(MASK, by_tag[GROUP_OBJ]) << 3 | by_tag[OTHER]


def with_permissions(acl: Acl, mode: int) -> Acl:
    """The list after chmod(2): the mode's group bits go to the mask, where there is one."""
    return list(_changed(acl, mode, limited=False))


def inherited(default: Acl, mode: int) -> Acl:
    """The access list of what is made with ``mode`` in a directory with a ``default`` list: no more than both allow."""
    return list(_changed(default, mode, limited=True))


def _changed(acl: Acl, mode: int, *, limited: bool) -> Iterable[tuple[int, int, int]]:
    """The entries that stand for the mode, set from it; ``limited``: to no more than they allowed."""
    group = MASK if any(tag == MASK for tag, _, _ in acl) else GROUP_OBJ
    shifts = {USER_OBJ: 6, group: 3, OTHER: 0}
    for tag, perms, who in acl:
        if tag in shifts:
            asked = mode >> shifts[tag] & 0o7
            perms = perms & asked if limited else asked
        yield tag, perms, who
