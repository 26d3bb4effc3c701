"""The FUSE operations on attributes and permissions: ``fuse_getattr``, ``fuse_setattr``, ``fuse_permission``, ..."""

from __future__ import annotations

import errno

from ...wire.errno import Errno
from ...wire.flags import FAttr, GetattrFlag, InitFlag, Opcode
from ...wire.layouts import (
    ACCESS_IN,
    ATTR_OUT,
    GETATTR_IN,
    SETATTR_IN,
    STATFS_OUT,
    STATX_IN,
    STATX_OUT,
    AccessIn,
    Attr,
    GetattrIn,
    Kstatfs,
    SetattrIn,
    Statx,
    StatxIn,
)
from ...wire.posix_acl import ACCESS
from ..queue import Interrupted, traced
from . import posix_acl
from .files import File
from .fuse_base import bad_inode
from .fuse_xattr import FuseXattr
from .inode import (
    BAD,
    STATX_BASIC,
    STATX_BTIME,
    STATX_CTIME,
    STATX_MTIME,
    STATX_PERM,
    STATX_SIZE,
    UNKNOWN,
    Dentry,
    Inode,
)
from .permission import (
    MAY_ACCESS,
    MAY_CHDIR,
    MAY_EXEC,
    SUID_SGID,
    check,
    generic_permission,
    needs_acl,
    setattr_prepare,
    without_set_id,
)
from .program import ProgramTask

AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC = 0x2000, 0x4000
KERNELS_OWN = STATX_MTIME | STATX_CTIME | STATX_SIZE  # under WRITEBACK_CACHE
KILLPRIV = InitFlag.HANDLE_KILLPRIV | InitFlag.HANDLE_KILLPRIV_V2
_GETATTR, _FH = Opcode.GETATTR, int(GetattrFlag.FH)
_pack_getattr = GETATTR_IN.pack_fields
_ATTR = GETATTR_IN.pack(GetattrIn())


