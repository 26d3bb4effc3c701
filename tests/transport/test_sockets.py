"""FUSE over sockets: whatever is at the other end, messages arrive whole, and its end is the session's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

import fusewire
from fusewire import MountError, Operations, Settings, StatFS
from fusewire.filesystems import MemoryFS
from fusewire.transport import readers
from fusewire.transport.sockets import Stream
from fusewire.wire import codec
from fusewire.wire.codec import Message
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import GetattrIn, InitIn, OpenIn, ReadIn, WriteIn

KINDS = [pytest.param(socket.SOCK_SEQPACKET, id="seqpacket"), pytest.param(socket.SOCK_STREAM, id="stream")]


class Peer:
    """A kernel half that is just a socket: one request, one answer."""

    def __init__(self, kind: int, filesystem: Operations | None = None) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self.socket.settimeout(20)
        for end in (self.socket, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 21)
        self.kind = kind
        self.mounted = fusewire.Mounted(filesystem or MemoryFS({"f": b"contents"}), f"/dev/fd/{theirs.detach()}")
        self.unique = 0
        self.ask(Opcode.INIT, Message((InitIn(7, 45, flags=1 << 22 | 1 << 5),)), 0)

    def send(self, opcode: Opcode, message: Message, nodeid: int) -> None:
        self.unique += 2
        self.socket.sendall(codec.encode_request(opcode, message, unique=self.unique, nodeid=nodeid, pid=os.getpid()))

    def ask(self, opcode: Opcode, message: Message, nodeid: int) -> Message:
        self.send(opcode, message, nodeid)
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


def test_a_packet_that_is_too_long_is_answered_with_eio_and_the_session_lives(caplog: pytest.LogCaptureFixture) -> None:
    class Small(MemoryFS):
        settings = Settings(max_write=4096)

    peer = Peer(socket.SOCK_SEQPACKET, Small())
    with pytest.raises(OSError, match="Input/output"):
        peer.ask(Opcode.WRITE, Message((WriteIn(0, 0, 20000),), data=bytes(20000)), 1)
    assert "longer than the 8192 bytes" in caplog.text
    assert peer.ask(Opcode.STATFS, Message(), 1)
    peer.close()


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


# -- handlers that do not come back, or end in no good way ---------------------------------------------------------------


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
def test_what_would_end_a_thread_is_eio_and_the_mount_lives(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Ending(MemoryFS):
        def statfs(self, ino: int) -> StatFS:
            raise raised

    peer = Peer(socket.SOCK_SEQPACKET, Ending())
    with pytest.raises(OSError, match="Input/output"):
        peer.ask(Opcode.STATFS, Message(), 1)
    assert f"STATFS 4 (node 1, pid {os.getpid()}): its handler ended with {raised!r}" in caplog.text
    assert peer.ask(Opcode.GETATTR, Message((GetattrIn(),)), 1)
    peer.close()


def test_an_init_that_exits_refuses_the_mount(caplog: pytest.LogCaptureFixture) -> None:
    class Exiting(MemoryFS):
        def init(self, granted: object) -> None:
            raise SystemExit(3)

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mounted = fusewire.Mounted(Exiting(), f"/dev/fd/{theirs.detach()}")
    ours.settimeout(20)
    ours.send(codec.encode_request(Opcode.INIT, Message((InitIn(7, 45),)), unique=2))
    assert codec.decode_out_header(ours.recv(100)).error == -5
    assert "SystemExit(3)" in mounted.session.refusal
    assert mounted.session.initialized.is_set()
    ours.close()
    assert mounted.wait(timeout=20)


class Stuck(MemoryFS):
    """STATFS hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.let_go = threading.Semaphore(0), threading.Event()

    def statfs(self, ino: int) -> StatFS:
        self.inside.release()
        self.let_go.wait(60)
        return super().statfs(ino)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    filesystem = Stuck()
    yield filesystem
    filesystem.let_go.set()


def test_where_no_thread_can_be_started_the_reader_reads_on_when_its_handler_comes_back(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(socket.SOCK_SEQPACKET, stuck)
    refused = threading.Semaphore(0)

    def no_thread(thread: threading.Thread) -> None:
        refused.release()
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        peer.send(Opcode.STATFS, Message(), 1)
        assert refused.acquire(timeout=20)
        assert refused.acquire(timeout=20)  # it tries again
        stuck.let_go.set()
        assert peer._receive()
        assert peer.ask(Opcode.GETATTR, Message((GetattrIn(),)), 1)
    assert caplog.text.count("no further reader can be started") == 1
    peer.close()


def test_where_no_thread_can_be_started_an_async_handlers_caller_gets_eio(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(MemoryFS):
        async def statfs(self, ino: int) -> StatFS:  # type: ignore[override]
            return super().statfs(ino)

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    peer = Peer(socket.SOCK_SEQPACKET, Later())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(OSError, match="Input/output"):
            peer.ask(Opcode.STATFS, Message(), 1)
    assert peer.ask(Opcode.STATFS, Message(), 1)
    peer.close()


def test_all_handlers_that_hang_at_the_end_share_one_deadline_and_are_named(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readers, "GRACE", 1.0, raising=False)
    peer = Peer(socket.SOCK_SEQPACKET, stuck)
    for _ in range(8):
        peer.send(Opcode.STATFS, Message(), 1)
        assert stuck.inside.acquire(timeout=20)
    peer.socket.close()
    assert peer.mounted.wait(timeout=6)
    assert caplog.text.count("its handler has not come back, and is left behind") == 8
    assert f"STATFS 4 (node 1, pid {os.getpid()})" in caplog.text


@pytest.mark.parametrize("how", ["blocks the loop", "shuns its cancellation"])
def test_an_async_handler_that_hangs_at_the_end_is_left_behind_and_named(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inside, let_go = threading.Event(), threading.Event()

    class Hanging(MemoryFS):
        async def statfs(self, ino: int) -> StatFS:  # type: ignore[override]
            inside.set()
            while not let_go.is_set():
                try:
                    await asyncio.sleep(0.01)
                    let_go.wait(60 if how == "blocks the loop" else 0)
                except asyncio.CancelledError:
                    pass
            return super().statfs(ino)

    monkeypatch.setattr(readers, "GRACE", 0.2, raising=False)
    peer = Peer(socket.SOCK_SEQPACKET, Hanging())
    peer.send(Opcode.STATFS, Message(), 1)
    assert inside.wait(20)
    peer.socket.close()
    with caplog.at_level(logging.WARNING):
        assert peer.mounted.wait(timeout=20)
    assert f"STATFS 4 (node 1, pid {os.getpid()}): its handler has not come back" in caplog.text
    let_go.set()


def test_a_message_of_a_stream_goes_to_one_thread_however_many_read() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    stream, got = Stream(theirs), []

    def reader() -> None:
        buffer = memoryview(bytearray(1 << 12))
        with contextlib.suppress(OSError):
            while size := stream.receive(buffer):
                got.append(bytes(buffer[:size]))

    ours.settimeout(20)
    threads = [threading.Thread(target=reader, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    sent = [
        struct.pack("=I", 40 + number % 500).ljust(40 + number % 500, bytes([number % 256])) for number in range(3000)
    ]
    for message in sent:
        ours.sendall(message[:30])
        ours.sendall(message[30:])
    ours.close()
    for thread in threads:
        thread.join(20)
    assert sorted(got) == sorted(sent)
