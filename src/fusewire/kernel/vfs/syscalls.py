"""The system calls, as a program makes them: paths and descriptors in, numbers and bytes out, OSError for what fails.

Lock order: the semaphore of the directory, then that of what it names. A wait for either can be ended (see ``Policy``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...wire.errno import Errno
from ...wire.flags import FAttr
from ...wire.layouts import Attr, Kstatfs, SetattrIn
from ..queue import traced
from . import namei
from .files import DeviceFile, File
from .inode import Dentry, Inode
from .namei import error, inode_of
from .program import ProgramTask


@traced()
async def sys_stat(task: ProgramTask, path: bytes) -> tuple[Attr, int]:
    """Attributes and device number. Raises ENOENT, ENOTDIR."""
    inode = inode_of(await namei.lookup(task, path), path)
    await inode.sb.getattr(task, inode)
    return inode.attr, inode.sb.device_number


@traced()
async def sys_fstat(task: ProgramTask, fd: int) -> tuple[Attr, int]:
    """Attributes of an open file, unlinked or not. Raises EBADF."""
    file = task.program.files.file(fd)
    await file.inode.sb.getattr(task, file.inode, file)
    return file.inode.attr, file.inode.sb.device_number


@traced()
async def sys_open(task: ProgramTask, path: bytes, flags: int, mode: int) -> int:
    """A descriptor. Raises ENOENT, EEXIST, EISDIR, ENOTDIR and what the daemon answers."""
    if flags & os.O_CREAT:
        file = await _open_or_create(task, path, flags, mode)
    else:
        file = await _open(task, await namei.lookup(task, path), path, flags)
    return task.program.files.install(file)


async def _open(task: ProgramTask, dentry: Dentry, path: bytes, flags: int) -> File:
    inode = inode_of(dentry, path)
    if inode.is_dir and flags & (os.O_ACCMODE | os.O_TRUNC | os.O_CREAT):
        raise error(Errno.EISDIR, path, "Is a directory")
    if flags & os.O_DIRECTORY and not inode.is_dir:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    return await inode.sb.open(task, dentry, flags)


async def _open_or_create(task: ProgramTask, path: bytes, flags: int, mode: int) -> File:
    parent, name, directory = await namei.lookup_parent(task, path)
    if directory:
        raise error(Errno.EISDIR, path, "Is a directory")
    above = inode_of(parent, path)
    if not above.is_dir:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    await above.semaphore.acquire(task)
    try:
        dentry = await namei.step(task, parent, name, path)
        if dentry.inode is None:
            return await above.sb.create(task, parent, name, flags, mode)
    finally:
        above.semaphore.release(task)
    if flags & os.O_EXCL:
        raise error(Errno.EEXIST, path, "File exists")
    return await _open(task, dentry, path, flags)


@traced()
async def sys_close(task: ProgramTask, fd: int) -> None:
    """Raises EBADF, and what FLUSH answers (the descriptor is closed all the same)."""
    await task.program.files.close(task, fd)


@traced()
async def sys_read(task: ProgramTask, fd: int, into: memoryview, offset: int | None = None) -> int:
    """Read into the program's memory; returns bytes read, 0 at the end. ``offset`` None: at the file's own position."""
    opened = task.program.files.get(fd)
    if isinstance(opened, DeviceFile):
        return await opened.device.read(task, into)
    _check_offset(offset)
    if not opened.readable:
        raise OSError(int(Errno.EBADF), f"descriptor {fd} is not open for reading")
    if opened.inode.is_dir:
        raise OSError(int(Errno.EISDIR), "Is a directory")
    size = await opened.inode.sb.read(task, opened, into, opened.pos if offset is None else offset)
    if offset is None:
        opened.pos += size
    return size


@traced()
async def sys_write(
    task: ProgramTask,
    fd: int,
    buffers: Sequence[bytes | bytearray | memoryview],
    offset: int | None = None,
) -> int:
    """Write the buffers, one after the other; returns bytes written. ``offset`` None: at the file's own position."""
    opened = task.program.files.get(fd)
    if isinstance(opened, DeviceFile):
        return await opened.device.write(task, buffers)
    _check_offset(offset)
    if not opened.writable:
        raise OSError(int(Errno.EBADF), f"descriptor {fd} is not open for writing")
    data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
    at = opened.pos
    size = await opened.inode.sb.write(task, opened, data, at if offset is None else offset)
    if offset is not None:
        opened.pos = at
    return size


def _check_offset(offset: int | None) -> None:
    if offset is not None and not 0 <= offset < 1 << 63:
        raise OSError(int(Errno.EINVAL), f"an offset of {offset} bytes")


@traced()
async def sys_lseek(task: ProgramTask, fd: int, offset: int, whence: int) -> int:
    """The new position in bytes. Raises EINVAL for one before the start."""
    file = task.program.files.file(fd)
    match whence:
        case os.SEEK_SET:
            position = offset
        case os.SEEK_CUR:
            position = file.pos + offset
        case os.SEEK_END:
            await file.inode.sb.getattr(task, file.inode, file)
            position = file.inode.attr.size + offset
        case _:
            raise OSError(int(Errno.EINVAL), f"whence {whence} is not supported")
    if position < 0:
        raise OSError(int(Errno.EINVAL), f"position {position} lies before the file")
    file.pos = position
    return position


