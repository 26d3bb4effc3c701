"""open, close, dup, fcntl: descriptors. As fs/open.c, fs/namei.c (``path_openat``) and fs/file.c have it."""

from __future__ import annotations

import os
import stat

from ....wire.errno import Errno
from ...queue import traced
from .. import namei
from ..files import O_LARGEFILE, OPEN_MAX, DeviceFile, File, FilesStruct, close_file
from ..inode import Dentry
from ..namei import AT_FDCWD, ROOT, Nameidata
from ..permission import MAY_OPEN, MAY_READ, MAY_WRITE, may_create_in_sticky, mode_strip_sgid, owner_or_capable
from ..pipe import fifo_open, make_pipe
from ..program import ProgramTask
from .base import bad_descriptor, invalid, syscall

O_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY
_WITH_O_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
F_SETTABLE = os.O_APPEND | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME


@syscall
async def sys_open(task: ProgramTask, path: bytes, flags: int, mode: int, dirfd: int = AT_FDCWD) -> int:
    """A descriptor. Raises ENOENT, EEXIST, EISDIR, ENOTDIR, ELOOP, EACCES, EINVAL and what the daemon answers."""
    flags = _checked(flags)
    if flags & O_TMPFILE:
        file = await _tmpfile(task, path, flags, mode, dirfd)
    elif flags & os.O_CREAT:
        file = await _open_or_create(task, path, flags, mode, dirfd)
    else:
        dentry = task.hold(await namei.lookup(task, path, dirfd, follow=not flags & os.O_NOFOLLOW))
        file = await _open(task, dentry, path, flags, created=False)
    file.cred = task.cred
    return task.program.files.install(file, cloexec=bool(flags & os.O_CLOEXEC))


def _checked(flags: int) -> int:
    """``build_open_flags``. Raises EINVAL."""
    if flags & os.O_PATH:
        return flags & _WITH_O_PATH
    if flags & os.O_DIRECTORY and flags & os.O_CREAT:
        raise invalid("O_DIRECTORY and O_CREAT")
    if flags & O_TMPFILE and (not flags & os.O_DIRECTORY or flags & os.O_ACCMODE == os.O_RDONLY):
        raise invalid("O_TMPFILE is for writing")
    if flags & os.O_CREAT and flags & os.O_EXCL:
        flags = (flags | os.O_NOFOLLOW) & ~os.O_TRUNC
    return flags | O_LARGEFILE


async def _open(task: ProgramTask, dentry: Dentry, path: bytes, flags: int, *, created: bool) -> File:
    inode = namei.inode_of(dentry, path)
    if flags & os.O_DIRECTORY and not inode.is_dir:
        raise namei.not_a_directory(path)
    if flags & os.O_PATH:
        return File(dentry, inode, flags)
    if not created:
        await _may_open(task, dentry, path, flags)
    kind = stat.S_IFMT(inode.mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO):
        raise namei.error(Errno.ENXIO, path, "No such device or address: no driver is behind this special file")
    try:
        if kind == stat.S_IFIFO:
            return await fifo_open(task, dentry, flags)
        if kind == stat.S_IFDIR or not flags & (os.O_ACCMODE | os.O_TRUNC):
            return await inode.sb.open(task, dentry, flags)
        inode.get_write()  # already while the daemon is asked; the open file then counts by itself
        try:
            return await inode.sb.open(task, dentry, flags)
        finally:
            inode.put_write()
    except OSError as failed:
        raise namei.with_path(failed, path) from None


async def _may_open(task: ProgramTask, dentry: Dentry, path: bytes, flags: int) -> None:
    """``may_open``."""
    inode = dentry.positive
    access = flags & os.O_ACCMODE
    mask = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)[access]
    if flags & os.O_TRUNC:
        mask |= MAY_WRITE
    if inode.is_link:
        raise namei.error(Errno.ELOOP, path, "Too many levels of symbolic links")
    if inode.is_dir and mask & MAY_WRITE:
        raise namei.is_a_directory(path)
    if mask & MAY_WRITE and inode.is_reg and inode.sb.read_only:
        raise namei.error(Errno.EROFS, path, "Read-only file system")
    await namei.may(task, inode, mask | MAY_OPEN, path)
    if flags & os.O_NOATIME and not owner_or_capable(task.cred, inode):
        raise namei.error(Errno.EPERM, path, "Operation not permitted: O_NOATIME")


async def _open_or_create(task: ProgramTask, path: bytes, flags: int, mode: int, dirfd: int) -> File:
    """Symbolic links at the end lead on: the file may be made where they point."""
    walk = Nameidata(task, path, dirfd)
    while True:
        name = await walk.parent()
        parent = task.hold(walk.dentry)
        if name in (b".", b"..", ROOT):
            if flags & os.O_EXCL:
                raise namei.error(Errno.EEXIST, path, "File exists")
            raise namei.is_a_directory(path)
        if walk.slash:
            raise namei.is_a_directory(path)
        dentry = await namei.lookup_last(task, parent, name, path, fresh=bool(flags & os.O_EXCL))
        if dentry.inode is None:
            file, dentry = await _create_locked(task, parent, name, path, flags, mode)
            if file is not None:
                return file
        dentry = task.hold(namei.crossed(dentry))
        inode = dentry.positive
        if flags & os.O_EXCL:
            raise namei.error(Errno.EEXIST, path, "File exists")
        if not inode.is_link or flags & os.O_NOFOLLOW:
            break
        walk.dentry = parent
        await walk.follow_link(inode)
    if inode.is_dir:
        raise namei.is_a_directory(path)
    try:
        may_create_in_sticky(task.cred, parent.positive, inode)
    except OSError as failed:
        raise namei.with_path(failed, path) from None
    return await _open(task, dentry, path, flags, created=False)


