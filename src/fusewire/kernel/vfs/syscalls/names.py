"""mkdir, unlink, rename and their kin: names that are made, removed and moved. As fs/namei.c has it.

Lock order: the rename mutex, directories from the root downwards, then what is in them.
"""

from __future__ import annotations

import stat

from ....wire.errno import Errno
from ...queue import Semaphore
from .. import namei
from ..fuse_names import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from ..inode import Dentry, Inode
from ..namei import AT_FDCWD, PATH_MAX, ROOT
from ..permission import MAY_READ, MAY_WRITE, mode_strip_sgid, owner_or_capable
from ..program import ProgramTask
from .base import invalid, syscall

_KINDS = (stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)


# -- making ------------------------------------------------------------------------------------------------------------


@syscall
async def sys_mkdir(task: ProgramTask, path: bytes, mode: int, dirfd: int = AT_FDCWD) -> None:
    """Raises EEXIST, ENOENT, ENOTDIR, EACCES, EROFS and what the daemon answers."""
    made = await _New.begin(task, path, dirfd, directory=True)
    async with made:
        await made.check()
        await made.sb.mkdir(task, made.parent, made.name, mode & 0o1777)


@syscall
async def sys_mknod(task: ProgramTask, path: bytes, mode: int, rdev: int, dirfd: int = AT_FDCWD) -> None:
    """A file, device, FIFO or socket. Raises EPERM for a directory, and for a device without CAP_MKNOD."""
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    if kind == stat.S_IFDIR:
        raise namei.error(Errno.EPERM, path, "Operation not permitted: mkdir makes directories")
    if kind not in _KINDS:
        raise namei.error(Errno.EINVAL, path, f"mode {mode:#o}")
    made = await _New.begin(task, path, dirfd)
    async with made:
        await made.check()
        is_device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        is_whiteout = kind == stat.S_IFCHR and not rdev  # what union filesystems make is anybody's
        if is_device and not is_whiteout and not task.cred.capable:
            raise namei.error(Errno.EPERM, path, "Operation not permitted")
        mode = mode_strip_sgid(task.cred, made.parent.positive, kind | mode & 0o7777)
        await made.sb.mknod(task, made.parent, made.name, mode, rdev if is_device else 0)


@syscall
async def sys_symlink(task: ProgramTask, target: bytes, path: bytes, dirfd: int = AT_FDCWD) -> None:
    """Raises ENOENT for an empty target, ENAMETOOLONG."""
    if not target:
        raise namei.absent(path)
    if len(target) >= PATH_MAX:
        raise namei.error(Errno.ENAMETOOLONG, path, "File name too long")
    made = await _New.begin(task, path, dirfd)
    async with made:
        await made.check()
        await made.sb.symlink(task, made.parent, made.name, target)


@syscall
async def sys_link(
    task: ProgramTask,
    source: bytes | None,
    path: bytes,
    dirfd: int = AT_FDCWD,
    newdirfd: int = AT_FDCWD,
    follow: bool = False,
) -> None:
    """One more name. No ``source`` means ``dirfd`` itself (O_TMPFILE). Raises EPERM for a directory, EXDEV; ENOENT for what
    was opened with other credentials."""
    if source is not None:
        old = task.hold(await namei.lookup(task, source, dirfd, follow))
    else:
        file = task.program.files.path(dirfd)
        if file.cred is not task.cred and not task.cred.capable:
            raise namei.absent(path)
        old = task.hold(file.dentry)
    inode = old.positive
    made = await _New.begin(task, path, newdirfd)
    async with made:
        await made.look()
        if inode.sb is not made.sb:
            raise namei.error(Errno.EXDEV, path, "Invalid cross-device link")
        await _may_link(task, inode, path)
        await made.check()
        if inode.is_dir:
            raise namei.error(Errno.EPERM, path, "Operation not permitted: a directory has one name")
        await inode.semaphore.acquire(task)
        try:
            await made.sb.link(task, old, made.parent, made.name)
        finally:
            inode.semaphore.release(task)


async def _may_link(task: ProgramTask, inode: Inode, path: bytes) -> None:
    """``may_linkat`` with fs.protected_hardlinks, as distributions have it: of another user's files only those that one may
    read and write, and that are no programs with set-ID bits. Raises EPERM."""
    if owner_or_capable(task.cred, inode):
        return
    group = stat.S_ISGID | stat.S_IXGRP
    safe = inode.is_reg and not inode.mode & stat.S_ISUID and inode.mode & group != group
    if safe:
        try:
            await namei.may(task, inode, MAY_READ | MAY_WRITE, path)
        except PermissionError:
            safe = False
    if not safe:
        raise namei.error(Errno.EPERM, path, "Operation not permitted")


