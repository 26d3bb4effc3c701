"""FUSE over a connected socket: SOCK_SEQPACKET, where a packet is a message, and SOCK_STREAM, where its header tells where
it ends. What the other end is (a kernel half of user space, gVisor, FUSE-T) makes no difference."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from typing import TYPE_CHECKING

from ..inspect.events import EventStream

if TYPE_CHECKING:
    from ..daemon.session import Answer

_LENGTH = struct.Struct("=I")


class Seqpacket:
    """One packet, one message. A message larger than the socket's send buffer cannot be sent: EMSGSIZE."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.events: EventStream | None = None

    def receive(self, buffer: memoryview) -> int:
        """As :meth:`DevFuse.receive`; the end of the socket is ENODEV, and a packet that is longer than ``buffer``, which gets
        its beginning, EMSGSIZE."""
        try:
            size, _, flags, _ = self.socket.recvmsg_into((buffer,))
        except ConnectionResetError:
            size, flags = 0, 0
        if not size:
            raise OSError(errno.ENODEV, "the other end has closed the socket")
        if flags & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, f"a message is longer than the {len(buffer)} bytes that we have room for")
        return size

    def send(self, answer: Answer) -> None:
        """As :meth:`DevFuse.send`; EPIPE when the other end is gone is its ENODEV."""
        try:
            self.socket.sendmsg(answer)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise OSError(errno.ENODEV, "the other end has closed the socket") from error

    def close(self) -> None:
        self.socket.close()

    close_in_child = close


class Stream:
    """Messages one behind the other; each begins with its length."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.events: EventStream | None = None
        self._receiving, self._sending = threading.Lock(), threading.Lock()

    def receive(self, buffer: memoryview) -> int:
        """As :meth:`DevFuse.receive`. Raises EPROTO for a message that cannot be, after which nothing more can be read. Each
        message goes to one thread: while one reader takes the place of another, both may be in here."""
        with self._receiving:
            self._fill(buffer[: _LENGTH.size])
            (size,) = _LENGTH.unpack_from(buffer)
            if not 40 <= size <= len(buffer):
                raise OSError(errno.EPROTO, f"a message of {size} bytes: out of step, or longer than INIT agreed on")
            self._fill(buffer[_LENGTH.size : size])
            return int(size)

    def _fill(self, part: memoryview) -> None:
        while part:
            try:
                size = self.socket.recv_into(part)
            except ConnectionResetError:
                size = 0
            if not size:
                raise OSError(errno.ENODEV, "the other end has closed the socket")
            part = part[size:]

    def send(self, answer: Answer) -> None:
        """As :meth:`DevFuse.send`; messages of several threads do not mix."""
        with self._sending:
            try:
                sent = self.socket.sendmsg(answer)
                rest = b"".join(answer)[sent:] if sent < sum(map(len, answer)) else b""
                self.socket.sendall(rest)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise OSError(errno.ENODEV, "the other end has closed the socket") from error

    def close(self) -> None:
        self.socket.close()

    close_in_child = close
