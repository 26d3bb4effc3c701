"""``fusewire.run``: a program that serves one mount, until that is unmounted or a signal ends it.

Signals come as bytes in a pipe, written by Python's own handler in C (``signal.set_wakeup_fd``). A handler in Python is called
between two steps of its thread: a signal that came just before a wait without end would be heard after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from .daemon import Operations
from .linux.options import MountError, MountOptions
from .linux.privileges import sd_notify
from .mounting import Mounted, PathLike, end

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
OVER = 0  # no signal has this number


def run(operations: Operations, path: PathLike, options: MountOptions = MountOptions()) -> None:
    """Mount ``operations`` at ``path`` and serve it; returns when it is unmounted, or on SIGINT, SIGTERM or SIGHUP, which
    unmount it. Raises :class:`MountError`."""
    run_mounted(lambda stop: Mounted(operations, path, options, stop=stop))


def run_mounted(
    start: Callable[[threading.Event], Mounted], ready: Callable[[Mounted], None] = lambda mounted: None
) -> None:
    """Mount by ``start``, call ``ready`` with what is mounted, and return when it is unmounted, or on SIGINT, SIGTERM or
    SIGHUP, which unmount it, from the very start on: ``start`` gets the event that is set by them. Tells systemd where that
    asked for it (``Type=notify``)."""
    with _Ending() as ending:
        try:
            mounted = start(ending.stop)
        except MountError as error:
            if error.errno == errno.ECANCELED and ending.stop.is_set():
                return
            raise
        try:
            ready(mounted)
            sd_notify("READY=1")
            ending.wait(mounted)
            sd_notify("STOPPING=1")
        finally:
            end(mounted)


class _Ending:
    """Waits for a signal, or the end of a mount. In other threads than the first, which get no signals, for the latter."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._handlers: dict[int, Any] = {}
        self._watching: threading.Thread | None = None

    def __enter__(self) -> _Ending:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        if threading.current_thread() is threading.main_thread():
            self._others = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
            for number in SIGNALS:
                self._handlers[number] = signal.signal(number, self._asked)
        return self

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.stop.set()

    def wait(self, mounted: Mounted) -> None:
        """Until there is one."""
        self._watching = threading.Thread(target=self._watch, args=[mounted], daemon=True)
        self._watching.start()
        while os.read(self._reading, 1)[0] not in (OVER, *SIGNALS):
            pass

    def _watch(self, mounted: Mounted) -> None:
        with contextlib.suppress(Exception):  # end() raises it, too
            mounted.wait()
        select.select([], [self._writing], [])
        os.write(self._writing, bytes([OVER]))

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._handlers:
            signal.set_wakeup_fd(self._others)
        if self._watching is not None:
            self._watching.join()
        os.close(self._reading)
        os.close(self._writing)
