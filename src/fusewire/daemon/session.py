"""A session: one message in, the buffers of its answer out. It never reads, writes, waits or starts anything.

Rules. Every request that is due an answer gets exactly one, whatever its handler does. A malformed message is logged and
refused with EIO where it has a unique, and the session lives on. Before INIT nothing but INIT is answered.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Protocol

from ..inspect.events import EventStream, Kind
from ..wire.codec import IN_HEADER_SIZE
from ..wire.errno import Errno, error_name
from ..wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, OLDEST_MINOR_VERSION, Opcode
from ..wire.layout import Buffer, ProtocolError
from ..wire.layouts import (
    BATCH_FORGET_IN,
    FORGET_IN,
    FORGET_ONE,
    INIT_IN,
    INIT_OUT,
    INTERRUPT_IN,
    InitOut,
)
from ..wire.render import opcode_name
from ..wire.table import LATEST, OPERATIONS, Dialect
from .decode import is_flock
from .dispatch import Bound, bind, bind_flock, implied_flags
from .encode import Answer as Answer
from .encode import with_header
from .errors import errno_of, error_answer, not_encoded, raised
from .later import Later as Later
from .notify import Notifier
from .operations import Operations
from .request import NOTHING, Request, Seat, _current, read_header
from .settings import MAX_PAGES, Granted, negotiate
from .undelivered import take_back

log = logging.getLogger("fusewire.daemon")


class Backing(Protocol):
    """What can register files for passthrough: /dev/fuse."""

    def backing_open(self, fd: int) -> int: ...

    def backing_close(self, backing_id: int) -> None: ...


class Session:
    """Serves one filesystem. ``granted`` is None until INIT; ``seats`` are where requests are being handled.

    ``events``: where to record what is performed; ``who`` gives the pid and name of the thread that does. Raises RuntimeError
    for a filesystem that another session still serves, TypeError for one whose ``init``, ``destroy`` or ``forget`` is async.
    """

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self.granted: Granted | None = None
        self.dialect: Dialect = LATEST
        self.destroyed = False
        self._begun = self._ending = False  # `init` was called and did not fail; `destroy` was called
        self.seats: set[Seat] = set()
        self._idle: list[Seat] = []  # those of them for `handle`
        for name in ("init", "destroy", "forget"):
            if inspect.iscoroutinefunction(getattr(operations, name)):
                raise TypeError(
                    f"{type(operations).__name__}.{name} is async: nothing waits for it, so it must be plain"
                )
        self.notify = Notifier()
        self.backing: Backing | None = None  # set by the transport that can
        self.number = 0  # the connection's, which is the minor of the mount's st_dev; 0 where no mount of ours is seen
        self.backing_ids: set[int] = set()  # that were opened and not closed
        self.max_pages = MAX_PAGES  # that a request of the kernel's may carry; set by the transport that knows
        self.initialized = threading.Event()
        self.refusal = ""  # why INIT was answered with an error
        self._given_up = False
        self.loop: asyncio.AbstractEventLoop | None = None  # that its async handlers run on, once one does
        self.taking_back: set[asyncio.Task[None]] = set()  # there, what nobody took
        self.events: EventStream | None = None
        self.who: Callable[[], tuple[int, str]] = lambda: (0, "daemon")
        self._bound: dict[int, Bound] = {}  # nothing is answered before INIT
        self._flock: dict[int, Bound] = {}
        former: Session | None = getattr(operations, "session", None)
        if former is not None and former.lives:
            raise RuntimeError(self._taken)
        operations.session = self
        if former is not None and former.lives:  # its INIT came between the two: it has seen itself there, or us
            operations.session = former
            raise RuntimeError(self._taken)

    @property
    def _taken(self) -> str:
        return (
            f"this {type(self.operations).__name__} is mounted already, and has one session to notify: unmount it first, or "
            "mount another object"
        )

    @property
    def lives(self) -> bool:
        """Whether the filesystem is this session's: from its ``init`` on, until ``destroy`` has returned."""
        return self._begun and not self.destroyed

    def backing_open(self, fd: int) -> int:
        """Register an open regular file for FUSE passthrough (7.40); returns the ``backing_id`` of :class:`Opened`.

        Raises OSError: EPERM without CAP_SYS_ADMIN or InitFlag.PASSTHROUGH, EOPNOTSUPP where nothing is behind /dev/fuse.
        """
        if self.backing is None:
            raise OSError(int(Errno.EOPNOTSUPP), "passthrough needs /dev/fuse")
        backing_id = self.backing.backing_open(fd)
        self.backing_ids.add(backing_id)
        return backing_id

    def backing_close(self, backing_id: int) -> None:
        """Give a ``backing_id`` back. Raises OSError."""
        if self.backing is not None:
            self.backing_ids.discard(backing_id)
            self.backing.backing_close(backing_id)

    @property
    def buffer_size(self) -> int:
        """How many bytes a reader must have room for: the largest WRITE, and its headers."""
        return max(8192, self.operations.settings.max_write + 4096)

    def handle(self, message: Buffer) -> Answer | Later | None:
        """Answer one whole message, in one buffer or more: a header and, behind it, a body. None where no answer is due;
        a :class:`Later` where the handler is ``async``.

        ``message`` may be reused by the caller as soon as this returns (an async handler gets its own copy).
        """
        size = len(message)
        if size < IN_HEADER_SIZE:
            log.error("refused: a message of %d bytes has no header", size)
            return None
        try:
            seat = self._idle.pop()
        except IndexError:
            seat = self._new_seat()
        seat.buffer = message if isinstance(message, memoryview) else memoryview(message)
        seat.header = read_header(message)
        token = _current.set(seat)  # undone below: a handler may be answered inside another's call
        try:
            return self.answer(seat, size)
        finally:
            _current.reset(token)
            seat.leave()
            self._idle.append(seat)

    def _new_seat(self) -> Seat:
        seat = Seat(self, NOTHING)
        self.seats.add(seat)
        return seat

    def answer(self, seat: Seat, size: int) -> Answer | Later | None:
        """:meth:`handle` for a reader of many messages: one of ``size`` bytes lies in the buffer of ``seat``. A small
        answer comes as one buffer.

        The seat is among ``seats`` and the thread's own (``Seat.take``); its ``header`` and ``done`` are the reader's to set.
        """
        message = seat.buffer
        length, opcode, unique, nodeid, extensions = seat.header
        bound = self._bound.get(opcode)
        if bound is None or length != size:
            return self._special(seat, size)
        end = length - extensions * 8
        if end < bound.least:
            return self._malformed(seat, f"{end} bytes, {bound.least} are due")
        if self._flock and opcode in self._flock and is_flock(message):
            bound = self._flock[opcode]
        if bound.is_async:
            return self._later(bound, seat, bytes(message[:size]), end)
        # First to a name: what is not a method is slow to call where it is found.
        decode, method, encode = bound.decode, bound.method, bound.encode
        try:
            args = decode(nodeid, message, end)
        except Exception as error:
            return self._malformed(seat, error)
        if self.events is not None:
            self._perform(bound)
        try:
            result = method(*args)
        except Exception as error:
            return raised(unique, nodeid, bound, error)
        try:
            return encode(self.operations, result, unique, message)
        except Exception as error:
            return not_encoded(unique, nodeid, bound, error)

    def _later(self, bound: Bound, reader: Seat, message: bytes, end: int) -> Later | Answer:
        seat = Seat(self, memoryview(message))
        seat.header = read_header(message)
        try:
            args = bound.decode(seat.header[3], seat.buffer, end)
        except Exception as error:
            return self._malformed(seat, error)
        reader.move_to(seat)
        return Later(self, seat, bound, args)

    @staticmethod
    def _malformed(seat: Seat, why: object) -> Answer:
        log.error("refused: malformed %r: %s", seat.request, why)
        return error_answer(seat.header[2], Errno.EIO)

    def _perform(self, bound: Bound) -> None:
        assert self.events is not None
        self.events.emit(*self.who(), Kind.STEP, f"perform {bound.name}")

    # -- what is not the filesystem's to answer ---------------------------------------------------------------------

    def _special(self, seat: Seat, size: int) -> Answer | None:
        length, opcode, unique, nodeid, _ = seat.header
        if size < IN_HEADER_SIZE:
            log.error("refused: a message of %d bytes has no header", size)
            return None
        if length != size:
            log.error("refused: %s says %d bytes, %d came", opcode_name(opcode), length, size)
            return error_answer(unique, Errno.EIO)
        body = seat.buffer[IN_HEADER_SIZE:size]
        try:
            match opcode:
                case Opcode.INIT:
                    return self._init(unique, body)
                case Opcode.FORGET:
                    self._forget(nodeid, FORGET_IN.unpack(body).nlookup)
                    return None
                case Opcode.BATCH_FORGET:
                    self._batch_forget(body)
                    return None
                case Opcode.INTERRUPT:
                    return self._interrupt(unique, INTERRUPT_IN.unpack(body).unique)
                case Opcode.DESTROY:
                    self.destroy()
                    return with_header(unique, b"")
                case Opcode.NOTIFY_REPLY:
                    self.notify.retrieved(unique, body)
                    return None
        except ProtocolError as error:
            log.error("refused: malformed %s: %s", opcode_name(opcode), error)
            return error_answer(unique, Errno.EIO)
        if self.granted is None:
            log.error("refused: %s before INIT", opcode_name(opcode))
            return error_answer(unique, Errno.EIO)
        if opcode not in OPERATIONS:
            log.warning("opcode %d is none of protocol 7.%d's", opcode, KERNEL_MINOR_VERSION)
        return error_answer(unique, Errno.ENOSYS)

    def _init(self, unique: int, body: memoryview) -> Answer:
        if self.granted is not None:
            log.error("refused: a second INIT")
            return error_answer(unique, Errno.EIO)
        if len(body) < 8:
            raise ProtocolError(f"INIT takes 16 bytes, {len(body)} are there")
        asked = INIT_IN.unpack_short(body)
        if asked.major > KERNEL_VERSION:
            # The kernel asks again with what we can.
            return with_header(unique, INIT_OUT.pack(InitOut(KERNEL_VERSION, KERNEL_MINOR_VERSION)))
        if asked.major < KERNEL_VERSION or asked.minor < OLDEST_MINOR_VERSION:
            spoken = f"the kernel speaks FUSE {asked.major}.{asked.minor}, 7.{OLDEST_MINOR_VERSION} is the oldest we do"
            log.error("refused: %s", spoken)
            return self._refuse(unique, Errno.EPROTO, spoken)
        if self._given_up:
            return error_answer(unique, Errno.EIO)
        self._begun = True  # first, and then a look: of two at the same time, one sees the other at least
        if self.operations.session is not self:
            self._begun = False
            log.error("refused: INIT: %s", self._taken)
            return self._refuse(unique, Errno.EBUSY, self._taken)
        granted, out = negotiate(asked, self.operations.settings, implied_flags(self.operations), self.max_pages)
        self.dialect = Dialect(granted.minor, granted.flags)
        try:
            self.operations.init(granted)
        except Exception as error:
            self._begun = False
            number = errno_of(error) or int(Errno.EIO)
            log.error("init raised; the mount is refused with %s", error_name(number), exc_info=error)
            return self._refuse(unique, number, f"the filesystem's init raised {error!r}")
        except BaseException as error:  # SystemExit, KeyboardInterrupt: the reader's end, with no answer
            self._begun = False
            self.refusal = f"the filesystem's init raised {error!r}"
            raise
        if self._given_up:  # meanwhile, by another thread
            self._begun = False
            return error_answer(unique, Errno.EIO)
        self.granted = granted
        self._bound = bind(self.operations, self.dialect)
        self._flock = bind_flock(self.operations, self.dialect)
        self.initialized.set()
        return with_header(unique, INIT_OUT.pack(out)[: self.dialect.size(INIT_OUT)])

    def _refuse(self, unique: int, number: int, why: str) -> Answer:
        self.refusal = why
        self.initialized.set()
        return error_answer(unique, number)

    def ended(self, seat: Seat, error: BaseException) -> Answer | None:
        """The answer where a handler let out of :meth:`answer` what ends a thread: SystemExit, a CancelledError of its own."""
        log.error("%r: its handler ended with %r; the mount goes on", seat.request, error, exc_info=error)
        _, opcode, unique, _, _ = seat.header
        if opcode == Opcode.INIT:
            return self._refuse(unique, Errno.EIO, f"the filesystem's init ended with {error!r}")
        return None if opcode in _UNANSWERED else error_answer(unique, Errno.EIO)

    def refuse_init(self, why: str) -> list[Answer]:
        """Grant no INIT from here on, unless that has been done. Returns the answers for the one that is being handled, or was
        when its thread ended; another thread may write them at once, and the handler's own comes too late then."""
        if self.granted is not None:
            return []
        self._given_up = True
        self.refusal = self.refusal or why
        return [error_answer(unique, Errno.EIO) for unique in self.in_flight]

    def failure(self, message: Buffer) -> Answer:
        """EIO for the request ``message``."""
        return error_answer(read_header(message)[2], Errno.EIO)

    def undelivered(self, message: Buffer, answer: Answer) -> None:
        """The kernel did not take this answer: its caller has left. What it granted is taken back (see ``undelivered``)."""
        take_back(self, message, answer)

    def _forget(self, nodeid: int, nlookup: int) -> None:
        try:
            self.operations.forget(nodeid, nlookup)
        except Exception as error:
            log.error("forget(node %d) raised", nodeid, exc_info=error)

    def _batch_forget(self, body: memoryview) -> None:
        count = BATCH_FORGET_IN.unpack(body).count
        if len(body) != BATCH_FORGET_IN.size + count * FORGET_ONE.size:
            raise ProtocolError(f"{count} forgets announced in {len(body)} bytes")
        for index in range(count):
            one = FORGET_ONE.unpack(body, BATCH_FORGET_IN.size + index * FORGET_ONE.size)
            self._forget(one.nodeid, one.nlookup)

    def _interrupt(self, unique: int, interrupted: int) -> Answer | None:
        """Tell the handler. For a request that is not here (yet) the kernel is asked to come again."""
        for seat in list(self.seats):
            if seat.header[2] == interrupted and seat.interrupt(interrupted):
                return None
        return error_answer(unique, Errno.EAGAIN)

    @property
    def in_flight(self) -> dict[int, Request]:
        """The requests that are being handled, by unique."""
        requests = [seat.request for seat in list(self.seats)]
        return {request.unique: request for request in requests if request is not None}

    def interrupt_all(self) -> None:
        """The connection is gone: nobody waits for the handlers that still run."""
        for request in self.in_flight.values():
            request.interrupt()

    def tell_left_behind(self) -> None:
        """Log which handlers still run, when nobody waits for them any longer."""
        for request in self.in_flight.values():
            log.warning("%r: its handler has not come back, and is left behind", request)

    def destroy(self) -> None:
        """The session is over; calls the filesystem's ``destroy`` once."""
        if self.destroyed or self._ending:
            return
        self._ending = True
        try:
            self.operations.destroy()
        except Exception as error:
            log.error("destroy raised", exc_info=error)
        finally:
            self.destroyed = True  # only now another may have the filesystem


_UNANSWERED = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY})