async def _create_locked(
    task: ProgramTask, parent: Dentry, name: bytes, path: bytes, flags: int, mode: int
) -> tuple[File | None, Dentry]:
    """Make the file under the directory's semaphore. Without a file: another program made it meanwhile, or it was made
    without being opened."""
    above = parent.positive
    await above.semaphore.acquire(task)
    try:
        dentry = parent.children.get(name)
        if dentry is not None and dentry.inode is not None and above.sb.cached(parent, name) is dentry:
            return None, task.hold(dentry)
        await namei.may_create(task, parent, path)
        above.sb.want_write()
        mode = mode_strip_sgid(task.cred, above, stat.S_IFREG | mode & 0o7777)
        file = await above.sb.create(task, parent, name, flags, stat.S_IMODE(mode))
        if file is not None:
            return file, file.dentry
        dentry = task.hold(await above.sb.lookup(task, parent, name))
        return await _open(task, dentry, path, flags & ~os.O_TRUNC, created=True), dentry
    except OSError as failed:
        raise namei.with_path(failed, path) from None
    finally:
        above.semaphore.release(task)


async def _tmpfile(task: ProgramTask, path: bytes, flags: int, mode: int, dirfd: int) -> File:
    dentry = task.hold(await namei.lookup(task, path, dirfd))
    if not dentry.positive.is_dir:
        raise namei.not_a_directory(path)
    sb = dentry.positive.sb
    await namei.may_create(task, dentry, path)
    sb.want_write()
    return await sb.tmpfile(task, dentry, flags, mode & 0o7777)


@traced()
async def sys_pipe(task: ProgramTask, flags: int = 0) -> tuple[int, int]:
    """The descriptors of a new pipe's ends: for reading, and for writing. Raises EINVAL."""
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK):
        raise invalid(f"a pipe with flags {flags:#x}")
    files = task.program.files
    reading, writing = make_pipe(task, flags)
    cloexec = bool(flags & os.O_CLOEXEC)
    return files.install(reading, cloexec=cloexec), files.install(writing, cloexec=cloexec)


@traced()
async def sys_close(task: ProgramTask, fd: int) -> None:
    """Raises EBADF, and what FLUSH answers (the descriptor is closed all the same)."""
    await task.program.files.close(task, fd)


@traced()
async def sys_dup(task: ProgramTask, fd: int, lowest: int = 0, cloexec: bool = False) -> int:
    """The lowest free descriptor, from ``lowest`` on, names the same open file. Raises EBADF, EINVAL."""
    files = task.program.files
    file = files.get(fd)
    if not 0 <= lowest < OPEN_MAX:
        raise invalid(f"descriptor {lowest}")
    file.count += 1
    return files.install(file, cloexec=cloexec, lowest=lowest)


@traced()
async def sys_dup2(task: ProgramTask, fd: int, newfd: int, cloexec: bool = False) -> int:
    """``newfd`` names the same open file; what it named is closed. Raises EBADF."""
    files = task.program.files
    file = files.get(fd)
    if not 0 <= newfd < OPEN_MAX:
        raise bad_descriptor(f"descriptor {newfd}")
    if fd == newfd:
        return fd
    old = files.table.get(newfd)
    file.count += 1
    files.table[newfd] = file
    files.cloexec.discard(newfd)
    if cloexec:
        files.cloexec.add(newfd)
    if old is not None:
        try:
            await close_file(task, old)
        except OSError:
            pass  # dup2(2) has no way to tell
    return newfd


@traced()
async def sys_close_range(task: ProgramTask, first: int, last: int) -> None:
    """Close all descriptors from ``first`` to ``last``; what FLUSH answers is not told."""
    await close_all(task, task.program.files, [fd for fd in task.program.files.table if first <= fd <= last])


async def close_all(task: ProgramTask, files: FilesStruct, fds: list[int]) -> None:
    """Close them, whatever that answers."""
    for fd in fds:
        try:
            await files.close(task, fd)
        except OSError:
            continue


def fd_flags(task: ProgramTask, fd: int) -> int:
    """F_GETFL. Raises EBADF."""
    return task.program.files.get(fd).flags


def set_fd_flags(task: ProgramTask, fd: int, flags: int) -> None:
    """F_SETFL: O_APPEND, O_NONBLOCK, O_DIRECT and O_NOATIME can be changed. Raises EBADF, EPERM; EINVAL for O_DIRECT of
    /dev/fuse."""
    file = task.program.files.get(fd)
    if isinstance(file, DeviceFile):
        if flags & os.O_DIRECT:
            raise invalid("O_DIRECT of /dev/fuse")
    else:
        file = task.program.files.file(fd)
        if flags & os.O_NOATIME & ~file.flags and not owner_or_capable(task.cred, file.inode):
            raise OSError(int(Errno.EPERM), "Operation not permitted: O_NOATIME")
    file.flags = file.flags & ~F_SETTABLE | flags & F_SETTABLE
