"""stat, statx, statfs, access, readlink: what is asked of a name. As fs/stat.c, fs/statfs.c and fs/open.c have it."""

from __future__ import annotations

from ....wire.errno import Errno
from ....wire.layouts import Attr, Kstatfs, Statx, SxTime
from ...queue import traced
from .. import namei
from ..inode import STATX_BASIC, STATX_BTIME, Inode
from ..namei import AT_FDCWD
from ..permission import MAY_ACCESS, MAY_WRITE
from ..program import ProgramTask
from .base import invalid, syscall, target, use

AT_STATX_SYNC_TYPE = 0x6000
STATX_RESERVED = 0x80000000


@traced()
async def sys_stat(task: ProgramTask, path: bytes, dirfd: int = AT_FDCWD, follow: bool = True) -> tuple[Attr, int]:
    """Attributes and device number. Raises ENOENT, ENOTDIR, ELOOP."""
    inode = (await namei.lookup(task, path, dirfd, follow)).positive
    try:
        await inode.sb.getattr(task, inode)
    except OSError as failed:
        raise namei.with_path(failed, path) from None
    return inode.attr, inode.sb.device_number


@traced()
async def sys_fstat(task: ProgramTask, fd: int) -> tuple[Attr, int]:
    """Attributes of an open file, unlinked or not. Raises EBADF."""
    file = task.program.files.path(fd)
    await file.inode.sb.getattr(task, file.inode, None if file.is_path else file)
    return file.inode.attr, file.inode.sb.device_number


@syscall
async def sys_statx(
    task: ProgramTask,
    path: bytes | None,
    dirfd: int = AT_FDCWD,
    follow: bool = True,
    sync: int = 0,
    mask: int = STATX_BASIC,
) -> Statx:
    """As statx(2); no path means ``dirfd`` itself. Raises EINVAL for a mask or a flag that is reserved."""
    if mask & STATX_RESERVED or sync & ~AT_STATX_SYNC_TYPE or sync == AT_STATX_SYNC_TYPE:
        raise invalid(f"mask {mask:#x}, flags {sync:#x}")
    file = None
    if path is not None:
        inode = target(task, await namei.lookup(task, path, dirfd, follow))
    else:
        file = use(task, task.program.files.path(dirfd))
        inode = file.inode
    await inode.sb.getattr(task, inode, file if file is None or not file.is_path else None, mask, sync)
    return _statx(inode)


def _statx(inode: Inode) -> Statx:
    attr = inode.attr
    mask = STATX_BASIC
    btime = SxTime()
    if inode.btime is not None:
        mask |= STATX_BTIME
        btime = SxTime(*inode.btime)
    major, minor = attr.rdev >> 8 & 0xFFF, attr.rdev & 0xFF | attr.rdev >> 12 & 0xFFF00
    return Statx(
        mask=mask, blksize=attr.blksize, nlink=attr.nlink, uid=attr.uid, gid=attr.gid, mode=attr.mode, ino=attr.ino,
        size=attr.size, blocks=attr.blocks, atime=SxTime(_signed(attr.atime), attr.atimensec), btime=btime,
        ctime=SxTime(_signed(attr.ctime), attr.ctimensec), mtime=SxTime(_signed(attr.mtime), attr.mtimensec),
        rdev_major=major, rdev_minor=minor, dev_minor=inode.sb.device_number,
    )  # fmt: skip


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >> 63 else seconds


@syscall
async def sys_statfs(task: ProgramTask, path: bytes) -> tuple[Kstatfs, bool]:
    """Blocks and files, free and in all; and whether the mount is read-only."""
    dentry = task.hold(await namei.lookup(task, path))
    sb = dentry.positive.sb
    return await sb.statfs(task, dentry), sb.read_only


@syscall
async def sys_fstatfs(task: ProgramTask, fd: int) -> tuple[Kstatfs, bool]:
    """The same, of an open file's filesystem."""
    file = use(task, task.program.files.path(fd))
    return await file.inode.sb.statfs(task, file.dentry), file.inode.sb.read_only


@syscall
async def sys_readlink(task: ProgramTask, path: bytes, dirfd: int = AT_FDCWD) -> bytes:
    """The target of a symbolic link. An empty path means ``dirfd`` itself (O_PATH). Raises EINVAL for anything else."""
    if not path and dirfd != AT_FDCWD:
        inode = target(task, task.program.files.path(dirfd).dentry)
        if not inode.is_link:
            raise namei.absent(path)
    else:
        inode = target(task, await namei.lookup(task, path, dirfd, follow=False))
    if not inode.is_link:
        raise namei.error(Errno.EINVAL, path, "Invalid argument: no symbolic link")
    return await inode.sb.readlink(task, inode)


@syscall
async def sys_access(
    task: ProgramTask, path: bytes, mode: int, dirfd: int = AT_FDCWD, effective: bool = False, follow: bool = True
) -> None:
    """May the program (by its real ids, unless ``effective``) do that? Raises EACCES, EROFS."""
    if mode & ~7:
        raise invalid(f"access mode {mode}")
    if not effective:
        cred = task.cred
        task.override = cred._replace(uid=cred.ruid, gid=cred.rgid)
    try:
        inode = target(task, await namei.lookup(task, path, dirfd, follow))
        if mode & MAY_WRITE and inode.sb.read_only and (inode.is_dir or inode.is_reg or inode.is_link):
            raise namei.error(Errno.EROFS, path, "Read-only file system")
        await namei.may(task, inode, mode | MAY_ACCESS, path)
    finally:
        task.override = None
