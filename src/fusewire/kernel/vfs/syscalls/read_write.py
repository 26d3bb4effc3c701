"""read, write, lseek, copy_file_range, fsync and their kin: what is done with open files. As fs/read_write.c has it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from ....wire.errno import Errno
from ...queue import traced
from ...queue.copy import Source, UserPages, copy_from_user, copy_to_user, plain
from ..files import DeviceFile, File, put_file
from ..fuse_space import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, SEEK_DATA, SEEK_HOLE
from ..inode import DEAD, STATX_SIZE
from ..page_cache import PageLru
from ..program import ProgramTask
from .base import MAX_OFFSET, bad_descriptor, check_offset, fdget, invalid, readable, syscall, writable

Buffers = Sequence[Source]
SPLICED = 1 << 17  # bytes that copy_file_range(2) moves at once where it reads and writes itself


@traced()
async def sys_read(task: ProgramTask, fd: int, into: memoryview | UserPages, offset: int | None = None) -> int:
    """Read into the program's memory, faulted in where it is given by its address; returns
    bytes read, 0 at the end. ``offset`` None: at the file's own position."""
    if offset is not None:
        check_offset(offset)
    opened = task.program.files.get(fd)
    if isinstance(opened, DeviceFile):
        return await opened.device.read(task, into, nonblock=bool(opened.flags & os.O_NONBLOCK))
    if not opened.readable:
        raise bad_descriptor(f"descriptor {fd} is not open for reading")
    if opened.inode.is_dir:
        raise OSError(int(Errno.EISDIR), "Is a directory")
    if isinstance(into, UserPages):
        return await _read_to_user(task, opened, into, offset)
    opened.count += 1
    try:
        return await _read(task, opened, into, offset)
    finally:
        await put_file(task, opened)


async def _read_to_user(task: ProgramTask, file: File, into: UserPages, offset: int | None) -> int:
    memory = memoryview(bytearray(len(into)))
    file.count += 1
    try:
        size = await _read(task, file, memory, offset)
    finally:
        await put_file(task, file)
    return await copy_to_user(task, into, memory[:size])


async def _read(task: ProgramTask, file: File, into: memoryview, offset: int | None) -> int:
    if offset is not None:
        _check_positioned(file)
        return await file.ops.read(task, file, into, offset)
    at = file.pos if file.seekable else 0
    size = await file.ops.read(task, file, into, at)
    if file.seekable:
        file.pos = at + size
    return size


@traced()
async def sys_write(task: ProgramTask, fd: int, buffers: Buffers, offset: int | None = None) -> int:
    """Write the buffers, or memory that is faulted in, one after the other; returns bytes written.
    ``offset`` None: at the file's own position."""
    if offset is not None:
        check_offset(offset)
    opened = task.program.files.get(fd)
    if isinstance(opened, DeviceFile):
        return await opened.device.write(task, buffers)
    if not opened.writable:
        raise bad_descriptor(f"descriptor {fd} is not open for writing")
    if plain(buffers):
        data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))  # type: ignore[arg-type]
    else:
        data = memoryview(await copy_from_user(task, buffers))
    opened.count += 1
    try:
        return await _write(task, opened, data, offset)
    finally:
        await put_file(task, opened)


async def _write(task: ProgramTask, file: File, data: memoryview, offset: int | None) -> int:
    if offset is not None:
        _check_positioned(file)
    if not data.nbytes:
        return 0
    at = offset if offset is not None else file.pos if file.seekable else 0
    if at + data.nbytes > MAX_OFFSET:
        if at >= MAX_OFFSET:
            raise OSError(int(Errno.EFBIG), f"a write at {at}")
        data = data[: MAX_OFFSET - at]
    size, end = await file.ops.write(task, file, data, at)
    if offset is None and file.seekable:
        file.pos = end
    return size


def _check_positioned(file: File) -> None:
    if not file.positioned:
        raise OSError(int(Errno.ESPIPE), "Illegal seek: it has no offsets")


@syscall
async def sys_lseek(task: ProgramTask, fd: int, offset: int, whence: int) -> int:
    """The new position in bytes. Raises EINVAL for one before the start, ESPIPE, ENXIO."""
    file = fdget(task, fd)
    if not file.seekable:
        raise OSError(int(Errno.ESPIPE), "Illegal seek")
    if whence in (SEEK_DATA, SEEK_HOLE) and file.inode.is_reg:
        position = await file.ops.llseek(task, file, offset, whence)
    else:
        position = await _position(task, file, offset, whence)
    if not 0 <= position <= MAX_OFFSET:
        raise invalid(f"position {position} lies outside of the file")
    file.pos = position
    return position


async def _position(task: ProgramTask, file: File, offset: int, whence: int) -> int:
    match whence:
        case os.SEEK_SET:
            return offset
        case os.SEEK_CUR:
            return file.pos + offset
        case os.SEEK_END:
            await file.inode.sb.getattr(task, file.inode, file, STATX_SIZE)
            return file.inode.attr.size + offset
    raise invalid(f"whence {whence}")


@syscall
async def sys_getdents(task: ProgramTask, fd: int, size: int = 1 << 15) -> list[tuple[bytes, int, int]]:
    """The next entries, as many as fit into ``size`` bytes, without ``.`` and ``..``: name, inode number, type (DT_*). None
    at the end. Raises ENOTDIR, and ENOENT for a directory that was removed, of which the daemon is not asked."""
    file = fdget(task, fd)
    if not file.inode.is_dir:
        raise OSError(int(Errno.ENOTDIR), "Not a directory")
    if file.inode.state & DEAD:
        raise OSError(int(Errno.ENOENT), "the directory was removed")
    return await file.inode.sb.readdir(task, file, size)