class _New:
    """``filename_create``: a name that is to be made, with the semaphore of its directory while that is done."""

    def __init__(
        self, task: ProgramTask, path: bytes, parent: Dentry, name: bytes, slash: bool, directory: bool
    ) -> None:
        self.task = task
        self.path = path
        self.parent = parent
        self.name = name
        self.bad_slash = slash and not directory
        self.sb = parent.positive.sb
        self.looked = False

    @classmethod
    async def begin(cls, task: ProgramTask, path: bytes, dirfd: int, *, directory: bool = False) -> _New:
        parent, name, slash = await namei.lookup_parent(task, path, dirfd)
        if name in (b".", b"..", ROOT):
            raise namei.error(Errno.EEXIST, path, "File exists")
        return cls(task, path, parent, name, slash, directory)

    async def __aenter__(self) -> None:
        await self.parent.positive.semaphore.acquire(self.task)

    async def __aexit__(self, kind: object, failed: BaseException | None, trace: object) -> None:
        self.parent.positive.semaphore.release(self.task)
        if isinstance(failed, OSError):
            namei.with_path(failed, self.path)

    async def check(self) -> None:
        """Raises EEXIST, ENOENT, EROFS, EACCES."""
        if not self.looked:
            await self.look()
        await namei.may_create(self.task, self.parent, self.path)

    async def look(self) -> None:
        """Whether the name is free. Raises EEXIST, ENOENT, EROFS."""
        self.looked = True
        dentry = await namei.lookup_last(self.task, self.parent, self.name, self.path, fresh=True)
        if dentry.inode is not None:
            raise namei.error(Errno.EEXIST, self.path, "File exists")
        if self.bad_slash:
            raise namei.absent(self.path)
        self.sb.want_write()


# -- removing ----------------------------------------------------------------------------------------------------------


@syscall
async def sys_unlink(task: ProgramTask, path: bytes, dirfd: int = AT_FDCWD) -> None:
    """Raises ENOENT, EISDIR for a directory, and what the daemon answers."""
    await _remove(task, path, dirfd, directory=False)


@syscall
async def sys_rmdir(task: ProgramTask, path: bytes, dirfd: int = AT_FDCWD) -> None:
    """Raises ENOENT, ENOTDIR, ENOTEMPTY, EBUSY for a mountpoint, EINVAL for ``.``."""
    await _remove(task, path, dirfd, directory=True)


_DOTS = {b".": Errno.EINVAL, b"..": Errno.ENOTEMPTY, ROOT: Errno.EBUSY}


async def _remove(task: ProgramTask, path: bytes, dirfd: int, *, directory: bool) -> None:
    parent, name, slash = await namei.lookup_parent(task, path, dirfd)
    if name in _DOTS:
        raise namei.error(_DOTS[name] if directory else Errno.EISDIR, path, "cannot be removed")
    above = parent.positive
    above.sb.want_write()
    await above.semaphore.acquire(task)
    try:
        dentry = await namei.lookup_last(task, parent, name, path)
        inode = namei.inode_of(dentry, path)
        if slash and not directory:
            raise namei.is_a_directory(path) if inode.is_dir else namei.not_a_directory(path)
        await namei.may_delete(task, parent, dentry, path, directory)
        await _remove_locked(task, parent, dentry, inode, directory)
    except OSError as failed:
        raise namei.with_path(failed, path) from None
    finally:
        above.semaphore.release(task)


async def _remove_locked(task: ProgramTask, parent: Dentry, dentry: Dentry, inode: Inode, directory: bool) -> None:
    await inode.semaphore.acquire(task)
    try:
        if dentry.mounted is not None:
            raise OSError(int(Errno.EBUSY), "something is mounted there")
        if directory:
            await inode.sb.rmdir(task, parent, dentry)
        else:
            await inode.sb.unlink(task, parent, dentry)
    finally:
        inode.semaphore.release(task)


# -- moving ------------------------------------------------------------------------------------------------------------


