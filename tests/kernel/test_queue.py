"""The request queue by itself: no files, no paths; tasks that ask, tasks that read and write, and every errno of Linux's."""

from __future__ import annotations

import errno
import signal
from typing import Any

import pytest
from conftest import errno_of
from queues import Queue

from fusewire.kernel.queue import DETACH, LINUX, Args, Control, Device, State, Task
from fusewire.kernel.queue.request import Request
from fusewire.kernel.queue.timeouts import Timeouts
from fusewire.wire.flags import UNIQUE_RESEND, Opcode, PollEvent
from fusewire.wire.layouts import IN_HEADER, OUT_HEADER, OutHeader
from fusewire.wire.table import LATEST

# -- reading ------------------------------------------------------------------------------------------------------


def test_a_device_that_is_not_mounted_refuses_with_EPERM_and_polls_as_an_error() -> None:
    queue, fresh = Queue(), Device()
    assert errno_of(lambda: queue.read(fresh)) == errno.EPERM
    assert errno_of(lambda: queue.answer(2, device=fresh)) == errno.EPERM
    assert fresh.poll() == PollEvent.ERR


@pytest.mark.parametrize(("size", "max_write"), [(8191, 4096), (65536 + 79, 65536)])
def test_a_read_buffer_that_is_too_small_is_EINVAL(size: int, max_write: int) -> None:
    queue = Queue()
    queue.fc.initialize(LATEST, max_write)
    assert errno_of(lambda: queue.read(size=size)) == errno.EINVAL


def test_a_read_that_may_not_wait_is_EAGAIN_while_nothing_is_there() -> None:
    queue = Queue()
    assert errno_of(lambda: queue.read(nonblock=True)) == errno.EAGAIN
    queue.ask()
    assert queue.read(nonblock=True).opcode == Opcode.UNLINK


@pytest.mark.parametrize(("opcode", "error"), [(Opcode.WRITE, errno.EIO), (Opcode.SETXATTR, errno.E2BIG)])
def test_a_request_larger_than_the_read_buffer_ends_and_the_next_one_is_read(opcode: Opcode, error: int) -> None:
    queue = Queue()
    large = queue.begin(lambda task: queue.fc.call(task, Args(opcode, 1, (bytes(9000),))))
    small = queue.ask()
    assert queue.read(size=8192).opcode == Opcode.UNLINK
    assert large.error.errno == error
    assert not small.done


def test_a_request_that_no_answer_is_due_for_ends_when_it_is_read() -> None:
    queue = Queue()
    queue.fc.send_notify_reply(None, Args(Opcode.NOTIFY_REPLY, 1, (b"data",), noreply=True), unique=2)
    asked = queue.ask()
    assert queue.read().opcode == Opcode.NOTIFY_REPLY
    assert queue.fc.num_waiting == 1  # the other
    assert queue.read().unique == 4
    queue.answer(4)
    assert asked.result == 0


def test_poll_shows_a_request_and_the_end() -> None:
    queue = Queue()
    assert queue.device.poll() == PollEvent.OUT
    queue.ask()
    assert queue.device.poll() == PollEvent.IN | PollEvent.OUT
    queue.fc.abort(queue.task())
    assert queue.device.poll() == PollEvent.ERR


# -- clones -------------------------------------------------------------------------------------------------------


def test_an_answer_must_come_by_the_clone_that_read_the_request() -> None:
    queue, clone = Queue(), Device()
    clone.clone(queue.device)
    asked = queue.ask()
    unique = queue.read(clone).unique
    assert errno_of(lambda: queue.answer(unique)) == errno.ENOENT
    queue.answer(unique, device=clone)
    assert asked.done


def test_closing_a_clone_ends_only_what_was_read_from_it() -> None:
    queue, clone = Queue(), Device()
    clone.clone(queue.device)
    one, two = queue.ask(), queue.ask()
    queue.read(clone)
    queue.read()
    clone.release(queue.task())
    queue.driver.go()
    assert one.error.errno == errno.ECONNABORTED
    assert not two.done
    assert queue.fc.connected


def test_only_a_fresh_device_becomes_a_clone_and_only_of_a_mounted_one() -> None:
    queue = Queue()
    assert errno_of(lambda: queue.device.clone(queue.device)) == errno.EINVAL
    assert errno_of(lambda: Device().clone(Device())) == errno.EPERM


