"""An open /dev/fuse: how a daemon reads requests and writes answers. Every check is Linux's, and so is every errno."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...wire.codec import IN_HEADER_SIZE, OUT_HEADER_SIZE
from ...wire.errno import MAX_ERRNO, Errno
from ...wire.flags import PAGE_SIZE, Opcode, PollEvent
from ...wire.layouts import (
    BATCH_FORGET_IN,
    FORGET_IN,
    FORGET_ONE,
    IN_HEADER,
    INTERRUPT_IN,
    OUT_HEADER,
    BatchForgetIn,
    ForgetIn,
    ForgetOne,
    InHeader,
    InterruptIn,
    OutHeader,
)
from .connection import Connection
from .copy import (
    LARGE,
    Memory,
    Source,
    UserPages,
    check_given_up,
    copy_from_user,
    copy_pages,
    copy_to_user,
    copy_whole,
    plain,
)
from .request import Request, RequestList, State
from .task import Task, traced

_unpack_header = OUT_HEADER.unpack_fields
_new: Any = tuple.__new__  # of a NamedTuple, with no frame of Python's
_READING, _PROCESSING, _WRITING = State.READING, State.PROCESSING, State.WRITING


class Device:
    """One open (or cloned) /dev/fuse. An answer must come by the device that its request was read from.

    Without a connection it is as /dev/fuse is before the mount: not ``attached``, and nothing but :meth:`clone` works.
    """

    connection: Connection

    def __init__(self, connection: Connection | None = None) -> None:
        self.attached = False
        self.processing = RequestList("unique", "add req to fc->processing", "remove from fc->processing")
        self.io: dict[Request, None] = {}
        # A device that stands for a socket: whether a request it has sent is unread there, and how to take that back; whoever
        # writes into the socket does not hear that an answer was refused (ENOENT), and so cannot take back what it granted.
        self.deaf = False
        self.pid: int | None = None  # of the daemon behind the socket, where it is known
        self.unread: Callable[[Request], bool] = lambda req: False
        self.take_back: Callable[[Request], bool] = lambda req: False
        if connection is not None:
            self._attach(connection)

    def _attach(self, connection: Connection) -> None:
        self.connection = connection
        self.attached = True
        connection.devices.append(self)

    def _check_attached(self) -> None:
        if not self.attached:
            raise OSError(int(Errno.EPERM), "this /dev/fuse is not mounted")

    def clone(self, other: Device) -> None:
        """FUSE_DEV_IOC_CLONE: become one more device of ``other``'s connection. Raises EPERM when that has none, EINVAL when
        this one has one already."""
        other._check_attached()
        if self.attached:
            raise OSError(int(Errno.EINVAL), "only a fresh /dev/fuse becomes a clone")
        self._attach(other.connection)

    def poll(self) -> PollEvent:
        """What poll(2) shows now: always writable; readable when a request waits; an error without a connection."""
        if not self.attached or not self.connection.connected or self not in self.connection.devices:
            return PollEvent.ERR
        return PollEvent.OUT | (PollEvent.IN if self.connection.request_pending else PollEvent(0))

    # -- reading --------------------------------------------------------------------------------------------------

    @traced("fuse_dev_read")
    async def read(self, task: Task, buffer: memoryview | UserPages, *, nonblock: bool = False) -> int:
        """Wait for one request and copy it into ``buffer``; returns its length in bytes.

        Raises EPERM before the mount, EINVAL for a buffer smaller than max(8192, 80 + max_write), ENODEV once unmounted or
        aborted (ECONNABORTED for an abort where INIT asked for that), ENOENT when the request was given up during the copy
        (read again), EINTR on a signal, and with ``nonblock`` EAGAIN instead of a wait.
        """
        self._check_attached()
        fc = self.connection
        if len(buffer) < fc.least_buffer:
            raise OSError(int(Errno.EINVAL), f"a read buffer of {len(buffer)} bytes is too small")
        while True:
            if nonblock and fc.connected and not fc.request_pending:
                raise OSError(int(Errno.EAGAIN), "no request waits")
            await fc.request_wait(task)
            if not fc.connected:
                gone = Errno.ECONNABORTED if fc.aborted_with_error else Errno.ENODEV
                raise OSError(int(gone), "unmounted, or the connection was aborted")
            if fc.interrupts:
                return await copy_to_user(task, buffer, self._read_interrupt(task))
            if fc.forgets and fc.forgets_first():
                return await copy_to_user(task, buffer, self._read_forgets(task, len(buffer)))
            if fc.pending.requests:  # another reader may have taken it meanwhile
                now = None if isinstance(buffer, UserPages) else self.read_now(task, buffer)
                if now is not None:
                    return now
                req = fc.pending.first()
                if req.length <= len(buffer):
                    return await self._read_request(task, req, buffer)
                self._does_not_fit(task, req)

    def _does_not_fit(self, task: Task, req: Request) -> None:
        """Nobody can read it with such a buffer: it ends, and the next one is looked at."""
        fc = self.connection
        assert req.args is not None
        fc.pending.remove(task, req)
        fc.finish(task, req, int(Errno.E2BIG if req.args.opcode is Opcode.SETXATTR else Errno.EIO))

    def read_now(self, task: Task, buffer: memoryview) -> int | None:
        """What :meth:`read` does where a request is there and is copied at once; None where it takes more than that."""
        fc = self.connection
        if not fc.pending.requests or fc.interrupts or fc.forgets or task.points or not fc.connected:
            return None
        req = fc.pending.first()
        message, size = req.message(), req.length
        if size > LARGE or len(buffer) < size or len(buffer) < fc.least_buffer:
            return None
        self._begin_reading(task, req)
        try:
            copy_whole(task, req, message, buffer, "copy req to read buffer")
        except BaseException:
            self._copy_failed(task, req)
            raise
        self._end_reading(task, req)
        return size

    async def _read_request(self, task: Task, req: Request, buffer: memoryview | UserPages) -> int:
        self._begin_reading(task, req)
        await task.point("removed from pending")
        try:
            length = await copy_pages(task, req, req.message(), buffer, "copy req to read buffer")
        except BaseException:
            self._copy_failed(task, req)
            raise
        self._end_reading(task, req)
        await task.point("added to processing")
        return length

    def _begin_reading(self, task: Task, req: Request) -> None:
        self.connection.pending.remove(task, req)
        req.move(_READING)
        req.reader, req.device = task, self
        self.io[req] = None

    def _end_reading(self, task: Task, req: Request) -> None:
        del self.io[req]
        assert req.args is not None
        if req.args.noreply:
            self.connection.finish(task, req)
            return
        self.processing.add(task, req, _PROCESSING)
        if req.interrupted:
            self.connection.queue_interrupt(req)

    def _read_interrupt(self, task: Task) -> bytes:
        unique, req = next(iter(self.connection.interrupts.items()))
        del self.connection.interrupts[unique]
        task.step(f"copy interrupt of {unique} to read buffer", unique)
        body = INTERRUPT_IN.pack(InterruptIn(req.unique))
        return _message(Opcode.INTERRUPT, unique | 1, 0, body)

    def _read_forgets(self, task: Task, room: int) -> bytes:
        fc = self.connection
        fc.reqctr += 2
        if len(fc.forgets) == 1 or fc.dialect.minor < 16:
            nodeid, nlookup = fc.forgets.popleft()
            task.step(f"copy forget of node {nodeid} to read buffer")
            body = FORGET_IN.pack(ForgetIn(nlookup))
            return _message(Opcode.FORGET, fc.reqctr, nodeid, body)
        most = (room - IN_HEADER_SIZE - BATCH_FORGET_IN.size) // FORGET_ONE.size
        batch = [fc.forgets.popleft() for _ in range(min(most, len(fc.forgets)))]
        task.step(f"copy forgets of {len(batch)} nodes to read buffer")
        body = BATCH_FORGET_IN.pack(BatchForgetIn(len(batch)))
        body += b"".join(FORGET_ONE.pack(ForgetOne(*one)) for one in batch)
        return _message(Opcode.BATCH_FORGET, fc.reqctr, 0, body)

    # -- writing --------------------------------------------------------------------------------------------------

    @traced("fuse_dev_write")
    async def write(self, task: Task, buffers: Sequence[Source]) -> int:
        """Take one answer, in one or more buffers, or in memory that is faulted in; returns its length in bytes.

        Raises EINVAL for what is not an answer to this request, ENOENT for an unknown unique (or one read by another
        device) or when nobody waits any more, EPERM before the mount, and lets the caller have EIO where the answer's body does
        not fit.
        """
        self._check_attached()
        if plain(buffers):
            now = self.write_now(task, buffers)  # type: ignore[arg-type]
            if now is not None:
                return now
        length = sum(map(len, buffers))
        header, body = _split(await _header_in(task, buffers), length)
        if header.unique == 0:
            await self.connection.notify(task, header.error, await copy_from_user(task, body))
            return length
        req = self._begin_writing(task, header, length)
        if req is None:
            return length
        await task.point("removed from processing")
        try:
            if not req.detached:
                await copy_pages(task, req, body, memoryview(_room(req, header, length)), "copy write buffer to req")
            else:
                body = body if plain(body) else (await copy_from_user(task, body),)
                check_given_up(req)
        except BaseException:
            self._writing_failed(task, req, header, body)
            raise
        self._end_writing(task, req, header, body)
        return length

    def write_now(self, task: Task, buffers: Sequence[Memory]) -> int | None:
        """What :meth:`write` does where the answer is copied at once; None where it takes more than that."""
        length = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        if length > LARGE or task.points:
            return None
        header, body = _split(buffers, length)
        if header.unique == 0:
            return None
        req = self._begin_writing(task, header, length)
        if req is None:
            return length
        try:
            if not req.detached:
                copy_whole(task, req, body, _room(req, header, length), "copy write buffer to req")  # type: ignore[arg-type]
        except BaseException:
            self._writing_failed(task, req, header, body)
            raise
        self._end_writing(task, req, header, body)
        return length

    def _begin_writing(self, task: Task, header: OutHeader, length: int) -> Request | None:
        """The request that is answered, now in our hands; None when that was an INTERRUPT."""
        fc = self.connection
        unique = header.unique
        if header.error and not -MAX_ERRNO <= header.error < 0:
            raise OSError(int(Errno.EINVAL), f"{header.error} is no negated errno")
        if task.events is not None:
            task.step("look up req in fc->processing", unique)
        req = self.processing.requests.get(unique & ~1)
        if req is None:
            raise OSError(int(Errno.ENOENT), f"no request {unique} waits for an answer here")
        if unique & 1:
            self._interrupt_answered(req, header, length)
            return None
        self.processing.remove(task, req)
        req.move(_WRITING)
        if fc.interrupts:
            fc.interrupts.pop(unique, None)  # the daemon need not be told any more
        req.reader = task
        self.io[req] = None
        return req

    def _end_writing(self, task: Task, req: Request, header: OutHeader, body: Sequence[Source]) -> None:
        if req.detached:
            self._late_answer(req, header, body)
        del self.io[req]
        self.connection.finish(task, req, -header.error, header.len - OUT_HEADER_SIZE)

    def _writing_failed(self, task: Task, req: Request, header: OutHeader, body: Sequence[Source]) -> None:
        if req.aborted and self.deaf:
            self._late_answer(req, header, body)
        self._copy_failed(task, req)

    def _copy_failed(self, task: Task, req: Request) -> None:
        """End it, unless whoever gave it up has done so."""
        if self.io.pop(req, req) is None:
            error = Errno.ECONNABORTED if req.aborted else Errno.EIO
            self.connection.finish(task, req, int(error))

    @staticmethod
    def _late_answer(req: Request, header: OutHeader, body: Sequence[Source]) -> None:
        """The caller has left and its memory with it: only what the answer granted is given back."""
        args = req.args
        assert args is not None
        if args.late is not None and not header.error:
            args.late(b"".join(body))  # type: ignore[arg-type]

    def _interrupt_answered(self, req: Request, header: OutHeader, length: int) -> None:
        if length != OUT_HEADER_SIZE:
            raise OSError(int(Errno.EINVAL), "the answer to an INTERRUPT has no body")
        if header.error == -Errno.ENOSYS:
            self.connection.no_interrupt = True
            self.connection.interrupts.clear()
        elif header.error == -Errno.EAGAIN:
            if not req.interrupted:
                raise OSError(int(Errno.EINVAL), "EAGAIN for an INTERRUPT that there was no reason for")
            if req.state is _PROCESSING and self.connection.policy.again:
                self.connection.queue_interrupt(req)

    # -- the end --------------------------------------------------------------------------------------------------

    def disconnect(self) -> list[Request]:
        """Part of an abort: what this device has under way is taken from it, what is being copied included."""
        copied = [req for req in list(self.io) if req.give_up()]
        return copied + self.processing.drain()

    def release(self, task: Task) -> None:
        """close(2), or the death of the daemon: its own requests end with ECONNABORTED; the last device ends them all."""
        if not self.attached or self not in self.connection.devices:
            return
        fc = self.connection
        ending = self.disconnect()
        if len(fc.devices) == 1:
            fc.abort(task)
        fc.devices.remove(self)
        for req in ending:
            fc.finish(None, req, int(Errno.ECONNABORTED))


async def _header_in(task: Task, buffers: Sequence[Source]) -> Sequence[Source]:
    """The same, with the header in a buffer of its own where it had to be faulted in."""
    if plain(buffers):
        return buffers
    head, rest = b"", list(buffers)
    while rest and len(head) < OUT_HEADER_SIZE:
        lacking = OUT_HEADER_SIZE - len(head)
        head += await copy_from_user(task, (rest[0][:lacking],))
        rest[0] = rest[0][lacking:]
        if not len(rest[0]):
            del rest[0]
    return [head, *rest]


def _split(buffers: Sequence[Source], length: int) -> tuple[OutHeader, Sequence[Source]]:
    """The header, and what is left of the buffers behind it."""
    if length < OUT_HEADER_SIZE:
        raise OSError(int(Errno.EINVAL), f"{length} bytes are no answer: its header has 16")
    if len(buffers[0]) >= OUT_HEADER_SIZE:
        first: Any = buffers[0]
        rest: Sequence[Source] = buffers[1:]
    else:
        first, rest = b"".join(buffers), ()  # type: ignore[arg-type]
    header: OutHeader = _new(OutHeader, _unpack_header(first))
    if header.len != length:
        raise OSError(int(Errno.EINVAL), f"the header says {header.len} bytes, {length} came")
    if len(first) == OUT_HEADER_SIZE:
        return header, rest
    body = first[OUT_HEADER_SIZE:] if length <= PAGE_SIZE else memoryview(first)[OUT_HEADER_SIZE:]
    return header, (body, *rest) if rest else (body,)


def _room(req: Request, header: OutHeader, length: int) -> bytearray | memoryview:
    """The caller's memory for the answer's body. Raises EINVAL for one that does not fit it."""
    args = req.args
    assert args is not None
    answered = length - OUT_HEADER_SIZE
    room = 0 if args.out is None else len(args.out)
    if header.error:
        fits = answered == 0
    else:
        fits = answered == room or (args.argvar and answered < room)
    if not fits:
        raise OSError(
            int(Errno.EINVAL),
            f"{args.opcode.name} answered with {answered} bytes of body, {room} are right",
        )
    return args.out or bytearray()


def _message(opcode: Opcode, unique: int, nodeid: int, body: bytes) -> bytes:
    return IN_HEADER.pack(InHeader(IN_HEADER_SIZE + len(body), opcode, unique, nodeid)) + body
