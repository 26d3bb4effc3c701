"""FUSE over sockets: whatever is at the other end, messages arrive whole, and its end is the session's."""

from __future__ import annotations

import os
import socket
import struct

import pytest

import fusewire
from fusewire import MountError
from fusewire.filesystems import MemoryFS
from fusewire.wire import codec
from fusewire.wire.codec import Message
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import GetattrIn, InitIn, OpenIn, ReadIn, WriteIn

KINDS = [pytest.param(socket.SOCK_SEQPACKET, id="seqpacket"), pytest.param(socket.SOCK_STREAM, id="stream")]


class Peer:
    """A kernel half that is just a socket: one request, one answer."""

    def __init__(self, kind: int) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self.socket.settimeout(20)
        for end in (self.socket, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 21)
        self.kind = kind
        self.filesystem = MemoryFS({"f": b"contents"})
        self.mounted = fusewire.Mounted(self.filesystem, f"/dev/fd/{theirs.detach()}")
        self.unique = 0
        self.ask(Opcode.INIT, Message((InitIn(7, 45, flags=1 << 22 | 1 << 5),)), 0)

    def ask(self, opcode: Opcode, message: Message, nodeid: int) -> Message:
        self.unique += 2
        self.socket.sendall(codec.encode_request(opcode, message, unique=self.unique, nodeid=nodeid, pid=os.getpid()))
        raw = self._receive()
        header, answer = codec.decode_reply(opcode, raw)
        assert header.unique == self.unique
        if header.error:
            raise OSError(-header.error, os.strerror(-header.error))
        return answer

    def _receive(self) -> bytes:
        if self.kind == socket.SOCK_SEQPACKET:
            return self.socket.recv(1 << 22)
        raw = b""
        while len(raw) < 4 or len(raw) < struct.unpack_from("=I", raw)[0]:
            raw += self.socket.recv(1 << 16)
        return raw

    def close(self) -> None:
        self.socket.close()
        assert self.mounted.wait(timeout=20)


@pytest.fixture(params=KINDS)
def peer(request: pytest.FixtureRequest) -> object:
    peer = Peer(request.param)
    yield peer
    peer.close()


def test_requests_are_answered_and_the_end_of_the_socket_ends_the_session(peer: Peer) -> None:
    node = peer.ask(Opcode.LOOKUP, Message(names=(b"f",)), 1).structs[0].nodeid
    assert peer.ask(Opcode.GETATTR, Message((GetattrIn(),)), node).structs[0].attr.size == 8
    with pytest.raises(FileNotFoundError):
        peer.ask(Opcode.LOOKUP, Message(names=(b"missing",)), 1)


def test_large_messages_arrive_whole_in_both_directions(peer: Peer) -> None:
    node = peer.ask(Opcode.LOOKUP, Message(names=(b"f",)), 1).structs[0].nodeid
    fh = peer.ask(Opcode.OPEN, Message((OpenIn(os.O_RDWR),)), node).structs[0].fh
    data = os.urandom(1 << 20)
    written = peer.ask(Opcode.WRITE, Message((WriteIn(fh, 0, len(data)),), data=data), node)
    assert written.structs[0].size == len(data)
    assert peer.ask(Opcode.READ, Message((ReadIn(fh, 0, len(data)),)), node).data == data


def test_a_message_that_cannot_be_ends_a_stream_with_an_error_that_says_so() -> None:
    peer = Peer(socket.SOCK_STREAM)
    peer.socket.sendall(struct.pack("=I", 3) + bytes(36))
    with pytest.raises(OSError, match="out of step"):
        peer.mounted.wait(timeout=20)
    peer.socket.close()


def test_unmounting_ends_the_session(peer: Peer) -> None:
    peer.mounted.unmount()
    assert peer.mounted.wait(timeout=20)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: os.open("/dev/null", os.O_RDWR), "neither /dev/fuse nor a connected socket"),
        (lambda: os.pipe()[0], "neither /dev/fuse nor a connected socket"),
        (lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].detach(), "neither SOCK_SEQPACKET nor"),
        (lambda: 987, "descriptor 987 is not open"),
    ],
    ids=["null", "pipe", "datagrams", "closed"],
)
def test_a_descriptor_that_is_no_transport_is_refused(make: object, why: str) -> None:
    fd = make()  # type: ignore[operator]
    with pytest.raises(OSError, match=why):
        fusewire.Mounted(MemoryFS(), f"/dev/fd/{fd}").wait(timeout=20)
    assert issubclass(MountError, OSError)
