"""Who carries the messages of a daemon that lives behind a socket.

Rules. At most one unread message lies in the socket (SIOCOUTQ tells whether it was read), so ``pending`` and ``processing``
keep their meaning. A caller that leaves takes its message back, by our own duplicate of the daemon's end, if it is still
unread. That duplicate keeps the socket open: where we hold one, the daemon's death comes by pidfd and not as an end of file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from typing import TYPE_CHECKING

from ..kernel.queue import Call, Connection, Device, Request
from ..kernel.vfs import ProgramTask
from ..kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from ..wire.errno import error_name
from ..wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, PAGE_SIZE
from ..wire.layouts import IN_HEADER, INIT_OUT, OUT_HEADER
from .driver import log
from .link import LARGEST, Link

if TYPE_CHECKING:
    from .driver import Driver

SMALL = 1 << 18  # bytes: what is longer is sent outside the kernel's lock
_unpack_in = IN_HEADER.unpack_fields
_unpack_out = OUT_HEADER.unpack_fields
GONE = frozenset(
    {errno.ENODEV, errno.ECONNABORTED, errno.EINTR, errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF}
)
REMEMBERED = 1000  # refused answers


class DaemonError(OSError):
    """The daemon did not come up, or went away; the text says why, with what it printed last."""

    def __str__(self) -> str:
        return str(self.strerror)


class Carrier:
    """A daemon behind ``link`` and the two tasks that carry its messages: ``feed`` to it, ``drain`` from it.

    ``pid`` is the daemon's, where it is a process whose death is to be noticed. ``name`` is what errors call it.
    """

    def __init__(self, link: Link, driver: Driver, name: str, pid: int | None = None) -> None:
        self.link = link
        self.driver = driver
        self.name = name
        self.pid = pid
        self.refused: list[str] = []  # the last answers that the kernel half did not take
        self.last: Request | None = None  # whose message went into the socket last
        self._maybe_unread = False  # that message was not seen to be read yet
        self._hung_up = False
        self._init_answer = b""
        self.pidfd: int | None = None
        if pid is not None:
            try:
                self.pidfd = os.pidfd_open(pid)
            except ProcessLookupError:  # it has ended, and left nothing: SIGCHLD is ignored
                self._hung_up = True
        self._stop_reading, self._stop = os.pipe()
        self._ends = (self._stop_reading,) if self.pidfd is None else (self.pidfd, self._stop_reading)

    def attach(self, device: Device) -> None:
        """The device that the messages come from and go to."""
        self.device = device
        device.deaf = True
        device.pid = self.pid
        device.unread = lambda req: req is self.last and self._unread()
        device.take_back = self._take_back

    # -- the tasks ------------------------------------------------------------------------------------------------

    async def feed(self, task: ProgramTask, fd: int) -> None:
        """From the kernel half to the daemon."""
        task.opaque = True
        fc = self.device.connection
        whole = buffer = memoryview(bytearray(LARGEST + PAGE_SIZE))
        fc.readers[task] = None
        try:
            while fc.connected and not task.dying:
                if task.events is None:  # the same, without the frames in between
                    await fc.waitq.wait_asleep(task, fc.to_read, fc.idle, True)
                else:
                    await fc.request_wait(task)
                if self._maybe_unread and self._unread():
                    if not await self._room(task):
                        break
                    continue
                if fc.least_buffer != len(buffer):  # of the daemon's own buffer we know only what INIT has it have
                    fc.least_buffer = min(fc.least_buffer, self.link.largest, len(whole))
                    buffer = whole[: fc.least_buffer]
                size = None if task.events is not None else self.device.read_now(task, buffer)
                if size is None:
                    size = await sys_read(task, fd, buffer)
                self.last = self.device.processing.requests.get(_unpack_in(buffer)[2])
                self._maybe_unread = True
                sent = self.link.send(buffer[:size]) if size <= SMALL else 0
                if sent < size:
                    await self._send(task, buffer[sent:size])
        except OSError as error:
            self._ended_by(error)
        finally:
            self._mourn()
            fc.abort(task)  # nobody carries messages any more
        await sys_exit(task)

    async def _send(self, task: ProgramTask, message: memoryview) -> None:
        """Send what is large, or what there was no room for at once."""
        while message:
            message = message[await Call(self.link.send, message) :]
            if message and not await self._room(task):
                return

    async def _room(self, task: ProgramTask) -> bool:
        """Wait until the daemon has read something; False when it is gone."""
        await self.driver.readable(task, self.link.read_events, *self._ends)
        self.link.consume_read_event()
        return not self.ended()

    async def drain(self, task: ProgramTask, fd: int) -> None:
        """From the daemon to the kernel half; when the daemon dies, its descriptors close with it."""
        task.opaque = True
        fc = self.device.connection
        readable, receive, sources = self.driver.readable, self.link.receive, (self.link.fd, *self._ends)
        buffer = memoryview(bytearray(LARGEST + PAGE_SIZE))
        try:
            while fc.connected and not task.dying:
                await readable(task, *sources)
                size = receive(buffer)
                if size:
                    if not self._take_now(task, answer := buffer[:size]):
                        await self._take(task, fd, answer)
                elif size == 0 and not self.link.hung_up:
                    self._refuse("an empty message")
                elif size == 0:
                    self._hung_up = True
                    break
                elif self.ended():
                    break
        except OSError as error:
            self._ended_by(error)
            self._hung_up = True
        self._mourn()
        fc.abort(task)
        await sys_exit(task)

    def _ended_by(self, error: OSError) -> None:
        """No message can be carried any more, through no fault of the daemon's."""
        if error.errno not in GONE:
            self._say_why(f"messages to or from {self.name} cannot be carried: {error}")

    def _mourn(self) -> None:
        """Where the daemon ended by itself, whoever calls from now on hears how."""
        fc = self.device.connection
        if fc.connected and fc.initialized and not fc.refused and self.ended():
            self._say_why(f"{self.name} {self.how_it_ended()}")

    def _say_why(self, why: str) -> None:
        self.device.connection.why_gone = why
        log.warning("%s", why)

    def _take_now(self, task: ProgramTask, answer: memoryview) -> bool:
        """Hand an answer in, if that can be done at once and nobody records it."""
        last = self.last
        if last is not None and len(answer) >= OUT_HEADER.size and _unpack_out(answer)[2] == last.unique:
            self._maybe_unread = False  # it was answered
        if not self.device.connection.initialized:
            self._init_answer = bytes(answer[: OUT_HEADER.size + INIT_OUT.size])
        try:
            return task.events is None and self.device.write_now(task, (answer,)) is not None
        except OSError as error:
            self._not_taken(error)
            return True

    async def _take(self, task: ProgramTask, fd: int, answer: memoryview) -> None:
        try:
            await sys_write(task, fd, (answer,))
        except OSError as error:
            self._not_taken(error)

    def _not_taken(self, error: OSError) -> None:
        if error.errno != errno.ENOENT:  # nobody waits for it any more
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        self.refused.append(why)
        del self.refused[:-REMEMBERED]

    @property
    def may_be_in_this_process(self) -> bool:
        """Whether the daemon is, or could be, a thread of ours."""
        here = (0, os.getpid())
        return (self.pid or 0) in here and self.link.sender in here

    # -- what lies in the socket ----------------------------------------------------------------------------------

    def _unread(self) -> bool:
        """Whether the last message still lies in the socket."""
        if self._maybe_unread:
            self._maybe_unread = self.link.unread
        return self._maybe_unread

    def _take_back(self, req: Request) -> bool:
        """The caller of ``req`` leaves: was its message still unread, and is it ours again?"""
        if req is not self.last or not self._maybe_unread:
            return False
        return self.link.take_back() is not None

    # -- beginning and end ----------------------------------------------------------------------------------------

    def ended(self) -> bool:
        """Whether the daemon is gone, or is to be left."""
        return self._hung_up or bool(select.select(self._ends, [], [], 0)[0])

    def await_init(self, fc: Connection, timeout: float) -> None:
        """Until INIT is answered. Raises :class:`DaemonError`."""
        end = time.monotonic() + timeout
        while not fc.initialized:
            left = end - time.monotonic()
            if not fc.connected or self.ended():
                raise self.why_ended()
            if left <= 0:
                raise self.error(errno.ETIMEDOUT, f"did not answer INIT within {timeout:g} seconds")
            self.driver.pass_time(min(left, 0.05))
        if fc.refused:
            if not fc.connected or self.ended():
                raise self.why_ended()
            raise self.error(errno.EPROTO, _refusal(self._init_answer))
        self.check_settled()

    def check_settled(self) -> None:
        """INIT was answered: will whoever did stay? Raises :class:`DaemonError`."""

    def why_ended(self) -> DaemonError:
        """The error for a daemon that ended before it had answered INIT."""
        return self.error(errno.EIO, "ended, or closed its socket, before it had answered INIT")

    def how_it_ended(self) -> str:
        """In words, for a daemon that was up. Does not wait."""
        return "ended, or closed its socket"

    def error(self, number: int, why: str) -> DaemonError:
        return DaemonError(number, f"{self.name} {why}")

    def request_stop(self) -> None:
        """Wake the tasks that wait for it."""
        with contextlib.suppress(OSError):
            os.write(self._stop, b"x")

    def stop(self) -> None:
        """Let go of the socket, which is the daemon's end of file."""
        self.link.close()
        for fd in {self._stop, *self._ends}:
            os.close(fd)


def _refusal(answer: bytes) -> str:
    """What is wrong with this answer to INIT; without one, time ran out (``request_timeout``)."""
    if not answer:
        return "did not answer INIT in time"
    header = OUT_HEADER.unpack(answer)
    if header.error:
        return f"refused INIT with {error_name(-header.error)}"
    if header.len < OUT_HEADER.size + 8:
        return f"answered INIT with {header.len - OUT_HEADER.size} bytes, 8 are the least"
    if header.len > OUT_HEADER.size + INIT_OUT.size:
        return f"answered INIT with {header.len - OUT_HEADER.size} bytes, {INIT_OUT.size} are the most"
    spoken = INIT_OUT.unpack_short(answer[OUT_HEADER.size :])
    return f"speaks FUSE {spoken.major}.{spoken.minor}, and we {KERNEL_VERSION}.{KERNEL_MINOR_VERSION}"
