"""``fusewire.mount``: a filesystem, a mountpoint, and the session between them."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator

from .daemon import Operations, Session
from .given import become_whoever_serves, given_channel, is_descriptor
from .inspect.events import EventStream
from .linux import Control, fusermount, mounts
from .linux.autounmount import AutoUnmount
from .linux.forking import handing_over, in_child
from .linux.fusectl import max_pages_limit
from .linux.options import MountError, MountOptions
from .linux.privileges import become
from .transport.devfuse import DevFuse
from .transport.notifier import NotifierThread
from .transport.readers import Readers
from .transport.sockets import Seqpacket, Stream
from .transport.trace import Traced

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]
GLANCE = 0.1  # seconds between looks whether a signal came: one just before a wait without end would be heard after it
GRACE = 1.0  # seconds until a mount that was taken away, and is still served, counts as used from elsewhere
log = logging.getLogger("fusewire")


class Mounted:
    """A filesystem that is mounted, and the threads that serve it.

    ``number`` is the connection's, as fusectl has it (0 on a socket, or a descriptor whose mount we do not see).
    ``trace`` gets a line for every message; ``stop``, once it returns True, gives up a mounting that still waits for ``init``.
    Raises :class:`MountError` when it cannot be mounted, its ``init`` raises, or ``stop`` said so (ECANCELED). Then, and after
    any other exception, nothing is left behind. Raises RuntimeError for an object that is mounted already: it has one
    ``session`` to notify.

    What is still mounted when the program ends is unmounted then. A signal that ends the program, or os._exit, leaves no time
    for that: then the watcher of ``auto_unmount`` does it, a process of its own (:class:`MountOptions`).
    """

    def __init__(
        self,
        operations: Operations,
        path: PathLike,
        options: MountOptions = MountOptions(),
        *,
        events: EventStream | None = None,
        trace: Callable[[str], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        given = os.fsdecode(path)
        if not given:
            raise MountError(errno.ENOENT, "the mountpoint is empty: say which directory")
        # As mountinfo will have it, whatever becomes of our working directory.
        self.path = given if is_descriptor(given) else mounts.resolve(given)
        self.number = 0
        self._identity = ""
        self._is_child = False
        self.session = Session(operations)
        self.session.events = events
        self.session.who = lambda: (threading.get_native_id(), "daemon")
        self._trace = trace
        self._stop = stop
        self._watcher: AutoUnmount | None = None
        self._error: BaseException | None = None
        self._server: threading.Thread | None = None
        self._ended = self._mounting = False  # the reader, and mount(2): the later one closes the descriptor
        self._closing = threading.Lock()
        channel = given_channel(self.path)
        if channel is not None:
            become_whoever_serves(channel, self.path, options)
            self._start(channel)
            return
        mode = mounts.check_mountpoint(self.path)
        try:
            self._watcher = self._watched(options)
            self._mount(mode, options)
            if options.user:
                become(options.user)
        except BaseException:
            self._undo()
            raise

    def _watched(self, options: MountOptions) -> AutoUnmount | None:
        """Whoever gives up its privileges needs someone who may still unmount."""
        if options.auto_unmount is False and not options.user:
            return None
        try:
            return AutoUnmount(self.path)
        except MountError as error:
            if options.auto_unmount or options.user:
                raise
            log.warning("%s; should this program be killed, a dead mount remains", error)
            return None

    def _mount(self, mode: int, options: MountOptions) -> None:
        """Serve and mount. Where the kernel can wait for the answer to INIT (6.18), mount(2) itself fails if that does."""
        with handing_over:
            channel = DevFuse(mounts.open_device())
            self.channel: DevFuse | Seqpacket | Stream = channel
            _alive.add(self)
        try:
            self._mounting = channel.sync_init()
            if self._mounting:
                self._start(channel)
                self._attach_waiting(channel, mode, options)
            else:
                mounts.attach(channel.fd, self.path, mode, options)
        except BaseException as error:
            self._abandon(channel)
            if not isinstance(error, MountError) or error.errno == errno.ECANCELED:
                raise
            if self.session.refusal:
                raise MountError(errno.EIO, f"{self.path} was not mounted: {self.session.refusal}") from None
            if not mounts.may_use_helper(error):
                raise
            if self._server is not None:
                self._server.join()
            self._server = None
            self.session.initialized.clear()
            channel = DevFuse(fusermount.mount(self.path, options))
        self._note(channel)
        if self._mounting:
            self._let_go(channel)
        else:
            try:
                self._start(channel)
            except BaseException:
                channel.close()
                raise
        if mounts.connection_of(channel.fd):
            mounts.check_alone(self.path, self.number)
        self._await_init()

    def _start(self, channel: DevFuse | Seqpacket | Stream) -> None:
        self.channel = channel
        channel.events = self.session.events
        self._notifier = NotifierThread(channel.send)
        self.session.notify.sink = self._notifier.send
        self.session.backing = channel if isinstance(channel, DevFuse) else None
        if isinstance(channel, DevFuse):
            self.session.max_pages = max_pages_limit()
        self.readers = Readers(self.session, Traced(channel, self._trace) if self._trace else channel)
        self.readers.at_end = lambda: self._reading_ended(channel)
        self._ended = False
        server = threading.Thread(target=self._serve, args=[channel], name=f"fusewire {self.path}", daemon=True)
        server.start()
        self._server = server
        _alive.add(self)

    def _attach_waiting(self, channel: DevFuse, mode: int, options: MountOptions) -> None:
        """mount(2), in a thread of its own: Python sees no signal while it is in a system call that a signal does not end."""
        failures: list[BaseException] = []
        done = threading.Event()

        def call() -> None:
            try:
                mounts.attach(channel.fd, self.path, mode, options)
            except BaseException as error:
                failures.append(error)
            finally:
                done.set()

        threading.Thread(target=call, name="fusewire mount(2)", daemon=True).start()
        try:
            self._wait_for(done)
        except BaseException:
            self._refuse_init(channel, "the mounting was given up")
            if done.wait(5.0) and not failures:  # it was answered just then
                self._note(channel)
            raise
        if failures:
            raise failures[0]

    def _wait_for(self, event: threading.Event) -> None:
        """Wait for ``event``; raises :class:`MountError` when we are asked to stop before."""
        while not event.wait(GLANCE):
            if self._stop is not None and self._stop():
                raise MountError(
                    errno.ECANCELED,
                    f"{self.path} was not mounted: asked to stop before the filesystem's init had returned",
                )

    def _note(self, channel: DevFuse) -> None:
        """It is mounted: remember which one it is."""
        self._identity = mounts.identity(self.path)
        self.number = self.session.number = mounts.connection_of(channel.fd) or mounts.mount_at(self.path) or 0
        if not self._identity or mounts.number_of(self._identity) != self.number:
            self._identity = ""  # another was mounted over it
        elif self._watcher is not None:
            self._watcher.mounted(self._identity)

    def _abandon(self, channel: DevFuse) -> None:
        """mount(2) failed, while the reader waits for it in read(2), which nothing but a signal ends."""
        self._let_go(channel)
        if self._server is not None:
            self._stop_reading(channel)

    def _let_go(self, channel: DevFuse) -> None:
        with self._closing:
            self._mounting = False
            if self._server is None:
                channel.close()
            elif self._ended:
                self._dispose(channel)

    def _dispose(self, channel: DevFuse | Seqpacket | Stream) -> None:
        """Where handlers are left behind the number stays taken: what they answer must not go to its next owner."""
        if isinstance(channel, DevFuse) and self.readers.left_behind:
            channel.hang_up()
        else:
            channel.close()

    def _stop_reading(self, channel: DevFuse) -> None:
        """End the readers without an unmount: their descriptor becomes /dev/null, and their sleep is interrupted."""
        channel.hang_up()
        self.readers.stop()

    def _refuse_init(self, channel: DevFuse, why: str) -> None:
        """End mount(2), which waits for the answer to INIT. It has the device open itself, so to close ours is not enough."""
        answers = self.session.refuse_init(why)
        with contextlib.suppress(OSError):
            for answer in answers:
                channel.send(answer)
            if not answers:  # INIT has not been read
                Control(mounts.connection_of(channel.fd)).abort()
        self._stop_reading(channel)

    def _reading_ended(self, channel: DevFuse | Seqpacket | Stream) -> None:
        failure = self.readers.failure
        if failure is not None and self._mounting and isinstance(channel, DevFuse):
            self._refuse_init(channel, f"its reader failed with {failure!r}")

    def _serve(self, channel: DevFuse | Seqpacket | Stream) -> None:
        try:
            self.readers.run()
        except BaseException as error:
            self._error = error
        finally:
            self.session.initialized.set()
            self._notifier.close()
            self.session.notify.close()
            with self._closing:
                self._ended = True
                if not self._mounting:
                    self._dispose(channel)
            if self.session.granted is not None:
                self.session.destroy()
            if self._watcher is not None and self._identity:  # whoever mounted may not wait for the end
                self._watcher.close()

    def _await_init(self) -> None:
        """The kernel has asked and was answered: only now the mount is of use."""
        self._wait_for(self.session.initialized)
        if self.session.granted is None:
            why = self.session.refusal or "it was unmounted before it answered"
            raise MountError(errno.EIO, f"{self.path} was not mounted: {why}")

    def _undo(self) -> None:
        """What began, and whoever began it is not there to end, must not be left behind."""
        self.unmount()
        if self._server is not None:
            self._server.join(None if self.session.granted is not None else GRACE)  # an init may never return
        if self._watcher is not None:
            self._watcher.close()

    @property
    def alive(self) -> bool:
        """Whether it is still served."""
        return self._server is not None and self._server.is_alive()

    def over(self, timeout: float | None = None) -> bool:
        """Whether it is served no more, within ``timeout`` seconds."""
        if self._server is not None:
            self._server.join(timeout)
        return not self.alive

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is unmounted, by anyone, at most ``timeout`` seconds; whether it is. Raises what the transport failed
        with."""
        if not self.over(timeout):
            return False
        if self._watcher is not None:
            self._watcher.close()
        if self._error is not None:
            raise self._error
        return True

    def unmount(self) -> None:
        """Unmount, unless someone else has, wherever the mount is by now. A busy mount is taken away all the same.

        Where it is used from elsewhere (bind mounts, other mount namespaces, a program whose working directory was in it when
        it was taken away), the connection is aborted, for everyone.
        """
        if self._is_child:
            return
        if self._server is not None and isinstance(self.channel, Seqpacket | Stream):
            with contextlib.suppress(OSError):
                self.channel.socket.shutdown(socket.SHUT_RDWR)
            return
        where = mounts.find(self._identity) if self._identity else None
        if where is not None:
            self._unmount_at(where)
        if self._server is None or self.readers.ended(0 if where is None else GRACE):
            return
        if self.number:
            self._end_connection()
        if not self.readers.ended(GRACE if self.number else 0):
            assert isinstance(self.channel, DevFuse)
            self._stop_reading(self.channel)

    def _unmount_at(self, where: str) -> None:
        try:
            mounts.unmount_at_any_price(where)
        except MountError as error:
            if error.errno == errno.EPERM and self._watcher is not None:
                self._watcher.close()  # it unmounts when it no longer hears of us

    def _end_connection(self) -> None:
        """It lives on, as it is mounted in other places, too, or is in use though it was taken away."""
        for point in mounts.points_of(self.number):
            with contextlib.suppress(MountError):
                mounts.unmount(point, lazy=True)
        covered = mounts.covered(self.number)
        with contextlib.suppress(OSError):
            Control(self.number).abort()
        for point in covered:
            log.warning("%s stays, dead, beneath another mount: unmount that one, then run 'umount %s'", point, point)

    def _forked(self) -> None:
        """In the child of a fork: its copies of the descriptors would keep a dead daemon's mount alive. The mount is the
        parent's."""
        self._is_child = True
        self.session.destroyed = True
        self.channel.close_in_child()


_alive: weakref.WeakSet[Mounted] = weakref.WeakSet()


@in_child
def _let_go() -> None:
    for mounted in _alive:
        mounted._forked()


def _at_exit() -> None:
    for mounted in list(_alive):
        mounted._undo()


atexit.register(_at_exit)


def end(mounted: Mounted) -> None:
    """Unmount, and wait until that is done. Raises what the transport failed with."""
    mounted.unmount()
    mounted.wait()


@contextlib.contextmanager
def mount(
    operations: Operations,
    path: PathLike,
    options: MountOptions = MountOptions(),
    *,
    events: EventStream | None = None,
) -> Iterator[Mounted]:
    """Mount ``operations`` at ``path`` and serve it from threads, as long as the ``with`` lasts.

    It unmounts however the block is left, and however the program ends: a watcher sees to that (``auto_unmount``).

    Raises :class:`MountError`. Use the mount from other processes: a call of this very process that holds the GIL while it
    waits (fstat in some versions of Python) would wait for the thread that is to answer it.
    """
    mounted = Mounted(operations, path, options, events=events)
    try:
        yield mounted
    finally:
        end(mounted)
