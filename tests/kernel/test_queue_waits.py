"""Requests that wait: to be let in, to be let through, for their time to run out; how they are listed, and how they end."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from typing import Any

import pytest
from conftest import errno_of
from queues import Queue

from fusewire.kernel.queue import LINUX, Args, Control, State, Task
from fusewire.kernel.queue.copy import UserPages
from fusewire.wire.errno import Errno
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import OUT_HEADER, OutHeader

SECOND = 1_000_000_000


def for_a_slot() -> tuple[Queue, Any]:
    """A queue whose only slot the daemon holds, and one who wants it."""
    queue = Queue(pool=1, reserve=0)
    queue.ask()
    queue.read()
    return queue, Args(Opcode.UNLINK, 1)


def for_the_reserve() -> tuple[Queue, Any]:
    queue, _ = for_a_slot()
    return queue, Args(Opcode.FLUSH, 1, force=True)


def for_init() -> tuple[Queue, Any]:
    queue = Queue()
    queue.fc.initialized = False
    return queue, Args(Opcode.UNLINK, 1)


def for_the_background() -> tuple[Queue, Any]:
    queue = Queue()
    queue.fc.background.max_background = 1
    queue.fc.send_forced(None, Args(Opcode.RELEASE, 1, force=True))
    queue.read()
    return queue, Args(Opcode.READ, 1)


WAITS = pytest.mark.parametrize("waits", [for_a_slot, for_the_reserve, for_init, for_the_background])


def enter(queue: Queue, args: Args) -> Any:
    """Someone begins to ask that; no time passes."""
    task = queue.task()
    send = queue.fc.request_send_background if args.opcode is Opcode.READ else queue.fc.call
    outcome = queue.driver.begin(task, send(task, args))
    queue.settle()
    assert not outcome.done
    return outcome


def answer_at_once(queue: Queue, unique: int) -> None:
    """No time passes."""
    task = queue.task("daemon")
    queue.driver.begin(task, queue.device.write(task, (OUT_HEADER.pack(OutHeader(16, 0, unique)),)))
    queue.settle()


def owe(queue: Queue) -> list[int]:
    """A forced request for which there is no slot; returns how it ended."""
    ended: list[int] = []
    args = Args(Opcode.RELEASE, 9, force=True, end=lambda error, _: ended.append(error))
    queue.fc.send_forced(None, args)
    assert len(queue.fc.background.owed) == 1
    return ended


# -- time ---------------------------------------------------------------------------------------------------------


@WAITS
def test_the_wait_to_come_in_is_part_of_a_requests_time(waits: Callable[[], tuple[Queue, Args]]) -> None:
    queue, args = waits()
    queue.fc.timeouts.set_limit(5)
    before = queue.fc.num_waiting
    waiting = enter(queue, args)
    deadlocked = [task for found in queue.driver.graph().deadlocks() for task in found.tasks]
    assert repr(waiting.task) not in deadlocked  # its time will end it
    queue.driver.pass_time(5)
    queue.settle()
    assert waiting.error.errno == errno.ETIMEDOUT
    assert not queue.fc.entering
    if args.force:  # it is left behind, and has a time of its own then
        queue.driver.pass_time(5)
    assert queue.fc.num_waiting == before
    assert not queue.fc.timeouts.deadlines


@pytest.mark.parametrize("waits", [for_a_slot, for_init, for_the_background])
def test_who_is_killed_while_it_waits_to_come_in_leaves_nothing(waits: Callable[[], tuple[Queue, Args]]) -> None:
    queue, args = waits()
    queue.fc.timeouts.set_limit(5)
    before = queue.fc.num_waiting
    waiting = enter(queue, args)
    waiting.task.kill(signal.SIGKILL)
    queue.settle()
    assert waiting.error.errno == errno.EINTR
    assert queue.fc.num_waiting == before
    assert not queue.fc.entering
    assert not queue.fc.timeouts.deadlines
    assert all(req.args is None for req in queue.fc.unused_list.free)


def test_a_flush_whose_time_runs_out_before_it_has_a_slot_is_sent_all_the_same() -> None:
    queue, args = for_the_reserve()
    queue.fc.timeouts.set_limit(5)
    waiting = enter(queue, args)
    queue.driver.pass_time(5)
    queue.settle()
    assert waiting.error.errno == errno.ETIMEDOUT
    answer_at_once(queue, 2)
    assert queue.read().opcode == Opcode.FLUSH


def test_the_time_of_a_request_does_not_begin_again_when_it_gets_its_slot() -> None:
    queue, args = for_a_slot()
    queue.fc.timeouts.set_limit(5)
    waiting = enter(queue, args)
    queue.driver.pass_time(3)
    queue.answer(2)  # two seconds are left
    assert waiting.error.errno == errno.ETIMEDOUT
    assert queue.driver.now() == 6 * SECOND


def test_whose_time_runs_out_leaves_the_others_in_their_order() -> None:
    queue, args = for_a_slot()
    queue.fc.timeouts.set_limit(5)
    first = enter(queue, args)
    queue.driver.pass_time(2)
    second, third = enter(queue, args), enter(queue, args)
    queue.driver.pass_time(3)
    queue.settle()
    assert first.error.errno == errno.ETIMEDOUT
    assert [req.caller for req in queue.fc.entering] == [second.task, third.task]
    answer_at_once(queue, 2)
    assert [req.caller for req in queue.fc.entering] == [third.task]


def test_a_limit_that_is_lowered_is_the_limit_of_those_that_wait_already() -> None:
    queue, args = for_init()
    queue.fc.timeouts.set_limit(100)
    waiting = enter(queue, args)
    queue.driver.pass_time(1)
    queue.fc.timeouts.set_limit(5)
    queue.driver.pass_time(5)
    queue.settle()
    assert waiting.error.errno == errno.ETIMEDOUT
    queue.driver.go()  # a timer of the old limit is left, and rings in vain
    assert queue.driver.now() == 101 * SECOND


def test_a_forced_request_that_never_gets_a_slot_ends_when_its_time_has_run_out() -> None:
    queue, _ = for_a_slot()
    queue.fc.timeouts.set_limit(5)
    ended = owe(queue)
    queue.driver.pass_time(5)
    assert ended == [errno.ETIMEDOUT]
    assert queue.fc.num_waiting == 1  # what the daemon has
    assert (queue.fc.background.num_background, queue.fc.background.active_background) == (0, 0)


def test_who_is_killed_between_the_background_and_the_pool_gives_its_turn_to_the_next_one() -> None:
    queue = Queue(pool=1)
    queue.fc.background.max_background = 1
    readahead = Args(Opcode.READ, 1)
    task = queue.task()
    queue.driver.run(task, queue.fc.request_send_background(task, readahead))
    asked = enter(queue, Args(Opcode.UNLINK, 1))
    doomed, last = enter(queue, readahead), enter(queue, readahead)
    queue.answer(queue.read().unique)  # the slot is the unlink's, the turn the first one's
    doomed.task.kill(signal.SIGKILL)
    queue.driver.go()
    assert doomed.error.errno == errno.EINTR
    queue.answer(queue.read().unique)
    assert asked.done
    assert last.done


# -- how they are listed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits", "where"),
    [
        (for_a_slot, "waits on fc->unused_list"),
        (for_the_reserve, "waits on fc->unused_list"),
        (for_init, "waits on fc->blocked_waitq"),
        (for_the_background, "waits on fc->blocked_waitq"),
    ],
)
def test_who_waits_to_come_in_is_listed_with_what_it_waits_on(waits: Any, where: str) -> None:
    queue, args = waits()
    waiting = enter(queue, args)
    queue.driver.pass_time(1.5)
    control = Control(queue.fc, queue.task())
    infos = control.requests()
    assert len(infos) == control.waiting
    assert (infos[-1].opcode, infos[-1].state, infos[-1].age) == (args.opcode.name, where, 1.5)
    assert infos[-1].caller == repr(waiting.task)


def test_a_forced_request_that_is_owed_a_slot_is_listed() -> None:
    queue, _ = for_a_slot()
    owe(queue)
    queue.driver.pass_time(1.5)
    control = Control(queue.fc, queue.task())
    infos = control.requests()
    assert len(infos) == control.waiting
    assert (infos[-1].opcode, infos[-1].state, infos[-1].age) == ("RELEASE", "waits on fc->unused_list", 1.5)
    assert infos[-1].caller is None


def test_the_age_of_a_background_request_is_counted_from_when_it_was_asked_for() -> None:
    queue = Queue()
    control = Control(queue.fc, queue.task())
    queue.fc.background.max_background = 1
    for node in (1, 2):
        queue.fc.send_forced(None, Args(Opcode.RELEASE, node, force=True))
    queue.driver.pass_time(1.5)
    assert [info.age for info in control.requests()] == [1.5, 1.5]
    queue.answer(queue.read().unique)
    (info,) = control.requests()
    assert (info.state, info.age) == (State.PENDING.value, 1.5)


def test_a_message_that_lies_unread_in_a_daemons_socket_is_listed_as_pending_with_that_daemons_pid() -> None:
    queue = Queue()
    queue.ask()

    async def carry(task: Task) -> None:
        await queue.device.read(task, memoryview(bytearray(8192)))
        await queue.fc.request_wait(task)

    queue.begin(carry, "program")
    queue.device.pid = 777
    control = Control(queue.fc, queue.task())
    (read,) = control.requests()
    queue.device.unread = lambda req: True
    (unread,) = control.requests()
    assert (read.state, unread.state) == (State.PROCESSING.value, State.PENDING.value)
    assert unread.servers == ("program:777",)


# -- turns --------------------------------------------------------------------------------------------------------


def test_sixteen_reads_of_forgets_and_eight_of_requests_take_turns() -> None:
    queue = Queue()
    queue.ask()
    turns = "".join("F" if queue.fc.forgets_first() else "R" for _ in range(96))
    assert turns == ("F" * 16 + "R" * 8) * 4


# -- answers that are refused, copies that fail -------------------------------------------------------------------


def test_EAGAIN_for_an_interrupt_that_there_was_no_reason_for_is_EINVAL_and_makes_none() -> None:
    queue = Queue(policy=LINUX)
    asked = queue.ask()
    unique = queue.read().unique
    assert errno_of(lambda: queue.answer(unique | 1, errno.EAGAIN)) == errno.EINVAL
    assert errno_of(lambda: queue.read(nonblock=True)) == errno.EAGAIN
    queue.answer(unique)
    assert asked.done


class Unmapped(UserPages):
    """``size`` bytes, of which those from ``end`` on are not there."""

    def __init__(self, size: int, end: int) -> None:
        self.memory = memoryview(bytearray(size))
        self.end = end

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, part: slice) -> Unmapped:
        rest = Unmapped(0, self.end - (part.start or 0))
        rest.memory = self.memory[part]
        return rest

    async def get_user_page(self, task: Task, at: int, *, write: bool) -> memoryview:
        if at >= self.end:
            raise OSError(int(Errno.EFAULT), "Bad address")
        return self.memory[at : min(self.end, at + 4096)]


def test_a_copy_to_the_daemon_that_faults_is_EFAULT_there_and_EIO_for_the_caller() -> None:
    queue = Queue()
    asked = queue.begin(lambda task: queue.fc.call(task, Args(Opcode.WRITE, 1, (bytes(6000),))))
    task = queue.task("daemon")
    read = queue.device.read(task, Unmapped(8192, 4096))
    assert errno_of(lambda: queue.driver.run(task, read)) == errno.EFAULT
    queue.driver.go()
    assert asked.error.errno == errno.EIO
    assert queue.fc.num_waiting == 0
    assert not queue.device.io


def test_a_copy_from_the_daemon_that_faults_is_EFAULT_there_and_EIO_for_the_caller() -> None:
    queue = Queue()
    asked = queue.ask(Opcode.READ, out=bytearray(8192))
    unique = queue.read().unique
    memory = Unmapped(16 + 8192, 16 + 4096)
    memory.memory[:16] = OUT_HEADER.pack(OutHeader(len(memory), 0, unique))
    task = queue.task("daemon")
    assert errno_of(lambda: queue.driver.run(task, queue.device.write(task, (memory,)))) == errno.EFAULT
    queue.driver.go()
    assert asked.error.errno == errno.EIO
    assert queue.fc.num_waiting == 0
    assert not queue.device.io


# -- the end ------------------------------------------------------------------------------------------------------


def quiet(queue: Queue) -> bool:
    """Nothing is left in use, and no counter off."""
    fc = queue.fc
    counters = fc.num_waiting, fc.background.num_background, fc.background.active_background
    return counters == (0, 0, 0) and not fc.under_way() and not fc.timeouts.deadlines


@WAITS
def test_an_abort_sends_away_who_waits_to_come_in(waits: Callable[[], tuple[Queue, Args]]) -> None:
    queue, args = waits()
    waiting = enter(queue, args)
    queue.fc.abort(queue.task())
    queue.driver.go()
    assert waiting.error.errno == errno.ENOTCONN
    assert quiet(queue)


def test_an_abort_ends_what_had_not_been_let_through() -> None:
    queue = Queue()
    queue.fc.background.max_background = 1
    ended: list[int] = []
    for node in range(3):
        args = Args(Opcode.RELEASE, node, force=True, end=lambda error, _: ended.append(error))
        queue.fc.send_forced(None, args)
    assert len(queue.fc.background.bg_queue) == 2
    queue.fc.abort(queue.task())
    assert ended == [errno.ECONNABORTED] * 3
    assert quiet(queue)


def test_an_abort_ends_what_is_owed_a_slot() -> None:
    queue, _ = for_a_slot()
    ended = owe(queue)
    queue.fc.abort(queue.task())
    queue.driver.go()
    assert ended == [errno.ECONNABORTED]
    assert quiet(queue)


def test_an_abort_ends_what_a_reader_that_died_had_read() -> None:
    queue = Queue()
    asked = queue.ask()
    queue.read()
    (req,) = queue.fc.unused_list.in_use
    assert req.reader is not None
    req.reader.exited = True
    queue.fc.reader_gone(req.reader)
    assert req.state is State.ORPHANED
    queue.fc.abort(queue.task())
    queue.driver.go()
    assert asked.error.errno == errno.ECONNABORTED
    assert quiet(queue)
