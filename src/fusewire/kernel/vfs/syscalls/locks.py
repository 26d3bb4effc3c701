"""flock(2) and fcntl(2)'s locks. As fs/locks.c has them."""

from __future__ import annotations

import os

from ....wire.errno import Errno
from ....wire.layouts import FileLock
from ..files import File
from ..locks import F_RDLCK, F_UNLCK, F_WRLCK, OFFSET_MAX
from ..program import ProgramTask
from .base import bad_descriptor, fdget, invalid, readable, syscall, writable

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
_FLOCKS = {LOCK_SH: F_RDLCK, LOCK_EX: F_WRLCK, LOCK_UN: F_UNLCK}


@syscall
async def sys_flock(task: ProgramTask, fd: int, operation: int) -> None:
    """Raises EAGAIN with LOCK_NB, EINTR, EBADF."""
    type = _FLOCKS.get(operation & ~LOCK_NB)
    if type is None:
        raise invalid(f"flock operation {operation}")
    file = fdget(task, fd)
    if type != F_UNLCK and not (file.readable or file.writable):
        raise bad_descriptor("the descriptor is open for neither reading nor writing")
    await file.ops.flock(task, file, type, not operation & LOCK_NB)


@syscall
async def sys_setlk(
    task: ProgramTask, fd: int, type: int, start: int, length: int, whence: int, wait: bool, ofd: bool = False
) -> None:
    """F_SETLK, F_SETLKW and (``ofd``) F_OFD_SETLK, F_OFD_SETLKW. Raises EAGAIN, EDEADLK, EBADF for the wrong access mode."""
    file = fdget(task, fd)
    lock = await _range(task, file, type, start, length, whence)
    if type == F_RDLCK:
        readable(file)
    elif type == F_WRLCK:
        writable(file)
    elif type != F_UNLCK:
        raise invalid(f"lock type {type}")
    owner = file if ofd else task.program.files
    await file.ops.setlk(task, file, lock, owner, wait)


@syscall
async def sys_getlk(
    task: ProgramTask, fd: int, type: int, start: int, length: int, whence: int, ofd: bool = False
) -> FileLock:
    """F_GETLK: a lock in the way, or one of type F_UNLCK."""
    file = fdget(task, fd)
    if type not in (F_RDLCK, F_WRLCK):
        raise invalid(f"lock type {type}")
    lock = await _range(task, file, type, start, length, whence)
    return await file.ops.getlk(task, file, lock, file if ofd else task.program.files)


async def _range(task: ProgramTask, file: File, type: int, start: int, length: int, whence: int) -> FileLock:
    """``flock_to_posix_lock``: a length of 0 reaches to the end, a negative one backwards."""
    if whence == os.SEEK_CUR:
        start += file.pos
    elif whence == os.SEEK_END:
        start += file.inode.attr.size
    elif whence != os.SEEK_SET:
        raise invalid(f"whence {whence}")
    end = start + length - 1 if length else OFFSET_MAX
    if length < 0:
        start, end = start + length, start - 1
    if start < 0:
        raise invalid(f"a lock from {start}")
    if end > OFFSET_MAX or start > OFFSET_MAX:
        raise OSError(int(Errno.EOVERFLOW), "Value too large for defined data type")
    return FileLock(start, end, type)
