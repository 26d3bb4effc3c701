"""/dev/fuse: requests by readv, answers by writev, and the loop of a reader that answers in line."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ..inspect.events import EventStream, Kind
from .readloop import Next, after_read, after_write

if TYPE_CHECKING:
    from ..daemon.session import Answer, Session

log = logging.getLogger("fusewire.transport")


class DevFuse:
    """An open /dev/fuse. ``events``: where to record its reads and writes, with the thread that makes them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.events: EventStream | None = None

    def receive(self, buffer: memoryview) -> int:
        """Sleep until a request is there and read it; returns its length in bytes. Raises OSError (see ``readloop``)."""
        if self.events is None:
            return os.readv(self.fd, (buffer,))
        self._tell(Kind.ENTER, "sys_read")
        try:
            return os.readv(self.fd, (buffer,))
        finally:
            self._tell(Kind.LEAVE, "sys_read")

    def send(self, answer: Answer) -> None:
        """Write one answer. Raises OSError."""
        if self.events is None:
            os.writev(self.fd, answer)
            return
        self._tell(Kind.ENTER, "sys_write")
        try:
            os.writev(self.fd, answer)
        finally:
            self._tell(Kind.LEAVE, "sys_write")

    def _tell(self, kind: Kind, text: str) -> None:
        assert self.events is not None
        self.events.emit(threading.get_native_id(), "daemon", kind, text)

    def close(self) -> None:
        """Give the descriptor back; with the last one the kernel aborts the connection."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def serve(session: Session, channel: DevFuse) -> None:
    """Read, answer, write; returns when the filesystem is unmounted or its connection aborted."""
    buffer = memoryview(bytearray(session.buffer_size))
    receive, handle, send = channel.receive, session.handle, channel.send
    while True:
        try:
            size = receive(buffer)
        except OSError as error:
            match after_read(error):
                case Next.AGAIN:
                    continue
                case Next.STOP:
                    return
            raise
        answer = handle(buffer[:size])
        if answer is None:
            continue
        if isinstance(answer, Awaitable):
            answer = asyncio.run(_finish(answer))
        try:
            send(answer)
        except OSError as error:
            if after_write(error) is Next.FAIL:
                log.error("the kernel refused an answer: %s", error)


async def _finish(answer: Awaitable[Answer]) -> Answer:
    return await answer
