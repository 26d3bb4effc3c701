"""Our kernel's half and our daemon's half in one process: what they say crosses as bytes, as through /dev/fuse."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..daemon.session import Later
from ..kernel.queue import Call
from ..kernel.vfs.files import DeviceFile
from ..kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from .eventloop import EventLoop
from .readloop import Next, after_read, after_write

if TYPE_CHECKING:
    from ..daemon.session import Answer, Session
    from ..kernel.vfs import ProgramTask

log = logging.getLogger("fusewire.transport")


UserMode = Callable[..., Any]


async def serve(task: ProgramTask, fd: int, session: Session, loop: EventLoop, user_mode: UserMode) -> None:
    """A worker of a daemon: read a request, have the session answer it, write the answer; until the mount is gone. Async
    handlers run on ``loop``, which all workers of a mount share. ``user_mode`` is :meth:`Driver.user_mode`."""
    failed: BaseException | None = None
    try:
        await _serve(task, fd, session, loop, user_mode)
    except GeneratorExit:
        raise
    except BaseException as error:  # a handler that exits, or is cancelled: its callers are to be freed all the same
        failed = error
    if len(task.program.tasks) == 1:
        await Call(session.destroy)
        loop.close()
    await sys_exit(task)
    if failed is not None:
        raise failed


async def _serve(task: ProgramTask, fd: int, session: Session, loop: EventLoop, user_mode: UserMode) -> None:
    device = task.program.files.get(fd)
    assert isinstance(device, DeviceFile)
    read_now, write_now = device.device.read_now, device.device.write_now
    fc = device.device.connection
    buffer = memoryview(bytearray(session.buffer_size))
    while not task.dying:
        try:
            size = None
            if task.events is None:  # nobody records: the same, without the frames in between
                await fc.request_wait_untold(task)
                size = read_now(task, buffer)
            if size is None:
                size = await sys_read(task, fd, buffer)
        except OSError as error:
            if after_read(error) is Next.AGAIN:
                continue
            if after_read(error) is Next.STOP:
                return
            raise
        message = buffer[:size]
        if task.points:
            answer = await Call(_answer, session, message, loop)
        else:
            answer = user_mode(task, session.handle, message)
            if answer.__class__ is Later:
                answer = user_mode(task, _finish, answer, loop)
        if answer is None:
            continue
        try:
            if task.events is not None or write_now(task, answer) is None:
                await sys_write(task, fd, answer)
        except OSError as error:
            if after_write(error) is Next.AGAIN:
                await Call(session.undelivered, message, answer)
            elif after_write(error) is Next.FAIL:
                log.error("the kernel refused an answer: %s", error)


def _answer(session: Session, message: memoryview, loop: EventLoop) -> Answer | None:
    """In user mode."""
    answer = session.handle(message)
    return _finish(answer, loop) if isinstance(answer, Later) else answer


def _finish(later: Later, loop: EventLoop) -> Answer:
    """A worker waits for its async handler: other workers serve meanwhile."""
    done: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    loop.start(later, done.put)
    return done.get()
