"""The four of extended attributes. As fs/xattr.c has them."""

from __future__ import annotations

import stat

from ....wire.errno import Errno
from .. import namei
from ..inode import Inode
from ..permission import MAY_READ, MAY_WRITE, owner_or_capable
from ..program import ProgramTask
from .attr import Where
from .base import invalid, syscall

XATTR_NAME_MAX, XATTR_SIZE_MAX, XATTR_LIST_MAX = 255, 65536, 65536
XATTR_CREATE, XATTR_REPLACE = 1, 2


@syscall
async def sys_getxattr(task: ProgramTask, where: Where, name: bytes, size: int) -> bytes | int:
    """A value of at most ``size`` bytes, or with 0 how long it is. Raises ENODATA, ERANGE, EOPNOTSUPP."""
    _check_name(name)
    inode = await _inode(task, where)
    await _permission(task, inode, name, MAY_READ, where.path or b"")
    return await inode.sb.getxattr(task, inode, name, min(size, XATTR_SIZE_MAX))


@syscall
async def sys_listxattr(task: ProgramTask, where: Where, size: int) -> bytes | int:
    """The names, each with its NUL, in at most ``size`` bytes; or with 0 how long they are. Raises ERANGE."""
    inode = await _inode(task, where)
    return await inode.sb.listxattr(task, inode, min(size, XATTR_LIST_MAX))


@syscall
async def sys_setxattr(task: ProgramTask, where: Where, name: bytes, value: bytes, flags: int) -> None:
    """Raises EEXIST, ENODATA as ``flags`` say; E2BIG, EOPNOTSUPP."""
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise invalid(f"flags {flags}")
    _check_name(name)
    if len(value) > XATTR_SIZE_MAX:
        raise OSError(int(Errno.E2BIG), f"a value of {len(value)} bytes")
    inode = await _inode(task, where)
    inode.sb.want_write()
    await _permission(task, inode, name, MAY_WRITE, where.path or b"")
    await inode.semaphore.acquire(task)
    try:
        await inode.sb.setxattr(task, inode, name, value, flags)
    finally:
        inode.semaphore.release(task)


@syscall
async def sys_removexattr(task: ProgramTask, where: Where, name: bytes) -> None:
    """Raises ENODATA, EOPNOTSUPP."""
    _check_name(name)
    inode = await _inode(task, where)
    inode.sb.want_write()
    await _permission(task, inode, name, MAY_WRITE, where.path or b"")
    await inode.semaphore.acquire(task)
    try:
        await inode.sb.removexattr(task, inode, name)
    finally:
        inode.semaphore.release(task)


def _check_name(name: bytes) -> None:
    if not name or len(name) > XATTR_NAME_MAX:
        raise OSError(int(Errno.ERANGE), f"a name of {len(name)} bytes")


async def _inode(task: ProgramTask, where: Where) -> Inode:
    dentry, _ = await where.find(task)
    return dentry.positive


async def _permission(task: ProgramTask, inode: Inode, name: bytes, mask: int, path: bytes) -> None:
    """``xattr_permission``: what each prefix is for."""
    cred = task.cred
    refused = Errno.EPERM if mask == MAY_WRITE else Errno.ENODATA
    if name.startswith((b"security.", b"system.")):
        return
    if name.startswith(b"trusted."):
        if not cred.capable:
            raise namei.error(refused, path, "trusted attributes are root's")
        return
    if name.startswith(b"user."):
        if not (inode.is_reg or inode.is_dir):
            raise namei.error(refused, path, "only files and directories have user attributes")
        sticky = inode.is_dir and inode.mode & stat.S_ISVTX and inode.sb.checks_permissions
        if sticky and mask == MAY_WRITE and not owner_or_capable(cred, inode):
            raise namei.error(Errno.EPERM, path, "Operation not permitted: a sticky directory of another user")
    await namei.may(task, inode, mask, path)
