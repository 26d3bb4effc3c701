"""Our kernel's half and our daemon's half in one process: what they say crosses as bytes, as through /dev/fuse."""

from __future__ import annotations

import logging
import queue
from typing import TYPE_CHECKING

from ..daemon.session import Later
from ..kernel.queue import Call
from ..kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from .eventloop import EventLoop
from .readloop import Next, after_read, after_write

if TYPE_CHECKING:
    from ..daemon.session import Answer, Session
    from ..kernel.vfs import ProgramTask

log = logging.getLogger("fusewire.transport")


async def serve(task: ProgramTask, fd: int, session: Session, loop: EventLoop) -> None:
    """A worker of a daemon: read a request, have the session answer it, write the answer; until the mount is gone. Async
    handlers run on ``loop``, which all workers of a mount share."""
    failed: BaseException | None = None
    try:
        await _serve(task, fd, session, loop)
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


async def _serve(task: ProgramTask, fd: int, session: Session, loop: EventLoop) -> None:
    buffer = memoryview(bytearray(session.buffer_size))
    while not task.dying:
        try:
            size = await sys_read(task, fd, buffer)
        except OSError as error:
            if after_read(error) is Next.AGAIN:
                continue
            if after_read(error) is Next.STOP:
                return
            raise
        answer = await Call(_answer, session, buffer[:size], loop)
        if answer is not None:
            await _write(task, fd, session, buffer[:size], answer)


async def _write(task: ProgramTask, fd: int, session: Session, message: memoryview, answer: Answer) -> None:
    try:
        await sys_write(task, fd, answer)
    except OSError as error:
        if after_write(error) is Next.AGAIN:
            await Call(session.undelivered, message, answer)
        elif after_write(error) is Next.FAIL:
            log.error("the kernel refused an answer: %s", error)


def _answer(session: Session, message: memoryview, loop: EventLoop) -> Answer | None:
    """In user mode. A worker waits for its async handler: other workers serve meanwhile."""
    answer = session.handle(message)
    if not isinstance(answer, Later):
        return answer
    done: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    loop.start(answer, done.put)
    return done.get()
