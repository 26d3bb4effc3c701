"""Wait queues and semaphores: the only two things on which a task of the kernel's half sleeps.

Rules. A waiter is put on its queue before it looks at the condition for the last time, so a wake-up between the look and
the sleep is not lost. An exclusive waiter that was woken and leaves without using it (a signal) passes the wake-up on.
A semaphore is handed over by whoever releases it, first come first served, so it can never be barged away from a waiter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from ...wire.errno import Errno
from .task import Interrupted, Mode, Sleep, Task

if TYPE_CHECKING:
    from .connection import Connection

Enders = Callable[[], Iterable[Task] | None]


class Waiter:
    """One task on one queue."""

    __slots__ = ("exclusive", "task", "woken")

    def __init__(self, task: Task, exclusive: bool) -> None:
        self.task = task
        self.exclusive = exclusive
        self.woken = False

    def wake(self) -> None:
        self.woken = True
        task = self.task
        if task.sleep is not None:  # as Task.wake
            task.sleep = None
            task.on_wake(task)


class WaitQueue:
    """Tasks that sleep until a condition holds (``fc->waitq``, ``req->waitq``, ``fc->blocked_waitq``)."""

    __slots__ = ("name", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiters: deque[Waiter] = deque()

    def wait_event(
        self,
        task: Task,
        condition: Callable[[], bool],
        mode: Mode | Callable[[], Mode],
        enders: Enders,
        *,
        exclusive: bool = False,
        idle: bool = False,
    ) -> Coroutine[Any, Any, None]:
        """Sleep until ``condition()``. Raises :class:`Interrupted` when a signal that ``mode`` lets through comes first."""
        return self.wait_asleep(task, condition, Sleep(self.name, mode, enders, idle), exclusive)

    async def wait_asleep(
        self, task: Task, condition: Callable[[], bool], sleep: Sleep, exclusive: bool = False
    ) -> None:
        """As :meth:`wait_event`, with a ``sleep`` that was made before: for who sleeps the same sleep again and again."""
        slept = False
        while not condition():
            waiter = Waiter(task, exclusive)
            self.waiters.append(waiter)
            try:
                if task.points:
                    await task.point("prepared to wait")
                if not waiter.woken and not (task.signalled and task.signal_pending(sleep.mode)):
                    if not slept and task.events is not None:
                        task.step(f"sleep on {self.name}")
                        slept = True  # only who is listened to tells that it woke up
                    task.sleep = sleep
                    await sleep
                if task.signalled and not condition() and task.signal_pending(sleep.mode):
                    task.step("interrupted by signal")
                    raise Interrupted(self.name, bool(task.dying))
            except BaseException:
                task.sleep = None
                if not waiter.woken:
                    self.waiters.remove(waiter)
                elif exclusive:
                    self.wake_one()  # the wake-up was for one of us, and it is not me
                raise
            if not waiter.woken:  # it was not this queue that had the task go on
                task.sleep = None
                self.waiters.remove(waiter)
        if slept:
            task.step("woken up")

    def wake_up(self, task: Task, *, all: bool = False) -> None:
        """``task`` wakes whoever sleeps here: all, or the non-exclusive ones and one exclusive."""
        if task.events is not None:
            task.step(f"wake up {self.name}")
        self.wake_all() if all else self.wake_one()

    def wake_one(self) -> None:
        """Wake the non-exclusive waiters up to and with the first exclusive one (Linux's wake_up)."""
        waiters = self.waiters
        while waiters:
            waiter = waiters.popleft()
            waiter.wake()
            if waiter.exclusive:
                break

    def wake_task(self, task: Task) -> None:
        """Wake this one, if it sleeps here, and nobody else."""
        for waiter in self.waiters:
            if waiter.task is task:
                self.waiters.remove(waiter)
                waiter.wake()
                break

    def wake_all(self) -> None:
        """Wake everyone."""
        waiters = self.waiters
        while waiters:
            waiters.popleft().wake()


class Semaphore:
    """A FIFO lock that knows its owner: the inode semaphore of ``kernel.txt``.

    A wait on it ends by the owner's release, by an abort of ``connection``, or by a signal that ``mode`` lets through.
    """

    __slots__ = ("connection", "name", "owner", "waiters")

    def __init__(self, name: str, connection: Connection | None = None) -> None:
        self.name = name
        self.connection = connection
        self.owner: Task | None = None
        self.waiters: deque[Waiter] = deque()

    async def acquire(self, task: Task, mode: Mode | None = None) -> None:
        """Take it, or sleep until it is handed over.

        Raises :class:`Interrupted`, or OSError(ENOTCONN) when the connection is aborted meanwhile. OSError(EDEADLK) when
        the task has it already.
        """
        if self.owner is None:
            self.owner = task
            if task.events is not None:
                task.step(f"acquire {self.name}")
            if task.points:
                await task.point("semaphore acquired")
            return
        if self.owner is task:
            raise OSError(int(Errno.EDEADLK), f"{task!r} has {self.name} already")
        connection = self.connection
        if mode is None:
            mode = connection.policy.semaphore if connection is not None else Mode.KILLABLE
        waiter = Waiter(task, True)
        self.waiters.append(waiter)
        try:
            if connection is not None:
                connection.lock_waiters[waiter] = None
            await task.point("queued on semaphore")
            while self.owner is not task:
                if connection is not None and not connection.connected:
                    raise OSError(int(Errno.ENOTCONN), f"aborted while waiting for {self.name}")
                if task.signal_pending(mode):
                    task.step("interrupted by signal")
                    raise Interrupted(self.name, bool(task.dying))
                task.step(f"sleep on {self.name}")
                task.sleep = Sleep(self.name, mode, self._enders)
                await task.sleep
        finally:
            task.sleep = None
            if connection is not None:
                connection.lock_waiters.pop(waiter, None)
            if self.owner is not task:
                self.waiters.remove(waiter)
        task.step("semaphore acquired")

    def release(self, task: Task) -> None:
        """Hand it to the first waiter. Releasing what one does not have is a bug of ours."""
        if self.owner is not task:
            raise AssertionError(f"{task!r} releases {self.name}, which {self.owner!r} has")
        if task.events is not None:
            task.step(f"release {self.name}")
        self.hand_over()

    def hand_over(self) -> None:
        """To the first waiter."""
        if self.waiters:
            waiter = self.waiters.popleft()
            self.owner = waiter.task
            waiter.wake()
        else:
            self.owner = None

    def _enders(self) -> Iterable[Task] | None:
        return () if self.owner is None else (self.owner,)
