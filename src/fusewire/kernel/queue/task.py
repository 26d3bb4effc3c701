"""A task, and the traps by which its coroutine speaks to whoever drives it.

Every operation of the kernel's half is an ``async def`` that awaits only these:

* :class:`Sleep`: the task cannot go on. It says on what, which signals may end it, and who else could.
* :class:`Point`: it could go on, but here Linux drops a lock or may be preempted. Only the explorer stops at them.
* :class:`Call`: back in user mode, the program runs a function of its own. Drivers run it outside the kernel's lock.

The state of everything changes only between two traps, so what stands between two ``await`` is atomic.
"""

from __future__ import annotations

import enum
import functools
import inspect as _inspect
import signal
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, ParamSpec, TypeVar

from ...inspect.events import EventStream, Kind
from ...wire.errno import Errno

P = ParamSpec("P")
T = TypeVar("T")

Handler = Callable[[int], None] | signal.Handlers  # what a signal does: a function of the program's, or SIG_IGN
IGNORED_BY_DEFAULT = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})


class Interrupted(InterruptedError):
    """A signal ended a wait: EINTR. ``fatal`` when the signal also ends the task."""

    def __init__(self, what: str, fatal: bool) -> None:
        super().__init__(int(Errno.EINTR), f"Interrupted system call: the wait on {what}")
        self.fatal = fatal


class Deadlock(Interrupted):
    """The wait could never have ended: EDEADLK. ``words`` says who waits for whom."""

    def __init__(self, words: str) -> None:
        InterruptedError.__init__(self, int(Errno.EDEADLK), f"Deadlock:\n{words}")
        self.fatal = False
        self.words = words


class Mode(enum.Enum):
    """Which signals may end a sleep."""

    INTERRUPTIBLE = "any signal"
    KILLABLE = "a fatal signal"
    UNINTERRUPTIBLE = "no signal"


class Trap:
    """What a coroutine of the kernel's half may yield to its driver."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        # It yields itself, once. A tuple's iterator is no generator, but costs half; drivers send nothing back.
        return iter((self,))  # type: ignore[return-value]


class Sleep(Trap):
    """The task cannot go on until someone calls :meth:`Task.wake`.

    ``what`` is what it sleeps on; ``enders`` tells, when asked, which tasks could end that (None: something outside);
    ``idle``: the task waits for work and nobody waits for it.
    """

    __slots__ = ("_mode", "enders", "idle", "what")

    def __init__(
        self,
        what: str,
        mode: Mode | Callable[[], Mode],
        enders: Callable[[], Iterable[Task] | None],
        idle: bool = False,
    ) -> None:
        self.what = what
        self._mode = mode
        self.enders = enders
        self.idle = idle

    @property
    def mode(self) -> Mode:
        """Which signals end it, as things stand now: that an answer is waited for changes when the request is read."""
        return self._mode() if callable(self._mode) else self._mode


class Point(Trap):
    """The task may be preempted here; ``name`` says where."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Call(Trap):
    """User mode: the driver calls ``function(*args)`` and sends back what it returns (or raises)."""

    __slots__ = ("args", "function")

    def __await__(self) -> Generator[Trap, Any, Any]:
        return (yield self)

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args


class _Nothing:
    """Awaited where there is nothing to wait for."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        return iter(())  # type: ignore[return-value]


_NOTHING = _Nothing()


class Task:
    """A thread of a program, as the kernel's half sees it.

    ``pid`` is its number (Linux's tid), ``comm`` its name. ``on_wake`` is the driver's: called when a sleeping task can go
    on. ``points`` is set by the explorer. ``handlers`` are the signals that the program handles itself, or ignores.
    """

    def __init__(self, pid: int, comm: str, on_wake: Callable[[Task], None]) -> None:
        self.pid = pid
        self.comm = comm
        self.on_wake = on_wake
        self.points = False
        self.events: EventStream | None = None
        self.sleep: Sleep | None = None
        self.handlers: dict[int, Handler] = {}
        self.pending_signals: list[int] = []
        self.dying = 0  # the fatal signal it got
        self.signalled = False  # it ever got a signal: whoever waits looks closer
        self.exited = False
        self.worker = False  # a driver runs it by itself, and it ends by itself
        self.doing = ""  # the system call it is in
        self.opaque = False  # what it waits for may happen outside of all that we see
        self.hosts: Task | None = None  # another task's call that runs on this one's thread, in user mode

    def __repr__(self) -> str:
        return f"{self.comm}:{self.pid}"

    # -- sleeping -------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let the task go on, if it sleeps. Whoever sleeps looks again at what it waits for."""
        if self.sleep is not None:
            self.sleep = None
            self.on_wake(self)

    def point(self, name: str) -> Awaitable[None]:
        """``await task.point("queued")``: nothing, unless an explorer drives the task."""
        return Point(name) if self.points else _NOTHING

    # -- signals --------------------------------------------------------------------------------------------------

    def kill(self, number: int) -> None:
        """Send the task a signal, as kill(2) does. Unhandled it is fatal, but for those that are ignored by default."""
        if number in self.handlers and number != signal.SIGKILL:
            if not callable(self.handlers[number]):
                return
            self.pending_signals.append(number)
        elif number in IGNORED_BY_DEFAULT:
            return
        else:
            self.dying = self.dying or number
        self.signalled = True
        if self.sleep is not None and self.signal_pending(self.sleep.mode):
            self.wake()

    def signal_pending(self, mode: Mode) -> bool:
        """Whether a signal is there that may end a wait of ``mode``."""
        if mode is Mode.UNINTERRUPTIBLE:
            return False
        return bool(self.dying) or (mode is Mode.INTERRUPTIBLE and bool(self.pending_signals))

    def deliver_signals(self) -> None:
        """On the way back to user mode: run the handlers of what is pending."""
        while self.pending_signals:
            number = self.pending_signals.pop(0)
            handler = self.handlers.get(number)
            if callable(handler):
                handler(number)

    # -- telling --------------------------------------------------------------------------------------------------

    def step(self, text: str, unique: int = 0) -> None:
        """Record that this task just did ``text``. Called by the line that did it, or the primitive under it."""
        if self.events is not None:
            self.events.emit(self.pid, self.comm, Kind.STEP, text, unique)


def traced(
    name: str = "",
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Record entering and leaving a kernel function, in the task that is its argument ``task``.

    Costs one attribute look-up where nobody records.
    """

    def decorate(
        function: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        text = name or function.__name__
        index = list(_inspect.signature(function).parameters).index("task")

        async def recorded(task: Task, events: EventStream, *args: Any, **kwargs: Any) -> T:
            events.emit(task.pid, task.comm, Kind.ENTER, text)
            try:
                return await function(*args, **kwargs)
            finally:
                events.emit(task.pid, task.comm, Kind.LEAVE, text)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
            task: Any = args[index]
            if task.events is None:
                return function(*args, **kwargs) if kwargs else function(*args)  # type: ignore[call-arg]
            return recorded(task, task.events, *args, **kwargs)

        return wrapper

    return decorate
