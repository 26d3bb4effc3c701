"""What POSIX access control lists, as setxattr(2) has them on Linux, mean for the mode, and what new files inherit.

The kernel checks access by them itself; a filesystem keeps them in step with the mode. The rules are acl(5)'s.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from ...daemon import posix_acl
from .nodes import error

_NEEDED = {posix_acl.USER_OBJ, posix_acl.GROUP_OBJ, posix_acl.OTHER}


def parse(value: bytes) -> posix_acl.Acl:
    """The entries of an extended attribute's value. Raises OSError(EINVAL)."""
    try:
        acl = posix_acl.unpack(value)
    except ValueError:
        raise error(errno.EINVAL) from None
    if not {tag for tag, _, _ in acl} >= _NEEDED:
        raise error(errno.EINVAL)
    return acl


def is_minimal(acl: posix_acl.Acl) -> bool:
    """Whether the mode says all that the list does."""
    return len(acl) == 3


def permissions(acl: posix_acl.Acl) -> int:
    """The nine permission bits of the mode that show ``acl``."""
    by_tag = {tag: perms for tag, perms, _ in acl if tag not in (posix_acl.USER, posix_acl.GROUP)}
    group = by_tag.get(posix_acl.MASK, by_tag[posix_acl.GROUP_OBJ])
    return by_tag[posix_acl.USER_OBJ] << 6 | group << 3 | by_tag[posix_acl.OTHER]


def with_permissions(acl: posix_acl.Acl, mode: int) -> posix_acl.Acl:
    """The list after chmod(2): the mode's group bits go to the mask, where there is one."""
    return list(_changed(acl, mode, limited=False))


def inherited(default: posix_acl.Acl, mode: int) -> posix_acl.Acl:
    """The access list of what is made with ``mode`` in a directory with a ``default`` list: no more than both allow."""
    return list(_changed(default, mode, limited=True))


def _changed(acl: posix_acl.Acl, mode: int, *, limited: bool) -> Iterable[tuple[int, int, int]]:
    """The entries that stand for the mode, set from it; ``limited``: to no more than they allowed."""
    group = posix_acl.MASK if any(tag == posix_acl.MASK for tag, _, _ in acl) else posix_acl.GROUP_OBJ
    shifts = {posix_acl.USER_OBJ: 6, group: 3, posix_acl.OTHER: 0}
    for tag, perms, who in acl:
        if tag in shifts:
            asked = mode >> shifts[tag] & 0o7
            perms = perms & asked if limited else asked
        yield tag, perms, who