# -- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [-1, 512, 4096])
def test_an_answer_whose_error_is_no_errno_is_EINVAL_and_the_request_stays(error: int) -> None:
    queue = Queue()
    asked = queue.ask()
    unique = queue.read().unique
    assert errno_of(lambda: queue.answer(unique, error)) == errno.EINVAL
    assert not asked.done
    queue.answer(unique, errno.EPERM)
    assert asked.error.errno == errno.EPERM


def test_an_answer_with_a_body_that_is_not_due_is_EINVAL_and_its_caller_gets_EIO() -> None:
    queue = Queue()
    asked = queue.ask()
    unique = queue.read().unique
    assert errno_of(lambda: queue.answer(unique, body=b"more")) == errno.EINVAL
    assert asked.error.errno == errno.EIO
    assert errno_of(lambda: queue.answer(unique)) == errno.ENOENT


def test_interrupts_are_no_longer_sent_once_the_daemon_answered_one_with_ENOSYS() -> None:
    queue = Queue(policy=LINUX)
    asked = queue.ask()
    unique = queue.read().unique
    asked.task.handlers[signal.SIGUSR1] = print
    asked.task.kill(signal.SIGUSR1)
    queue.driver.go()
    assert queue.read().opcode == Opcode.INTERRUPT
    queue.answer(unique | 1, errno.ENOSYS)
    asked.task.kill(signal.SIGKILL)
    queue.driver.go()
    assert queue.fc.no_interrupt
    assert errno_of(lambda: queue.read(nonblock=True)) == errno.EAGAIN


def test_an_interrupt_that_was_answered_with_EAGAIN_comes_again() -> None:
    queue = Queue(policy=LINUX)
    asked = queue.ask()
    unique = queue.read().unique
    asked.task.kill(signal.SIGTERM)
    queue.driver.go()
    for _ in range(3):
        assert queue.read().unique == unique | 1
        queue.answer(unique | 1, errno.EAGAIN)
    queue.answer(unique)
    assert asked.done
    assert errno_of(lambda: queue.read(nonblock=True)) == errno.EAGAIN


# -- the pool -----------------------------------------------------------------------------------------------------


def test_who_waits_for_a_slot_gets_it_when_one_is_given_back() -> None:
    queue = Queue(pool=1)
    one, two, three = queue.ask(), queue.ask(), queue.ask()
    for asked in (one, two, three):
        queue.answer(queue.read().unique)
        assert asked.done
    assert queue.fc.num_waiting == 0


def test_a_wait_for_a_slot_ends_by_a_signal_and_the_next_one_is_not_forgotten() -> None:
    queue = Queue(pool=1)
    queue.ask()
    waiting, next_one = queue.ask(), queue.ask()
    waiting.task.kill(signal.SIGKILL)
    queue.driver.go()
    assert waiting.error.errno == errno.EINTR
    queue.answer(queue.read().unique)
    queue.answer(queue.read().unique)
    assert next_one.done


def test_a_woken_waiter_that_is_killed_before_it_runs_passes_its_slot_on() -> None:
    queue = Queue(pool=1)
    first, doomed, last = queue.ask(), queue.ask(), queue.ask()
    unique = queue.read().unique
    task = queue.task("daemon")
    message = OUT_HEADER.pack(OutHeader(16, 0, unique))
    queue.driver.begin(task, queue.device.write(task, (message,)))
    while not first.done:  # its slot has just been given to the next one ...
        queue.driver.advance_task(next(iter(queue.driver.ready.values())))
    doomed.task.kill(signal.SIGKILL)  # ... which is killed before it can take it
    queue.driver.go()
    assert queue.read().unique
    assert doomed.done
    assert not last.done
    assert len(queue.fc.unused_list.in_use) == 1


def test_forced_requests_have_a_reserve_when_the_pool_is_empty() -> None:
    queue = Queue(pool=1, reserve=1)
    queue.ask()
    forced = queue.ask(Opcode.FLUSH, force=True)
    assert {queue.read().opcode, queue.read().opcode} == {Opcode.UNLINK, Opcode.FLUSH}
    assert not forced.done


