"""Whose request ``current_request()`` is, with seats that are used again and again: on a channel of plain bytes, no mount."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until

import fusewire
from fusewire import Attributes, Entry, Operations, Request, Session, StatFS
from fusewire.daemon.request import Seat
from fusewire.daemon.session import Later
from fusewire.inspect.events import EventStream
from fusewire.transport.devfuse import DevFuse
from fusewire.transport.readers import Readers
from fusewire.wire import codec
from fusewire.wire import layouts as L
from fusewire.wire.codec import Message
from fusewire.wire.flags import Opcode


class Channel:
    """Messages that a test puts in, answers by unique."""

    events: EventStream | None = None

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.answers: dict[int, int] = {}

    def receive(self, buffer: memoryview) -> int:
        message = self.asked.get()
        if message is None:
            raise OSError(errno.ENODEV, "over")
        buffer[: len(message)] = message
        return len(message)

    def send(self, answer: Any) -> None:
        header = codec.decode_out_header(b"".join(answer))
        self.answers[header.unique] = header.error

    def ask(self, opcode: Opcode, unique: int, message: Message = Message(), **header: Any) -> None:
        self.asked.put(codec.encode_request(opcode, message, unique=unique, **header))

    def answered(self, unique: int) -> int:
        """Wait for it; returns its error."""
        wait_until(lambda: unique in self.answers)
        return self.answers[unique]


class Slow(Operations):
    """``statfs`` blocks until it is interrupted or let go, and only then asks who it is for; ``mkdir`` asks at once."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.seen: list[Request] = []

    def statfs(self, ino: int) -> StatFS:
        self.began.release()
        self.let_go.wait(20)
        request = fusewire.current_request()
        self.seen.append(request)
        if request.interrupted:
            raise InterruptedError
        return StatFS()

    def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
        self.seen.append(fusewire.current_request())
        return Entry(Attributes(2, 0o40755))


class Served:
    """A filesystem that readers serve on a channel."""

    def __init__(self, operations: Operations, channel: Channel | None = None) -> None:
        self.session = Session(operations)
        self.channel = channel or Channel()
        self.readers = Readers(self.session, self.channel)
        self.thread = threading.Thread(target=self.readers.run, daemon=True)
        self.thread.start()
        self.channel.ask(Opcode.INIT, 2, Message((L.InitIn(7, 45),)))
        assert self.channel.answered(2) == 0

    def end(self) -> None:
        self.channel.asked.put(None)
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def slow() -> Iterator[tuple[Slow, Served]]:
    operations = Slow()
    served = Served(operations)
    yield operations, served
    operations.let_go.set()
    served.end()


MKDIR = Message((L.MkdirIn(0o755, 0o27),), (b"d",))


def test_a_blocked_handler_keeps_its_own_request_while_other_readers_serve(slow: tuple[Slow, Served]) -> None:
    operations, served = slow
    for unique in (4, 6):
        served.channel.ask(Opcode.STATFS, unique, nodeid=1, uid=unique * 10)
        assert operations.began.acquire(timeout=20)
    served.channel.ask(Opcode.MKDIR, 8, MKDIR, nodeid=1, uid=80, gid=81, pid=82)
    assert served.channel.answered(8) == 0
    request = operations.seen[0]
    assert (request.unique, request.uid, request.gid, request.pid, request.umask) == (8, 80, 81, 82, 0o27)
    assert sorted(served.session.in_flight) == [4, 6]
    operations.let_go.set()
    assert (served.channel.answered(4), served.channel.answered(6)) == (0, 0)
    assert sorted((one.unique, one.uid) for one in operations.seen[1:]) == [(4, 40), (6, 60)]
    wait_until(lambda: not served.session.in_flight)


