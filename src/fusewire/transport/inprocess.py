"""Our kernel's half and our daemon's half in one process: what they say crosses as bytes, as through /dev/fuse."""

from __future__ import annotations

import logging
import queue
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..daemon.session import Later
from ..kernel.queue import Call, Interrupted, Mode, Task, WaitQueue
from ..kernel.vfs import ProgramTask
from ..kernel.vfs.files import DeviceFile
from ..kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from ..wire.errno import Errno
from .eventloop import EventLoop
from .readloop import Next, after_read, after_write

if TYPE_CHECKING:
    from ..daemon.session import Answer, Session

T = TypeVar("T")
log = logging.getLogger("fusewire.transport")


class Host(Protocol):
    """The driver, as far as a daemon in the same process needs it."""

    def user_mode(self, task: Task, function: Callable[..., T], *args: Any) -> T: ...

    def locked(self) -> AbstractContextManager[Any]: ...

    def wait_future(self, future: Future[Any]) -> None: ...


Notify = Callable[[ProgramTask, int], Coroutine[Any, Any, None]]


class Serving:
    """What the workers of one mount share. Async handlers run on ``loop``; notifications are written by a task of their own:
    written by a worker, one that takes a directory's lock could wait for a caller whose request that worker is to answer."""

    def __init__(self, session: Session, host: Host, start: Callable[[Notify], None]) -> None:
        """``start(notify)`` begins a task of the daemon that runs ``notify(task, fd)``: with the first notification."""
        self.session = session
        self.host = host
        self._start = start
        self._notifies = False
        self.loop = EventLoop()
        self.workers = 0
        self._notifications: deque[tuple[bytes, Future[None]]] = deque()
        self._waitq = WaitQueue("notifications")
        self._over = False
        session.notify.sink = self._send

    async def work(self, task: ProgramTask, fd: int) -> None:
        """A worker: read a request, have the session answer it, write the answer; until the mount is gone."""
        self.workers += 1
        failed: BaseException | None = None
        try:
            await _serve(task, fd, self.session, self.loop, self.host)
        except GeneratorExit:
            raise
        except (
            BaseException
        ) as error:  # a handler that exits, or is cancelled: its callers are to be freed all the same
            failed = error
        self.workers -= 1
        if not self.workers:
            self._over = True
            self._waitq.wake_all()
            await Call(self.session.destroy)
            self.loop.close()
        await sys_exit(task)
        if failed is not None:
            raise failed

    async def notify(self, task: ProgramTask, fd: int) -> None:
        """The task that writes notifications, in the order they came."""
        queued = self._notifications
        while not task.dying:
            try:
                await self._waitq.wait_event(
                    task, lambda: bool(queued) or self._over, Mode.INTERRUPTIBLE, lambda: (), idle=True
                )
            except Interrupted:
                continue
            if not queued:
                break
            message, result = queued.popleft()
            try:
                await sys_write(task, fd, (message,))
            except OSError as error:
                await Call(_settle, result, error)
            else:
                await Call(_settle, result, None)
        await Call(self.session.notify.close)
        await sys_exit(task)

    def _send(self, message: bytes) -> Future[None]:
        result = Notified(self.host)
        with self.host.locked():
            if self._over:
                raise OSError(int(Errno.ENODEV), "the mount is gone")
            self._notifications.append((message, result))
            self._waitq.wake_one()
            starting, self._notifies = not self._notifies, True
        if starting:
            self._start(self.notify)
        return result


class Notified(Future[None]):
    """What became of a notification. Who waits for it lets the kernel's half go on meanwhile."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def result(self, timeout: float | None = None) -> None:
        self._host.wait_future(self)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._host.wait_future(self)
        return super().exception(timeout)


def _settle(result: Future[None], error: OSError | None) -> None:
    if not result.set_running_or_notify_cancel():
        return
    if error is None:
        result.set_result(None)
    else:
        result.set_exception(error)


async def _serve(task: ProgramTask, fd: int, session: Session, loop: EventLoop, host: Host) -> None:
    user_mode = host.user_mode
    device = task.program.files.get(fd)
    assert isinstance(device, DeviceFile)
    read_now, write_now = device.device.read_now, device.device.write_now
    fc = device.device.connection
    buffer = memoryview(bytearray(session.buffer_size))
    fc.readers[task] = None
    while not task.dying:
        try:
            size = None
            if task.events is None:  # nobody records: the same, without the frames in between
                await fc.waitq.wait_asleep(task, fc.to_read, fc.idle, True)
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
            answer = await Call(answer_now, session, message, loop)
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


def answer_now(session: Session, message: memoryview, loop: EventLoop) -> Answer | None:
    """In user mode: the answer, after an async handler has come to its end on ``loop``."""
    answer = session.handle(message)
    return _finish(answer, loop) if isinstance(answer, Later) else answer


def _finish(later: Later, loop: EventLoop) -> Answer:
    """A worker waits for its async handler: other workers serve meanwhile."""
    done: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    loop.start(later, done.put)
    return done.get()