def test_forced_requests_beyond_the_reserve_follow_in_order_and_none_is_lost() -> None:
    queue = Queue(pool=1, reserve=1)
    queue.ask()
    ended: list[int] = []
    for number in range(3):
        queue.fc.send_forced(None, Args(Opcode.RELEASE, number, force=True, end=lambda *_, n=number: ended.append(n)))
    flush = queue.ask(Opcode.FLUSH, force=True)
    assert queue.fc.num_waiting == 5
    for _ in range(5):
        queue.answer(queue.read().unique)
    assert ended == [0, 1, 2]
    assert flush.done
    assert queue.fc.num_waiting == 0


def test_a_forced_request_whose_caller_is_killed_while_even_the_reserve_is_empty_is_sent_all_the_same() -> None:
    queue = Queue(pool=1, reserve=0)
    asked = queue.ask()
    flush = queue.ask(Opcode.FLUSH, force=True)
    flush.task.kill(signal.SIGKILL)
    queue.driver.go()
    assert flush.error.errno == errno.EINTR
    queue.answer(queue.read().unique)
    assert asked.done
    assert queue.read().opcode == Opcode.FLUSH


def test_a_caller_that_left_gives_no_slot_back_but_the_late_answer_does() -> None:
    queue = Queue(pool=1)
    asked = queue.ask()
    unique = queue.read().unique
    asked.task.kill(signal.SIGKILL)
    queue.driver.go()
    assert asked.error.errno == errno.EINTR
    waiting = queue.ask()
    assert errno_of(lambda: queue.read(nonblock=True)) == errno.EAGAIN
    queue.answer(unique)
    assert queue.read().opcode == Opcode.UNLINK
    assert not waiting.done


def test_a_pool_of_one_is_a_deadlock_when_the_daemon_asks_its_own_mount() -> None:
    queue = Queue(pool=1)

    async def daemon(task: Task) -> None:
        await queue.device.read(task, memoryview(bytearray(8192)))
        await queue.fc.call(task, Args(Opcode.GETATTR, 1))

    asked = queue.ask()
    serving = queue.begin(daemon, "daemon")
    (found,) = queue.driver.graph().deadlocks()
    assert found.words() == (
        "caller:1 waits on req->waitq, which only daemon:2 could end;\n"
        "daemon:2 waits on fc->unused_list, which only caller:1 could end."
    )
    asked.task.kill(signal.SIGTERM)  # leaves, but its slot stays with the request that the daemon has read
    queue.driver.go()
    assert asked.done
    assert not serving.done
    serving.task.kill(signal.SIGKILL)
    queue.driver.go()
    assert serving.error.errno == errno.EINTR


# -- time limits --------------------------------------------------------------------------------------------------


def limited(seconds: float) -> Queue:
    queue = Queue()
    queue.fc.timeouts.set_limit(seconds)
    return queue


def test_a_request_that_nobody_reads_in_time_is_withdrawn_and_the_others_go_on() -> None:
    queue = limited(5)
    asked = queue.ask()  # nobody can go on: the virtual clock passes over the five seconds
    assert asked.error.errno == errno.ETIMEDOUT
    assert queue.driver.now() == 6_000_000_000
    assert errno_of(lambda: queue.read(nonblock=True)) == errno.EAGAIN
    assert queue.fc.connected


def test_the_late_answer_to_a_request_whose_time_ran_out_is_dropped_and_what_it_granted_given_back() -> None:
    queue = Queue()
    late: list[bytes] = []
    out = bytearray(4)

    async def daemon(task: Task) -> int:
        buffer = memoryview(bytearray(8192))
        await queue.device.read(task, buffer)
        return IN_HEADER.unpack(buffer).unique

    serving = queue.begin(daemon)
    queue.fc.timeouts.set_limit(5)
    asked = queue.ask(Opcode.LOOKUP, out=out, late=late.append)
    assert asked.error.errno == errno.ETIMEDOUT
    queue.answer(serving.result, body=b"1234")
    assert late == [b"1234"]
    assert out == bytes(4)
    assert queue.fc.num_waiting == 0


@pytest.mark.parametrize("read", [False, True])
def test_a_background_request_whose_time_runs_out_makes_room_for_others(read: bool) -> None:
    queue = Queue()
    queue.fc.background.max_background = 1
    ended: list[int] = []
    queue.fc.timeouts.set_limit(5)
    queue.fc.send_forced(None, Args(Opcode.RELEASE, 1, force=True, end=lambda error, _: ended.append(error)))
    unique = queue.read().unique if read else 0
    queue.driver.pass_time(2)
    queue.fc.send_forced(None, Args(Opcode.RELEASE, 2, force=True))
    queue.driver.pass_time(4)
    assert ended == [errno.ETIMEDOUT]
    assert queue.read().nodeid == 2
    if read:
        queue.answer(unique)
    assert ended == [errno.ETIMEDOUT]


