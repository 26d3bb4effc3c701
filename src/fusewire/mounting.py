"""``fusewire.mount``, ``run`` and ``serve``: a filesystem, a mountpoint, and the session between them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import stat
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

from .daemon import Operations, Session
from .inspect.events import EventStream
from .linux import fusermount, mounts
from .linux.autounmount import AutoUnmount
from .linux.options import MountError, MountOptions
from .linux.privileges import become, sd_notify
from .transport.devfuse import DevFuse
from .transport.notifier import NotifierThread
from .transport.readers import Readers
from .transport.sockets import Seqpacket, Stream
from .transport.trace import Traced

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_FUSE_DEVICE = os.makedev(10, 229)
_FD_PATH = re.compile(r"/dev/fd/(\d+)$")


class Mounted:
    """A filesystem that is mounted, and the threads that serve it.

    ``number`` is the connection's, as fusectl has it (0 on a socket, or a descriptor whose mount we do not see).
    ``trace`` gets a line for every message. Raises :class:`MountError` when it cannot be mounted, or its ``init`` raises; then
    nothing is left behind.
    """

    def __init__(
        self,
        operations: Operations,
        path: PathLike,
        options: MountOptions = MountOptions(),
        *,
        events: EventStream | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        given = os.fsdecode(path)
        if not given:
            raise MountError(errno.ENOENT, "the mountpoint is empty: say which directory")
        # As mountinfo will have it, whatever becomes of our working directory.
        self.path = given if _FD_PATH.match(given) else os.path.realpath(given)
        self.number = 0
        self._is_child = False
        self.session = Session(operations)
        self.session.events = events
        self.session.who = lambda: (threading.get_native_id(), "daemon")
        self._trace = trace
        self._watcher: AutoUnmount | None = None
        self._error: BaseException | None = None
        self._mounting = False
        channel = _given(self.path)
        if channel is not None:
            _become_whoever_serves(channel, self.path, options)
            self._start(channel)
        else:
            self._mount(options)
            # Whoever gives up its privileges needs someone who may still unmount.
            self._watcher = AutoUnmount(self.path) if options.auto_unmount or options.user else None
            self._become(options.user)

    def _mount(self, options: MountOptions) -> None:
        """Serve and mount. Where the kernel can wait for the answer to INIT (6.18), mount(2) itself fails if that does."""
        mode = mounts.check_mountpoint(self.path)
        channel = DevFuse(mounts.open_device())
        waits = channel.sync_init()
        if waits:
            self._mounting = True  # the descriptor is ours to close, whatever becomes of the reader
            self._start(channel)
        try:
            mounts.attach(channel.fd, self.path, mode, options)
        except MountError as error:
            if waits:
                self._abandon(channel)
            else:
                channel.close()
            if self.session.refusal:
                raise MountError(errno.EIO, f"{self.path} was not mounted: {self.session.refusal}") from None
            if not mounts.may_use_helper(error):
                raise
            self.session.initialized.clear()
            channel, waits = DevFuse(fusermount.mount(self.path, options)), False
        self.number = self.session.number = mounts.mount_at(self.path) or 0
        self._mounting = False
        if not waits:
            self._start(channel)
        elif not self._server.is_alive():
            channel.close()
        self._await_init()

    def _start(self, channel: DevFuse | Seqpacket | Stream) -> None:
        self.channel = channel
        channel.events = self.session.events
        self._notifier = NotifierThread(channel.send)
        self.session.notify.sink = self._notifier.send
        self.session.backing = channel if isinstance(channel, DevFuse) else None
        self.readers = Readers(self.session, Traced(channel, self._trace) if self._trace else channel)
        self._server = threading.Thread(target=self._serve, name=f"fusewire {self.path}", daemon=True)
        _alive.add(self)
        self._server.start()

    def _abandon(self, channel: DevFuse) -> None:
        """mount(2) failed while the reader waits for it in read(2), which nothing but a signal ends."""
        self._stop_reading(channel)
        channel.close()
        self._mounting = False

    def _stop_reading(self, channel: DevFuse) -> None:
        """End the readers without an unmount: their descriptor becomes /dev/null, and their sleep is interrupted."""
        if channel.fd < 0:
            return
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, channel.fd, inheritable=False)
        os.close(null)
        while self._server.is_alive():
            self.readers.prod()
            self._server.join(0.02)

    def _serve(self) -> None:
        try:
            self.readers.run()
        except BaseException as error:
            self._error = error
        finally:
            self.session.initialized.set()
            self._notifier.close()
            self.session.notify.close()
            if not self._mounting:
                self.channel.close()
            if self.session.granted is not None or not self._mounting:
                self.session.destroy()

    def _await_init(self) -> None:
        """The kernel has asked and was answered: only now the mount is of use."""
        self.session.initialized.wait()
        if self.session.granted is None:
            why = self.session.refusal or str(self._error or "it was unmounted before it answered")
            self.unmount()
            self.wait()
            raise MountError(errno.EIO, f"{self.path} was not mounted: {why}")

    def _become(self, user: str) -> None:
        try:
            if user:
                become(user)
        except MountError:
            self.unmount()
            self.wait()
            raise

    @property
    def alive(self) -> bool:
        """Whether it is still served."""
        return self._server.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is unmounted, by anyone, at most ``timeout`` seconds; whether it is. Raises what the transport failed
        with."""
        self._server.join(timeout)
        if self._server.is_alive():
            return False
        if self._watcher is not None:
            self._watcher.close()
        if self._error is not None:
            raise self._error
        return True

    def unmount(self) -> None:
        """Unmount, unless someone else has. A busy mount is taken away all the same."""
        if self._is_child:
            return
        if isinstance(self.channel, Seqpacket | Stream):
            with contextlib.suppress(OSError):
                self.channel.socket.shutdown(socket.SHUT_RDWR)
        elif self.number and mounts.mount_at(self.path) == self.number:
            try:
                mounts.unmount_at_any_price(self.path)
            except MountError as error:
                if error.errno == errno.EPERM and self._watcher is not None:
                    self._watcher.close()  # it unmounts when it no longer hears of us
                else:
                    self._stop_reading(self.channel)
        elif not self.number:
            self._stop_reading(self.channel)

    def _forked(self) -> None:
        """In the child of a fork: its copies of the descriptors would keep a dead daemon's mount alive. The mount is the
        parent's."""
        self._is_child = True
        self.channel.close()
        if self._watcher is not None:
            self._watcher.in_child()


