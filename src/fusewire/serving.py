"""``fusewire.amount`` and ``serve``: mounts of a program that runs an event loop. Cancelled at any time, they leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar, cast

from .daemon import Operations
from .linux.options import MountError, MountOptions
from .mounting import Mounted, PathLike, end

T = TypeVar("T")


@contextlib.asynccontextmanager
async def amount(
    operations: Operations, path: PathLike, options: MountOptions = MountOptions()
) -> AsyncIterator[Mounted]:
    """As :func:`mount`, inside an event loop, which goes on while it mounts and unmounts. Cancelled at any time, it unmounts
    before it ends."""
    stop = threading.Event()

    def begin() -> Mounted:
        return Mounted(operations, path, options, stop=stop.is_set)

    mounting = asyncio.ensure_future(_in_thread(begin))
    try:
        mounted = await asyncio.shield(mounting)
    except asyncio.CancelledError:
        stop.set()
        await _to_the_end(_end_once_mounted(mounting))
        raise
    try:
        yield mounted
    finally:
        await _to_the_end(_in_thread(lambda: end(mounted)))


async def _end_once_mounted(mounting: Awaitable[Mounted]) -> None:
    with contextlib.suppress(MountError):
        mounted = await mounting
        await _in_thread(lambda: end(mounted))


async def _in_thread(call: Callable[[], T]) -> T:
    """``call`` in a thread of its own: asyncio.to_thread has few, and each mount would hold one for as long as it lives."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="fusewire serve", daemon=True).start()
    return await future


async def _to_the_end(work: Awaitable[T]) -> T:
    """Wait for ``work``, however often we are cancelled meanwhile; raises CancelledError after it, then."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and task.exception() is None:
        raise cancelled
    return task.result()


async def serve(operations: Operations, path: PathLike, options: MountOptions = MountOptions()) -> None:
    """Mount ``operations`` at ``path`` and serve it; returns when it is unmounted. Cancelling unmounts it.

    asyncio.run cancels on SIGINT; SIGTERM and SIGHUP end the program at once, unless it handles them
    (``loop.add_signal_handler``), and then the watcher unmounts (``auto_unmount``).
    """
    async with amount(operations, path, options) as mounted:
        await _in_thread(mounted.wait)
