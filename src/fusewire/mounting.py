"""``fusewire.mount`` and ``fusewire.run``: a filesystem, a mountpoint, and the session between them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from .daemon import Operations, Session
from .inspect.events import EventStream
from .linux import mounts
from .linux.mounts import MountError, MountOptions
from .transport.devfuse import DevFuse, serve

PathLike = str | os.PathLike[str]


class Mounted:
    """A filesystem that is mounted and served. ``number`` is the connection's, as fusectl has it."""

    def __init__(self, operations: Operations, path: str, options: MountOptions, events: EventStream | None) -> None:
        self.path = path
        self.session = Session(operations)
        self.session.events = events
        self.session.who = lambda: (threading.get_native_id(), "daemon")
        self.channel = DevFuse(mounts.mount(path, options))
        self.channel.events = events
        self.number = mounts.connection_number(path)
        self.thread_id = 0  # of the reader, as Linux counts threads

    def serve(self) -> None:
        """Answer requests until it is unmounted, by anyone."""
        self.thread_id = threading.get_native_id()
        try:
            serve(self.session, self.channel)
        finally:
            self.channel.close()
            self.session.destroy()

    def unmount(self) -> None:
        """Unmount, unless someone else has. A busy mount is taken away all the same."""
        if mounts.mount_at(self.path) == self.number:
            with contextlib.suppress(MountError):
                mounts.unmount_at_any_price(self.path)


@contextlib.contextmanager
def mount(
    operations: Operations,
    path: PathLike,
    options: MountOptions = MountOptions(),
    *,
    events: EventStream | None = None,
) -> Iterator[Mounted]:
    """Mount ``operations`` at ``path`` and serve it from a thread, as long as the ``with`` lasts.

    Raises :class:`MountError`. Use the mount from other processes: a call of this very process that holds the GIL while it
    waits (fstat in some versions of Python) would wait for the thread that is to answer it.
    """
    mounted = Mounted(operations, os.fspath(path), options, events)
    server = threading.Thread(target=mounted.serve, name=f"fusewire {path}", daemon=True)
    server.start()
    mounted.thread_id = server.native_id or 0
    try:
        yield mounted
    finally:
        mounted.unmount()
        server.join()


def run(operations: Operations, path: PathLike, options: MountOptions = MountOptions()) -> None:
    """Mount ``operations`` at ``path`` and serve it; returns when it is unmounted, or on SIGINT, SIGTERM or SIGHUP, which
    unmount it. Raises :class:`MountError`."""
    mounted = Mounted(operations, os.fspath(path), options, None)

    def stop(number: int, frame: FrameType | None) -> None:
        mounted.unmount()

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        mounted.serve()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        mounted.unmount()
