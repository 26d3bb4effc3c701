"""An open /dev/fuse: how a daemon reads requests and writes answers. Every check is Linux's, and so is every errno."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...wire.codec import IN_HEADER_SIZE, OUT_HEADER_SIZE
from ...wire.errno import MAX_ERRNO, Errno
from ...wire.flags import MIN_READ_BUFFER, Opcode, PollEvent
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
from .copy import Memory, copy_pages
from .request import Request, RequestList, State
from .task import Task, traced


class Device:
    """One open (or cloned) /dev/fuse. An answer must come by the device that its request was read from.

    Without a connection it is as /dev/fuse is before the mount: nothing but :meth:`clone` works.
    """

    def __init__(self, connection: Connection | None = None) -> None:
        self._connection: Connection | None = None
        self.processing = RequestList("unique", "add req to fc->processing", "remove from fc->processing")
        self.io: dict[Request, None] = {}
        # A device that stands for a socket: whether a request it has sent is unread there, and how to take that back.
        self.unread: Callable[[Request], bool] = lambda req: False
        self.take_back: Callable[[Request], bool] = lambda req: False
        if connection is not None:
            self._attach(connection)

    def _attach(self, connection: Connection) -> None:
        self._connection = connection
        connection.devices.append(self)

    @property
    def connection(self) -> Connection:
        """Raises EPERM before the mount."""
        if self._connection is None:
            raise OSError(int(Errno.EPERM), "this /dev/fuse is not mounted")
        return self._connection

    def clone(self, other: Device) -> None:
        """FUSE_DEV_IOC_CLONE: become one more device of ``other``'s connection. Raises EINVAL when this one has a connection
        already, or the other has none."""
        if self._connection is not None or other._connection is None:
            raise OSError(int(Errno.EINVAL), "a fresh /dev/fuse becomes a clone of a mounted one")
        self._attach(other._connection)

    def poll(self) -> PollEvent:
        """What poll(2) shows now: always writable; readable when a request waits; an error without a connection."""
        fc = self._connection
        if fc is None or not fc.connected or self not in fc.devices:
            return PollEvent.ERR
        return PollEvent.OUT | (PollEvent.IN if fc.request_pending else PollEvent(0))

    # -- reading --------------------------------------------------------------------------------------------------

    @traced("fuse_dev_read")
    async def read(self, task: Task, buffer: memoryview, *, nonblock: bool = False) -> int:
        """Wait for one request and copy it into ``buffer``; returns its length in bytes.

        Raises EPERM before the mount, EINVAL for a buffer smaller than max(8192, 80 + max_write), ENODEV once unmounted or
        aborted (ECONNABORTED for an abort where INIT asked for that), ENOENT when the request was given up during the copy
        (read again), EINTR on a signal, and with ``nonblock`` EAGAIN instead of a wait.
        """
        fc = self.connection
        if len(buffer) < max(MIN_READ_BUFFER, 80 + (fc.max_write if fc.initialized else 0)):
            raise OSError(int(Errno.EINVAL), f"a read buffer of {len(buffer)} bytes is too small")
        while True:
            if nonblock and fc.connected and not fc.request_pending:
                raise OSError(int(Errno.EAGAIN), "no request waits")
            await fc.request_wait(task)
            if not fc.connected:
                gone = Errno.ECONNABORTED if fc.aborted_with_error else Errno.ENODEV
                raise OSError(int(gone), "unmounted, or the connection was aborted")
            if fc.interrupts:
                return self._read_interrupt(task, buffer)
            if fc.forgets and fc.forgets_first():
                return self._read_forgets(task, buffer)
            if fc.pending.requests:  # another reader may have taken it meanwhile
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

    async def _read_request(self, task: Task, req: Request, buffer: memoryview) -> int:
        fc = self.connection
        fc.pending.remove(task, req)
        req.move(State.READING)
        req.reader = task
        req.device = self
        self.io[req] = None
        await task.point("removed from pending")
        try:
            length = await copy_pages(task, req, req.message(), buffer, "copy req to read buffer")
        except BaseException:
            self._copy_failed(task, req)
            raise
        del self.io[req]
        assert req.args is not None
        if req.args.noreply:
            fc.finish(task, req)
            return length
        self.processing.add(task, req, State.PROCESSING)
        await task.point("added to processing")
        if req.interrupted:
            fc.queue_interrupt(req)
        return length

    def _read_interrupt(self, task: Task, buffer: memoryview) -> int:
        unique, req = next(iter(self.connection.interrupts.items()))
        del self.connection.interrupts[unique]
        task.step(f"copy interrupt of {unique} to read buffer", unique)
        body = INTERRUPT_IN.pack(InterruptIn(req.unique))
        return _message(buffer, Opcode.INTERRUPT, unique | 1, 0, body)

    def _read_forgets(self, task: Task, buffer: memoryview) -> int:
        fc = self.connection
        fc.reqctr += 2
        if len(fc.forgets) == 1 or fc.dialect.minor < 16:
            nodeid, nlookup = fc.forgets.popleft()
            task.step(f"copy forget of node {nodeid} to read buffer")
            body = FORGET_IN.pack(ForgetIn(nlookup))
            return _message(buffer, Opcode.FORGET, fc.reqctr, nodeid, body)
        room = (len(buffer) - IN_HEADER_SIZE - BATCH_FORGET_IN.size) // FORGET_ONE.size
        batch = [fc.forgets.popleft() for _ in range(min(room, len(fc.forgets)))]
        task.step(f"copy forgets of {len(batch)} nodes to read buffer")
        body = BATCH_FORGET_IN.pack(BatchForgetIn(len(batch)))
        body += b"".join(FORGET_ONE.pack(ForgetOne(*one)) for one in batch)
        return _message(buffer, Opcode.BATCH_FORGET, fc.reqctr, 0, body)

    # -- writing --------------------------------------------------------------------------------------------------

    @traced("fuse_dev_write")
    async def write(self, task: Task, buffers: Sequence[Memory]) -> int:
        """Take one answer, in one or more buffers; returns its length in bytes.

        Raises EINVAL for what is not an answer to this request, ENOENT for an unknown unique (or one read by another
        device) or when nobody waits any more, EPERM before the mount, and lets the caller have EIO where the answer's body does
        not fit.
        """
        length = sum(map(len, buffers))
        header, body = _split(buffers, length)
        if header.unique == 0:
            await self.connection.notify(task, header.error, b"".join(body))
            return length
        if not -MAX_ERRNO <= header.error <= 0:
            raise OSError(int(Errno.EINVAL), f"{header.error} is no negated errno")
        task.step("look up req in fc->processing", header.unique)
        req = self.processing.requests.get(header.unique & ~1)
        if req is None:
            raise OSError(int(Errno.ENOENT), f"no request {header.unique} waits for an answer here")
        if header.unique & 1:
            self._interrupt_answered(req, header, length)
            return length
        self.processing.remove(task, req)
        req.move(State.WRITING)
        req.reader = task
        self.io[req] = None
        await task.point("removed from processing")
        await self._take_answer(task, req, header, body)
        return length

    async def _take_answer(self, task: Task, req: Request, header: OutHeader, body: list[Memory]) -> None:
        fc = self.connection
        error = -header.error
        answered = sum(map(len, body))
        try:
            if not req.detached:
                _check_size(req, error, answered)
                args = req.args
                assert args is not None
                await copy_pages(task, req, body, memoryview(args.out or b""), "copy write buffer to req")
        except BaseException:
            if req.aborted:
                self._late_answer(req, header, body)
            self._copy_failed(task, req)
            raise
        if req.detached:
            self._late_answer(req, header, body)
        del self.io[req]
        fc.finish(task, req, error, answered)

    def _copy_failed(self, task: Task, req: Request) -> None:
        """End it, unless whoever gave it up has done so."""
        if self.io.pop(req, req) is None:
            error = Errno.ECONNABORTED if req.aborted else Errno.EIO
            self.connection.finish(task, req, int(error))

    @staticmethod
    def _late_answer(req: Request, header: OutHeader, body: list[Memory]) -> None:
        """The caller has left and its memory with it: only what the answer granted is given back."""
        args = req.args
        assert args is not None
        if args.late is not None and not header.error:
            args.late(b"".join(body))

    def _interrupt_answered(self, req: Request, header: OutHeader, length: int) -> None:
        if length != OUT_HEADER_SIZE:
            raise OSError(int(Errno.EINVAL), "the answer to an INTERRUPT has no body")
        if header.error == -Errno.ENOSYS:
            self.connection.no_interrupt = True
            self.connection.interrupts.clear()
        elif header.error == -Errno.EAGAIN and req.interrupted and self.connection.policy.again:
            self.connection.queue_interrupt(req)

    # -- the end --------------------------------------------------------------------------------------------------

    def disconnect(self) -> list[Request]:
        """Part of an abort: what this device has under way is taken from it, what is being copied included."""
        copied = [req for req in list(self.io) if req.give_up()]
        return copied + self.processing.drain()

    def release(self, task: Task) -> None:
        """close(2), or the death of the daemon: its own requests end with ECONNABORTED; the last device ends them all."""
        fc = self._connection
        if fc is None or self not in fc.devices:
            return
        ending = self.disconnect()
        if len(fc.devices) == 1:
            fc.abort(task)
        fc.devices.remove(self)
        for req in ending:
            fc.finish(None, req, int(Errno.ECONNABORTED))


def _split(buffers: Sequence[Memory], length: int) -> tuple[OutHeader, list[Memory]]:
    """The header, and what is left of the buffers behind it."""
    if length < OUT_HEADER_SIZE:
        raise OSError(int(Errno.EINVAL), f"{length} bytes are no answer: its header has 16")
    if len(buffers[0]) >= OUT_HEADER_SIZE:
        first: Memory = buffers[0]
        rest = buffers[1:]
    else:
        first, rest = b"".join(buffers), ()
    header = OUT_HEADER.unpack(first)
    if header.len != length:
        raise OSError(int(Errno.EINVAL), f"the header says {header.len} bytes, {length} came")
    body: list[Memory] = [memoryview(first)[OUT_HEADER_SIZE:]] if len(first) > OUT_HEADER_SIZE else []
    body.extend(rest)
    return header, body


def _check_size(req: Request, error: int, answered: int) -> None:
    args = req.args
    assert args is not None
    room = 0 if args.out is None else len(args.out)
    if error:
        fits = answered == 0
    else:
        fits = answered == room or (args.argvar and answered < room)
    if not fits:
        raise OSError(
            int(Errno.EINVAL),
            f"{args.opcode.name} answered with {answered} bytes of body, {room} are right",
        )


def _message(buffer: memoryview, opcode: Opcode, unique: int, nodeid: int, body: bytes) -> int:
    length = IN_HEADER_SIZE + len(body)
    buffer[:length] = IN_HEADER.pack(InHeader(length, opcode, unique, nodeid)) + body
    return length
