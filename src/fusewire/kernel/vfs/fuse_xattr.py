"""The FUSE operations on extended attributes. Each of the four remembers its own ENOSYS."""

from __future__ import annotations

from ...wire.errno import Errno
from ...wire.flags import InitFlag, Opcode, SetxattrFlag
from ...wire.layouts import (
    GETXATTR_IN,
    GETXATTR_OUT,
    SETXATTR_IN,
    GetxattrIn,
    SetxattrIn,
)
from ...wire.posix_acl import ACCESS, DEFAULT, Acl
from . import posix_acl
from .fuse_base import FuseBase, bad_inode, c_string
from .inode import BAD, UNKNOWN, Inode
from .permission import owner_or_capable
from .program import ProgramTask

XATTR_SIZE_MAX = 65536
ACLS = (ACCESS, DEFAULT)


class FuseXattr(FuseBase):
    """Values are bytes; a ``size`` of 0 asks how long one is."""

    async def getxattr(self, task: ProgramTask, inode: Inode, name: bytes, size: int) -> bytes | int:
        if name in ACLS and inode.is_link:
            raise _unsupported()
        return await self._sized(task, Opcode.GETXATTR, inode, size, c_string(name))

    async def listxattr(self, task: ProgramTask, inode: Inode, size: int) -> bytes | int:
        self.check_allowed(task)
        names = await self._sized(task, Opcode.LISTXATTR, inode, size)
        if isinstance(names, bytes) and names and (names[-1] or b"\0\0" in names or names[0] == 0):
            raise OSError(int(Errno.EIO), "the daemon answered no list of names")
        return names

    async def _sized(self, task: ProgramTask, opcode: Opcode, inode: Inode, size: int, *body: bytes) -> bytes | int:
        if inode.state & BAD:
            raise bad_inode()
        if opcode in self.missing:
            raise _unsupported()
        asked = GETXATTR_IN.pack(GetxattrIn(size))
        try:
            if not size:
                out = await self.ask_for(task, opcode, inode.nodeid, GETXATTR_OUT, asked, *body)
                return min(out.size, XATTR_SIZE_MAX)
            into = bytearray(size)
            answered = await self.ask_for_data(task, opcode, inode.nodeid, into, asked, *body)
            return bytes(into[:answered])
        except OSError as failed:
            if failed.errno != Errno.ENOSYS:
                raise
            self.missing.add(opcode)
            raise _unsupported() from None

    async def setxattr(self, task: ProgramTask, inode: Inode, name: bytes, value: bytes, flags: int) -> None:
        extra = SetxattrFlag(0)
        if name in ACLS:
            acl = posix_acl.parse(value)
            if not _may_set_acl(task, inode, name, acl):
                return
            cred = task.cred
            if not acl:
                await self._remove_xattr(task, inode, name)
                return
            if self.posix_acl and not (cred.in_group(inode.attr.gid) or cred.capable):
                extra = SetxattrFlag.ACL_KILL_SGID
            flags = 0
        packed = SETXATTR_IN.pack(SetxattrIn(len(value), flags, extra))
        if not self.flags & InitFlag.SETXATTR_EXT:
            packed = packed[:8]
        if not await self.ask_once(task, Opcode.SETXATTR, inode, packed, c_string(name), value):
            raise _unsupported()
        self._xattr_changed(inode, name)

    async def removexattr(self, task: ProgramTask, inode: Inode, name: bytes) -> None:
        if name not in ACLS or _may_set_acl(task, inode, name, []):
            await self._remove_xattr(task, inode, name)

    async def _remove_xattr(self, task: ProgramTask, inode: Inode, name: bytes) -> None:
        if not await self.ask_once(task, Opcode.REMOVEXATTR, inode, c_string(name)):
            raise _unsupported()
        self._xattr_changed(inode, name)

    def _xattr_changed(self, inode: Inode, name: bytes) -> None:
        self.update_ctime(inode)
        if name in ACLS and self.posix_acl:  # an ACL shows in the mode
            inode.acl = UNKNOWN
            inode.invalidate()


def _may_set_acl(task: ProgramTask, inode: Inode, name: bytes, acl: Acl) -> bool:
    """``set_posix_acl``: whether there is anything to do. An empty list is to be removed. Raises EOPNOTSUPP for a symbolic
    link, EACCES for what inherits nothing, EPERM, EINVAL."""
    if inode.is_link:
        raise _unsupported()
    if name == DEFAULT and not inode.is_dir:
        if acl:
            raise PermissionError(int(Errno.EACCES), "Permission denied: only directories have defaults")
        return False
    if not owner_or_capable(task.cred, inode):
        raise PermissionError(int(Errno.EPERM), "Operation not permitted")
    if acl:
        posix_acl.check_valid(acl)
    return True


def _unsupported() -> OSError:
    return OSError(int(Errno.EOPNOTSUPP), "Operation not supported")