def test_an_interrupt_finds_the_request_of_a_blocked_handler_that_has_not_asked_for_it(
    slow: tuple[Slow, Served],
) -> None:
    operations, served = slow
    served.channel.ask(Opcode.STATFS, 4, nodeid=1)
    assert operations.began.acquire(timeout=20)
    served.channel.ask(Opcode.INTERRUPT, 5, Message((L.InterruptIn(4),)))
    wait_until(lambda: served.session.in_flight[4].interrupted)
    operations.let_go.set()
    assert served.channel.answered(4) == -errno.EINTR
    assert 5 not in served.channel.answers
    served.channel.ask(Opcode.INTERRUPT, 7, Message((L.InterruptIn(4),)))
    assert served.channel.answered(7) == -errno.EAGAIN


def test_an_interrupt_does_not_outlive_its_request(slow: tuple[Slow, Served]) -> None:
    operations, served = slow
    operations.let_go.set()
    session = served.session
    for unique in range(4, 40, 2):
        served.channel.ask(Opcode.STATFS, unique, nodeid=1)
        served.channel.ask(Opcode.INTERRUPT, unique | 1, Message((L.InterruptIn(unique),)))
        served.channel.answered(unique | 1)
    assert [request.unique for request in operations.seen] == list(range(4, 40, 2))
    assert not any(request.interrupted for request in operations.seen)
    wait_until(lambda: not session.in_flight)


def test_the_request_is_the_same_object_however_often_it_is_asked_for() -> None:
    class Twice(Operations):
        def statfs(self, ino: int) -> StatFS:
            one = fusewire.current_request()
            assert fusewire.current_request() is one
            assert self.session.in_flight == {one.unique: one}
            return StatFS()

    session = Session(Twice())
    session.handle(codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 45),)), unique=2))
    for unique in (4, 6):
        answer = session.handle(codec.encode_request(Opcode.STATFS, unique=unique, nodeid=1))
        assert isinstance(answer, tuple)
        assert codec.decode_out_header(b"".join(answer)).error == 0


def test_a_handler_on_a_reader_whose_own_call_is_answered_in_line_gets_its_request_back() -> None:
    seen: list[int] = []

    class Nested(Operations):
        def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
            self.session.handle(codec.encode_request(Opcode.STATFS, unique=100, nodeid=1))
            seen.append(fusewire.current_request().unique)
            return Entry(Attributes(2, 0o40755))

        def statfs(self, ino: int) -> StatFS:
            seen.append(fusewire.current_request().unique)
            return StatFS()

    served = Served(Nested())
    served.channel.ask(Opcode.MKDIR, 4, MKDIR, nodeid=1)
    assert served.channel.answered(4) == 0
    served.end()
    assert seen == [100, 4]


def test_async_handlers_side_by_side_have_each_its_own_request() -> None:
    seen: dict[int, int] = {}

    class Together(Operations):
        def __init__(self) -> None:
            self.both = asyncio.Barrier(2)

        async def statfs(self, ino: int) -> StatFS:  # type: ignore[override]
            await self.both.wait()
            seen[ino] = fusewire.current_request().unique
            return StatFS()

    served = Served(Together())
    served.channel.ask(Opcode.STATFS, 4, nodeid=10)
    served.channel.ask(Opcode.STATFS, 6, nodeid=20)
    assert (served.channel.answered(4), served.channel.answered(6)) == (0, 0)
    assert seen == {10: 4, 20: 6}
    assert not served.session.in_flight
    served.end()


class Awaited(Operations):
    async def statfs(self, ino: int) -> StatFS:  # type: ignore[override]
        return StatFS()


def interrupted(session: Session, unique: int) -> bool:
    """Send an INTERRUPT; whether it was taken, and not to come again."""
    raw = codec.encode_request(Opcode.INTERRUPT, Message((L.InterruptIn(unique),)), unique=unique | 1)
    return session.handle(raw) is None


def test_an_interrupt_that_comes_just_before_an_async_handler_has_its_own_request_is_not_lost() -> None:
    session = Session(Awaited())
    session.handle(codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 45),)), unique=2))
    bound, taken = session._bound[Opcode.STATFS], []

    def decode(nodeid: int, message: memoryview, end: int) -> tuple[Any, ...]:
        taken.append(interrupted(session, 4))
        return bound.decode(nodeid, message, end)

    session._bound[Opcode.STATFS] = dataclasses.replace(bound, decode=decode)
    later = session.handle(codec.encode_request(Opcode.STATFS, unique=4, nodeid=1))
    assert isinstance(later, Later)
    assert taken == [True]
    assert later.request.interrupted


