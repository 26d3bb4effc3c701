"""A step that does not come to its end: it waits for something outside (a pipe, a lock, a clock), or goes round and round.

No trap is reached, so no scheduler gets to see it. A thread beside the exploration looks now and then whether the count of
steps has grown; the steps themselves do nothing for it. In the main thread a signal ends the step, whatever it waits in. No
other thread can be interrupted: there the exploration runs on one of its own, which is left behind.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, Protocol, TypeVar

from ..kernel.queue import Task
from .schedule import Scheduled

log = logging.getLogger("fusewire.testing")

P = ParamSpec("P")
T = TypeVar("T")
STEP_SECONDS = 10.0  # the most that one step may take
LOOKS = 4  # how often it is looked at within that time
_SIGNAL = signal.SIGRTMAX - 4
_OURS = frozenset(
    str(Path(__file__).with_name(name)) for name in ("explore.py", "run.py", "schedule.py", "search.py", "stuck.py")
)
_STDLIB = sysconfig.get_path("stdlib")


class Blocked(BaseException):
    """A step takes longer than it may. No Exception, so that nobody whom it passes takes it for an error of a handler."""


class Run(Protocol):
    """What is looked at: one run of a scenario."""

    driver: Scheduled

    def so_far(self) -> str: ...


class _Watch:
    """Whether the exploration goes on. ``run`` is the one that is under way; ``last`` how far it had come when it was looked
    at."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.run: Run | None = None
        self.last: tuple[Run | None, int] = (None, -1)
        self._since = time.monotonic()

    def begun(self) -> None:
        """The time begins anew."""
        self._since = time.monotonic()

    def stands(self) -> bool:
        """Whether there has been no step for too long."""
        run = self.run
        now = run, run.driver.steps if run is not None else 0
        if now != self.last:
            self.last = now
            self.begun()
        return time.monotonic() - self._since > self.seconds

    def blocked(self, frame: FrameType | None) -> Blocked:
        """What to say of a thread that is at ``frame``."""
        task, place = _place(frame)
        who = repr(task) if task is not None else "the scenario"
        return Blocked(
            f"{who} waits for something outside the kernel's half, or goes round and round: for more than"
            f" {self.seconds:g} seconds it has been at {place}"
        )


_watching: contextvars.ContextVar[_Watch | None] = contextvars.ContextVar("fusewire explores", default=None)


def look_at(run: Run) -> None:
    """``run`` begins: from now on its steps are those that count."""
    watch = _watching.get()
    if watch is not None:
        watch.run = run


def watched(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` explores; its keyword ``step_seconds`` is how long one step may take, None for ever."""

    @functools.wraps(function)
    def explores(*args: P.args, **kwargs: P.kwargs) -> T:
        seconds: Any = kwargs.get("step_seconds", STEP_SECONDS)
        if seconds is None:
            return function(*args, **kwargs)
        watch = _Watch(seconds)
        context = contextvars.copy_context()
        context.run(_watching.set, watch)
        body = functools.partial(context.run, function, *args, **kwargs)
        in_main = threading.current_thread() is threading.main_thread()
        return _in_main_thread(watch, body) if in_main else _on_another(watch, body)

    return explores


def _in_main_thread(watch: _Watch, body: Callable[[], T]) -> T:
    over = threading.Event()
    thread = threading.main_thread()
    assert thread.ident is not None
    ident = thread.ident

    def end_the_step(number: int, frame: FrameType | None) -> None:
        if not over.is_set() and watch.stands():
            watch.begun()
            raise watch.blocked(frame)

    def monitor() -> None:
        asked, about = 0, watch.last
        while not over.wait(watch.seconds / LOOKS):
            if watch.stands():
                asked = asked + 1 if watch.last == about else 1
                about = watch.last
                signal.pthread_kill(ident, _SIGNAL)
                if asked == LOOKS:
                    log.error("%s; no signal ends it", watch.blocked(sys._current_frames().get(ident)))

    beside = threading.Thread(target=monitor, name="fusewire explorer's monitor", daemon=True)
    earlier = signal.getsignal(_SIGNAL)
    try:
        signal.signal(_SIGNAL, end_the_step)
        beside.start()
        return body()
    finally:
        over.set()
        try:
            if beside.ident is not None:
                beside.join()
        finally:
            signal.signal(_SIGNAL, signal.SIG_DFL if earlier is None else earlier)


def _on_another(watch: _Watch, body: Callable[[], T]) -> T:
    """Where no signal's handler runs. Raises :class:`Blocked` itself, and leaves behind what is blocked."""
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(body())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="fusewire explorer", daemon=True)
    thread.start()
    while not done.wait(watch.seconds / LOOKS):
        if watch.stands():
            blocked = watch.blocked(sys._current_frames().get(thread.ident or 0))
            raise Blocked(f"{blocked}, under the schedule {watch.run.so_far() if watch.run else ''!r}")
    if errors:
        raise errors[0]
    return results[0]


def _place(frame: FrameType | None) -> tuple[Task | None, str]:
    """Which task's step it is, and where: the innermost line that is not the standard library's, and the functions on the
    way from the step to where it waits."""
    task: Task | None = None
    names: list[str] = []
    line = ""
    for one in _outwards(frame):
        code = one.f_code
        if code.co_filename in _OURS:
            task = one.f_locals.get("task")
            break
        names.insert(0, code.co_name)
        if not line and not _is_library(code.co_filename):
            line = f"{code.co_filename}:{one.f_lineno}"
    return task, f"{line or 'no line of Python'} ({' > '.join(names)})"


def _is_library(filename: str) -> bool:
    return filename.startswith("<") or (filename.startswith(_STDLIB) and "site-packages" not in filename)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
