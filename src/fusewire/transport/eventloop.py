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

    def start(self, later: Later, done: Callable[[Answer], None]) -> None:
        """Run a handler; ``done`` gets its answer, on the loop's thread."""
        loop = self._running()

        def begin() -> None:
            if later.request.interrupted:  # a task that is cancelled before its first step never answers
                done(later.interrupted())
                return
            task = loop.create_task(self._answer(later, done), context=contextvars.copy_context())
            later.request.on_interrupt = lambda: _cancel_soon(loop, task)
            if later.request.interrupted:  # between the two: nobody may have called it
                _cancel_soon(loop, task)

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
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="fusewire event loop", daemon=True)
                self._thread.start()
            return self._loop

    def is_running_here(self) -> bool:
        """Whether this very code runs in it."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Stop the loop; handlers that still run are cancelled. One that does not end within seconds is left behind."""
        if self._loop is None or self._thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(timeout=PATIENCE)
        except TimeoutError:
            log.warning("an async handler does not end when it is cancelled; it is left behind")
            self._loop = None
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
        self._loop = None


def _cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    loop.call_soon_threadsafe(task.cancel)


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