_alive: weakref.WeakSet[Mounted] = weakref.WeakSet()


def _after_fork() -> None:
    for mounted in _alive:
        mounted._forked()


os.register_at_fork(after_in_child=_after_fork)


def _given(path: str) -> DevFuse | Seqpacket | Stream | None:
    """The descriptor that ``/dev/fd/N`` names: /dev/fuse, mounted by someone else, or a connected socket."""
    match = _FD_PATH.match(path)
    if match is None:
        return None
    fd = int(match[1])
    try:
        found = os.fstat(fd)
    except OSError as error:
        raise MountError(error.errno, f"{path}: descriptor {fd} is not open") from None
    if not stat.S_ISSOCK(found.st_mode):
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _FUSE_DEVICE:
            raise MountError(errno.EINVAL, f"{path} is neither /dev/fuse nor a connected socket")
        os.set_inheritable(fd, False)
        return DevFuse(fd)
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(True)
    if sock.type == socket.SOCK_SEQPACKET:
        return Seqpacket(sock)
    if sock.type == socket.SOCK_STREAM:
        return Stream(sock)
    sock.detach()
    raise MountError(errno.EINVAL, f"{path} is a socket that is neither SOCK_SEQPACKET nor SOCK_STREAM")


def _become_whoever_serves(channel: DevFuse | Seqpacket | Stream, path: str, options: MountOptions) -> None:
    """Of all options that is the one left when someone else mounts. Raises :class:`MountError`; the descriptor stays the
    caller's."""
    others = replace(options, user="").chosen()
    try:
        if others:
            raise MountError(
                errno.EINVAL,
                f"{path} is not mounted by us: give {', '.join(others)} to whoever mounts it; setuid= applies",
            )
        if options.user:
            become(options.user)
    except MountError:
        if not isinstance(channel, DevFuse):
            channel.socket.detach()
        raise


@contextlib.contextmanager
def mount(
    operations: Operations,
    path: PathLike,
    options: MountOptions = MountOptions(),
    *,
    events: EventStream | None = None,
) -> Iterator[Mounted]:
    """Mount ``operations`` at ``path`` and serve it from threads, as long as the ``with`` lasts.

    Raises :class:`MountError`. Use the mount from other processes: a call of this very process that holds the GIL while it
    waits (fstat in some versions of Python) would wait for the thread that is to answer it.
    """
    mounted = Mounted(operations, path, options, events=events)
    try:
        yield mounted
    finally:
        mounted.unmount()
        mounted.wait()


def run(operations: Operations, path: PathLike, options: MountOptions = MountOptions()) -> None:
    """Mount ``operations`` at ``path`` and serve it; returns when it is unmounted, or on SIGINT, SIGTERM or SIGHUP, which
    unmount it. Raises :class:`MountError`."""
    run_mounted(lambda: Mounted(operations, path, options))


def run_mounted(start: Callable[[], Mounted], ready: Callable[[Mounted], None] = lambda mounted: None) -> None:
    """Mount by ``start``, call ``ready`` with what is mounted, and return when it is unmounted, or on SIGINT, SIGTERM or
    SIGHUP, which unmount it, from the very start on. Tells systemd where that asked for it (``Type=notify``)."""
    stop = threading.Event()
    handlers: dict[int, Any] = {}

    def asked(number: int, frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handlers[wanted] = signal.signal(wanted, asked)
    try:
        mounted = start()
        try:
            ready(mounted)
            sd_notify("READY=1")
            threading.Thread(target=_set_after, args=(mounted, stop), daemon=True).start()
            stop.wait()
            sd_notify("STOPPING=1")
        finally:
            mounted.unmount()
            mounted.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _set_after(mounted: Mounted, stop: threading.Event) -> None:
    mounted._server.join()
    stop.set()


@contextlib.asynccontextmanager
async def amount(
    operations: Operations, path: PathLike, options: MountOptions = MountOptions()
) -> AsyncIterator[Mounted]:
    """As :func:`mount`, inside an event loop, which goes on while it mounts and unmounts."""
    mounted = await asyncio.to_thread(Mounted, operations, path, options)
    try:
        yield mounted
    finally:
        await asyncio.to_thread(mounted.unmount)
        await asyncio.to_thread(mounted.wait)


async def serve(operations: Operations, path: PathLike, options: MountOptions = MountOptions()) -> None:
    """Mount ``operations`` at ``path`` and serve it; returns when it is unmounted. Cancelling unmounts it."""
    async with amount(operations, path, options) as mounted:
        await asyncio.to_thread(mounted.wait)
