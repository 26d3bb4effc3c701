"""``Process``: a program that makes system calls, used like ``os``: same names, same arguments, same errors."""

from __future__ import annotations

import os
import signal as _signal
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..kernel.vfs import Cred, Program, ProgramTask
from ..kernel.vfs import syscalls as sc
from ..wire.layouts import Attr
from .aio import Async

if TYPE_CHECKING:
    from .kernel import Kernel

T = TypeVar("T")
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
NANO = 1_000_000_000


class Process:
    """One program on a :class:`Kernel`. Its methods are system calls; they raise OSError as those of ``os`` do.

    Under ``threads`` each thread that calls becomes a thread of the program.
    """

    def __init__(self, kernel: Kernel, comm: str, cred: Cred) -> None:
        self.kernel = kernel
        self.program = Program(kernel._next_pid(), comm, cred, kernel.root)
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

    @property
    def aio(self) -> Async:
        """The same calls as coroutines, for code inside an event loop."""
        return Async(self, self)

    # -- files ----------------------------------------------------------------------------------------------------

    def stat(self, path: Path) -> os.stat_result:
        """As os.stat()."""
        return _stat_result(*self._call(sc.sys_stat, _bytes(path)))

    def fstat(self, fd: int) -> os.stat_result:
        """As os.fstat()."""
        return _stat_result(*self._call(sc.sys_fstat, fd))

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        """As os.open()."""
        return self._call(sc.sys_open, _bytes(path), flags, mode)

    def close(self, fd: int) -> None:
        """As os.close()."""
        self._call(sc.sys_close, fd)

    def read(self, fd: int, n: int) -> bytes:
        """As os.read()."""
        return self._read(fd, n, None)

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        """As os.pread()."""
        return self._read(fd, n, offset)

    def _read(self, fd: int, n: int, offset: int | None) -> bytes:
        memory = bytearray(n)
        size = self._call(sc.sys_read, fd, memoryview(memory), offset)
        return bytes(memory) if size == n else bytes(memory[:size])

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """As os.write()."""
        return self._call(sc.sys_write, fd, (data,))

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """As os.pwrite()."""
        return self._call(sc.sys_write, fd, (data,), offset)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        """As os.lseek()."""
        return self._call(sc.sys_lseek, fd, offset, whence)

    def truncate(self, path: Path, length: int) -> None:
        """As os.truncate()."""
        self._call(sc.sys_truncate, _bytes(path), length)

    # -- names ----------------------------------------------------------------------------------------------------

    def unlink(self, path: Path) -> None:
        """As os.unlink()."""
        self._call(sc.sys_unlink, _bytes(path))

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """As os.mkdir()."""
        self._call(sc.sys_mkdir, _bytes(path), mode)

    def rmdir(self, path: Path) -> None:
        """As os.rmdir()."""
        self._call(sc.sys_rmdir, _bytes(path))

    def listdir(self, path: Path = ".") -> list[str]:
        """As os.listdir()."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [os.fsdecode(name) for name, _, _ in self._call(sc.sys_getdents, fd)]
        finally:
            self.close(fd)

    def chmod(self, path: Path, mode: int) -> None:
        """As os.chmod()."""
        self._call(sc.sys_chmod, _bytes(path), mode)

    def statvfs(self, path: Path) -> os.statvfs_result:
        """As os.statvfs()."""
        st = self._call(sc.sys_statfs, _bytes(path))
        return os.statvfs_result(
            (st.bsize, st.frsize or st.bsize, st.blocks, st.bfree, st.bavail, st.files, st.ffree, st.ffree, 0, st.namelen)
        )  # fmt: skip

    # -- the process itself -----------------------------------------------------------------------------------------

    def umask(self, mask: int) -> int:
        """As os.umask()."""
        old, self.program.umask = self.program.umask, mask & 0o777
        return old

    def signal(self, number: int, handler: Callable[[int], None]) -> None:
        """Handle a signal: it interrupts calls, and the process lives on."""
        self.program.handlers[number] = handler

    def kill(self, number: int = _signal.SIGTERM) -> None:
        """Send the process a signal, as os.kill(process.pid, number) would. Unhandled, it ends it."""
        tasks = [task for task in self.program.tasks if not task.exited]
        if number in self.program.handlers and number != _signal.SIGKILL:
            busy = next((task for task in tasks if task.doing or task.worker), None)
            if busy is None:
                self.program.handlers[number](number)  # in user mode: at once
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
        task = self._task()
        if task.exited:
            raise ProcessLookupError(f"{self!r} has ended")
        driver = self.kernel.driver
        host = driver.current
        if host is task:
            host = None
        if host is not None:
            host.hosts = task
        doing, task.doing = task.doing, function.__name__
        try:
            result = driver.run(task, function(task, *args))
        finally:
            task.doing = doing
            if host is not None:
                host.hosts = None
            if host is None and not doing:
                self._back_in_user_mode(task)
        return result

    def _back_in_user_mode(self, task: ProgramTask) -> None:
        """Signals are delivered; a fatal one ends the process. A deadlock that the call met is raised here."""
        if task.dying:
            if not task.worker:
                self.exit()
            return
        task.deliver_signals()
        if self.kernel.driver.current is None:
            self.kernel._raise_deadlock()


def _bytes(path: Path) -> bytes:
    return os.fsencode(path)


def _stat_result(attr: Attr, device: int) -> os.stat_result:
    atime, mtime, ctime = _signed(attr.atime), _signed(attr.mtime), _signed(attr.ctime)
    return os.stat_result(
        (
            attr.mode, attr.ino, device, attr.nlink, attr.uid, attr.gid, attr.size, atime, mtime, ctime,
            atime + attr.atimensec / NANO, mtime + attr.mtimensec / NANO, ctime + attr.ctimensec / NANO,
            atime * NANO + attr.atimensec, mtime * NANO + attr.mtimensec, ctime * NANO + attr.ctimensec,
            attr.blksize, attr.blocks, attr.rdev,
        )
    )  # fmt: skip


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >> 63 else seconds
