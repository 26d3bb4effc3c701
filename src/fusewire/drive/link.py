"""A connected socket with a daemon at its other end: one message at a time, whole, without ever blocking.

SOCK_SEQPACKET: a packet is a message. SOCK_STREAM: a message's header says where it ends. What lies unread in a UNIX socket
can be told (SIOCOUTQ); in a SEQPACKET of which we hold a duplicate of the daemon's end it can be taken back, too.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios

from ..wire.flags import PAGE_SIZE

LARGEST = (1 << 20) + PAGE_SIZE  # bytes: a READ or WRITE of 1 MiB and its headers
# Bytes asked of the sockets; the kernel doubles it, and cuts it to net.core.wmem_max for ordinary users.
SEND_BUFFER = LARGEST
OVERHEAD = 32  # bytes of a socket's send buffer that a message cannot use
_LENGTH = struct.Struct("=I")
_CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid


class Link:
    """Our end of a SOCK_SEQPACKET socket, and ``theirs``, a duplicate of the daemon's, where we have one.

    ``largest`` is the largest message in bytes: both ends' real send buffers decide. The buffer of an end that we do not
    have is taken to be what a new socket gets.
    """

    def __init__(self, ours: socket.socket, theirs: socket.socket | None = None) -> None:
        self.ours = ours
        self.theirs = theirs
        self.largest = min(_widened(ours), _widened(theirs) if theirs is not None else _default(ours))
        ours.setblocking(False)
        if ours.family == socket.AF_UNIX and ours.type == socket.SOCK_SEQPACKET:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sender = 0  # the pid of who sent the first message
        self.fd = ours.fileno()
        self._read = select.epoll()
        self._read.register(ours, select.EPOLLOUT | select.EPOLLET)  # an event each time the daemon has read

    @classmethod
    def pair(cls) -> Link:
        """A new socket, with the daemon's end for it to inherit."""
        return Link(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))

    @property
    def unread(self) -> bool:
        """Whether a message lies in the socket that the daemon has not read. Unknown, where the socket is not of this
        host: False."""
        if self.ours.family != socket.AF_UNIX:
            return False
        (size,) = struct.unpack("=i", fcntl.ioctl(self.ours, termios.TIOCOUTQ, bytes(4)))
        return bool(size > 1)  # sock_wfree tells of the room while one byte is still counted; a message counts for more

    @property
    def hung_up(self) -> bool:
        """Whether the other end is closed: in a SEQPACKET nothing received may be an empty packet, too."""
        poll = select.poll()
        poll.register(self.ours, select.POLLRDHUP)
        return bool(poll.poll(0))

    @property
    def read_events(self) -> int:
        """A descriptor that is readable when the daemon may have read something."""
        return self._read.fileno()

    def consume_read_event(self) -> None:
        self._read.poll(0)

    def send(self, message: memoryview) -> int:
        """Returns how many bytes of it went; 0 when there is no room until the daemon reads."""
        try:
            return self.ours.send(message)
        except BlockingIOError:
            return 0

    def receive(self, buffer: memoryview) -> int | None:
        """One message into ``buffer``; returns its length, 0 at the socket's end, None when nothing whole is there."""
        try:
            if self.sender:
                return self.ours.recv_into(buffer)
            size, ancillary, _, _ = self.ours.recvmsg_into((buffer,), socket.CMSG_SPACE(_CREDENTIALS.size))
        except BlockingIOError:
            return None
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                self.sender = _CREDENTIALS.unpack(data)[0]
                self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return size

    def take_back(self) -> bytes | None:
        """The unread message, if there is one and we can."""
        if self.theirs is None:
            return None
        try:
            return self.theirs.recv(self.largest, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self._read.close()
        self.ours.close()
        if self.theirs is not None:
            self.theirs.close()


class StreamLink(Link):
    """Over SOCK_STREAM. What the daemon has begun to read cannot be taken back."""

    def __init__(self, ours: socket.socket, theirs: socket.socket | None = None) -> None:
        super().__init__(ours, theirs)
        self.largest = LARGEST
        self._have = 0  # bytes of the next message that are in the buffer

    def receive(self, buffer: memoryview) -> int | None:
        wanted = _LENGTH.size
        while True:
            if self._have >= _LENGTH.size:
                (wanted,) = _LENGTH.unpack_from(buffer)
                if not 16 <= wanted <= len(buffer):
                    raise OSError(f"an answer of {wanted} bytes: out of step")
                if self._have == wanted:
                    self._have = 0
                    return int(wanted)
            try:
                size = self.ours.recv_into(buffer[self._have : wanted])
            except BlockingIOError:
                return None
            if not size:
                return 0
            self._have += size

    def take_back(self) -> bytes | None:
        return None


def link(ours: socket.socket, theirs: socket.socket | None = None) -> Link:
    """The link over a connected socket. Raises ValueError for one of another kind."""
    kinds = {socket.SOCK_SEQPACKET: Link, socket.SOCK_STREAM: StreamLink}
    if ours.type not in kinds:
        raise ValueError(f"the socket is SOCK_SEQPACKET or SOCK_STREAM, not {socket.SocketKind(ours.type).name}")
    ours.getpeername()  # raises ENOTCONN
    return kinds[socket.SocketKind(ours.type)](ours, theirs)


def _widened(end: socket.socket) -> int:
    """Make its send buffer as large as we may; returns the largest message that it takes."""
    if end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 2 * SEND_BUFFER:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - OVERHEAD


def _default(like: socket.socket) -> int:
    with socket.socket(like.family, like.type) as fresh:
        return fresh.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - OVERHEAD
