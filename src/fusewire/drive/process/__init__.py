"""``Process``: a program that makes system calls, used like ``os``: same names, same arguments, same errors.

``files`` are the calls on descriptors, ``names`` those on paths, ``listing`` directories, ``memory`` mmap, ``fileobject``
Python's file objects, ``base`` how a call reaches the driver.
"""

from __future__ import annotations

import os
import signal as _signal
from collections.abc import Callable, Coroutine, Sequence
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ...kernel.vfs import Cred, Program, namei
from ...kernel.vfs import syscalls as sc
from ..aio import Async
from .base import Path, PathOrFd, to_bytes
from .fileobject import open_file
from .listing import DirEntry, Listings
from .memory import Mapping, MemoryCalls

if TYPE_CHECKING:
    from ..kernel import Kernel

_COMM = 15  # bytes of its name that a program is known by

__all__ = ["DirEntry", "Mapping", "Path", "PathOrFd", "Process"]


class Process(Listings, MemoryCalls):
    """One program on a :class:`Kernel`. Its methods are system calls; they raise OSError as those of ``os`` do.

    Under ``threads`` each thread that calls becomes a thread of the program.
    """

    def __init__(self, kernel: Kernel, comm: str, cred: Cred) -> None:
        super().__init__(kernel, Program(kernel._next_pid(), comm, cred, kernel.root))
        self.signal(_signal.SIGPIPE, _signal.SIG_IGN)  # as every program of Python begins

    def __getattr__(self, name: str) -> NoReturn:
        if not name.startswith("_") and callable(getattr(os, name, None)):
            raise AttributeError(f"os.{name} is not supported on a Process", name=name, obj=self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def open_file(
        self,
        path: Path,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """As open(): an ordinary file object. Text is UTF-8 unless ``encoding`` says otherwise."""
        return open_file(self, path, mode, buffering, encoding, errors, newline)

    @property
    def aio(self) -> Async:
        """The same calls as coroutines, for code inside an event loop."""
        return Async(self, self)

    # -- where paths begin ----------------------------------------------------------------------------------------------

    def chdir(self, path: PathOrFd) -> None:
        """As os.chdir()."""
        if isinstance(path, int):
            self.fchdir(path)
        else:
            self._call(sc.sys_chdir, os.fsencode(path))

    def fchdir(self, fd: int) -> None:
        """As os.fchdir()."""
        self._call(sc.sys_fchdir, fd)

    def chroot(self, path: Path) -> None:
        """As os.chroot(): for root."""
        self._call(sc.sys_chroot, to_bytes(path))

    def getcwd(self) -> str:
        """As os.getcwd()."""
        return os.fsdecode(self.getcwdb())

    def getcwdb(self) -> bytes:
        """As os.getcwdb()."""
        with self.kernel.driver.locked():
            return namei.getcwd(self._main)

    # -- who it is --------------------------------------------------------------------------------------------------------

    def getpid(self) -> int:
        """As os.getpid()."""
        return self.pid

    def umask(self, mask: int) -> int:
        """As os.umask()."""
        old, self.program.umask = self.program.umask, mask & 0o777
        return old

    def getuid(self) -> int:
        """As os.getuid()."""
        return self.program.cred.ruid

    def geteuid(self) -> int:
        """As os.geteuid()."""
        return self.program.cred.uid

    def getgid(self) -> int:
        """As os.getgid()."""
        return self.program.cred.rgid

    def getegid(self) -> int:
        """As os.getegid()."""
        return self.program.cred.gid

    def getresuid(self) -> tuple[int, int, int]:
        """As os.getresuid()."""
        cred = self.program.cred
        return cred.ruid, cred.uid, cred.suid

    def getresgid(self) -> tuple[int, int, int]:
        """As os.getresgid()."""
        cred = self.program.cred
        return cred.rgid, cred.gid, cred.sgid

    def getgroups(self) -> list[int]:
        """As os.getgroups()."""
        return list(self.program.cred.groups)

    def setuid(self, uid: int) -> None:
        """As os.setuid()."""
        self.program.cred = sc.set_id(self.program.cred, "uid", uid)

    def seteuid(self, euid: int) -> None:
        """As os.seteuid()."""
        self.setresuid(-1, euid, -1)

    def setresuid(self, ruid: int, euid: int, suid: int) -> None:
        """As os.setresuid()."""
        self.program.cred = sc.set_ids(self.program.cred, "uid", ruid, euid, suid)

    def setreuid(self, ruid: int, euid: int) -> None:
        """As os.setreuid()."""
        cred = self.program.cred
        now = cred.uid if euid == -1 else euid
        self.setresuid(ruid, euid, now if ruid != -1 or now != cred.ruid else -1)

    def setregid(self, rgid: int, egid: int) -> None:
        """As os.setregid()."""
        cred = self.program.cred
        now = cred.gid if egid == -1 else egid
        self.setresgid(rgid, egid, now if rgid != -1 or now != cred.rgid else -1)

    def setgid(self, gid: int) -> None:
        """As os.setgid()."""
        self.program.cred = sc.set_id(self.program.cred, "gid", gid)

    def setegid(self, egid: int) -> None:
        """As os.setegid()."""
        self.setresgid(-1, egid, -1)

    def setresgid(self, rgid: int, egid: int, sgid: int) -> None:
        """As os.setresgid()."""
        self.program.cred = sc.set_ids(self.program.cred, "gid", rgid, egid, sgid)

    def setgroups(self, groups: list[int] | tuple[int, ...]) -> None:
        """As os.setgroups()."""
        self.program.cred = sc.set_groups(self.program.cred, tuple(groups))

    # -- its life -----------------------------------------------------------------------------------------------------------

    def fork(self) -> Process:
        """As os.fork(), but it returns the child: a process with the same open files, directory, ids and umask."""
        kernel = self.kernel
        child = Process.__new__(Process)
        with kernel.driver.locked():
            program = sc.fork(self.program, kernel._next_pid())
        Listings.__init__(child, kernel, program)
        return child

    def exec(self, comm: str) -> None:
        """It becomes the program ``comm``, of which there is no file here. Descriptors that are not inheritable are closed;
        memory, handlers of signals and all other threads are gone."""
        self._exec(sc.begin_new_exec, comm)

    def execv(self, path: Path, args: Sequence[str | bytes]) -> None:
        """As os.execv(), but it returns: nothing is run, and further calls are the new program's, whose arguments are
        :attr:`argv`. What is a program is told by its first bytes: ELF, or a ``#!`` line that leads to one."""
        name = to_bytes(path)
        argv = tuple(os.fsencode(arg) for arg in args)
        self._exec(sc.sys_execve, name, argv, os.fsdecode(os.path.basename(name)[:_COMM]))

    def execve(self, path: Path, args: Sequence[str | bytes], env: object) -> None:
        """As os.execve(), and as :meth:`execv`: there is nobody to read ``env``."""
        self.execv(path, args)

    @property
    def argv(self) -> list[str]:
        """What its last exec gave it, as /proc/PID/cmdline has it."""
        return [os.fsdecode(arg) for arg in self.program.argv]

    def _exec(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        threads = list(self.program.tasks)
        try:
            self._call(function, *args)
        finally:
            for task in threads:
                if task.exited:
                    self.kernel.driver.forget(task)
