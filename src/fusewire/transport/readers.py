"""Readers: who reads requests from a channel, and who takes over when a handler blocks.

One reader that answers in line is the fastest loop for small requests: a wake-up across processors costs more than a handler.
But a handler that blocks, or uses its own mount, would then block everyone. So a second reader takes over within a few
milliseconds of a handler not coming back; the first, when it does come back, writes its answer and rests until it is needed.

Rules. Exactly one thread, the *reader*, is in ``receive`` or in a handler that it has not lost its place to. Notifications
are never written by a reader: they have a thread of their own (see ``notifier``).
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..daemon.request import Seat, read_header
from ..inspect.events import EventStream
from .eventloop import EventLoop
from .readloop import Next, after_read, after_write

if TYPE_CHECKING:
    from ..daemon.request import Header
    from ..daemon.session import Answer, Later, Session

log = logging.getLogger("fusewire.transport")

GRACE = 5.0  # seconds for the handlers that still run at the end
TAKE_OVER = 0.004  # seconds until a handler that has not come back counts as blocking
REST = 32  # looks without any request after which the monitor sleeps


_PROD = signal.SIGRTMAX - 3


def _prodding() -> None:
    """Let the signal interrupt without ending the process. Python's own way of it works in the main thread only."""
    if signal.getsignal(_PROD) is signal.SIG_DFL:
        libc = ctypes.CDLL(None)
        nothing = ctypes.cast(libc.getpid, ctypes.c_void_p)  # a function that disregards its argument
        libc.signal(int(_PROD), nothing)


class Channel(Protocol):
    """What carries messages. ``receive`` is called by one thread at a time, ``send`` by any.

    One may have ``straight``, ``read`` and ``write``, too: after a ``receive`` so many messages as ``straight`` says may be
    read by ``read``, and answers of one buffer to them written by ``write``, which are system calls and nothing else. That
    nothing is there yet, where somebody made the descriptor non-blocking, is None from ``read``: ``receive`` then sleeps.
    """

    events: EventStream | None

    def receive(self, buffer: memoryview) -> int:
        """Sleep until a message is there; returns its length in bytes, 0 at the end. Raises OSError (see ``readloop``)."""

    def send(self, answer: Answer) -> None:
        """Write one message whole. Raises OSError."""


class Reader(Seat):
    """One thread that can read. It ``rests`` on a lock that is let go when it is needed."""

    __slots__ = ("resting",)

    def __init__(self, session: Session) -> None:
        super().__init__(session, memoryview(bytearray(session.buffer_size)))
        self.resting = _thread.allocate_lock()
        self.resting.acquire()


