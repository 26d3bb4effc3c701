"""chmod, chown, utimensat, truncate: what is changed of an inode. As fs/open.c and fs/utimes.c have it."""

from __future__ import annotations

import time

from ....wire.errno import Errno
from ....wire.flags import FAttr
from ....wire.layouts import SetattrIn
from .. import namei
from ..files import File
from ..inode import Dentry
from ..namei import AT_FDCWD
from ..permission import MAY_WRITE, owner_or_capable, touches
from ..program import ProgramTask
from .base import MAX_OFFSET, fdget, invalid, syscall

U64 = (1 << 64) - 1
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
Time = tuple[int, int] | None
"""Seconds and nanoseconds; None: as it is now; UTIME_OMIT instead of nanoseconds: left as it is."""


class Where:
    """A path (with the descriptor it starts at), or an open file."""

    def __init__(self, path: bytes | None, fd: int = AT_FDCWD, follow: bool = True) -> None:
        self.path = path
        self.fd = fd
        self.follow = follow

    async def find(self, task: ProgramTask) -> tuple[Dentry, File | None]:
        if self.path is None:
            file = fdget(task, self.fd)
            return file.dentry, file
        return task.hold(await namei.lookup(task, self.path, self.fd, self.follow)), None


async def _notify_change(
    task: ProgramTask, where: Where, dentry: Dentry, changes: SetattrIn, file: File | None
) -> None:
    try:
        dentry.positive.sb.want_write()
        await dentry.positive.sb.setattr(task, dentry, changes, file)
    except OSError as failed:
        raise (failed if where.path is None else namei.with_path(failed, where.path)) from None


@syscall
async def sys_chmod(task: ProgramTask, where: Where, mode: int) -> None:
    """Change the permission bits. Raises EOPNOTSUPP for a symbolic link."""
    dentry, _ = await where.find(task)
    inode = dentry.positive
    if inode.is_link:
        raise namei.error(Errno.EOPNOTSUPP, where.path or b"", "Operation not supported")
    full = (inode.mode & ~0o7777) | (mode & 0o7777)
    await _notify_change(task, where, dentry, SetattrIn(FAttr.MODE, mode=full), None)


@syscall
async def sys_chown(task: ProgramTask, where: Where, uid: int, gid: int) -> None:
    """Change owner and group; -1 leaves one as it is. A program loses its set-ID bits by that."""
    dentry, _ = await where.find(task)
    valid = FAttr(0)
    if uid != -1:
        valid |= FAttr.UID
    if gid != -1:
        valid |= FAttr.GID
    if not dentry.positive.is_dir:
        valid |= FAttr.KILL_SUIDGID
    changes = SetattrIn(valid, mode=dentry.positive.mode, uid=max(uid, 0), gid=max(gid, 0))
    await _notify_change(task, where, dentry, changes, None)


@syscall
async def sys_utimensat(task: ProgramTask, where: Where, atime: Time, mtime: Time) -> None:
    """Set the times of access and change. Raises EACCES, EPERM."""
    if atime is not None and mtime is not None and atime[1] == mtime[1] == UTIME_OMIT:
        await where.find(task)
        return
    dentry, _ = await where.find(task)
    now = time.time_ns()
    changes = SetattrIn()
    for one, bit, bit_now, field in (
        (atime, FAttr.ATIME, FAttr.ATIME_NOW, "atime"),
        (mtime, FAttr.MTIME, FAttr.MTIME_NOW, "mtime"),
    ):
        if one is not None and one[1] == UTIME_OMIT:
            continue
        seconds, nanoseconds = divmod(now, 10**9) if one is None else one
        valid = changes.valid | bit | (bit_now if one is None else 0)
        changes = changes._replace(valid=valid, **{field: seconds & U64, field + "nsec": nanoseconds})
    inode = dentry.positive
    if touches(changes.valid) and not owner_or_capable(task.cred, inode):
        await namei.may(task, inode, MAY_WRITE, where.path or b"")
    await _notify_change(task, where, dentry, changes, None)


@syscall
async def sys_truncate(task: ProgramTask, path: bytes, size: int) -> None:
    """Make a file ``size`` bytes long. Raises EISDIR, EINVAL, EACCES."""
    if size < 0:
        raise namei.error(Errno.EINVAL, path, f"a size of {size} bytes")
    where = Where(path)
    dentry, _ = await where.find(task)
    inode = dentry.positive
    if inode.is_dir:
        raise namei.is_a_directory(path)
    if not inode.is_reg:
        raise namei.error(Errno.EINVAL, path, "Invalid argument: no regular file")
    inode.sb.want_write()
    await namei.may(task, inode, MAY_WRITE, path)
    inode.get_write()
    try:
        await _truncate(task, where, dentry, size, None)
    finally:
        inode.put_write()


@syscall
async def sys_ftruncate(task: ProgramTask, fd: int, size: int) -> None:
    """The same, of an open file. Raises EINVAL for one that is not open for writing."""
    if size < 0:
        raise invalid(f"a size of {size} bytes")
    file = fdget(task, fd)
    if not file.inode.is_reg or not file.writable:
        raise invalid("no regular file that is open for writing")
    await _truncate(task, Where(None, fd), file.dentry, size, file)


async def _truncate(task: ProgramTask, where: Where, dentry: Dentry, size: int, file: File | None) -> None:
    if size > MAX_OFFSET:
        raise OSError(int(Errno.EFBIG), "File too large")
    await _notify_change(task, where, dentry, SetattrIn(FAttr.SIZE, size=size), file)
