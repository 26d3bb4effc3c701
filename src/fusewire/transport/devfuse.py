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
NEAR = 8e-6  # seconds: who sleeps for no longer was not woken across processors
DENSE = 600e-6  # seconds: who sleeps for longer would look in vain
WEIGH, WEIGH_LOOKING = 32, 256  # every how many requests it is weighed whether to look
BACK_OFF = 1024  # requests without looking, after it was of no use


class DevFuse:
    """An open /dev/fuse. ``events``: where to record its reads and writes, with the thread that makes them.

    To sleep for a request and be woken for it, each time across processors, takes many times what most handlers take. So
    while requests come one upon the other the reader looks for the next one a little while before it sleeps. Where they come
    seldom, or there is but one processor, it sleeps at once; and where whoever asks runs on ours, who goes on as soon as we
    sleep. Which it is shows in how long a sleep takes: now and then one is measured.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.events: EventStream | None = None
        os.set_blocking(fd, True)
        self._file = io.FileIO(fd, "r+", closefd=False)  # cheaper than os.readv and os.write
        self.read, self.write = self._file.readinto, self._file.write
        self.straight = 0
        self._looks = False
        self._until_weighed = 0  # requests
        self._ending = threading.Lock()  # the number may be another file's as soon as it is closed

    def receive(self, buffer: memoryview) -> int:
        """Sleep until a request is there and read it; returns its length in bytes. Raises OSError (see ``readloop``)."""
        if self.events is not None:
            return self._receive_telling(buffer)
        self._until_weighed -= 1
        if self._until_weighed < 0:
            return self._weigh(buffer)
        if self._looks and not self._look():
            return self._give_up(buffer)
        size = self.read(buffer)
        return self._sleep(buffer) if size is None else size

    def _sleep(self, buffer: memoryview) -> int:
        """The descriptor is non-blocking, which is shared with whoever has it too: someone has made it so."""
        size = None
        while size is None:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            poll.poll()
            size = self.read(buffer)
        return size

    def _receive_telling(self, buffer: memoryview) -> int:
        self._tell(Kind.ENTER, "sys_read")
        try:
            size = self.read(buffer)
            return self._sleep(buffer) if size is None else size
        finally:
            self._tell(Kind.LEAVE, "sys_read")

    def _weigh(self, buffer: memoryview) -> int:
        """Sleep for this one, and see whether to look for the next ones. Not on a single processor, where the caller
        cannot go on before we sleep; which ones are ours may change."""
        since = perf_counter()
        size = self.read(buffer)
        if size is None:
            size = self._sleep(buffer)
        self._looks = NEAR < perf_counter() - since < DENSE and len(os.sched_getaffinity(0)) > 1
        self._until_weighed, self.straight = (WEIGH_LOOKING, 0) if self._looks else (0, WEIGH)
        return size

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

    def _give_up(self, buffer: memoryview) -> int:
        """We looked in vain. If one comes just then, whoever sent it waited for our processor."""
        since = perf_counter()
        size = self.read(buffer)
        if size is None:
            size = self._sleep(buffer)
        self._looks = False
        self._until_weighed, self.straight = 0, BACK_OFF if perf_counter() - since < DENSE else WEIGH
        return size

    def send(self, answer: Answer) -> None:
        """Write one answer or notification. Raises OSError."""
        if self.events is not None:
            return self._send_telling(answer)
        if len(answer) == 1:
            write = self.write
            try:
                write(answer[0])
            except ValueError:
                raise OSError(errno.EBADF, "the device is closed") from None
        else:
            os.writev(self.fd, answer)
        return None

    def _send_telling(self, answer: Answer) -> None:
        self._tell(Kind.ENTER, "sys_write")
        try:
            os.writev(self.fd, answer)
        finally:
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

    def hang_up(self) -> None:
        """Let go of the device, and keep the descriptor: it becomes /dev/null, where every read says that it is over. Who
        sleeps in a read of the device must be woken to see it. With the last descriptor the kernel aborts the connection."""
        with self._ending:
            if self.fd >= 0:
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                os.dup2(null, self.fd, inheritable=False)
                os.close(null)

    def close_in_child(self) -> None:
        """After a fork: the child's copy. Another thread may have been in :meth:`close`, and is not here to leave it."""
        self._ending = threading.Lock()
        self.close()

    def close(self) -> None:
        """Give the descriptor back; with the last one the kernel aborts the connection."""
        with self._ending:
            fd, self.fd = self.fd, -1
            self._file.close()  # which leaves the descriptor alone: an answer that comes late must not go to its successor
            if fd >= 0:
                os.close(fd)
