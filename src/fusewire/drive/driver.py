"""What every driver does: run a system call for a task, start a worker, wake, keep the clock, notice a deadlock."""

from __future__ import annotations

import abc
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..inspect.graph import Deadlocked
from ..kernel.queue import Task, can_go_on, wait_graph

T = TypeVar("T")
Coro = Coroutine[Any, Any, T]
log = logging.getLogger("fusewire.drive")


class Buried(RuntimeError):
    """Under ``inline`` nobody is deadlocked, but who could go on has no thread for it: its call has its result and lies beneath
    another's frames, which wait for it, or it is in no call, and this one waits for it. Use ``threads``."""


class Driver(abc.ABC):
    """Runs the coroutines of the kernel's half. ``tasks`` are all that live; ``deadlocks`` all that were found.

    ``policy`` is what happens to a deadlock: ``report`` (it is recorded), ``interrupt`` (the youngest waiter gets EDEADLK)
    or ``raise`` (that, and the call that brought it about raises ``Deadlock``).
    """

    more_may_come = False  # programs that are not there yet can begin to call while others sleep

    def __init__(self, policy: str) -> None:
        if policy not in ("report", "interrupt", "raise"):
            raise ValueError(f"on_deadlock is report, interrupt or raise, not {policy!r}")
        self.policy = policy
        self.tasks: list[Task] = []
        self.deadlocks: list[Deadlocked] = []
        self.listeners: list[Callable[[Deadlocked], None]] = []
        self.before_call: Callable[[Coro[Any]], None] | None = None  # may refuse a system call

    @abc.abstractmethod
    def run(self, task: Task, coroutine: Coro[T]) -> T:
        """Run a system call of ``task`` to its end."""

    @abc.abstractmethod
    def start(self, task: Task, coroutine: Coro[None]) -> None:
        """Let ``task`` live by itself: a daemon's worker."""

    @abc.abstractmethod
    def wake(self, task: Task) -> None:
        """The kernel's half calls it: a sleeping task can go on."""

    @abc.abstractmethod
    def now(self) -> int:
        """The kernel half's clock, in nanoseconds."""

    @abc.abstractmethod
    def call_at(self, when: int, function: Callable[[], None]) -> None:
        """Call ``function`` when the clock shows ``when``, as something outside any task."""

    @abc.abstractmethod
    def readable(self, task: Task, *fds: int) -> Awaitable[None]:
        """Awaited by a task that speaks with the outside: until one of ``fds`` is readable."""

    @abc.abstractmethod
    def user_mode(self, task: Task, function: Callable[..., T], *args: Any) -> T:
        """Call ``function(*args)`` as a program of ``task``'s does, outside the kernel's lock: what a ``Call`` asks for,
        and what a task of ours that runs may do straight away."""

    def wait_future(self, future: Future[Any]) -> None:  # noqa: B027  (most have nothing to see to)
        """Somebody is about to wait for ``future``, which a task of ours sets: drivers that have but one thread see to it."""

    @property
    @abc.abstractmethod
    def current(self) -> Task | None:
        """The task in whose user mode this very code runs."""

    @abc.abstractmethod
    def locked(self) -> contextlib.AbstractContextManager[Any]:
        """Held while something outside any task (a kill, an abort) changes the kernel's state."""

    @abc.abstractmethod
    def settle(self, tasks: Iterable[Task], timeout: float) -> list[Task]:
        """Wait until ``tasks`` have exited, at most ``timeout`` seconds; returns those that have not."""

    @abc.abstractmethod
    def pass_time(self, seconds: float) -> None:
        """Let the outside work, at most so long."""

    def forget(self, task: Task) -> None:
        """It has exited."""
        if task in self.tasks:
            self.tasks.remove(task)

    def check(self, task: Task) -> Deadlocked | None:
        """``task`` has just gone to sleep: does that close a circle?"""
        sleep = task.sleep
        if sleep is None or sleep.idle or can_go_on(task):
            return None
        graph = wait_graph(self.tasks)
        found = next((found for found in graph.deadlocks() if repr(task) in found.tasks), None)
        if found is None:
            return None
        self.deadlocks.append(found)
        log.warning("deadlock: %s", found.words())
        for listener in self.listeners:
            listener(found)
        return found