def test_an_interrupt_that_comes_while_a_request_moves_to_its_async_handler_is_not_lost() -> None:
    session = Session(Awaited())
    session.handle(codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 45),)), unique=2))
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(interrupted(session, 4)))

    class Moving(set[Any]):
        def add(self, seat: Any) -> None:
            if seat.header[2] == 4 and thread.ident is None:
                thread.start()
                thread.join(0.2)
            super().add(seat)

    session.seats = Moving(session.seats)
    later = session.handle(codec.encode_request(Opcode.STATFS, unique=4, nodeid=1))
    thread.join(20)
    assert isinstance(later, Later)
    assert later.request.interrupted or taken == [False]


def test_an_interrupt_for_a_request_that_is_done_meanwhile_is_to_come_again() -> None:
    class Gone(Seat):
        """Its thread leaves it just as another looks up its buffer."""

        @property  # type: ignore[override]
        def buffer(self) -> memoryview:
            self.leave()
            return memoryview(b"")

        @buffer.setter
        def buffer(self, value: memoryview) -> None:
            pass

    session = Session(Awaited())
    seat = Gone(session, memoryview(b""))
    seat.header = (40, Opcode.STATFS, 4, 1, 0)
    session.seats.add(seat)
    assert not interrupted(session, 4)


class Tidy(Operations):
    """``statfs`` sleeps, by itself or in a task that it waits for, and tidies up when it is cancelled."""

    def __init__(self, in_a_task: bool) -> None:
        self.in_a_task = in_a_task
        self.sleeps = threading.Event()
        self.tidies = threading.Event()
        self.tidied: list[bool] = []

    async def statfs(self, ino: int) -> StatFS:  # type: ignore[override]
        await (asyncio.create_task(self.sleep()) if self.in_a_task else self.sleep())
        return StatFS()

    async def sleep(self) -> None:
        try:
            self.sleeps.set()
            await asyncio.sleep(20)
        finally:
            self.tidies.set()
            try:
                await asyncio.sleep(0.2)
                self.tidied.append(True)
            except asyncio.CancelledError:
                self.tidied.append(False)


@pytest.mark.parametrize("in_a_task", [False, True])
def test_the_end_cancels_an_async_handler_once_and_lets_it_tidy_up(in_a_task: bool) -> None:
    operations = Tidy(in_a_task)
    served = Served(operations)
    served.channel.ask(Opcode.STATFS, 4, nodeid=1)
    assert operations.sleeps.wait(20)
    served.end()
    assert operations.tidied == [True]


def test_an_interrupt_that_is_told_twice_cancels_once() -> None:
    operations = Tidy(in_a_task=False)
    served = Served(operations)
    served.channel.ask(Opcode.STATFS, 4, nodeid=1)
    assert operations.sleeps.wait(20)
    request = served.session.in_flight[4]
    request.interrupt()
    assert operations.tidies.wait(20)
    request.interrupt()
    assert served.channel.answered(4) == -errno.EINTR
    assert operations.tidied == [True]
    served.end()


class Refusing(Channel):
    """The callers of these requests have left."""

    def __init__(self, *left: int) -> None:
        super().__init__()
        self.left = left

    def send(self, answer: Any) -> None:
        super().send(answer)
        if codec.decode_out_header(b"".join(answer)).unique in self.left:
            raise OSError(errno.ENOENT, "the caller has left")


