"""The ``threads`` driver: callers and daemons are real threads; one big lock guards the kernel's half.

A task holds the lock while its coroutine runs, and gives it up while it sleeps and while it is in user mode.
"""

from __future__ import annotations

import _thread
import contextlib
import select
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from ..kernel.queue import Call, Deadlock, Sleep, Task
from .driver import Coro, Driver, log
from .timers import Timers

T = TypeVar("T")


def _poll(fds: Iterable[int]) -> None:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll()


class Threads(Driver):
    """See the module. The clock is CLOCK_MONOTONIC."""

    more_may_come = True

    def __init__(self, policy: str = "interrupt") -> None:
        super().__init__(policy)
        self._lock = threading.Lock()
        self._parked: dict[Task, _thread.LockType] = {}
        self._workers: dict[Task, threading.Thread] = {}
        self._local = threading.local()
        self._timers = Timers()
        self._timer_set = threading.Condition(self._lock)
        self._timer_runs = False

    def now(self) -> int:
        return time.monotonic_ns()

    def call_at(self, when: int, function: Callable[[], None]) -> None:
        self._timers.add(when, function)
        if self._timer_runs:
            self._timer_set.notify()
        else:
            self._timer_runs = True
            threading.Thread(target=self._ring, name="fusewire timers", daemon=True).start()

    def _ring(self) -> None:
        """The body of a thread that lives as long as there is a timer."""
        with self._lock:
            while (due := self._timers.next) is not None:
                left = due - self.now()
                if left > 0:
                    self._timer_set.wait(left / 1e9)
                else:
                    self._timers.run(self.now())
            self._timer_runs = False

    @property
    def current(self) -> Task | None:
        return getattr(self._local, "task", None)

    def locked(self) -> contextlib.AbstractContextManager[Any]:
        return self._lock

    def wake(self, task: Task) -> None:
        parker = self._parked.pop(task, None)
        if parker is not None:
            parker.release()

    def start(self, task: Task, coroutine: Coro[None]) -> None:
        task.worker = True
        worker = threading.Thread(target=self._work, args=(task, coroutine), name=repr(task), daemon=True)
        self._workers[task] = worker
        worker.start()

    def readable(self, task: Task, *fds: int) -> Awaitable[None]:
        return Call(_poll, fds)

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)

    def settle(self, tasks: Iterable[Task], timeout: float) -> list[Task]:
        end = time.monotonic() + timeout
        for task in tasks:
            worker = self._workers.get(task)
            if worker is not None and worker is not threading.current_thread():
                worker.join(max(0.0, end - time.monotonic()))
        return [task for task in tasks if not task.exited]

    def _work(self, task: Task, coroutine: Coro[None]) -> None:
        try:
            self.run(task, coroutine)
        except BaseException:
            log.exception("%r ended", task)
        finally:
            with self._lock:
                self.forget(task)
                self._workers.pop(task, None)

    def run(self, task: Task, coroutine: Coro[T]) -> T:
        if self.before_call is not None:
            self.before_call(coroutine)
        interrupted: KeyboardInterrupt | None = None
        error: BaseException | None = None
        value: Any = None
        self._lock.acquire()
        try:
            while True:
                trap = coroutine.send(value) if error is None else coroutine.throw(error)
                value = error = None
                if type(trap) is Sleep:
                    try:
                        error = self._sleep(task, trap)
                    except KeyboardInterrupt as caught:
                        interrupted = caught
                        task.kill(signal.SIGINT)
                elif type(trap) is Call:
                    value, error = self._call(task, trap)
        except StopIteration as stop:
            result: T = stop.value
        finally:
            self._lock.release()
        if interrupted is not None:
            raise interrupted
        return result

    def _sleep(self, task: Task, sleep: Sleep) -> Deadlock | None:
        """Park the thread until the task is woken. Returns what to raise in it instead, for a deadlock that it closed."""
        found = self.check(task)
        if found is not None and self.policy != "report":
            task.sleep = None
            return Deadlock(found.words())
        while task.sleep is sleep:
            parker = _thread.allocate_lock()
            parker.acquire()
            self._parked[task] = parker
            self._lock.release()
            try:
                parker.acquire()
            finally:
                self._lock.acquire()
                self._parked.pop(task, None)
        return None

    def _call(self, task: Task, call: Call) -> tuple[Any, BaseException | None]:
        try:
            return self.user_mode(task, call.function, *call.args), None
        except BaseException as error:
            return None, error

    def user_mode(self, task: Task, function: Callable[..., T], *args: Any) -> T:
        outer = self.current
        self._local.task = task
        self._lock.release()
        try:
            return function(*args)
        finally:
            self._lock.acquire()
            self._local.task = outer
