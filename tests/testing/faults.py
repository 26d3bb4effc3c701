"""Faults made by hand in the request queue, one at a time, and what finds them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from fusewire.kernel.queue import Connection, Device, Semaphore, WaitQueue, copy
from fusewire.kernel.queue.background import Background
from fusewire.kernel.queue.iqueue import InputQueue
from fusewire.kernel.queue.pool import RequestPool


class Fault(NamedTuple):
    """In ``owner.name``, ``old`` becomes ``new``. ``found_by``: the property that does not hold any more, as it is called
    in what the checkers say."""

    what: str
    owner: Any
    name: str
    old: str
    new: str
    found_by: str


DYING = """\
            if task.signalled and not condition() and task.signal_pending(sleep.mode):
                task.step("interrupted by signal")
                raise Interrupted(self.name, bool(task.dying))
        except BaseException:
            task.sleep = None
            if not waiter.woken:
                self.waiters.remove(waiter)
            elif exclusive:
                self.wake_one()"""

FAULTS = [
    Fault("no reader is woken", Connection, "request_send", "self.waitq.wake_up(task)", "pass", "waits on req->waitq"),
    Fault(
        "a wake-up between the look and the sleep is lost",
        WaitQueue,
        "wait_asleep",
        "if not waiter.woken and not (",
        "if not (",
        "waits on req->waitq",
    ),
    Fault(
        "a reader that dies takes the wake-up with it",
        WaitQueue,
        "wait_asleep",
        DYING,
        DYING.replace("not condition() and ", "").replace("self.wake_one()", "pass"),
        "waits on req->waitq",
    ),
    Fault(
        "the answer wakes nobody",
        WaitQueue,
        "wake_all",
        "waiters.popleft().wake()",
        "waiters.popleft()",
        "ValueError",
    ),
    Fault("a semaphore is released and nobody told", Semaphore, "hand_over", "waiter.wake()", "pass", "waits for ever"),
    Fault(
        "a semaphore is not handed over",
        Semaphore,
        "hand_over",
        "self.owner = waiter.task",
        "self.owner = None",
        "ValueError",
    ),
    Fault(
        "a signal does not end the wait for a semaphore",
        Semaphore,
        "acquire",
        "if task.signal_pending(mode):",
        "if False:",
        "was killed and still waits",
    ),
    Fault(
        "a request ends twice",
        Device,
        "_copy_failed",
        "if self.io.pop(req, req) is None:",
        "if True:",
        "cannot go to FINISHED",
    ),
    Fault("queued after the end", Connection, "queue_pending", "if not self.connected:", "if False:", "invariant 10"),
    Fault(
        "an INTERRUPT may overtake its request",
        InputQueue,
        "queue_interrupt",
        "(State.PROCESSING, State.ORPHANED)",
        "(State.PENDING, State.PROCESSING)",
        "invariant 4",
    ),
    Fault(
        "the slot of a caller that left is never given back",
        Connection,
        "finish",
        "elif req.detached:\n        self.recycle(req)",
        "elif req.detached:\n        pass",
        "invariant 2",
    ),
    Fault("a slot that is free wakes nobody", RequestPool, "put", "self.pass_on()", "pass", "waits for ever"),
    Fault(
        "the pool gives one slot too many",
        RequestPool,
        "room",
        "len(self.in_use) < limit",
        "len(self.in_use) <= limit",
        "invariant 3",
    ),
    Fault("a copy goes on after its owner left", copy, "lock_request", "req.locked = True", "pass", "got garbage"),
    Fault(
        "nobody looks whether the request was given up",
        copy,
        "check_given_up",
        "if req.aborted:",
        "if False:",
        "invariant 10",
    ),
    Fault(
        "a caller leaves while its page is copied",
        Connection,
        "_leave",
        "lambda: not req.locked",
        "lambda: True",
        "cannot go to FINISHED",
    ),
    Fault(
        "a withdrawn request stays readable",
        Connection,
        "_leave",
        "self.pending.remove(task, req)",
        "pass",
        "invariant 1 ",
    ),
    Fault(
        "the last device closes and nobody is freed",
        Device,
        "release",
        "len(fc.devices) == 1",
        "len(fc.devices) == 0",
        "waits on req->waitq",
    ),
    Fault(
        "an abort forgets what is being copied",
        Device,
        "disconnect",
        "if req.give_up()",
        "if False",
        "invariant 10",
    ),
    Fault(
        "background requests are not counted down",
        Background,
        "ended",
        "self.active_background -= 1",
        "pass",
        "invariant 9",
    ),
    Fault(
        "background requests know no limit",
        Background,
        "flush",
        "(self.active_background < self.max_background or not fc.connected)",
        "True",
        "invariant 9",
    ),
    Fault(
        "what a late answer granted is kept",
        Device,
        "_end_writing",
        "self._late_answer(req, header, body)",
        "pass",
        "invariant 7",
    ),
    Fault(
        "FORGETs are lost", InputQueue, "queue_forget", "self.forgets.append((nodeid, nlookup))", "pass", "invariant 7"
    ),
    Fault(
        "two requests have the same number",
        Connection,
        "queue_pending",
        "self.reqctr += 2",
        "self.reqctr = 2",
        "invariant 1 ",
    ),
]


def plant(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Compile the function again with the fault in it."""
    function: Callable[..., Any] = inspect.unwrap(getattr(fault.owner, fault.name))
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(fault.old) == 1, (
        f"{fault.what}: {fault.old!r} stands {source.count(fault.old)} times in {fault.name}"
    )
    made: dict[str, Any] = {}
    exec(compile(source.replace(fault.old, fault.new), f"<{fault.what}>", "exec"), function.__globals__, made)
    monkeypatch.setattr(fault.owner, fault.name, made[fault.name])
