"""A session: one message in, the buffers of its answer out. It never reads, writes, waits or starts anything.

Rules. Every request that is due an answer gets exactly one, whatever its handler does. A malformed message is logged and
refused with EIO where it has a unique, and the session lives on. Before INIT nothing but INIT is answered.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import struct
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ..inspect.events import EventStream, Kind
from ..wire.codec import IN_HEADER_SIZE, OUT_HEADER_SIZE, iter_direntplus
from ..wire.errno import Errno, error_name
from ..wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, OLDEST_MINOR_VERSION, InitFlag, Opcode
from ..wire.layout import Buffer, ProtocolError
from ..wire.layouts import (
    BATCH_FORGET_IN,
    ENTRY_OUT,
    FORGET_IN,
    FORGET_ONE,
    IN_HEADER,
    INIT_IN,
    INIT_OUT,
    INTERRUPT_IN,
    OPEN_OUT,
    OUT_HEADER,
    InitOut,
)
from ..wire.render import opcode_name
from ..wire.table import LATEST, OPERATIONS, Dialect
from .decode import is_flock
from .dispatch import Bound, bind, bind_flock, implied_flags, with_setxattr_ext
from .encode import BadAnswer
from .errors import errno_of
from .notify import Notifier
from .operations import Operations
from .request import Request, _current
from .settings import Granted, negotiate

log = logging.getLogger("fusewire.daemon")

Answer = tuple[Buffer, ...]
DECODING, HANDLING, ENCODING = range(3)
_NONSENSE = (BadAnswer, TypeError, ValueError, AttributeError, struct.error)
_unpack_header = IN_HEADER.unpack_fields
_pack_header = OUT_HEADER.pack_fields
_unpack_out_header = OUT_HEADER.unpack_fields


class Backing(Protocol):
    """What can register files for passthrough: /dev/fuse."""

    def backing_open(self, fd: int) -> int: ...

    def backing_close(self, backing_id: int) -> None: ...


class Session:
    """Serves one filesystem. ``granted`` is None until INIT; ``in_flight`` are the requests being handled, by unique.

    ``events``: where to record what is performed; ``who`` gives the pid and name of the thread that does.
    """

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self.granted: Granted | None = None
        self.dialect: Dialect = LATEST
        self.destroyed = False
        self.in_flight: dict[int, Request] = {}
        for name in ("init", "destroy", "forget"):
            if inspect.iscoroutinefunction(getattr(operations, name)):
                raise TypeError(
                    f"{type(operations).__name__}.{name} is async: nothing waits for it, so it must be plain"
                )
        self.notify = Notifier()
        self.backing: Backing | None = None  # set by the transport that can
        self.initialized = threading.Event()
        self.refusal = ""  # why INIT was answered with an error
        self.events: EventStream | None = None
        self.who: Callable[[], tuple[int, str]] = lambda: (0, "daemon")
        self._bound: dict[int, Bound] = bind(operations)
        self._flock = bind_flock(operations)
        operations.session = self

    def backing_open(self, fd: int) -> int:
        """Register an open regular file for FUSE passthrough (7.40); returns the ``backing_id`` of :class:`Opened`.

        Raises OSError: EPERM without CAP_SYS_ADMIN or InitFlag.PASSTHROUGH, EOPNOTSUPP where nothing is behind /dev/fuse.
        """
        if self.backing is None:
            raise OSError(int(Errno.EOPNOTSUPP), "passthrough needs /dev/fuse")
        return self.backing.backing_open(fd)

    def backing_close(self, backing_id: int) -> None:
        """Give a ``backing_id`` back. Raises OSError."""
        if self.backing is not None:
            self.backing.backing_close(backing_id)

    @property
    def buffer_size(self) -> int:
        """How many bytes a reader must have room for: the largest WRITE, and its headers."""
        return max(8192, self.operations.settings.max_write + 4096)

    def handle(self, message: Buffer) -> Answer | Later | None:
        """Answer one whole message. None where no answer is due; a :class:`Later` where the handler is ``async``.

        ``message`` may be reused by the caller as soon as this returns (an async handler gets its own copy).
        """
        try:
            length, opcode, unique, nodeid, uid, gid, pid, extensions, _ = _unpack_header(message)
        except struct.error:
            log.error("refused: a message of %d bytes has no header", len(message))
            return None
        if length != len(message):
            log.error("refused: %s says %d bytes, %d came", opcode_name(opcode), length, len(message))
            return _error(unique, Errno.EIO)
        bound = self._bound.get(opcode)
        if bound is None or self.granted is None:
            return self._special(opcode, unique, nodeid, memoryview(message)[IN_HEADER_SIZE:])
        method, decode, encode, is_async, _ = bound
        if is_async:
            message = memoryview(bytes(message))
        elif message.__class__ is not memoryview:
            message = memoryview(message)
        request = Request(opcode, unique, nodeid, uid, gid, pid, message, self.dialect)
        body = message[IN_HEADER_SIZE : length - extensions * 8]
        if opcode in self._flock and len(body) >= 48 and is_flock(body):
            bound = self._flock[opcode]
            method, decode, encode, is_async, _ = bound
        stage = DECODING
        token = _current.set(request)  # undone below: a handler may be answered inside another's call
        try:
            args = decode(nodeid, body)
            self.in_flight[unique] = request
            if is_async:
                return Later(self, request, bound, args, body)
            if self.events is not None:
                self._perform(bound)
            stage = HANDLING
            result = method(*args)
            stage = ENCODING
            payload = encode(self.operations, result, body)
        except Exception as error:
            return self._failed(request, bound, error, stage)
        finally:
            _current.reset(token)
            if not is_async:
                self.in_flight.pop(unique, None)
        size = len(payload)
        if not size:
            return (_pack_header(OUT_HEADER_SIZE, 0, unique),)
        return _pack_header(OUT_HEADER_SIZE + size, 0, unique), payload

    def _failed(self, request: Request, bound: Bound, error: Exception, stage: int) -> Answer:
        """The answer to what went wrong: a malformed request, a handler that raised, or one that returned nonsense."""
        number = None
        if stage == DECODING:
            log.error("refused: malformed %r: %s", request, error)
        elif stage == ENCODING and isinstance(error, _NONSENSE):
            log.error("%s(node %d) returned nonsense: %s", bound.name, request.nodeid, error)
        else:
            number = errno_of(error)
            if number is None:
                log.error("%s(node %d) raised", bound.name, request.nodeid, exc_info=error)
        return _error(request.unique, int(Errno.EIO) if number is None else number)

    def _perform(self, bound: Bound) -> None:
        assert self.events is not None
        self.events.emit(*self.who(), Kind.STEP, f"perform {bound.name}")

    # -- what is not the filesystem's to answer ---------------------------------------------------------------------

    def _special(self, opcode: int, unique: int, nodeid: int, body: memoryview) -> Answer | None:
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
                    return _ok(unique)
                case Opcode.NOTIFY_REPLY:
                    self.notify.retrieved(unique, body)
                    return None
        except ProtocolError as error:
            log.error("refused: malformed %s: %s", opcode_name(opcode), error)
            return _error(unique, Errno.EIO)
        if self.granted is None:
            log.error("refused: %s before INIT", opcode_name(opcode))
            return _error(unique, Errno.EIO)
        if opcode not in OPERATIONS:
            log.warning("opcode %d is none of protocol 7.%d's", opcode, KERNEL_MINOR_VERSION)
        return _error(unique, Errno.ENOSYS)

    def _init(self, unique: int, body: memoryview) -> Answer:
        if self.granted is not None:
            log.error("refused: a second INIT")
            return _error(unique, Errno.EIO)
        if len(body) < 8:
            raise ProtocolError(f"INIT takes 16 bytes, {len(body)} are there")
        asked = INIT_IN.unpack_short(body)
        if asked.major > KERNEL_VERSION:
            # The kernel asks again with what we can.
            return _reply(unique, INIT_OUT.pack(InitOut(KERNEL_VERSION, KERNEL_MINOR_VERSION)))
        if asked.major < KERNEL_VERSION or asked.minor < OLDEST_MINOR_VERSION:
            spoken = f"the kernel speaks FUSE {asked.major}.{asked.minor}, 7.{OLDEST_MINOR_VERSION} is the oldest we do"
            log.error("refused: %s", spoken)
            return self._refuse(unique, Errno.EPROTO, spoken)
        granted, out = negotiate(asked, self.operations.settings, implied_flags(self.operations))
        self.dialect = Dialect(granted.minor, granted.flags)
        try:
            self.operations.init(granted)
        except Exception as error:
            number = errno_of(error) or int(Errno.EIO)
            log.error("init raised; the mount is refused with %s", error_name(number), exc_info=error)
            return self._refuse(unique, number, f"the filesystem's init raised {error!r}")
        self.granted = granted
        if granted.flags & InitFlag.SETXATTR_EXT and Opcode.SETXATTR in self._bound:
            self._bound[Opcode.SETXATTR] = with_setxattr_ext(self._bound[Opcode.SETXATTR])
        self.initialized.set()
        return _reply(unique, INIT_OUT.pack(out)[: self.dialect.size(INIT_OUT)])

    def _refuse(self, unique: int, number: int, why: str) -> Answer:
        self.refusal = why
        self.initialized.set()
        return _error(unique, number)

    def failure(self, message: Buffer) -> Answer:
        """EIO for the request ``message``."""
        return _error(_unpack_header(message)[2], Errno.EIO)

    def undelivered(self, message: Buffer, answer: Answer) -> None:
        """The kernel did not take this answer: its caller has left. What it granted is taken back: the reference of an
        entry by ``forget``, an open file by ``release``."""
        _, opcode, _, nodeid, *_ = _unpack_header(message)
        if _unpack_out_header(answer[0])[1] or len(answer) < 2:
            return
        body = answer[1]
        if opcode == Opcode.READDIRPLUS:
            for name, _, entry in iter_direntplus(body):
                if entry.nodeid and name not in (b".", b".."):
                    self._forget(entry.nodeid, 1)
        if opcode in _GRANTS_ENTRY:
            entry = ENTRY_OUT.unpack(body)
            nodeid = entry.nodeid
            if nodeid:
                self._forget(nodeid, 1)
            body = memoryview(body)[ENTRY_OUT.size :]
        release = _RELEASES.get(opcode)
        if release is not None:
            try:
                done = getattr(self.operations, release)(nodeid, OPEN_OUT.unpack(body).fh, 0)
                if inspect.iscoroutine(done):
                    asyncio.run(done)
            except Exception as error:
                log.error("%s(node %d) raised", release, nodeid, exc_info=error)

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
        request = self.in_flight.get(interrupted)
        if request is None:
            return _error(unique, Errno.EAGAIN)
        request.interrupt()
        return None

    def interrupt_all(self) -> None:
        """The connection is gone: nobody waits for the handlers that still run."""
        for request in list(self.in_flight.values()):
            request.interrupt()

    def destroy(self) -> None:
        """The session is over; calls the filesystem's ``destroy`` once."""
        if self.destroyed:
            return
        self.destroyed = True
        try:
            self.operations.destroy()
        except Exception as error:
            log.error("destroy raised", exc_info=error)