class FuseAttr(FuseXattr):
    """Operations by inode."""

    # -- attributes -----------------------------------------------------------------------------------------------

    async def getattr(
        self, task: ProgramTask, inode: Inode, file: File | None = None, mask: int = STATX_BASIC, sync: int = 0
    ) -> None:
        if not self.allow_other:
            self.check_allowed(task)
        if inode.state & BAD:
            raise bad_inode()
        if self._fresh(inode, mask, sync):
            return
        inode.acl = UNKNOWN
        inode.count += 1
        try:
            if mask & ~STATX_BASIC and (
                await self._statx(task, inode, file, mask) or self._fresh(inode, mask & STATX_BASIC, sync)
            ):
                return
            await self._getattr(task, inode, file)
        finally:
            inode.put(task)

    def _fresh(self, inode: Inode, mask: int, sync: int) -> bool:
        if mask & ~STATX_BASIC and Opcode.STATX in self.missing:
            mask &= STATX_BASIC
        if self.writeback_cache and inode.is_reg:
            mask &= ~KERNELS_OWN
            if not mask:
                return True
        if not mask or sync & AT_STATX_DONT_SYNC:
            return True
        if mask & inode.inval_mask or sync & AT_STATX_FORCE_SYNC:
            return False
        return bool(inode.attr_expires) and self.clock() < inode.attr_expires

    async def _getattr(self, task: ProgramTask, inode: Inode, file: File | None = None) -> None:
        version = self.attr_version
        body = _pack_getattr(_FH, 0, file.fh) if file is not None and inode.is_reg else _ATTR
        out = await self.ask_for(task, _GETATTR, inode.nodeid, ATTR_OUT, b"" if self.old else body)
        self.set_attr(inode, out.attr, out.attr_valid, out.attr_valid_nsec, version)

    async def _statx(self, task: ProgramTask, inode: Inode, file: File | None, mask: int) -> bool:
        """STATX, for what GETATTR does not have; False when the daemon does not know it."""
        if Opcode.STATX in self.missing:
            return False
        version = self.attr_version
        fh = file.fh if file is not None and inode.is_reg else 0
        asked = StatxIn(GetattrFlag.FH if fh else 0, 0, fh, 0, STATX_BASIC | STATX_BTIME)
        try:
            out = await self.ask_for(task, Opcode.STATX, inode.nodeid, STATX_OUT, STATX_IN.pack(asked))
        except OSError as failed:
            if failed.errno != errno.ENOSYS:
                raise
            self.missing.add(Opcode.STATX)
            return False
        sx = out.stat
        if sx.mask & STATX_BASIC == STATX_BASIC:
            self.set_attr(inode, _attr_of(sx, inode), out.attr_valid, out.attr_valid_nsec, version)
        if sx.mask & STATX_BTIME:
            inode.btime = (sx.btime.tv_sec, sx.btime.tv_nsec)
            inode.inval_mask &= ~STATX_BTIME
        return True

    @traced("fuse_setattr")
    async def setattr(self, task: ProgramTask, dentry: Dentry, changes: SetattrIn, file: File | None = None) -> None:
        inode = dentry.positive
        self.check_allowed(task)
        await inode.semaphore.acquire(task)
        try:
            changes = await self._prepare(task, inode, changes)
            if inode.pages is not None:
                await self._before_setattr(task, inode, changes.valid)
            if file is not None and file.writable:
                changes = changes._replace(valid=changes.valid | FAttr.FH, fh=file.fh)
            await self._setattr(task, inode, changes)
        finally:
            inode.semaphore.release(task)
        inode.acl = UNKNOWN
        if inode.is_dir and changes.valid & FAttr.MODE:
            dentry.expires = 0  # who may search it is to be found out anew

    async def _prepare(self, task: ProgramTask, inode: Inode, changes: SetattrIn) -> SetattrIn:
        """What the caller may do of it, and what goes with it: owner locks, set-ID bits that a change of owner clears."""
        if self.checks_permissions:
            changes = setattr_prepare(task.cred, inode, changes)
        valid = changes.valid
        mode = changes.mode
        kill = valid & FAttr.KILL_SUIDGID
        valid &= ~FAttr.KILL_SUIDGID
        if kill and not self.flags & KILLPRIV:
            await self._getattr(task, inode)
            mode = without_set_id(inode.mode)
            if mode != inode.mode:
                valid |= FAttr.MODE
        v2 = self.flags & InitFlag.HANDLE_KILLPRIV_V2
        if v2 and valid & (FAttr.UID | FAttr.GID) and not inode.is_dir:
            valid |= FAttr.KILL_SUIDGID
        if valid & FAttr.SIZE:
            valid |= FAttr.LOCKOWNER
            changes = changes._replace(lock_owner=self.lock_owner(task.program.files))
            if v2 and not task.cred.capable:
                valid |= FAttr.KILL_SUIDGID
        return changes._replace(valid=valid, mode=mode)

    async def _before_setattr(self, task: ProgramTask, inode: Inode, valid: int) -> None:
        """What the kernel has of the file and the daemon has not yet goes there first; a new size comes between no WRITEs."""
        if valid & FAttr.SIZE:
            await self.wait_writeback(task, inode)
        elif self.writeback_cache and valid & (FAttr.MODE | FAttr.UID | FAttr.GID | FAttr.ATIME | FAttr.MTIME):
            await self.write_inode_now(task, inode)

    async def _setattr(self, task: ProgramTask, inode: Inode, changes: SetattrIn) -> None:
        valid, old = changes.valid, inode.attr
        try:
            out = await self.ask_for(task, Opcode.SETATTR, inode.nodeid, ATTR_OUT, SETATTR_IN.pack(changes))
        except Interrupted:
            inode.invalidate()
            raise
        self.set_attr(inode, out.attr, out.attr_valid, out.attr_valid_nsec, 0)
        if self.writeback_cache and inode.pages is not None:
            new = out.attr
            if valid & FAttr.SIZE:
                inode.attr = inode.attr._replace(size=new.size)
            if valid & (FAttr.SIZE | FAttr.MTIME):
                inode.attr = inode.attr._replace(mtime=new.mtime, mtimensec=new.mtimensec)
            inode.attr = inode.attr._replace(ctime=new.ctime, ctimensec=new.ctimensec)
            if valid & FAttr.SIZE:
                inode.pages.resize(old.size, new.size)

    async def remove_privs(self, task: ProgramTask, inode: Inode) -> None:
        """Before contents change: would they leave a program with rights that it should not have any more? Unless the
        daemon sees to that (HANDLE_KILLPRIV_V2), it is asked for ``security.capability``, and set-ID bits are cleared."""
        if self.flags & InitFlag.HANDLE_KILLPRIV_V2 or not inode.is_reg:
            return
        try:
            await self.getxattr(task, inode, b"security.capability", 0)
        except OSError as failed:
            if isinstance(failed, Interrupted):
                raise
        if inode.mode & SUID_SGID and not task.cred.capable and not self.flags & InitFlag.HANDLE_KILLPRIV:
            await self._getattr(task, inode)
            mode = without_set_id(inode.mode)
            if mode != inode.mode:
                await self._setattr(task, inode, SetattrIn(FAttr.MODE, mode=mode))

    async def statfs(self, task: ProgramTask, dentry: Dentry) -> Kstatfs:
        if not self.allows(task):
            return Kstatfs()
        return (await self.ask_for(task, Opcode.STATFS, dentry.positive.nodeid, STATFS_OUT)).st

    # -- permissions ------------------------------------------------------------------------------------------------

    def may_walk(self, task: ProgramTask, inode: Inode) -> bool:
        if inode.state & BAD or not (self.allow_other or self.allows(task)):
            return False
        if not self.checks_permissions:
            return True
        if inode.inval_mask & STATX_PERM or self.clock() >= inode.attr_expires:
            return False
        cred = task.cred
        return generic_permission(cred, inode, MAY_EXEC) and not (self.posix_acl and needs_acl(cred, inode))

    async def permission(self, task: ProgramTask, inode: Inode, mask: int) -> None:
        """``fuse_permission``. Raises EACCES, and what ACCESS answers."""
        if inode.state & BAD:
            raise bad_inode()
        self.check_allowed(task)
        refreshed = False
        executed = bool(mask & MAY_EXEC) and inode.is_reg
        if (self.checks_permissions or executed) and (
            inode.inval_mask & STATX_PERM or self.clock() >= inode.attr_expires
        ):
            await self._refresh(task, inode)
            refreshed = True
        if self.checks_permissions:
            await self._generic_permission(task, inode, mask, refreshed)
        elif mask & (MAY_ACCESS | MAY_CHDIR):
            await self.ask_once(task, Opcode.ACCESS, inode, ACCESS_IN.pack(AccessIn(mask & 7)))
        elif executed and not inode.mode & 0o111:
            if not refreshed:
                await self._refresh(task, inode)
            check(bool(inode.mode & 0o111))

    async def _refresh(self, task: ProgramTask, inode: Inode) -> None:
        inode.acl = UNKNOWN
        await self._getattr(task, inode)

    async def _generic_permission(self, task: ProgramTask, inode: Inode, mask: int, refreshed: bool) -> None:
        cred = task.cred
        await self._need_acl(task, inode)
        if generic_permission(cred, inode, mask):
            return
        if not refreshed:  # what we know may be out of date; the root is known by nothing at first
            await self._refresh(task, inode)
            await self._need_acl(task, inode)
        check(refreshed is False and generic_permission(cred, inode, mask))

    async def _need_acl(self, task: ProgramTask, inode: Inode) -> None:
        if not self.posix_acl or not needs_acl(task.cred, inode):
            return
        acl = None
        try:
            value = await self.getxattr(task, inode, ACCESS, 4096)
            acl = posix_acl.parse(value) if isinstance(value, bytes) and value else None
        except OSError as failed:
            if failed.errno not in (Errno.ENODATA, Errno.EOPNOTSUPP):
                raise
        inode.acl = acl


def _attr_of(sx: Statx, inode: Inode) -> Attr:
    u64 = (1 << 64) - 1
    rdev = (sx.rdev_minor & 0xFF) | (sx.rdev_major << 8) | ((sx.rdev_minor & ~0xFF) << 12)
    return Attr(
        sx.ino, sx.size, sx.blocks, sx.atime.tv_sec & u64, sx.mtime.tv_sec & u64, sx.ctime.tv_sec & u64,
        sx.atime.tv_nsec, sx.mtime.tv_nsec, sx.ctime.tv_nsec, sx.mode, sx.nlink, sx.uid, sx.gid, rdev, sx.blksize,
        inode.attr.flags,
    )  # fmt: skip
