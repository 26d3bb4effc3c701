"""The request that a handler is answering: who asks, and everything that its message says."""

from __future__ import annotations

import _thread
import struct
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wire.codec import Message, decode_request
from ..wire.extensions import Extensions, decode_extensions
from ..wire.flags import Opcode
from ..wire.layout import Buffer
from ..wire.layouts import CREATE_IN, IN_HEADER, MKDIR_IN, MKNOD_IN
from ..wire.table import LATEST, Dialect

if TYPE_CHECKING:
    from .session import Session

_CREATE_UMASK = IN_HEADER.size + CREATE_IN.offsets["umask"]
_UMASK_OFFSETS = {
    int(Opcode.CREATE): _CREATE_UMASK,
    int(Opcode.TMPFILE): _CREATE_UMASK,
    int(Opcode.MKNOD): IN_HEADER.size + MKNOD_IN.offsets["umask"],
    int(Opcode.MKDIR): IN_HEADER.size + MKDIR_IN.offsets["umask"],
}


class Request:
    """One request. ``uid``, ``gid`` and ``pid`` are the caller's (``pid`` 0: none of this pid namespace).

    Valid while its handler runs; an ``async`` handler may keep it.
    """

    __slots__ = (
        "_message", "_waiters", "dialect", "gid", "interrupted", "nodeid", "on_interrupt", "opcode", "pid", "uid", "unique",
    )  # fmt: skip

    def __init__(
        self,
        opcode: int,
        unique: int,
        nodeid: int,
        uid: int,
        gid: int,
        pid: int,
        message: Buffer,
        dialect: Dialect = LATEST,
    ) -> None:
        self.opcode = opcode
        self.unique = unique
        self.nodeid = nodeid
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.dialect = dialect
        self.interrupted = False  # the caller got a signal: an answer of EINTR would please it
        self.on_interrupt: Callable[[], None] | None = None
        self._waiters: list[threading.Event] = []
        self._message = message

    def __repr__(self) -> str:
        try:
            name = Opcode(self.opcode).name
        except ValueError:
            name = f"opcode {self.opcode}"
        return f"{name} {self.unique} (node {self.nodeid}, pid {self.pid})"

    @property
    def message(self) -> Message:
        """The whole message, decoded."""
        return decode_request(self._message, self.dialect)[1]

    @property
    def args(self) -> Any:
        """The struct in front of the message's body (``ReadIn``, ``SetattrIn``, ...), with every flag of the protocol."""
        return self.message.structs[0]

    @property
    def umask(self) -> int:
        """The caller's umask, in CREATE, MKNOD, MKDIR and TMPFILE. Raises AttributeError elsewhere."""
        offset = _UMASK_OFFSETS.get(self.opcode)
        if offset is None:
            raise AttributeError(f"{self!r} carries no umask")
        return int.from_bytes(self._message[offset : offset + 4], "little")

    @property
    def extensions(self) -> Extensions:
        """What came behind the body of a request that makes an inode: security contexts, a supplementary group."""
        return decode_extensions(self.message.extensions)

    @property
    def groups(self) -> tuple[int, ...]:
        """The caller's supplementary groups, read from /proc/PID/status now. Raises ProcessLookupError when it is gone."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_bytes()
        except OSError as error:
            raise ProcessLookupError(f"process {self.pid}, which asked, cannot be seen") from error
        # A process calls itself what it likes, with any byte but the newline: no decoding, and no other end of a line.
        line = next(line for line in status.split(b"\n") if line.startswith(b"Groups:"))
        return tuple(map(int, line.split()[1:]))

    def interrupt(self) -> None:
        """The session's: a FUSE_INTERRUPT for this request came."""
        self.interrupted = True
        for event in list(self._waiters):
            event.set()
        if self.on_interrupt is not None:
            self.on_interrupt()

    def wait_interrupted(self, timeout: float | None = None) -> bool:
        """Sleep until the caller is interrupted, at most ``timeout`` seconds; whether it was."""
        event = threading.Event()  # each waiter's own
        self._waiters.append(event)
        try:
            return self.interrupted or event.wait(timeout)
        finally:
            self._waiters.remove(event)


Header = tuple[int, int, int, int, int]
"""Of a message: its length, opcode, unique, nodeid, and the extensions' length. Who asks is told by :class:`Request`."""
NO_HEADER: Header = (0, 0, 0, 0, 0)
read_header: Callable[[Buffer], Header] = struct.Struct("<IIQQ12xHxx").unpack_from
_read_caller = struct.Struct("<24xIII").unpack_from


NOTHING = memoryview(b"")


class Seat:
    """Where requests are handled one after the other: the buffer they are read into, and which one is there.

    Few handlers ask for their :class:`Request`, so it is made when one does, or when an interrupt comes for it. ``header`` is
    the last message's; that request is being handled until ``done`` is the same object.
    """

    __slots__ = ("_lock", "_made", "buffer", "done", "header", "session")

    def __init__(self, session: Session, buffer: memoryview) -> None:
        self.session = session
        self.buffer = buffer
        self.header = self.done = NO_HEADER
        self._lock = _thread.allocate_lock()
        self._made: tuple[Header, Request] | None = None

    def take(self) -> None:
        """From here on this thread handles what is in this seat, and nothing else."""
        _current.set(self)

    def leave(self) -> None:
        """What was here is done, and its buffer may be used anew."""
        self.done = self.header
        self.buffer = NOTHING
        self._made = None

    @property
    def busy(self) -> bool:
        """Whether a request is being handled here."""
        return self.header is not self.done

    @property
    def request(self) -> Request | None:
        """The request that is being handled here: the same object however often it is asked for, from any thread."""
        with self._lock:
            return self._request()

    def _request(self) -> Request | None:
        # Its own thread takes no lock to leave: what is not done after the buffer was looked up was in that buffer.
        header = self.header
        buffer = self.buffer
        if header is self.done:
            return None
        made = self._made
        if made is None or made[0] is not header:
            length, opcode, unique, nodeid, _ = header
            uid, gid, pid = _read_caller(buffer)
            request = Request(opcode, unique, nodeid, uid, gid, pid, buffer[:length], self.session.dialect)
            made = self._made = header, request
        return made[1]

    def interrupt(self, unique: int) -> bool:
        """An interrupt came for the request ``unique``; False where that is not here, or no longer."""
        with self._lock:
            request = self._request()
            if request is None or request.unique != unique:
                return False
            request.interrupted = True  # before the lock is let go: it may move
        request.interrupt()
        return True

    def move_to(self, other: Seat) -> None:
        """The request that is here goes on in ``other``, where its message lies already. An interrupt that came goes with it;
        one that comes from now on finds it there."""
        with self._lock:
            self.session.seats.add(other)
            made, there = self._made, other.request
            if made is not None and made[0] is self.header and made[1].interrupted and there is not None:
                there.interrupted = True
            self.done = self.header


_current: ContextVar[Seat] = ContextVar("fusewire_seat")


def current_request() -> Request:
    """The request that the running handler answers. Raises RuntimeError outside a handler.

    A thread that a plain handler starts is handed the :class:`Request`, not left to ask: when it does, another may be there.
    """
    seat = _current.get(None)
    request = None if seat is None else seat.request
    if request is None:
        raise RuntimeError("no request is being handled here")
    return request
