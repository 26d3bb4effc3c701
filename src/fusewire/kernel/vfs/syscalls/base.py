"""What system calls share: letting go of what they held, and the checks that fs/*.c make of numbers from user space."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from ....wire.errno import Errno
from ...queue import traced
from ..files import File, put_file
from ..inode import Dentry, Inode
from ..program import ProgramTask

P = ParamSpec("P")
T = TypeVar("T")
Call = Callable[Concatenate[ProgramTask, P], Coroutine[Any, Any, T]]
MAX_OFFSET = (1 << 63) - 1


def syscall(function: Call[P, T]) -> Call[P, T]:
    """A system call that holds dentries and open files while it waits: they are let go at its end. Also traced."""

    @functools.wraps(function)
    async def call(task: ProgramTask, /, *args: P.args, **kwargs: P.kwargs) -> T:
        outer = task.held, task.using
        task.held, task.using = [], []
        try:
            return await function(task, *args, **kwargs)
        finally:
            task.let_go()
            for file in task.using:
                await put_file(task, file)
            task.held, task.using = outer

    return traced()(call)


def invalid(why: str) -> OSError:
    return OSError(int(Errno.EINVAL), why)


def bad_descriptor(why: str) -> OSError:
    return OSError(int(Errno.EBADF), why)


def check_offset(offset: int | None) -> None:
    if offset is not None and not 0 <= offset <= MAX_OFFSET:
        raise invalid(f"an offset of {offset} bytes")


def check_area(offset: int, count: int) -> None:
    """``rw_verify_area``: so many bytes from there on. Raises EINVAL."""
    check_offset(offset)
    if not 0 <= count <= MAX_OFFSET - offset:
        raise invalid(f"{count} bytes at {offset}")


def writable(file: File) -> File:
    """Raises EBADF."""
    if not file.writable:
        raise bad_descriptor("the descriptor is not open for writing")
    return file


def readable(file: File) -> File:
    """Raises EBADF."""
    if not file.readable:
        raise bad_descriptor("the descriptor is not open for reading")
    return file


def fdget(task: ProgramTask, fd: int) -> File:
    """An open file, held until the system call ends, whoever closes the descriptor meanwhile. Raises EBADF."""
    return use(task, task.program.files.file(fd))


def use(task: ProgramTask, file: File) -> File:
    """Hold an open file until the system call ends."""
    file.count += 1
    task.using.append(file)
    return file


def target(task: ProgramTask, dentry: Dentry) -> Inode:
    """The inode of a dentry that was found, held until the system call ends."""
    return task.hold(dentry).positive