def test_a_time_limit_is_no_deadlock() -> None:
    queue = Queue()
    queue.fc.timeouts.set_limit(5)
    task = queue.task()
    queue.driver.begin(task, queue.fc.call(task, Args(Opcode.GETATTR, 1)))
    while queue.driver.ready:
        queue.driver.step()
    assert not queue.driver.graph().deadlocks()


# -- resend -------------------------------------------------------------------------------------------------------


def test_what_was_read_and_not_answered_is_read_again_first_with_a_bit_that_says_so() -> None:
    queue = Queue()
    one, two, three = queue.ask(), queue.ask(), queue.ask()
    first, second = queue.read().unique, queue.read().unique
    queue.fc.resend(None)
    again = [queue.read().unique for _ in range(3)]
    assert again[:2] == [first | UNIQUE_RESEND, second | UNIQUE_RESEND]
    assert errno_of(lambda: queue.answer(first)) == errno.ENOENT
    for unique in again:
        queue.answer(unique)
    assert one.done
    assert two.done
    assert three.done


def test_an_interrupt_of_a_request_that_is_sent_again_comes_after_it() -> None:
    queue = Queue(policy=LINUX)
    asked = queue.ask()
    queue.read()
    asked.task.kill(signal.SIGTERM)
    queue.driver.go()
    queue.fc.resend(None)
    again = queue.read().unique
    assert again & UNIQUE_RESEND
    assert queue.read().unique == again | 1
    queue.answer(again)
    assert asked.done


# -- control ------------------------------------------------------------------------------------------------------


def test_the_control_shows_each_request_with_its_state_its_age_its_caller_and_who_could_serve_it() -> None:
    queue = Queue()
    asked = queue.ask()

    async def daemon(task: Task) -> None:
        await queue.device.read(task, memoryview(bytearray(8192)))

    control = Control(queue.fc, queue.task("admin"))
    (info,) = control.requests()
    assert (info.opcode, info.state, info.caller, info.servers) == ("UNLINK", State.PENDING.value, "caller:1", ())
    serving = queue.begin(daemon, "daemon")
    queue.driver.pass_time(1.5)
    (info,) = control.requests()
    assert info.servers == (repr(serving.task),)
    assert str(info) == "2 UNLINK node 1: on fc->processing, 1.500 s, for caller:1, daemon:3 can answer"
    assert control.waiting == 1
    control.abort()
    queue.driver.go()
    assert asked.error.errno == errno.ECONNABORTED
    assert control.waiting == 0
    assert control.requests() == []


def test_a_higher_limit_lets_background_requests_through_at_once() -> None:
    queue = Queue()
    control = Control(queue.fc, queue.task("admin"))
    control.max_background = 1
    for node in range(3):
        queue.fc.send_forced(None, Args(Opcode.RELEASE, node, force=True))
    assert len(queue.fc.pending) == 1
    control.max_background = 2
    assert len(queue.fc.pending) == 2
    control.congestion_threshold = 3
    assert queue.fc.background.congested


@pytest.mark.parametrize("value", [0, -1, 65_536])
def test_limits_that_cannot_be_are_EINVAL(value: int) -> None:
    control = Control(Queue().fc, Queue().task())
    assert errno_of(lambda: setattr(control, "max_background", value)) == errno.EINVAL
    assert errno_of(lambda: setattr(control, "congestion_threshold", value)) == errno.EINVAL


def test_who_would_add_to_a_full_background_sleeps_until_one_has_ended() -> None:
    queue = Queue()
    queue.fc.background.max_background = 1
    ended: list[int] = []

    def send(number: int) -> Any:
        args = Args(Opcode.READ, number, end=lambda *_: ended.append(number))
        return queue.begin(lambda task: queue.fc.request_send_background(task, args))

    one, two = send(1), send(2)
    assert one.done
    assert not two.done
    queue.answer(queue.read().unique)
    assert two.done
    queue.answer(queue.read().unique)
    assert ended == [1, 2]


