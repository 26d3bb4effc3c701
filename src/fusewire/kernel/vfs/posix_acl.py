"""POSIX access control lists, as the kernel checks access by them: the rules are acl(5)'s."""

from __future__ import annotations

from ...wire.errno import Errno
from ...wire.layout import Buffer, ProtocolError
from ...wire.posix_acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Acl, AnotherVersion, unpack

_TAGS = (USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER)
_NOBODY = 0xFFFFFFFF


def parse(value: Buffer) -> Acl:
    """``posix_acl_from_xattr``: the entries of an extended attribute's value; none for an empty list, which is as good as no
    list. Raises EINVAL, EOPNOTSUPP for another version."""
    if not value:
        return []
    try:
        acl = unpack(value)
    except AnotherVersion as error:
        raise OSError(int(Errno.EOPNOTSUPP), str(error)) from None
    except ProtocolError as error:
        raise OSError(int(Errno.EINVAL), str(error)) from None
    if any(tag not in _TAGS or (tag in (USER, GROUP) and who == _NOBODY) for tag, _, who in acl):
        raise OSError(int(Errno.EINVAL), "an access control list with an entry that cannot be")
    return acl


def check_valid(acl: Acl) -> None:
    """``posix_acl_valid``: the owner's entry first, then users, the group's, groups, the mask that these need, and the
    others'. Raises EINVAL."""
    tags = [tag for tag, _, _ in acl]
    named = USER in tags or GROUP in tags
    once = all(tags.count(tag) == 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)) and named <= tags.count(MASK) <= 1
    if not once or tags != sorted(tags) or any(perms & ~7 for _, perms, _ in acl):
        raise OSError(int(Errno.EINVAL), "an access control list that is not in order")


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