class Released(Operations):
    """Both ``open`` and ``opendir`` are released by a coroutine, which wants the loop that other handlers have used."""

    def __init__(self) -> None:
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.released: list[tuple[int, int, bool]] = []  # fh, whose request it is, whether it is on that loop

    async def open(self, ino: int, flags: int) -> int:  # type: ignore[override]
        self.loops.append(asyncio.get_running_loop())
        return 7

    def opendir(self, ino: int, flags: int) -> int:
        return 8

    async def release(self, ino: int, fh: int, flags: int) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        here = asyncio.get_running_loop() in self.loops
        self.released.append((fh, fusewire.current_request().unique, here))

    releasedir = release  # type: ignore[assignment]


def test_what_nobody_took_is_released_on_the_loop_of_the_async_handlers() -> None:
    operations = Released()
    served = Served(operations, Refusing(4, 6))
    served.channel.ask(Opcode.OPEN, 4, Message((L.OpenIn(0),)), nodeid=1)
    wait_until(lambda: len(operations.released) == 1)
    served.channel.ask(Opcode.OPENDIR, 6, Message((L.OpenIn(0),)), nodeid=1)
    wait_until(lambda: len(operations.released) == 2)
    served.end()
    assert operations.released == [(7, 4, True), (8, 6, True)]


def test_what_nobody_took_is_released_where_no_async_handler_has_run() -> None:
    operations = Released()
    served = Served(operations, Refusing(6))
    served.channel.ask(Opcode.OPENDIR, 6, Message((L.OpenIn(0),)), nodeid=1)
    wait_until(lambda: operations.released)
    served.end()
    assert operations.released == [(8, 6, False)]


def test_an_open_file_that_nobody_took_is_released_before_its_inode_is_forgotten() -> None:
    calls: list[tuple[str, int, int]] = []

    class Made(Operations):
        def create(self, parent: int, name: bytes, mode: int, flags: int) -> tuple[Entry, int]:
            return Entry(Attributes(2, 0o100644)), 7

        def release(self, ino: int, fh: int, flags: int) -> None:
            calls.append(("release", ino, fusewire.current_request().unique))

        def forget(self, ino: int, nlookup: int) -> None:
            calls.append(("forget", ino, fusewire.current_request().unique))

    session = Session(Made())
    session.handle(codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 45),)), unique=2))
    create = codec.encode_request(Opcode.CREATE, Message((L.CreateIn(2, 0o100644),), (b"f",)), unique=4, nodeid=1)
    answer = session.handle(create)
    assert isinstance(answer, tuple)
    session.undelivered(create, answer)
    assert calls == [("release", 2, 4), ("forget", 2, 4)]
    with pytest.raises(RuntimeError, match="no request is being handled"):
        fusewire.current_request()


def test_what_is_left_in_a_readers_buffer_is_no_part_of_the_next_message() -> None:
    served = Served(type("D", (Operations,), {"getattr": lambda self, ino, fh: Attributes(ino, 0o40755)})())
    served.channel.ask(Opcode.GETATTR, 4, Message((L.GetattrIn(),)), nodeid=1)
    assert served.channel.answered(4) == 0
    served.channel.asked.put(L.IN_HEADER.pack(L.InHeader(40, Opcode.GETATTR, 6, 1)))  # a body is due
    served.channel.asked.put(L.IN_HEADER.pack(L.InHeader(56, Opcode.GETATTR, 8, 1)))  # and announced
    served.channel.asked.put(b"\x08\0\0\0\x03\0\0\0")  # not even a header
    served.channel.ask(Opcode.GETATTR, 10, Message((L.GetattrIn(),)), nodeid=1)
    assert [served.channel.answered(unique) for unique in (6, 8, 10)] == [-errno.EIO, -errno.EIO, 0]
    served.end()


def test_an_answer_to_a_device_that_is_closed_goes_to_no_other_file(tmp_path: Path) -> None:
    device = DevFuse(os.open(tmp_path / "device", os.O_RDWR | os.O_CREAT))
    number = device.fd
    device.close()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert other == number
    with pytest.raises(OSError) as caught:
        device.send((b"late",))
    assert caught.value.errno == errno.EBADF
    assert (tmp_path / "other").read_bytes() == b""
    os.close(other)