@traced()
async def sys_unlink(task: ProgramTask, path: bytes) -> None:
    """Raises ENOENT, EISDIR for a directory, and what the daemon answers."""
    await _remove(task, path, directory=False)


@traced()
async def sys_rmdir(task: ProgramTask, path: bytes) -> None:
    """Raises ENOENT, ENOTDIR, ENOTEMPTY, EBUSY for a mountpoint, EINVAL for ``.``."""
    await _remove(task, path, directory=True)


async def _remove(task: ProgramTask, path: bytes, *, directory: bool) -> None:
    parent, name, slash = await namei.lookup_parent(task, path)
    if name in (b".", b".."):
        if not directory:
            raise error(Errno.EISDIR, path, "Is a directory")
        raise error(Errno.EINVAL if name == b"." else Errno.ENOTEMPTY, path, "cannot be removed")
    above = inode_of(parent, path)
    if not above.is_dir:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    await above.semaphore.acquire(task)
    try:
        dentry = await namei.step(task, parent, name, path)
        inode = inode_of(dentry, path)
        _check_removable(dentry, inode, path, directory, slash)
        await inode.semaphore.acquire(task)
        try:
            if directory:
                await above.sb.rmdir(task, parent, dentry)
            else:
                await above.sb.unlink(task, parent, dentry)
        except OSError as failed:
            raise OSError(failed.errno, failed.strerror, path) from failed
        finally:
            inode.semaphore.release(task)
    finally:
        above.semaphore.release(task)


def _check_removable(dentry: Dentry, inode: Inode, path: bytes, directory: bool, slash: bool) -> None:
    if directory and not inode.is_dir:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    if not directory and inode.is_dir:
        raise error(Errno.EISDIR, path, "Is a directory")
    if not directory and slash:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    if dentry.parent is None:
        raise error(Errno.EBUSY, path, "something is mounted there")


@traced()
async def sys_mkdir(task: ProgramTask, path: bytes, mode: int) -> None:
    """Raises EEXIST, ENOENT, ENOTDIR and what the daemon answers."""
    parent, name, _ = await namei.lookup_parent(task, path)
    above = inode_of(parent, path)
    if name in (b".", b".."):
        raise error(Errno.EEXIST, path, "File exists")
    if not above.is_dir:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    await above.semaphore.acquire(task)
    try:
        if (await namei.step(task, parent, name, path)).inode is not None:
            raise error(Errno.EEXIST, path, "File exists")
        await above.sb.mkdir(task, parent, name, mode)
    finally:
        above.semaphore.release(task)


@traced()
async def sys_getdents(task: ProgramTask, fd: int) -> list[tuple[bytes, int, int]]:
    """All entries but ``.`` and ``..``: name, inode number, type (DT_*). Raises ENOTDIR."""
    file = task.program.files.file(fd)
    if not file.inode.is_dir:
        raise OSError(int(Errno.ENOTDIR), "Not a directory")
    return await file.inode.sb.readdir(task, file)


@traced()
async def sys_truncate(task: ProgramTask, path: bytes, size: int) -> None:
    """Make a file ``size`` bytes long. Raises EISDIR, EINVAL."""
    if size < 0:
        raise error(Errno.EINVAL, path, f"a size of {size} bytes")
    dentry = await namei.lookup(task, path)
    if inode_of(dentry, path).is_dir:
        raise error(Errno.EISDIR, path, "Is a directory")
    await inode_of(dentry, path).sb.setattr(task, dentry, SetattrIn(FAttr.SIZE, size=size))


@traced()
async def sys_chmod(task: ProgramTask, path: bytes, mode: int) -> None:
    """Change the permission bits."""
    dentry = await namei.lookup(task, path)
    inode = inode_of(dentry, path)
    full = (inode.attr.mode & ~0o7777) | (mode & 0o7777)
    await inode.sb.setattr(task, dentry, SetattrIn(FAttr.MODE, mode=full))


@traced()
async def sys_statfs(task: ProgramTask, path: bytes) -> Kstatfs:
    """Blocks and files, free and in all."""
    dentry = await namei.lookup(task, path)
    return await inode_of(dentry, path).sb.statfs(task, dentry)


@traced()
async def sys_exit(task: ProgramTask) -> None:
    """A thread of the program ends; with the last one every descriptor is closed and flushed."""
    program = task.program
    if task.exited or task not in program.tasks:
        return
    program.tasks.remove(task)
    for opened in program.files.table.values():
        if isinstance(opened, DeviceFile):
            opened.device.connection.reader_gone(task)
    try:
        if not program.tasks:
            for fd in list(program.files.table):
                try:
                    await program.files.close(task, fd)
                except OSError:
                    continue  # exit(2) has nobody to tell
    finally:
        task.exited = True
