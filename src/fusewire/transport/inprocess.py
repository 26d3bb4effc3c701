"""Our kernel's half and our daemon's half in one process: what they say crosses as bytes, as through /dev/fuse."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..daemon.session import Later
from ..kernel.queue import Call
from ..kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from .readloop import Next, after_read, after_write

if TYPE_CHECKING:
    from ..daemon.session import Answer, Session
    from ..kernel.vfs import ProgramTask

log = logging.getLogger("fusewire.transport")


async def serve(task: ProgramTask, fd: int, session: Session) -> None:
    """A worker of a daemon: read a request, have the session answer it, write the answer; until the mount is gone."""
    failed: Exception | None = None
    try:
        await _serve(task, fd, session)
    except Exception as error:
        failed = error
    if len(task.program.tasks) == 1:
        await Call(session.destroy)
    await sys_exit(task)
    if failed is not None:
        raise failed


async def _serve(task: ProgramTask, fd: int, session: Session) -> None:
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
        answer = await Call(_answer, session, buffer[:size])
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


def _answer(session: Session, message: memoryview) -> Answer | None:
    """In user mode. An async handler is run to its end by its worker: other workers serve meanwhile."""
    answer = session.handle(message)
    return asyncio.run(answer.run()) if isinstance(answer, Later) else answer