class Later:
    """The answer of an ``async`` handler: run it on an event loop. ``request`` lets one interrupt it."""

    def __init__(self, session: Session, request: Request, bound: Bound, args: tuple[Any, ...], body: memoryview):
        self.session = session
        self.request = request
        self._bound = bound
        self._args = args
        self._body = body

    async def run(self) -> Answer:
        """The handler, to its end. When it is cancelled the caller gets EINTR."""
        session, request = self.session, self.request
        _current.set(request)
        stage = HANDLING
        try:
            result = await self._bound.method(*self._args)
            stage = ENCODING
            payload = self._bound.encode(session.operations, result, self._body)
            return _reply(request.unique, payload)
        except Exception as error:
            return session._failed(request, self._bound, error, stage)
        finally:
            session.in_flight.pop(request.unique, None)

    def interrupted(self) -> Answer:
        """The answer for a handler that was cancelled, or never begun."""
        self.session.in_flight.pop(self.request.unique, None)
        return _error(self.request.unique, Errno.EINTR)

    def failed(self) -> Answer:
        """The answer for a handler that ended in no way that has an answer: SystemExit."""
        self.session.in_flight.pop(self.request.unique, None)
        return _error(self.request.unique, Errno.EIO)


_GRANTS_ENTRY = frozenset(
    {Opcode.LOOKUP, Opcode.MKNOD, Opcode.MKDIR, Opcode.SYMLINK, Opcode.LINK, Opcode.CREATE, Opcode.TMPFILE}
)
_RELEASES = {
    Opcode.OPEN: "release", Opcode.CREATE: "release", Opcode.TMPFILE: "release", Opcode.OPENDIR: "releasedir",
}  # fmt: skip


def _ok(unique: int) -> Answer:
    return (_pack_header(OUT_HEADER_SIZE, 0, unique),)


def _reply(unique: int, body: Buffer) -> Answer:
    return _pack_header(OUT_HEADER_SIZE + len(body), 0, unique), body


def _error(unique: int, number: int) -> Answer:
    return (_pack_header(OUT_HEADER_SIZE, -int(number), unique),)
