"""A daemon in another process, behind a SOCK_SEQPACKET socket that it takes for /dev/fuse: ``/dev/fd/N``.

Rules. At most one unread message lies in the socket (SIOCOUTQ tells whether it was read), so ``pending`` and ``processing``
keep their meaning. A caller that leaves takes its message back, by our own duplicate of the daemon's end, if it is still
unread. That duplicate keeps the socket open, so the daemon's death comes by pidfd and not as an end of file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..kernel.queue import Connection, Device, Request
from ..kernel.vfs import ProgramTask
from ..kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from ..wire.flags import PAGE_SIZE
from ..wire.layouts import IN_HEADER

if TYPE_CHECKING:
    from .driver import Driver

LARGEST = (1 << 20) + PAGE_SIZE  # bytes: a READ or WRITE of 1 MiB and its headers
SEND_BUFFER = (
    LARGEST  # bytes asked of the sockets; the kernel doubles it, and cuts it to net.core.wmem_max for ordinary users
)
OVERHEAD = 32  # bytes of a socket's send buffer that a message cannot use


class DaemonError(OSError):
    """The daemon did not come up, or went away; the text says why, with what it printed last."""

    def __str__(self) -> str:
        return str(self.strerror)


class Link:
    """Our end of the socket, and the daemon's, which it inherits. ``largest`` is the largest message in bytes."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.ours, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sizes = [end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for end in (self.ours, self.theirs)]
        self.largest = min(sizes) - OVERHEAD
        self.ours.setblocking(False)
        self._read = select.epoll()
        self._read.register(self.ours, select.EPOLLOUT | select.EPOLLET)  # an event each time the daemon has read

    @property
    def unread(self) -> bool:
        """Whether a message lies in the socket that the daemon has not read."""
        (size,) = struct.unpack("=i", fcntl.ioctl(self.ours, termios.TIOCOUTQ, bytes(4)))
        return bool(size)

    @property
    def read_events(self) -> int:
        """A descriptor that is readable when the daemon may have read something."""
        return self._read.fileno()

    def consume_read_event(self) -> None:
        self._read.poll(0)

    def take_back(self) -> bytes | None:
        """The unread message, if there is one."""
        try:
            return self.theirs.recv(self.largest, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self._read.close()
        self.ours.close()
        self.theirs.close()


class ForeignDaemon:
    """One daemon and the two tasks that carry its messages: ``feed`` to it, ``drain`` from it."""

    def __init__(self, command: Sequence[str], driver: Driver) -> None:
        self.driver = driver
        self.link = Link()
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        self.refused: list[str] = []  # answers that the kernel half did not take
        self.last: Request | None = None
        path = f"/dev/fd/{self.link.theirs.fileno()}"
        self.command = [word.replace("{fd}", path) for word in command]
        if self.command == list(command):
            raise ValueError("the command has no {fd}: the place of the mountpoint among its arguments")
        try:
            self.process = subprocess.Popen(
                self.command, pass_fds=[self.link.theirs.fileno()], stdin=subprocess.DEVNULL, stderr=self.stderr
            )
        except OSError as error:
            self.link.close()
            raise DaemonError(error.errno, f"{command[0]} cannot be started: {error.strerror}") from None
        self.pidfd = os.pidfd_open(self.process.pid)
        self._stop_reading, self._stop = os.pipe()

    def attach(self, device: Device) -> None:
        """The device that the messages come from and go to."""
        self.device = device
        device.deaf = True
        device.unread = lambda req: req is self.last and self.link.unread
        device.take_back = self._take_back

    async def feed(self, task: ProgramTask, fd: int) -> None:
        """From the kernel half to the daemon."""
        task.opaque = True
        fc = self.device.connection
        buffer = memoryview(bytearray(max(LARGEST, 1 << 16)))
        try:
            while fc.connected and not task.dying:
                await fc.request_wait(task)
                if self.link.unread:
                    await self.driver.readable(task, self.link.read_events, self.pidfd, self._stop_reading)
                    self.link.consume_read_event()
                    if self._ended():
                        break
                    continue
                size = await sys_read(task, fd, buffer)
                header = IN_HEADER.unpack(buffer)
                self.last = self.device.processing.requests.get(header.unique)
                self.link.ours.send(buffer[:size])
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINTR, errno.EPIPE, errno.ECONNRESET):
                raise
        finally:
            fc.abort(task)  # nobody carries messages any more
        await sys_exit(task)

    async def drain(self, task: ProgramTask, fd: int) -> None:
        """From the daemon to the kernel half; when the daemon dies, its descriptors close with it."""
        task.opaque = True
        fc = self.device.connection
        while fc.connected and not task.dying:
            await self.driver.readable(task, self.link.ours.fileno(), self.pidfd, self._stop_reading)
            try:
                answer = self.link.ours.recv(LARGEST + PAGE_SIZE)
            except BlockingIOError:
                answer = b""
            except OSError:
                break
            if answer:
                try:
                    await sys_write(task, fd, (answer,))
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        self.refused.append(str(error))
            elif self._ended():
                break
        fc.abort(task)
        await sys_exit(task)

    def _ended(self) -> bool:
        ready = select.select([self.pidfd, self._stop_reading], [], [], 0)[0]
        return bool(ready)

    def _take_back(self, req: Request) -> bool:
        """The caller of ``req`` leaves: was its message still unread, and is it ours again?"""
        if req is not self.last:
            return False
        return self.link.take_back() is not None

    # -- the process ----------------------------------------------------------------------------------------------

    def last_words(self) -> str:
        """What it printed on standard error, its end."""
        self.stderr.seek(0)
        return self.stderr.read()[-2000:].decode(errors="replace").strip()

    def why_ended(self) -> DaemonError:
        """The error for a daemon that ended before it had answered INIT."""
        status = self.process.wait(timeout=10)
        words = self.last_words()
        said = f"; it said: {words}" if words else ""
        name = self.command[0]
        if status == 0 and not words:
            why = "ended with status 0: it went into the background, or takes no /dev/fd/N; have it stay in front (-f)"
        elif status == 0:
            why = f"ended with status 0 before it had answered INIT; have it stay in the foreground (-f){said}"
        elif "mountpoint" in words or "/dev/fd" in words or "mount point" in words:
            why = f"does not take /dev/fd/N as a mountpoint (libfuse 3 and go-fuse do; libfuse 2 does not){said}"
        else:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            why = how + said
        return DaemonError(errno.EIO, f"{name} {why}")

    def await_init(self, fc: Connection, timeout: float) -> None:
        """Until INIT is answered. Raises :class:`DaemonError`."""
        end = time.monotonic() + timeout
        while not fc.initialized:
            left = end - time.monotonic()
            if not fc.connected or self._ended():
                raise self.why_ended()
            if left <= 0:
                words = self.last_words()
                raise DaemonError(
                    errno.ETIMEDOUT,
                    f"{self.command[0]} did not answer INIT within {timeout} seconds"
                    + (f"; it said: {words}" if words else ""),
                )
            self.driver.pass_time(min(left, 0.05))
        if fc.refused and (not fc.connected or self._ended()):
            raise self.why_ended()
        if fc.refused:
            raise DaemonError(errno.EPROTO, f"{self.command[0]} refused INIT, or speaks a major that we do not")

    def request_stop(self) -> None:
        """Wake the tasks that wait for it."""
        with contextlib.suppress(OSError):
            os.write(self._stop, b"x")

    def stop(self, seconds: float = 5.0) -> None:
        """End it: by the end of its socket, then by SIGTERM, then by SIGKILL."""
        self.link.close()
        for end in (None, signal.SIGTERM, signal.SIGKILL):
            if end is not None:
                self.process.send_signal(end)
            try:
                self.process.wait(timeout=seconds if end is not None else 0.5)
                break
            except subprocess.TimeoutExpired:
                continue
        for fd in (self.pidfd, self._stop_reading, self._stop):
            os.close(fd)
        self.stderr.close()
