"""``fusewire.run``: a program that serves one mount, until that is unmounted or a signal ends it."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from .daemon import Operations
from .linux.options import MountError, MountOptions
from .linux.privileges import sd_notify
from .mounting import GLANCE, Mounted, PathLike, end


def run(operations: Operations, path: PathLike, options: MountOptions = MountOptions()) -> None:
    """Mount ``operations`` at ``path`` and serve it; returns when it is unmounted, or on SIGINT, SIGTERM or SIGHUP, which
    unmount it. Raises :class:`MountError`."""
    run_mounted(lambda stop: Mounted(operations, path, options, stop=stop))


def run_mounted(
    start: Callable[[Callable[[], bool]], Mounted], ready: Callable[[Mounted], None] = lambda mounted: None
) -> None:
    """Mount by ``start``, call ``ready`` with what is mounted, and return when it is unmounted, or on SIGINT, SIGTERM or
    SIGHUP, which unmount it, from the very start on: ``start`` gets what tells whether one came. Tells systemd where that asked
    for it (``Type=notify``)."""
    came: list[int] = []  # no lock: a handler may interrupt another
    handlers: dict[int, Any] = {}

    def asked(number: int, frame: FrameType | None) -> None:
        came.append(number)

    def stop() -> bool:
        return bool(came)

    if threading.current_thread() is threading.main_thread():
        for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handlers[wanted] = signal.signal(wanted, asked)
    try:
        try:
            mounted = start(stop)
        except MountError as error:
            if error.errno == errno.ECANCELED and came:
                return
            raise
        try:
            ready(mounted)
            sd_notify("READY=1")
            while not came and not mounted.over(GLANCE):
                pass
            sd_notify("STOPPING=1")
        finally:
            end(mounted)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
