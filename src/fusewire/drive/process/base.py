"""How a program's system calls reach the driver, and signals the program."""

from __future__ import annotations

import os
import signal as _signal
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ...kernel.queue import Handler
from ...kernel.vfs import Program, ProgramTask
from ...kernel.vfs import syscalls as sc
from ...kernel.vfs.namei import AT_FDCWD

if TYPE_CHECKING:
    from ..kernel import Kernel

T = TypeVar("T")
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
PathOrFd = Path | int


class Caller:
    """A program on a kernel, as far as it is the same for all system calls."""

    def __init__(self, kernel: Kernel, program: Program) -> None:
        self.kernel = kernel
        self._driver = kernel.driver
        self.program = program
        self._main = self._new_task(self.program.tgid)
        self._threads = threading.local()
        self._unclaimed = [self._main]  # the first thread that calls gets it

    def __repr__(self) -> str:
        return f"<Process {self.comm}:{self.pid}>"

    @property
    def pid(self) -> int:
        return self.program.tgid

    @property
    def comm(self) -> str:
        return self.program.comm

    def signal(self, number: int, handler: Handler) -> None:
        """Handle a signal: it interrupts calls, and the process lives on. With ``signal.SIG_IGN`` it does nothing, with
        ``SIG_DFL`` what it does by default."""
        if handler is _signal.SIG_DFL:
            self.program.handlers.pop(number, None)
        else:
            self.program.handlers[number] = handler

    def kill(self, number: int = _signal.SIGTERM) -> None:
        """Send the process a signal, as os.kill(process.pid, number) would. Unhandled, it ends it."""
        tasks = [task for task in self.program.tasks if not task.exited]
        if number in self.program.handlers and number != _signal.SIGKILL:
            busy = next((task for task in tasks if task.doing or task.worker), None)
            handler = self.program.handlers[number]
            if not callable(handler):
                return
            if busy is None:
                handler(number)  # in user mode: at once
            else:
                with self.kernel.driver.locked():
                    busy.kill(number)
        else:
            with self.kernel.driver.locked():
                for task in tasks:
                    task.kill(number)
            if self._main.dying:
                self.exit()
        self.kernel._quiesce()

    def exit(self) -> None:
        """End it: every descriptor is closed. Threads that are in a call, and a daemon's workers, end by themselves."""
        driver = self.kernel.driver
        for task in list(self.program.tasks):
            if task.worker or task.doing:
                with driver.locked():
                    task.kill(_signal.SIGKILL)
            elif not task.exited:
                driver.run(task, sc.sys_exit(task))
                driver.forget(task)

    @property
    def alive(self) -> bool:
        return not self._main.exited

    # -- plumbing -------------------------------------------------------------------------------------------------

    def _new_task(self, pid: int) -> ProgramTask:
        kernel = self.kernel
        task = ProgramTask(pid, self.program, kernel.driver.wake)
        task.events = kernel.events
        task.everyone = kernel.driver.tasks
        task.next_ino = kernel._next_ino
        task.more_may_come = kernel.driver.more_may_come
        kernel.driver.tasks.append(task)
        return task

    def _task(self) -> ProgramTask:
        """The task that a call made here belongs to: the worker whose handler makes it, or this thread's own."""
        current = self.kernel.driver.current
        if isinstance(current, ProgramTask) and current.program is self.program:
            return current
        task: ProgramTask | None = getattr(self._threads, "task", None)
        if task is None:
            with self.kernel.driver.locked():
                task = self._unclaimed.pop() if self._unclaimed else self._new_task(self.kernel._next_pid())
            self._threads.task = task
        elif task.doing:  # inline: a call of ours lies beneath this one
            task = self._new_task(self.kernel._next_pid())
        return task

    def _call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        driver = self._driver  # what is not of the class is slow to look up here
        host = driver.current
        task: ProgramTask | None = None if host is not None else getattr(self._threads, "task", None)
        if task is None or task.doing:
            task = self._task()
        if task.exited:
            raise ProcessLookupError(f"{self!r} has ended")
        if host is task:
            host = None
        if host is not None:
            host.hosts = task
        doing, task.doing = task.doing, function.__name__
        try:
            return driver.run(task, function(task, *args))
        except OSError as error:
            name_paths(error)
            raise
        finally:
            task.doing = doing
            if host is not None:
                host.hosts = None
            elif not doing and (task.signalled or self.kernel.raised):
                self._back_in_user_mode(task)

    def _back_in_user_mode(self, task: ProgramTask) -> None:
        """Signals are delivered; a fatal one ends the process. A deadlock that the call met is raised here."""
        if task.dying:
            if not task.worker:
                self.exit()
            return
        task.deliver_signals()
        if self.kernel.driver.current is None:
            self.kernel._raise_deadlock()


def to_bytes(path: Path) -> bytes:
    return os.fsencode(path)


def name_paths(error: OSError) -> None:
    """The paths of an error, as those of ``os`` show them."""
    if isinstance(error.filename, bytes):
        error.filename = os.fsdecode(error.filename)
    if isinstance(error.filename2, bytes):
        error.filename2 = os.fsdecode(error.filename2)


def at(dir_fd: int | None) -> int:
    """Where a relative path begins."""
    return AT_FDCWD if dir_fd is None else dir_fd


def where(path: PathOrFd, dir_fd: int | None = None, follow_symlinks: bool = True) -> sc.Where:
    """A path, or an open file where ``os`` takes one."""
    if isinstance(path, int):
        if dir_fd is not None:
            raise ValueError("a descriptor and dir_fd")
        return sc.Where(None, path)
    return sc.Where(os.fsencode(path), at(dir_fd), follow_symlinks)
