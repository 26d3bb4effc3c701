"""The ``inline`` driver: one thread, no locks, the same order every time.

A call runs until it sleeps; then whoever was woken has its turn, daemons included, first come first served. When the first
call ends, the rest goes on until the system is quiet: RELEASE and FORGET have been seen.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ..inspect.graph import Deadlocked
from ..kernel.queue import Call, Deadlock, Mode, Sleep, Task, wait_graph
from .driver import Buried, Coro, Driver
from .timers import Timers

T = TypeVar("T")
QUIET = 5.0  # seconds that a daemon in another process may take over a RELEASE before we go on without its answer
_ANOTHER_PROCESS = Sleep("another process", Mode.INTERRUPTIBLE, lambda: None, idle=True)


class Frame:
    """One coroutine of a task. A worker whose handler makes a system call has two."""

    done = False
    result: Any = None
    error: BaseException | None = None
    throw: BaseException | None = None

    def __init__(self, task: Task, coroutine: Coro[Any], worker: bool) -> None:
        self.task = task
        self.coroutine = coroutine
        self.send = coroutine.send
        self.worker = worker  # nobody waits for its result


class Inline(Driver):
    """See the module. Time stands still but for :meth:`advance`."""

    current: Task | None = None

    def __init__(self, policy: str = "raise") -> None:
        super().__init__(policy)
        self._time = 1_000_000_000
        self._ready: deque[Task] = deque()
        self._sending = False  # a call is in its first step: what it does between two waits, nobody comes between
        self._frames: dict[Task, Frame] = {}  # each task's innermost
        self._runs: list[Frame] = []
        self._failure: BaseException | None = None  # what a worker ended with
        self._timers = Timers()
        self._outside: dict[Task, tuple[int, ...]] = {}  # who waits for which descriptors
        self._polled: dict[Task, tuple[int, ...]] = {}
        self._poll = select.poll()  # for those in ``_polled``
        self._watchers: dict[int, list[Task]] = {}  # the same, by descriptor
        self._bell = -1  # an eventfd: someone was woken while this thread was in poll(2)
        self._listening = False
        self._lent = 0  # the thread that alone may make calls
        self.busy_outside: Callable[[], bool] = lambda: False

    def now(self) -> int:
        return self._time

    def call_at(self, when: int, function: Callable[[], None]) -> None:
        self._timers.add(when, function)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self._time + int(seconds * 1e9)
        while (due := self._timers.next) is not None and due <= end:
            self._pass_to(due)
            if not self._runs:
                self.quiesce()
        self._time = end

    def _pass_to(self, when: int) -> None:
        self._time = max(self._time, when)
        self._timers.run(self._time)

    def locked(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def wake(self, task: Task) -> None:
        self._ready.append(task)
        if self._listening:  # by another thread, or a signal's handler
            os.eventfd_write(self._bell, 1)

    def start(self, task: Task, coroutine: Coro[None]) -> None:
        task.worker = True
        frame = Frame(task, coroutine, True)
        self._frames[task] = frame
        self._ready.append(task)
        if not self._runs and not self._sending:
            self.quiesce()

    def run(self, task: Task, coroutine: Coro[T]) -> T:
        if self.before_call is not None:
            self.before_call(coroutine)
        if self._lent:
            self._check_lent(coroutine)
        result: Any = None
        error: BaseException | None = None
        self._sending = True
        try:
            trap = coroutine.send(None)
        except StopIteration as stop:  # it never slept: all was cached
            self._sending = False
            result = stop.value
        except BaseException as raised:
            self._sending = False
            error = raised
        else:
            self._sending = False
            frame = self._run_on(task, coroutine, trap)
            result, error = frame.result, frame.error
        if not self._runs:
            if self._ready or self._outside:
                self.quiesce()
            if self._failure is not None:
                self._raise_failure()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _run_on(self, task: Task, coroutine: Coro[Any], trap: Any) -> Frame:
        """The rest of a call that came to ``trap``; meanwhile everybody has a turn."""
        frame = Frame(task, coroutine, False)
        ready, runs, frames = self._ready, self._runs, self._frames
        beneath = frames.get(task)
        frames[task] = frame
        runs.append(frame)
        step = self._step
        try:
            if trap is not task.sleep:
                step(frame, trap)
            while not frame.done:
                if ready:
                    step(frames[ready.popleft()])
                else:
                    self._stuck(frame)
        finally:
            runs.pop()
            if not frame.done:  # Ctrl-C: it gives back what it holds, and nobody lets it go on
                coroutine.close()
                while task in ready:
                    ready.remove(task)
            if beneath is None:
                del frames[task]
            else:
                frames[task] = beneath
        return frame

    def _check_lent(self, coroutine: Coro[Any]) -> None:
        if self._lent != threading.get_ident():
            coroutine.close()
            raise RuntimeError(
                "a call of process.aio is under way in another thread: await it, or use the threads driver"
            )

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """For so long this thread is the one that everything runs on."""
        self._lent = threading.get_ident()
        try:
            yield
        finally:
            self._lent = 0

    def quiesce(self) -> None:
        """Let everyone who can go on do so, until nobody can."""
        ready, end = self._ready, 0.0
        while True:
            while ready:
                self._step(self._frames[ready.popleft()])
            if not self._outside or not self.busy_outside():
                return
            now = time.monotonic()
            end = end or now + QUIET
            if now >= end or not self._look_outside(end - now):
                return

    def wait_future(self, future: Future[Any]) -> None:
        self.quiesce()
        if not future.done():
            raise Buried("what is waited for here needs this very thread: use Kernel(driver='threads')")

    def user_mode(self, task: Task, function: Callable[..., T], *args: Any) -> T:
        outer, self.current = self.current, task
        try:
            return function(*args)
        finally:
            self.current = outer

    async def readable(self, task: Task, *fds: int) -> None:
        self._outside[task] = fds
        task.sleep = _ANOTHER_PROCESS
        try:
            await _ANOTHER_PROCESS
        finally:
            task.sleep = None
            del self._outside[task]

    def _look_outside(self, seconds: float | None) -> bool:
        """Wait for the outside, at most so long; whether anyone can go on."""
        if self._polled != self._outside:  # mostly it is the same one that waits, again and again
            if self._bell < 0:
                self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                weakref.finalize(self, os.close, self._bell)
            self._polled = dict(self._outside)
            self._poll, self._watchers = select.poll(), {self._bell: []}
            self._poll.register(self._bell, select.POLLIN)
            for task, fds in self._polled.items():
                for fd in fds:
                    self._poll.register(fd, select.POLLIN)
                    self._watchers.setdefault(fd, []).append(task)
        self._listening = True  # before the look at who is ready
        try:
            found = self._poll.poll(0 if self._ready else None if seconds is None else seconds * 1000)
        finally:
            self._listening = False
        for fd, _ in found:
            if fd == self._bell:
                os.eventfd_read(fd)
            for task in self._watchers[fd]:
                task.wake()
        return bool(self._ready)

    def pass_time(self, seconds: float) -> None:
        if self._look_outside(seconds):
            self.quiesce()

    def settle(self, tasks: Iterable[Task], timeout: float) -> list[Task]:
        left = list(tasks)
        while left:
            self.quiesce()
            left = [task for task in left if not task.exited]
            if not any(task in self._outside for task in left) or not self._look_outside(timeout):
                break
        return left

    def _step(self, frame: Frame, trap: Any = None) -> None:
        """Run one coroutine (that came to ``trap``) until it sleeps or ends."""
        try:
            if trap is not None:
                pass
            elif frame.throw is None:
                trap = frame.send(None)
            else:
                error, frame.throw = frame.throw, None
                trap = frame.coroutine.throw(error)
            while trap is not frame.task.sleep:
                trap = self._call(frame, trap) if type(trap) is Call else frame.send(None)
            return
        except StopIteration as stop:
            frame.result = stop.value
        except BaseException as raised:
            frame.error = raised
            if frame.worker:  # whoever made the outermost call is to see it
                self._failure = self._failure or raised
        frame.done = True
        if frame.worker:
            self._frames.pop(frame.task, None)
            self.forget(frame.task)

    def _call(self, frame: Frame, call: Call) -> Any:
        """Do the call, and let the coroutine have what it returns or raises; returns its next trap."""
        try:
            value = self.user_mode(frame.task, call.function, *call.args)
        except BaseException as raised:
            return frame.coroutine.throw(raised)
        return frame.send(value)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _stuck(self, frame: Frame) -> None:
        """Nobody can go on: the innermost call waits for the outside, or in vain, or for what lies beneath it."""
        due = self._timers.next
        if self._outside:
            began = time.monotonic_ns()
            if self._look_outside(None if due is None else max(0, due - self._time) / 1e9):
                if due is not None:  # what others took of it is gone: one who talks and talks does not stop the clock
                    self._pass_to(min(due, self._time + time.monotonic_ns() - began))
                return
        if due is not None:  # only time can help, and ours may be passed over
            self._pass_to(due)
            return
        buried = [beneath for beneath in self._runs[:-1] if beneath.done]
        if buried:
            why = (
                f"{buried[0].task!r} could go on, but lies beneath the call of {frame.task!r}, which waits for it:"
                " use Kernel(driver='threads')"
            )
            self._bury(frame, why)
            return
        found = self.check(frame.task)
        if found is None:  # somebody could help who is not in a call: but this thread is
            why = (
                f"{Deadlocked((wait_graph(self.tasks).waits[repr(frame.task)],)).words()}\n"
                "This one thread is in the call, and so nobody else makes one: use Kernel(driver='threads')"
            )
            self._bury(frame, why)
            return
        self._end_wait(frame, Deadlock(found.words()))

    def _bury(self, frame: Frame, why: str) -> None:
        """The call ends; what it could not wait for is told to whoever made the outermost one."""
        self._failure = self._failure or Buried(why)
        self._end_wait(frame, Deadlock(why))

    def _end_wait(self, frame: Frame, error: Deadlock) -> None:
        """The wait that the frame is in ends with an error, so that it gives back all it holds."""
        frame.task.sleep = None
        frame.throw = error
        self._ready.append(frame.task)