@syscall
async def sys_rename(
    task: ProgramTask, old: bytes, new: bytes, dirfd: int = AT_FDCWD, newdirfd: int = AT_FDCWD, flags: int = 0
) -> None:
    """renameat2(2). Raises EXDEV, EBUSY, EINVAL for a directory into itself, EEXIST with RENAME_NOREPLACE."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
        raise invalid(f"flags {flags}")
    if flags & RENAME_EXCHANGE and flags & (RENAME_NOREPLACE | RENAME_WHITEOUT):
        raise invalid(f"flags {flags}")
    parent, name, slash = await namei.lookup_parent(task, old, dirfd)
    newparent, newname, newslash = await namei.lookup_parent(task, new, newdirfd)
    if parent.positive.sb is not newparent.positive.sb:
        raise _two(Errno.EXDEV, old, new, "Invalid cross-device link")
    if name in _DOTS:
        raise _two(Errno.EBUSY, old, new, "Device or resource busy")
    if newname in _DOTS:
        raise _two(Errno.EEXIST if flags & RENAME_NOREPLACE else Errno.EBUSY, old, new, "Device or resource busy")
    parent.positive.sb.want_write()
    locks = _lock_order(parent, newparent)
    taken: list[Semaphore] = []
    try:
        for lock in locks:
            await lock.acquire(task)
            taken.append(lock)
        await _rename_locked(task, parent, name, newparent, newname, flags, (old, slash), (new, newslash))
    except OSError as failed:
        if failed.filename is None or failed.filename2 is None:
            failed.filename, failed.filename2 = old, new
        raise
    finally:
        for lock in reversed(taken):
            lock.release(task)


def _lock_order(parent: Dentry, newparent: Dentry) -> list[Semaphore]:
    """``lock_rename``: with two directories nobody else may move one into the other meanwhile."""
    one, other = parent.positive, newparent.positive
    if one is other:
        return [one.semaphore]
    if newparent.is_below(parent):
        below = [one, other]
    elif parent.is_below(newparent):
        below = [other, one]
    else:
        below = sorted((one, other), key=lambda inode: inode.nodeid)
    return [one.sb.rename_mutex, *(inode.semaphore for inode in below)]


async def _rename_locked(
    task: ProgramTask, parent: Dentry, name: bytes, newparent: Dentry, newname: bytes, flags: int,
    old: tuple[bytes, bool], new: tuple[bytes, bool],
) -> None:  # fmt: skip
    exchange = bool(flags & RENAME_EXCHANGE)
    dentry = await namei.lookup_last(task, parent, name, old[0])
    source = namei.inode_of(dentry, old[0])
    there = await namei.lookup_last(task, newparent, newname, new[0], fresh=True)
    if flags & RENAME_NOREPLACE and there.inode is not None:
        raise _two(Errno.EEXIST, old[0], new[0], "File exists")
    if exchange and there.inode is None:
        raise _two(Errno.ENOENT, old[0], new[0], "No such file or directory")
    if exchange and new[1] and not there.positive.is_dir:
        raise namei.not_a_directory(new[0])
    if not source.is_dir and (old[1] or (not exchange and new[1])):
        raise namei.not_a_directory(old[0])
    if newparent.is_below(dentry):
        raise _two(Errno.EINVAL, old[0], new[0], "Invalid argument: a directory into itself")
    if parent.is_below(there) and there.inode is not None:
        number = Errno.EINVAL if exchange else Errno.ENOTEMPTY
        raise _two(number, old[0], new[0], "the target is above the source")
    if source is there.inode:
        return  # POSIX: two names of one file, and nothing happens
    await _may_rename(task, parent, dentry, newparent, there, exchange, old[0], new[0])
    busy = dentry.mounted is not None or there.mounted is not None
    if busy:
        raise _two(Errno.EBUSY, old[0], new[0], "Device or resource busy")
    victims = [inode for inode in (source, there.inode) if inode is not None and not inode.is_dir]
    await _rename_with(task, sorted(victims, key=lambda inode: inode.nodeid), parent, dentry, newparent, there, flags)


async def _may_rename(
    task: ProgramTask, parent: Dentry, dentry: Dentry, newparent: Dentry, there: Dentry, exchange: bool,
    old: bytes, new: bytes,
) -> None:  # fmt: skip
    is_dir = dentry.positive.is_dir
    await namei.may_delete(task, parent, dentry, old, is_dir)
    if there.inode is None:
        await namei.may_create(task, newparent, new)
    else:
        await namei.may_delete(task, newparent, there, new, there.inode.is_dir if exchange else is_dir)
    if parent is newparent:
        return
    if is_dir:  # its ".." changes
        await namei.may(task, dentry.positive, MAY_WRITE, old)
    if exchange and there.positive.is_dir:
        await namei.may(task, there.positive, MAY_WRITE, new)


async def _rename_with(
    task: ProgramTask,
    victims: list[Inode],
    parent: Dentry,
    dentry: Dentry,
    newparent: Dentry,
    there: Dentry,
    flags: int,
) -> None:
    """Files that lose or get a name are locked last."""
    taken: list[Semaphore] = []
    try:
        for inode in victims:
            await inode.semaphore.acquire(task)
            taken.append(inode.semaphore)
        await parent.positive.sb.rename(task, parent, dentry, newparent, there, flags)
    finally:
        for semaphore in reversed(taken):
            semaphore.release(task)


def _two(number: Errno, old: bytes, new: bytes, why: str) -> OSError:
    return OSError(int(number), why, old, None, new)
