"""sendfile and splice: from one open file to another, and not through the program's memory. As fs/splice.c has it."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from ....wire.errno import Errno
from ..files import File
from ..pipe import Pipe
from ..program import ProgramTask
from .base import check_area, fdget, invalid, readable, syscall, writable
from .read_write import move

MAX_RW_COUNT = 0x7FFF_F000  # bytes that one call moves
SPLICE_F_NONBLOCK = 2
SPLICE_F_ALL = 0xF


@syscall
async def sys_sendfile(task: ProgramTask, out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    """How many bytes were moved. ``offset`` None: from the file's own position, which moves. Raises EBADF; EINVAL for what is
    no regular file, and for a target that was opened with O_APPEND."""
    source, target = readable(fdget(task, in_fd)), fdget(task, out_fd)
    if offset is not None and not source.positioned:
        raise OSError(int(Errno.ESPIPE), "Illegal seek")
    at = source.pos if offset is None else offset
    check_area(at, count)
    count = min(count, MAX_RW_COUNT)
    writable(target)
    if not source.inode.is_reg:
        raise invalid("no regular file")
    if isinstance(target.ops, Pipe):
        done = await _file_to_pipe(task, source, at, target, count, bool(target.flags & os.O_NONBLOCK))
    else:
        check_area(target.pos, count)
        _no_append(target)
        done = await move(task, source, at, target, target.pos, count)
        target.pos += done
    if offset is None:
        source.pos += done
    return done


@syscall
async def sys_splice(
    task: ProgramTask, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, length: int, flags: int
) -> int:
    """How many bytes were moved; 0 at the end. Raises EBADF; EINVAL unless one of them is a pipe, and for a pipe and itself;
    ESPIPE for an offset in a pipe; EAGAIN."""
    if not length:
        return 0
    if flags & ~SPLICE_F_ALL:
        raise invalid(f"flags {flags:#x}")
    source, target = readable(fdget(task, fd_in)), writable(fdget(task, fd_out))
    for file, offset in ((source, off_in), (target, off_out)):
        if isinstance(file.ops, Pipe) and offset is not None:
            raise OSError(int(Errno.ESPIPE), "Illegal seek: a pipe has no offsets")
    pipes = [file for file in (source, target) if isinstance(file.ops, Pipe)]
    nonblock = bool(flags & SPLICE_F_NONBLOCK) or any(pipe.flags & os.O_NONBLOCK for pipe in pipes)
    if len(pipes) == 2:
        return await _pipe_to_pipe(task, source, target, length, nonblock)
    if not pipes:
        raise invalid("neither is a pipe")
    if pipes[0] is source:
        _no_append(target)
        at = target.pos if off_out is None else off_out
        check_area(at, length)
        done = await _pipe_to_file(task, source, target, at, length, nonblock)
        if off_out is None and target.seekable:
            target.pos += done
        return done
    if not source.inode.is_reg:
        raise invalid("no regular file")
    at = source.pos if off_in is None else off_in
    check_area(at, length)
    done = await _file_to_pipe(task, source, at, target, length, nonblock)
    if off_in is None:
        source.pos += done
    return done


def _no_append(target: File) -> None:
    if target.flags & os.O_APPEND:
        raise invalid("the target was opened with O_APPEND")


def _pipe(file: File) -> Pipe:
    assert isinstance(file.ops, Pipe)
    return file.ops


async def _file_to_pipe(task: ProgramTask, source: File, at: int, target: File, count: int, nonblock: bool) -> int:
    """``splice_file_to_pipe``: as much as there is room for, which nobody takes while the daemon reads."""
    pipe = _pipe(target)
    await pipe.lock(task)
    try:
        room = await pipe.wait_for_room(task, nonblock)
        memory = memoryview(bytearray(min(count, room)))
        size = await source.ops.read(task, source, memory, at)
        return await pipe.write_locked(task, memory[:size], nonblock) if size else 0
    finally:
        pipe.unlock(task)


async def _pipe_to_file(task: ProgramTask, source: File, target: File, at: int, length: int, nonblock: bool) -> int:
    """``iter_file_splice_write``: what is in the pipe, where it stays until the file has taken it."""
    pipe = _pipe(source)
    await pipe.lock(task)
    try:
        if not await pipe.wait_for_data(task, nonblock):
            return 0
        done, _ = await target.ops.write(task, target, pipe.peek(length), at)
        pipe.consume(done)
        return done
    finally:
        pipe.unlock(task)


async def _pipe_to_pipe(task: ProgramTask, source: File, target: File, length: int, nonblock: bool) -> int:
    """``splice_pipe_to_pipe``: it waits for one pipe after the other, and then takes both in an order that is everyone's."""
    from_pipe, to_pipe = _pipe(source), _pipe(target)
    if from_pipe is to_pipe:
        raise invalid("the two are the same pipe")
    both = sorted((from_pipe, to_pipe), key=lambda pipe: pipe.number)
    while True:
        if not await _locked(task, from_pipe, from_pipe.wait_for_data(task, nonblock)):
            return 0
        await _locked(task, to_pipe, to_pipe.wait_for_room(task, nonblock))
        try:
            for pipe in both:
                await pipe.lock(task)
            if from_pipe.buffers and to_pipe.room:  # nobody else was faster
                done = await to_pipe.write_locked(task, from_pipe.peek(min(length, to_pipe.room)), nonblock)
                from_pipe.consume(done)
                return done
        finally:
            for pipe in both:
                pipe.unlock(task)


async def _locked(task: ProgramTask, pipe: Pipe, wait: Coroutine[Any, Any, int]) -> int:
    try:
        await pipe.lock(task)
        return await wait
    finally:
        wait.close()
        pipe.unlock(task)
