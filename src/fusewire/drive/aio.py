"""``process.aio``: the calls of a :class:`Process` as coroutines, for code inside an asyncio event loop.

A call runs on a thread of its own while the loop goes on, and answers it if it has to: the daemon may live in the same loop.
A coroutine that is cancelled interrupts its call, as a signal would. Under ``inline`` calls have one thread together and are
done one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .inline import Inline

if TYPE_CHECKING:
    from ..kernel.queue import Task
    from .kernel import Kernel
    from .mount import Mount
    from .process import Process

T = TypeVar("T")
CANCELLED = -1  # no signal has this number: what a cancelled coroutine sends to its call
IDLE = 10.0  # seconds that a thread without work lives on
DATA = (type(None), bool, int, float, str, bytes, bytearray, memoryview, tuple, list, dict, set, frozenset)


class Async:
    """``thing``, with its methods as coroutines. What they return is the same if it is data (numbers, text, lists), and again
    an :class:`Async` if it is a thing with calls of its own: an open file, a directory that is being listed."""

    def __init__(self, thing: Any, process: Process) -> None:
        self._thing = thing
        self._process = process

    def __repr__(self) -> str:
        return f"<async {self._thing!r}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        found = getattr(self._thing, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._call(functools.partial(found, *args, **kwargs))

        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._thing) if not name.startswith("_")]

    async def __aenter__(self) -> Async:
        await self._call(self._thing.__enter__)
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        return await self._call(functools.partial(self._thing.__exit__, *exc))

    async def __aiter__(self) -> AsyncIterator[Any]:
        end = object()
        iterator = iter(self._thing)
        while (item := await self._call(functools.partial(next, iterator, end))) is not end:
            yield item

    async def _call(self, function: Callable[[], Any]) -> Any:
        result = await _in_a_thread(self._process, function)
        return result if isinstance(result, DATA) or type(result) is object else Async(result, self._process)


async def _in_a_thread(process: Process, function: Callable[[], T]) -> T:
    """Call it while the loop goes on."""
    loop = asyncio.get_running_loop()
    kernel = process.kernel
    driver = kernel.driver
    if isinstance(driver, Inline) and any(mount.loop.is_running_here() for mount in kernel.mounts if mount.loop):
        raise RuntimeError(
            "under inline a handler cannot wait for a call of its own kernel: use Kernel(driver='threads')"
        )
    future: asyncio.Future[T] = loop.create_future()
    doing: list[Task] = []

    def call() -> None:
        task = process._task()
        with driver.locked():  # who cancels looks at the one and then the other
            if future.cancelled():
                return
            doing.append(task)
        try:
            with driver.lent() if isinstance(driver, Inline) else contextlib.nullcontext():
                outcome = functools.partial(_resolve, future, function(), None)
        except BaseException as error:
            outcome = functools.partial(_resolve, future, None, error)
        with driver.locked():  # a cancellation that comes too late is not for the thread's next call
            doing.clear()
            task.pending_signals[:] = [number for number in task.pending_signals if number != CANCELLED]
        if not loop.is_closed():
            loop.call_soon_threadsafe(outcome)

    kernel.pool_of_threads.run(call)
    try:
        return await future
    except asyncio.CancelledError:
        process.program.handlers.setdefault(CANCELLED, lambda number: None)
        with driver.locked():
            for task in doing:
                task.kill(CANCELLED)
        raise


def _resolve(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # which no future takes
        error = RuntimeError(f"a call raised {error!r}")
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


class Pool:
    """Threads for calls that block: one each, at most ``limit`` at a time, kept for a while."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: deque[Callable[[], None]] = deque()
        self._ready = threading.Condition()
        self._idle = 0
        self._threads = 0

    def run(self, function: Callable[[], None]) -> None:
        """Have a thread call it."""
        with self._ready:
            self._waiting.append(function)
            if len(self._waiting) <= self._idle:
                self._ready.notify()
            elif self._threads < self.limit:
                self._threads += 1
                threading.Thread(target=self._work, name="fusewire aio", daemon=True).start()

    def _work(self) -> None:
        while (function := self._next()) is not None:
            function()

    def _next(self) -> Callable[[], None] | None:
        with self._ready:
            self._idle += 1
            self._ready.wait_for(lambda: self._waiting, timeout=IDLE)
            self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None


# -- the plain calls ---------------------------------------------------------------------------------------------------


def refuse_to_block(kernel: Kernel, coroutine: Coroutine[Any, Any, Any]) -> None:
    """A plain call is being made, which would block this thread's event loop. Raises RuntimeError if a daemon needs it."""
    if asyncio._get_running_loop() is None:
        return
    for mount in kernel.mounts:
        why = _why_not_to_block(mount)
        if why:
            coroutine.close()
            raise RuntimeError(
                f"a plain call would block this event loop, {why} {os.fsdecode(mount.path)}:"
                " await the same call of process.aio, or make it in another thread (asyncio.to_thread)"
            )


def _why_not_to_block(mount: Mount) -> str:
    if mount.loop is not None and mount.loop.is_running_here():
        return "which has to run the async handlers of the filesystem at"
    if mount.foreign is not None and mount.foreign.may_be_in_this_process:
        return "which may have to serve the daemon behind the socket of"
    return ""