# -- making durable --------------------------------------------------------------------------------------------------


@syscall
async def sys_fsync(task: ProgramTask, fd: int, datasync: bool = False) -> None:
    """Raises EINVAL for what cannot be made durable."""
    file = fdget(task, fd)
    await file.ops.fsync(task, file, datasync)


@syscall
async def sys_sync(task: ProgramTask, lru: PageLru) -> None:
    """All that is dirty is written, and waited for; nobody hears of what fails (but fsync and close, later)."""
    for inode in [cache.inode for cache in lru.dirty_files()]:
        if inode.grab():  # it may have gone while another was written
            try:
                await inode.sb.write_inode_now(task, inode)
            except OSError:
                if task.dying:
                    raise
            finally:
                inode.put(task)


@syscall
async def sys_fadvise(task: ProgramTask, fd: int, offset: int, length: int, advice: int) -> None:
    """posix_fadvise(2), as mm/fadvise.c has it. Raises EBADF, ESPIPE for a pipe, EINVAL for an advice that is none."""
    file = fdget(task, fd)
    if stat.S_ISFIFO(file.inode.mode):
        raise OSError(int(Errno.ESPIPE), "Illegal seek")
    if length < 0 or not os.POSIX_FADV_NORMAL <= advice <= os.POSIX_FADV_NOREUSE:
        raise invalid(f"advice {advice} for {length} bytes at {offset}")
    end = offset + length if length else MAX_OFFSET
    if offset < 0:  # it is taken as unsigned: behind the end of any file
        offset = end = MAX_OFFSET
    await file.inode.sb.fadvise(task, file, offset, end, advice)


@syscall
async def sys_syncfs(task: ProgramTask, fd: int) -> None:
    """Linux sends SYNCFS to no daemon behind plain /dev/fuse."""
    await fdget(task, fd).inode.sb.syncfs(task)


# -- a file's layout -------------------------------------------------------------------------------------------------


@syscall
async def sys_fallocate(task: ProgramTask, fd: int, mode: int, offset: int, length: int) -> None:
    """Raises EINVAL, EBADF, EISDIR, ENODEV, EFBIG, EOPNOTSUPP."""
    file = fdget(task, fd)
    if offset < 0 or length <= 0:
        raise invalid(f"{length} bytes at {offset}")
    punch, zero = mode & FALLOC_FL_PUNCH_HOLE, mode & FALLOC_FL_ZERO_RANGE
    if (punch and not mode & FALLOC_FL_KEEP_SIZE) or (punch and zero):
        raise OSError(int(Errno.EOPNOTSUPP), "Operation not supported")
    writable(file)
    if stat.S_ISFIFO(file.inode.mode):
        raise OSError(int(Errno.ESPIPE), "Illegal seek")
    if file.inode.is_dir:
        raise OSError(int(Errno.EISDIR), "Is a directory")
    if not file.inode.is_reg:
        raise OSError(int(Errno.ENODEV), "No such device")
    if offset + length > MAX_OFFSET:
        raise OSError(int(Errno.EFBIG), "File too large")
    file.inode.sb.want_write()
    await file.inode.sb.fallocate(task, file, mode, offset, length)


@syscall
async def sys_copy_file_range(
    task: ProgramTask, fd_in: int, fd_out: int, length: int, off_in: int | None, off_out: int | None
) -> int:
    """How many bytes were copied. An offset of None is the file's own, which moves. Raises EBADF, EINVAL, EISDIR."""
    source, target = fdget(task, fd_in), fdget(task, fd_out)
    _check_copy(source, target)
    at_in = source.pos if off_in is None else off_in
    at_out = target.pos if off_out is None else off_out
    check_offset(at_in)
    check_offset(at_out)
    same = source.inode is target.inode
    length = max(0, min(length, source.inode.attr.size - at_in, MAX_OFFSET - at_out))
    if same and at_out < at_in + length and at_in < at_out + length:
        raise invalid("the ranges overlap")
    if not length:
        return 0
    copied = await target.inode.sb.copy_file_range(task, source, at_in, target, at_out, length)
    if copied is None:
        copied = await move(task, source, at_in, target, at_out, length)
    if off_in is None:
        source.pos += copied
    if off_out is None:
        target.pos += copied
    return copied


def _check_copy(source: File, target: File) -> None:
    for file in (source, target):
        if file.inode.is_dir:
            raise OSError(int(Errno.EISDIR), "Is a directory")
        if not stat.S_ISREG(file.inode.mode):
            raise invalid("no regular file")
    readable(source)
    writable(target)
    if target.flags & os.O_APPEND:
        raise bad_descriptor("it was opened with O_APPEND")


async def move(task: ProgramTask, source: File, at: int, target: File, to: int, length: int) -> int:
    """By reading and writing (``splice_file_range``)."""
    memory = memoryview(bytearray(min(length, SPLICED)))
    done = 0
    while done < length:
        size = await source.ops.read(task, source, memory[: length - done], at + done)
        if not size:
            break
        try:
            written, _ = await target.ops.write(task, target, memory[:size], to + done)
        except OSError:
            if not done:
                raise
            break
        done += written
        if written < size:
            break
    return done