# -- the end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked_for", "error"), [(True, errno.ECONNABORTED), (False, errno.ENODEV)])
def test_a_reader_gets_ECONNABORTED_for_an_abort_if_the_daemon_asked_for_that(asked_for: bool, error: int) -> None:
    queue = Queue()
    queue.fc.abort_error = asked_for
    Control(queue.fc, queue.task()).abort()
    assert errno_of(queue.read) == error


def _stop_in(queue: Queue, state: State) -> Any:
    """A request that has come as far as ``state``, and the tasks that brought it there."""
    out = bytearray(4096 * 3)
    task = queue.task()
    asked = queue.driver.begin(task, queue.fc.call(task, Args(Opcode.READ, 1, (bytes(5000),), out)))
    reader = queue.task("reader")
    buffer = memoryview(bytearray(65536))
    steps = iter(range(1000))

    def until(*states: State) -> bool:
        return next(steps) < 0 or any(req.state in states for req in queue.fc.unused_list.in_use)

    while not until(State.PENDING):
        queue.driver.step()
    if state is State.PENDING:
        return asked
    queue.driver.begin(reader, queue.device.read(reader, buffer))
    while not until(State.READING if state is State.READING else State.PROCESSING):
        queue.driver.step()
    if state in (State.READING, State.PROCESSING):
        return asked
    queue.driver.go()
    message = OUT_HEADER.pack(OutHeader(16 + len(out), 0, 2)) + b"x" * len(out)
    writer = queue.task("writer")
    queue.driver.begin(writer, queue.device.write(writer, (message,)))
    while not until(State.WRITING):
        queue.driver.step()
    return asked


@pytest.mark.parametrize("policy", [DETACH, LINUX])
@pytest.mark.parametrize("state", [State.PENDING, State.READING, State.PROCESSING, State.WRITING])
def test_an_abort_ends_a_request_in_each_state_once(policy: Any, state: State) -> None:
    queue = Queue(policy=policy)
    asked = _stop_in(queue, state)
    assert [req.state for req in queue.fc.unused_list.in_use] == [state]
    queue.fc.abort(queue.task())
    queue.driver.go()
    assert asked.error.errno == errno.ECONNABORTED
    assert queue.fc.num_waiting == 0
    assert not queue.fc.unused_list.in_use
    queue.fc.abort(queue.task())  # a second one has nothing to do


@pytest.mark.parametrize("state", [State.PENDING, State.READING, State.PROCESSING, State.WRITING])
def test_a_signal_ends_the_wait_in_each_state_and_a_late_answer_touches_nothing(state: State) -> None:
    queue = Queue()
    asked = _stop_in(queue, state)
    task = next(task for task in queue.driver.tasks if task.comm == "caller")
    task.kill(signal.SIGTERM)
    queue.driver.go()
    assert asked.error.errno == errno.EINTR
    if state is State.PROCESSING:
        queue.answer(2, body=b"y" * 4096 * 3)
    assert not queue.fc.unused_list.in_use


def test_requests_of_a_reader_that_died_are_orphaned_and_another_may_answer_them() -> None:
    queue = Queue()
    asked = queue.ask()
    unique = queue.read().unique
    (req,) = queue.fc.unused_list.in_use
    assert req.reader is not None
    req.reader.exited = True
    queue.fc.reader_gone(req.reader)
    assert req.state is State.ORPHANED
    assert queue.driver.graph().deadlocks()  # as far as anyone can see
    queue.answer(unique)
    assert asked.done


def test_time_limits_have_one_timer_however_many_requests_take_the_place_of_expired_ones() -> None:
    class Abandoning:
        """Each request that is given up makes room for another, whose clock starts."""

        def abandon(self, req: Request, number: int) -> None:
            timeouts.start(background())

    def background() -> Request:
        req = Request()
        req.background = True
        req.state = State.PROCESSING
        return req

    now, timers = 0, []
    timeouts = Timeouts(Abandoning(), lambda: now, lambda when, ring: timers.append((when, ring)))  # type: ignore[arg-type]
    timeouts.set_limit(1)
    timeouts.start(background())
    now = 500_000_000
    timeouts.start(background())
    for _ in range(10):
        assert len(timers) == 1
        now, ring = timers.pop()
        ring()
    assert len(timeouts.deadlines) == 2
