"""Where ``async`` handlers run when the readers are threads: one event loop in a thread of its own, started when needed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..daemon.session import Answer, Later


log = logging.getLogger("fusewire.transport")
PATIENCE = 5.0  # seconds that cancelled handlers have to end


class EventLoop:
    """An asyncio loop in a thread. FUSE_INTERRUPT cancels the handler's task; its caller gets EINTR."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # handlers are begun by any thread
        self._handlers: dict[asyncio.Task[None], bool] = {}  # those that run, and whether they were cancelled
        self.on_start: Callable[[], None] | None = None  # called before it runs its first handler

    def start(self, later: Later, done: Callable[[Answer], None]) -> None:
        """Run a handler; ``done`` gets its answer, on the loop's thread. EIO where Linux gives no thread for the loop."""
        try:
            loop = self._running()
        except RuntimeError as error:
            log.error("no async handler can run (%s): allow more threads (ulimit -u, TasksMax)", error)
            done(later.failed())
            return
        later.session.loop = loop

        def begin() -> None:
            if later.request.interrupted:  # a task that is cancelled before its first step never answers
                done(later.interrupted())
                return
            task = loop.create_task(self._answer(later, done), context=contextvars.copy_context())
            self._handlers[task] = False
            task.add_done_callback(self._handlers.pop)
            later.request.on_interrupt = lambda: self._cancel_soon(loop, task)
            if later.request.interrupted:  # between the two: nobody may have called it
                self._cancel_soon(loop, task)

        loop.call_soon_threadsafe(begin)

    async def _answer(self, later: Later, done: Callable[[Answer], None]) -> None:
        try:
            answer = await later.run()
        except asyncio.CancelledError:
            answer = later.interrupted()
        except BaseException as error:
            log.error("an async handler ended with %r", error)
            answer = later.failed()
        done(answer)

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop, started when it is not yet. Raises RuntimeError where Linux gives no thread."""
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name="fusewire event loop", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    loop.close()
                    raise
                self._loop, self._thread = loop, thread
                if self.on_start is not None:
                    self.on_start()
            return self._loop

    @property
    def alive(self) -> bool:
        """Whether a handler may still run in it."""
        return self._thread is not None and self._thread.is_alive()

    def is_running_here(self) -> bool:
        """Whether this very code runs in it."""
        return threading.current_thread() is self._thread

    def close(self, timeout: float | None = None) -> None:
        """Stop the loop; handlers that still run are cancelled. Where one has not ended after ``timeout`` seconds (None: a
        few), because it goes on all the same or blocks the loop, the loop is left to it."""
        if timeout is None:
            timeout = PATIENCE
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop = None
        cancelled = asyncio.run_coroutine_threadsafe(self._cancel_all(), loop)
        try:
            cancelled.result(timeout)
        except TimeoutError:
            log.warning("an async handler does not end when it is cancelled; it is left behind")
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)
        loop.close()

    def _cancel_soon(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        loop.call_soon_threadsafe(self._cancel, task)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        """On the loop's thread. Once: the next would hit what the handler does to clean up."""
        if self._handlers.get(task) is False:
            self._handlers[task] = True
            task.cancel()

    async def _cancel_all(self) -> None:
        """Handlers first: a task that one of them waits for is cancelled through it."""
        handlers = list(self._handlers)
        for task in handlers:
            self._cancel(task)
        await asyncio.gather(*handlers, return_exceptions=True)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
