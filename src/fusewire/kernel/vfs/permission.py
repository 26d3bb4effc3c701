"""Who may do what: the checks of fs/namei.c and fs/attr.c, on cached attributes. Nothing here waits.

Without ``default_permissions`` a FUSE daemon checks for itself, and only the owner rules of names (sticky directories) and the
kind of file are looked at here.
"""

from __future__ import annotations

import stat

from ...wire.errno import Errno
from ...wire.flags import FAttr
from ...wire.layouts import SetattrIn
from . import posix_acl
from .inode import UNKNOWN, Inode
from .program import Cred

MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4
MAY_ACCESS, MAY_OPEN, MAY_CHDIR = 0x10, 0x20, 0x40
_RWX = 7
SUID_SGID = stat.S_ISUID | stat.S_ISGID


def check(allowed: bool) -> None:
    """Raises EACCES."""
    if not allowed:
        raise PermissionError(int(Errno.EACCES), "Permission denied")


def generic_permission(cred: Cred, inode: Inode, mask: int) -> bool:
    """Owner, ACL, group, others; then what root may do all the same. ACLs are in ``inode.acl`` where they matter."""
    mask &= _RWX
    if _mode_allows(cred, inode, mask):
        return True
    if not cred.capable:
        return False
    return inode.is_dir or not mask & MAY_EXEC or bool(inode.mode & 0o111)


def _mode_allows(cred: Cred, inode: Inode, mask: int) -> bool:
    attr = inode.attr
    mode = attr.mode
    if cred.uid == attr.uid:
        return mask & ~(mode >> 6) == 0
    acl = inode.acl
    if acl is not None and acl is not UNKNOWN and mode & stat.S_IRWXG:
        return posix_acl.allows(acl, attr.uid, attr.gid, cred.uid, cred.all_groups, mask)
    if cred.in_group(attr.gid):
        return mask & ~(mode >> 3) == 0
    return mask & ~mode & _RWX == 0


def needs_acl(cred: Cred, inode: Inode) -> bool:
    """Whether what the caller may do depends on an ACL that is not known."""
    return inode.acl is UNKNOWN and cred.uid != inode.attr.uid and bool(inode.mode & stat.S_IRWXG) and not inode.is_link


def owner_or_capable(cred: Cred, inode: Inode) -> bool:
    return cred.uid == inode.attr.uid or cred.capable


def check_sticky(cred: Cred, directory: Inode, inode: Inode) -> None:
    """In a sticky directory only the owners of it or of the file remove names. Raises EPERM."""
    if not directory.mode & stat.S_ISVTX or not directory.sb.checks_permissions:
        return
    if cred.uid not in (inode.attr.uid, directory.attr.uid) and not cred.capable:
        raise PermissionError(int(Errno.EPERM), "Operation not permitted: the directory is sticky")


def may_create_in_sticky(cred: Cred, directory: Inode, inode: Inode) -> None:
    """What is opened with O_CREAT in a sticky directory that all may write to, and is there already, belongs to the caller or
    to the directory's owner. Regular files are let through, with fs.protected_regular 0 as the kernel itself has it.
    Raises EACCES."""
    if inode.is_reg or stat.S_ISFIFO(inode.mode) or not directory.mode & stat.S_ISVTX:
        return
    check(inode.attr.uid in (cred.uid, directory.attr.uid) or not directory.mode & stat.S_IWOTH)


def setattr_prepare(cred: Cred, inode: Inode, changes: SetattrIn) -> SetattrIn:
    """Whether the caller may make these changes; returns them as they are to be made. Raises EPERM."""
    valid = changes.valid
    if valid & FAttr.UID and not (cred.capable or (cred.uid == inode.attr.uid and changes.uid == inode.attr.uid)):
        raise _not_permitted()
    if valid & FAttr.GID and not (
        cred.capable or (cred.uid == inode.attr.uid and (cred.in_group(changes.gid) or changes.gid == inode.attr.gid))
    ):
        raise _not_permitted()
    if valid & FAttr.MODE:
        if not owner_or_capable(cred, inode):
            raise _not_permitted()
        gid = changes.gid if valid & FAttr.GID else inode.attr.gid
        if not (cred.in_group(gid) or cred.capable):
            changes = changes._replace(mode=changes.mode & ~stat.S_ISGID)
    if _sets_times(valid) and not owner_or_capable(cred, inode):
        raise _not_permitted()
    return changes


def without_set_id(mode: int) -> int:
    """The mode without the bits that a change of owner or contents takes away."""
    if mode & stat.S_IXGRP:
        mode &= ~stat.S_ISGID
    return mode & ~stat.S_ISUID


def _sets_times(valid: int) -> bool:
    """utimensat(2) with times of its own; "now" for both is open to whoever may write."""
    atime = valid & FAttr.ATIME and not valid & FAttr.ATIME_NOW
    mtime = valid & FAttr.MTIME and not valid & FAttr.MTIME_NOW
    only_one = bool(valid & FAttr.ATIME) != bool(valid & FAttr.MTIME)
    return bool(atime or mtime or only_one)


def touches(valid: int) -> bool:
    """utimensat(2) with "now" for both."""
    both = FAttr.ATIME | FAttr.MTIME | FAttr.ATIME_NOW | FAttr.MTIME_NOW
    return valid & both == both


def mode_strip_sgid(cred: Cred, directory: Inode, mode: int) -> int:
    """What a set-group-ID directory makes of a new file's mode: nobody gets a program of a group that is not theirs."""
    if stat.S_ISDIR(mode) or not directory.mode & stat.S_ISGID:
        return mode
    if mode & (stat.S_ISGID | stat.S_IXGRP) != stat.S_ISGID | stat.S_IXGRP:
        return mode
    if cred.in_group(directory.attr.gid) or cred.capable:
        return mode
    return mode & ~stat.S_ISGID


def _not_permitted() -> OSError:
    return PermissionError(int(Errno.EPERM), "Operation not permitted")
