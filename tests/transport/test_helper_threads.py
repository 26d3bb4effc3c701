"""The threads beside the readers: the event loop of async handlers, and the one that writes notifications."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from typing import Any

import pytest
from conftest import errno_of, in_thread

import fusewire
from fusewire.daemon.request import Request
from fusewire.filesystems import MemoryFS
from fusewire.transport import eventloop
from fusewire.transport.eventloop import EventLoop
from fusewire.transport.notifier import NotifierThread
from fusewire.wire import codec
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import InitIn


def later(session: fusewire.Session, unique: int) -> Any:
    """The answer of an async statfs that is yet to come."""
    return session.handle(codec.encode_request(Opcode.STATFS, unique=unique, nodeid=1))


def served(filesystem: MemoryFS) -> fusewire.Session:
    session = fusewire.Session(filesystem)
    session.handle(codec.encode_request(Opcode.INIT, codec.Message((InitIn(7, 45),)), unique=2))
    return session


class Waiting(MemoryFS):
    """Its statfs waits for ever; ``stubborn``: it does not even end when it is cancelled."""

    def __init__(self, stubborn: bool = False) -> None:
        super().__init__()
        self.stubborn = stubborn
        self.began = threading.Event()

    async def statfs(self, ino: int) -> fusewire.StatFS:  # type: ignore[override]
        self.began.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError) if self.stubborn else contextlib.nullcontext():
                await asyncio.Event().wait()


def test_handlers_that_begin_at_once_share_one_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is made by whoever is first, and who is second waits for it."""
    both = threading.Barrier(2)
    made: list[object] = []
    make = asyncio.new_event_loop

    def slowly() -> asyncio.AbstractEventLoop:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        made.append(make())
        return made[-1]  # type: ignore[return-value]

    monkeypatch.setattr(asyncio, "new_event_loop", slowly)
    loop = EventLoop()
    threads = [in_thread(loop._running)[0] for _ in range(2)]
    for thread in threads:
        thread.join(20)
    loop.close()
    assert len(made) == 1


def test_an_interrupt_that_comes_while_its_handler_is_begun_is_not_lost() -> None:
    class Late(Request):
        """It is interrupted just after it was seen not to be."""

        @property
        def interrupted(self) -> bool:  # type: ignore[override]
            was, self.__dict__["was"] = self.__dict__.get("was", False), True
            return was

        @interrupted.setter
        def interrupted(self, value: bool) -> None:
            pass

    session = served(Waiting())
    answer = later(session, 4)
    answer.request = Late(int(Opcode.STATFS), 4, 1, 0, 0, 0, b"")
    loop, answers, answered = EventLoop(), [], threading.Event()
    loop.start(answer, lambda one: (answers.append(one), answered.set()))  # type: ignore[arg-type, func-returns-value]
    came = answered.wait(20)
    loop.close()
    assert came
    assert codec.decode_out_header(answers[0][0]).error == -errno.EINTR


def test_a_handler_that_cannot_be_cancelled_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventloop, "PATIENCE", 0.05)
    filesystem = Waiting(stubborn=True)
    loop = EventLoop()
    loop.start(later(served(filesystem), 4), lambda answer: None)
    assert filesystem.began.wait(20)
    loop.close()


def test_a_notification_that_cannot_even_be_written_stops_no_later_one() -> None:
    def write(message: tuple[bytes]) -> None:
        if message == (b"1",):
            raise ValueError("nonsense")

    notifier = NotifierThread(write)
    first, second = notifier.send(b"1"), notifier.send(b"2")
    with pytest.raises(ValueError, match="nonsense"):
        first.result(timeout=20)
    assert second.result(timeout=20) is None
    notifier.close()


def test_after_the_end_no_notification_is_taken() -> None:
    notifier = NotifierThread(lambda message: None)
    notifier.send(b"1").result(timeout=20)
    notifier.close()
    assert errno_of(notifier.send, b"2") == errno.ENODEV
