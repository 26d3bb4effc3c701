"""/dev/fuse: requests by readv, answers by writev, and its four ioctls."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import struct
import threading
from time import perf_counter
from typing import TYPE_CHECKING

from ..inspect.events import EventStream, Kind
from ..wire.layouts import BACKING_MAP, BackingMap

if TYPE_CHECKING:
    from ..daemon.session import Answer

DEV_FUSE = "/dev/fuse"
IOC_CLONE = 0x8004E500
IOC_BACKING_OPEN = 0x4010E501
IOC_BACKING_CLOSE = 0x4004E502
IOC_SYNC_INIT = 0x0000E503


SPIN = 300e-6  # seconds to look for the next request before sleeping for it
DENSE = 600e-6  # seconds: when the last one came sooner, the next is looked for
BACK_OFF = 1024  # requests without looking, after it was of no use
SMALL = 4096  # bytes that are sooner put behind their header than written from two places


class DevFuse:
    """An open /dev/fuse. ``events``: where to record its reads and writes, with the thread that makes them.

    To sleep for a request and be woken for it, each time across processors, takes many times what most handlers take. So
    while requests come one upon the other the reader looks for the next one a little while before it sleeps; where they come
    seldom, or there is but one processor, it sleeps at once.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.events: EventStream | None = None
        os.set_blocking(fd, True)
        self._file = io.FileIO(fd, "r+", closefd=False)  # the cheapest way to read into a buffer
        self._dense = False
        self._back_off = 0
        self._looks = 0
        self._several = True

    def receive(self, buffer: memoryview) -> int:
        """Sleep until a request is there and read it; returns its length in bytes. Raises OSError (see ``readloop``)."""
        if self.events is not None:
            return self._receive_telling(buffer)
        if self._dense and self._may_look() and not self._look():
            return self._sleep(buffer, True)
        return self._sleep(buffer, False)

    def _receive_telling(self, buffer: memoryview) -> int:
        self._tell(Kind.ENTER, "sys_read")
        try:
            return self._sleep(buffer, False)
        finally:
            self._tell(Kind.LEAVE, "sys_read")

    def _may_look(self) -> bool:
        """Not on a single processor, where the caller cannot go on before we sleep. Which ones are ours may change."""
        self._looks -= 1
        if self._looks < 0:
            self._looks = 256
            self._several = len(os.sched_getaffinity(0)) > 1
        return self._several

    def _look(self) -> bool:
        """Look a little while whether a request is there, at times that nobody else wants the processor."""
        poll = select.poll()  # one of our own: no other thread may be in it
        poll.register(self.fd, select.POLLIN)
        ready, rest = poll.poll, os.sched_yield
        end = perf_counter() + SPIN
        while not ready(0):
            if perf_counter() > end:
                return False
            rest()
        return True

    def _sleep(self, buffer: memoryview, looked: bool) -> int:
        """Read; remember whether the request came soon."""
        since = perf_counter()
        size = self._file.readinto(buffer)
        soon = perf_counter() - since < DENSE
        if looked and soon:  # it came just after we had given up: whoever sent it waited for our processor
            self._back_off = BACK_OFF
        if self._back_off:
            self._back_off -= 1
            soon = False
        self._dense = soon
        return size or 0

    def send(self, answer: Answer) -> None:
        """Write one answer or notification. Raises OSError."""
        if self.events is not None:
            self._tell(Kind.ENTER, "sys_write")
        try:
            if len(answer) == 1:
                os.write(self.fd, answer[0])
            elif len(answer[1]) < SMALL:
                os.write(self.fd, b"".join(answer))
            else:
                os.writev(self.fd, answer)
        finally:
            if self.events is not None:
                self._tell(Kind.LEAVE, "sys_write")

    def _tell(self, kind: Kind, text: str) -> None:
        assert self.events is not None
        self.events.emit(threading.get_native_id(), "daemon", kind, text)

    def clone(self) -> DevFuse:
        """One more descriptor of the same connection, with a processing list of its own: an answer must be written to the
        one that its request was read from. Raises OSError: EPERM before the mount."""
        fd = os.open(DEV_FUSE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, IOC_CLONE, struct.pack("=I", self.fd))
        except BaseException:
            os.close(fd)
            raise
        return DevFuse(fd)

    def backing_open(self, fd: int) -> int:
        """Register an open regular file for passthrough (7.40); returns its id. Raises OSError: EPERM without
        CAP_SYS_ADMIN or without InitFlag.PASSTHROUGH, ELOOP for a file on a stacked filesystem that is too deep."""
        # A mutable argument: else Python hands back the buffer, and not what the call returned.
        return int(fcntl.ioctl(self.fd, IOC_BACKING_OPEN, bytearray(BACKING_MAP.pack(BackingMap(fd))), True))

    def backing_close(self, backing_id: int) -> None:
        """Give an id back; files opened with it keep it until they are closed."""
        fcntl.ioctl(self.fd, IOC_BACKING_CLOSE, struct.pack("=I", backing_id))

    def sync_init(self) -> bool:
        """Have mount(2) wait for the answer to INIT (Linux 6.18); before the mount. Whether the kernel can."""
        try:
            fcntl.ioctl(self.fd, IOC_SYNC_INIT)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return False
            raise
        return True

    def close(self) -> None:
        """Give the descriptor back; with the last one the kernel aborts the connection."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
