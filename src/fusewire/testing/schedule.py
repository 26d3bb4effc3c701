"""The third driver: it decides at every trap who goes on, so that every interleaving of a run can be had, and had again.

A step is what one task does from one trap to the next, :class:`Point` included. What the scheduler chooses from is the list of
the tasks that can go on, in the order of their numbers; a run is determined by its choices.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from ..drive.driver import Coro, Driver
from ..drive.timers import Timers
from ..inspect.events import EventStream
from ..inspect.graph import WaitGraph
from ..kernel.queue import Call, Point, Sleep, Task, wait_graph

T = TypeVar("T")
Choose = Callable[[list[Task]], Task]


class Endless(RuntimeError):
    """A run took more steps than it was allowed."""


class Outside(RuntimeError):
    """A scenario waits for something that no scheduler of ours can see."""


def place(coroutine: Coroutine[Any, Any, Any]) -> str:
    """Where it is: the innermost line of its frames, and the functions on the way there."""
    names: list[str] = []
    line = "its beginning"
    inner: Any = coroutine
    while (frame := getattr(inner, "cr_frame", None)) is not None:
        names.append(frame.f_code.co_name)
        line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        inner = inner.cr_await
    return f"{line} ({' > '.join(names)})"


class Outcome:
    """How the coroutine of ``task`` ended: ``result``, or ``error``."""

    __slots__ = ("done", "error", "result", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Scheduled(Driver):
    """Runs whom ``choose`` picks (by default: who has waited longest). ``on_step`` are called after each step.

    ``run`` makes a system call to its end, letting all others go on meanwhile; ``spawn`` only begins one, for :meth:`go`.
    """

    def __init__(
        self, choose: Choose | None = None, *, limit: int = 100_000, events: EventStream | None = None
    ) -> None:
        """``events``: where scenarios are to record what is done."""
        super().__init__("report")
        self.events = events
        self.choose: Choose = choose or (lambda ready: ready[0])
        self.limit = limit
        self.steps = 0
        self.on_step: list[Callable[[Task], None]] = []
        self.failure: BaseException | None = None  # what the first task ended with that was no answer to a system call
        self.ready: dict[int, Task] = {}  # who can go on, by pid
        self.outcomes: dict[Task, Outcome] = {}
        self._coroutines: dict[Task, Coroutine[Any, Any, Any]] = {}
        self._values: dict[Task, Any] = {}
        self._errors: dict[Task, BaseException] = {}
        self._current: Task | None = None
        self._timers = Timers()
        self._time = 1_000_000_000

    # -- what every driver does -----------------------------------------------------------------------------------

    def run(self, task: Task, coroutine: Coro[T]) -> T:
        if task in self._coroutines:
            raise RuntimeError(
                f"{task!r} is in a call; a handler's own calls need tasks of their own under this driver"
            )
        outcome = self.begin(task, coroutine)
        while not outcome.done:
            if not self.step():
                raise RuntimeError(f"{task!r} cannot go on: {wait_graph(self.tasks).waits[repr(task)]}")
        if outcome.error is not None:
            raise outcome.error
        result: T = outcome.result
        return result

    def start(self, task: Task, coroutine: Coro[None]) -> None:
        task.worker = True
        self.begin(task, coroutine)

    def begin(self, task: Task, coroutine: Coro[Any]) -> Outcome:
        """``task`` is to run this; its first step is one of those that can be chosen now."""
        task.points = True
        outcome = self.outcomes[task] = Outcome(task)
        self._coroutines[task] = coroutine
        self.ready[task.pid] = task
        return outcome

    def wake(self, task: Task) -> None:
        self.ready[task.pid] = task

    def now(self) -> int:
        return self._time

    def call_at(self, when: int, function: Callable[[], None]) -> None:
        self._timers.add(when, function)

    def user_mode(self, task: Task, function: Callable[..., T], *args: Any) -> T:
        outer, self._current = self._current, task
        try:
            return function(*args)
        finally:
            self._current = outer

    def readable(self, task: Task, *fds: int) -> Any:
        raise RuntimeError("what happens outside has no place in a schedule")

    @property
    def current(self) -> Task | None:
        return self._current

    def locked(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def settle(self, tasks: Iterable[Task], timeout: float) -> list[Task]:
        left = list(tasks)
        while any(not task.exited for task in left) and self.step():
            pass
        return [task for task in left if not task.exited]

    def pass_time(self, seconds: float) -> None:
        self._time += int(seconds * 1e9)
        self._timers.run(self._time)

    # -- steps ----------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Until nobody can go on. Raises :class:`Endless` after ``limit`` steps."""
        while self.step():
            if self.failure is not None:
                raise self.failure

    def step(self) -> bool:
        """One step of whom ``choose`` picks; False when nobody can go on and no timer is set."""
        if not self.ready:
            due = self._timers.next
            if due is None:
                return False
            self._time = max(self._time, due)
            self._timers.run(self._time)
            return True
        self.advance_task(self.choose([self.ready[pid] for pid in sorted(self.ready)]))
        return True

    def advance_task(self, task: Task) -> None:
        """One step of ``task``: to its next trap."""
        self.steps += 1
        if self.steps > self.limit:
            raise Endless(
                f"more than {self.limit} steps: {task!r} goes on and on, now at {place(self._coroutines[task])}"
            )
        del self.ready[task.pid]
        coroutine = self._coroutines[task]
        try:
            error = self._errors.pop(task, None)
            trap = coroutine.send(self._values.pop(task, None)) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            self._ended(task, stop.value, None)
        except Exception as raised:
            self._ended(task, None, raised)
        else:
            if type(trap) is Call:
                self._user_mode(task, trap)
            elif type(trap) is Point or (type(trap) is Sleep and task.sleep is not trap):
                self.ready[task.pid] = task
            elif type(trap) is not Sleep:
                where = place(self._coroutines[task])
                raise Outside(f"{task!r} waits for {trap!r} at {where}, which is none of the kernel half's")
        for hook in self.on_step:
            hook(task)

    def _user_mode(self, task: Task, call: Call) -> None:
        try:
            self._values[task] = self.user_mode(task, call.function, *call.args)
        except Exception as error:
            self._errors[task] = error
        self.ready[task.pid] = task

    def _ended(self, task: Task, result: Any, error: BaseException | None) -> None:
        outcome = self.outcomes[task]
        outcome.done, outcome.result, outcome.error = True, result, error
        if error is not None and not isinstance(error, OSError):
            self.failure = self.failure or error
        del self._coroutines[task]
        if task.exited:
            self.forget(task)

    def graph(self) -> WaitGraph:
        """Who waits for whom, now."""
        return wait_graph(task for task in self.tasks if task in self._coroutines)

    def close(self) -> None:
        """Drop what is still under way."""
        if self.events is not None:
            self.events.close()
        for coroutine in self._coroutines.values():
            coroutine.close()
        self._coroutines.clear()
        self.ready.clear()


def at_random(seed: int) -> Choose:
    """A scheduler that picks each step by chance; the same ``seed``, the same run."""
    rng = random.Random(seed)
    return rng.choice


def pct(seed: int, depth: int = 3, steps: int = 500) -> Choose:
    """Probabilistic concurrency testing (Burckhardt and others, 2010): each task has a priority, the highest goes on, and at
    ``depth - 1`` random places among the first ``steps`` the one that would go on falls to the lowest. Finds a bug of that
    depth with a probability of at least 1 / (tasks * steps ** (depth - 1))."""
    rng = random.Random(seed)
    priorities: dict[int, float] = {}
    changes = {rng.randrange(1, max(2, steps)) for _ in range(depth - 1)}
    count = 0

    def choose(ready: list[Task]) -> Task:
        nonlocal count
        count += 1
        for task in ready:
            if task.pid not in priorities:
                priorities[task.pid] = 1 + rng.random()
        best = max(ready, key=lambda task: priorities[task.pid])
        if count in changes or count % 1000 == 0:  # so that none starves who others spin for
            priorities[best.pid] = -count
        return best

    return choose
