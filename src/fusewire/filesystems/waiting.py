"""Coroutines that wait until something has changed. They take no thread: any number of them leaves room for the request that
changes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Waiters:
    """Who waits, each on the event loop that it runs on."""

    def __init__(self) -> None:
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @contextlib.contextmanager
    def joined(self) -> Iterator[asyncio.Event]:
        """For as long as the block lasts :meth:`wake` sets this event. Cleared before one looks, it misses no change."""
        changed = asyncio.Event()
        waiter = (asyncio.get_running_loop(), changed)
        self._waiting.add(waiter)
        try:
            yield changed
        finally:
            self._waiting.discard(waiter)

    def wake(self) -> None:
        """Something has changed: whoever waits looks again. From any thread."""
        # A list: making a tuple may start the garbage collector before it has them all, and with it another thread.
        for loop, changed in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # the loop is closed: the mount is gone
                loop.call_soon_threadsafe(changed.set)