class Readers:
    """Serves ``session`` on ``channel`` until the channel says that it is over. ``limit``: how many handlers may block at
    the same time."""

    def __init__(self, session: Session, channel: Channel, limit: int = 64) -> None:
        self.session = session
        self.channel = channel
        self.limit = limit
        self.loop = EventLoop()
        self._reader = Reader(session)
        self._seats = [self._reader]
        self._resting: list[Reader] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._starved = False
        self._error: BaseException | None = None
        self.at_end: Callable[[], None] = lambda: (
            None
        )  # called when nothing is read any more, before threads are waited for
        self._monitor_rests = False
        self._wake_monitor = _thread.allocate_lock()
        self._wake_monitor.acquire()

    def run(self) -> None:
        """Serve; returns when it is over. This thread only waits. Raises what a channel failed with."""
        try:
            self._start(self._monitor, "monitor")
            self._start_reader(self._reader)
            self._over.wait()
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()
            self.at_end()
            self._wake_all()
            self._end()
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        """Nobody waits for the handlers that still run. All of them together get a little while."""
        self.session.interrupt_all()
        end = time.monotonic() + GRACE
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=max(0.0, end - time.monotonic()))
        self.loop.close(max(0.5, end - time.monotonic()))
        self.session.tell_left_behind()

    @property
    def left_behind(self) -> bool:
        """Whether handlers still run, though all is over."""
        return any(thread.is_alive() for thread in self._threads) or self.loop.alive

    def stop(self) -> None:
        """Have it over, though the channel does not say so: it must say so to the next who reads."""
        self._over.set()
        self.prod()

    @property
    def failure(self) -> BaseException | None:
        """What a reader failed with."""
        return self._error

    def ended(self, timeout: float = 0.0) -> bool:
        """Whether nothing is read any more, within ``timeout`` seconds."""
        return self._over.wait(timeout)

    # -- reading --------------------------------------------------------------------------------------------------

    def _read(self, seat: Reader) -> None:
        """The body of a reader's thread."""
        self.session.seats.add(seat)
        seat.take()
        try:
            while self._reader is seat or self._rest(seat):
                if not self._serve_one(seat):
                    break
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()

    def _serve_one(self, seat: Reader) -> bool:
        """Read, answer, write. The loop is in here, so that its names are local; False when the channel is over.

        CPython 3.11 speeds up a function's code that is called often, or jumps back in a ``while True``; a ``while`` with a
        condition would stay slow for ever.
        """
        receive, handle, send = self.channel.receive, self.session.answer, self.channel.send
        channel: Any = self.channel
        read: Any = getattr(channel, "read", None)
        write: Any = getattr(channel, "write", None)
        buffer, straight = seat.buffer, 0
        while True:
            if self._reader is not seat:
                return True
            try:
                if straight:
                    straight -= 1
                    size = read(buffer)
                else:
                    size = receive(buffer)
                    straight = channel.straight if read else 0
            except OSError as error:
                match after_read(error):
                    case Next.AGAIN:
                        continue
                    case Next.STOP:
                        return False
                    case Next.REFUSE:
                        self._too_long(buffer, error)
                        continue
                raise
            if not size:
                if size is None:
                    straight = 0
                    continue
                return False
            seat.header = header = read_header(buffer)
            if self._monitor_rests:
                self._rouse_monitor()
            answer: Any
            try:
                answer = handle(seat, size)
            except BaseException as error:
                answer = self.session.ended(seat, error)
            if answer.__class__ is tuple:
                try:
                    if straight and len(answer) == 1:
                        write(answer[0])
                    else:
                        send(answer)
                except Exception as error:
                    self._refused(buffer[:size], answer, error)
            elif answer is not None:
                self._later(bytes(buffer[:size]), answer)
            seat.done = header

    def _too_long(self, buffer: memoryview, error: OSError) -> None:
        """A message did not fit and is gone, but for what fits: whoever asked gets EIO."""
        log.error("refused: %s", error.strerror)
        answer = self.session.failure(buffer)
        try:
            self.channel.send(answer)
        except Exception as refused:
            self._refused(buffer, answer, refused)

    def _refused(self, message: memoryview | bytes, answer: Answer, error: Exception) -> None:
        """The kernel did not take an answer. Where the caller still waits for one, it gets EIO."""
        if isinstance(error, ValueError):  # Python's own for a file that was closed
            return
        meaning = after_write(error) if isinstance(error, OSError) else Next.FAIL
        if meaning is Next.STOP:
            return
        self.session.undelivered(message, answer)
        if meaning is Next.FAIL:
            log.error("the kernel refused an answer: %s", error)
            with contextlib.suppress(OSError):
                self.channel.send(self.session.failure(message))

    def _later(self, message: bytes, later: Later) -> None:
        """An async handler: the event loop runs it, and writes its answer."""

        def write(answer: Answer) -> None:
            try:
                self.channel.send(answer)
            except Exception as error:
                self._refused(message, answer, error)

        self.loop.start(later, write)

    # -- taking over ----------------------------------------------------------------------------------------------

    def _rest(self, seat: Reader) -> bool:
        """Another took this reader's place while its handler blocked. Wait to be needed; False when all is over."""
        with self._lock:
            if self._over.is_set():
                return False
            if self._reader is seat:  # it was handed the place as it came to rest
                return True
            self._resting.append(seat)
        seat.resting.acquire()
        return not self._over.is_set()

    def _monitor(self) -> None:
        """Look every few milliseconds whether the reader is still with the request that it was with before."""
        quiet = 0
        while not self._over.is_set():
            seat, header = self._reader, self._reader.header
            time.sleep(TAKE_OVER)
            if seat.header is header and seat.busy:
                self._replace(seat, header)
            quiet = quiet + 1 if seat.header is header and not seat.busy else 0
            if quiet >= REST:
                self._monitor_rests = True
                if not self._reader.busy and not self._over.is_set():
                    self._wake_monitor.acquire()
                self._monitor_rests = False
                quiet = 0

    def _rouse_monitor(self) -> None:
        self._monitor_rests = False
        try:
            self._wake_monitor.release()
        except RuntimeError:
            pass  # it was not asleep yet, and looks once more before it is

    def _replace(self, seat: Reader, header: Header) -> None:
        """``seat``'s handler of the request of ``header`` blocks: another reads on."""
        with self._lock:
            complaint = self._put_another(seat, header)
        if complaint:
            log.warning(complaint)  # without the lock, which the new reader takes: the log may lie on this very mount

    def _put_another(self, seat: Reader, header: Header) -> str:
        """Returns what is to be logged."""
        if self._reader is not seat or seat.header is not header or not seat.busy or self._over.is_set():
            return ""
        if self._resting:
            self._reader = self._resting.pop()
            self._reader.resting.release()
            return ""
        if len(self._seats) >= self.limit:
            return ""
        # Only a seat whose thread runs gets the place: who blocks comes back some day, one without a thread never.
        try:
            new = Reader(self.session)
            self._start_reader(new)
        except (RuntimeError, MemoryError) as error:
            return self._starving(error)
        self._seats.append(new)
        self._starved = False
        if seat.header is not header or not seat.busy:  # it came back meanwhile: the new one rests
            return ""
        self._reader = new
        if len(self._seats) == self.limit:
            return f"{self.limit} handlers block at the same time: requests wait until one comes back"
        return ""

    def _starving(self, error: Exception) -> str:
        if self._starved:
            return ""
        self._starved = True
        return (
            f"no further reader can be started ({error}): requests wait until a handler comes back. Allow more threads "
            "(ulimit -u, TasksMax) or memory"
        )

    def _start_reader(self, seat: Reader) -> None:
        """Raises RuntimeError where Linux gives no thread."""
        self._start(lambda: self._read(seat), f"reader {len(self._threads)}")

    def _start(self, body: object, name: str) -> None:
        thread = threading.Thread(target=body, name=f"fusewire {name}", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)  # before it runs: whoever is to end its reads looks here
        try:
            thread.start()
        except BaseException:
            self._threads.remove(thread)
            raise

    def _wake_all(self) -> None:
        with self._lock:
            resting, self._resting = self._resting, []
        for seat in resting:
            seat.resting.release()
        self._rouse_monitor()

    def prod(self) -> None:
        """Interrupt the system calls that readers sleep in, by a signal that does nothing else."""
        _prodding()
        for thread in self._threads:
            if thread.ident is not None and thread.is_alive():
                signal.pthread_kill(thread.ident, _PROD)

    @property
    def thread_ids(self) -> list[int]:
        """The readers' and the monitor's threads, as Linux numbers them."""
        return [thread.native_id or 0 for thread in self._threads]
