"""Where a behaviour takes place: a directory of its own, and system calls that are ``os``'s or a ``Process``'s."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...daemon import Operations
from ...drive import Kernel, Process
from ...filesystems import MemoryFS

System = Any
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400  # <fcntl.h>


class Os:
    """``os``, and what of Linux it lacks but ``Process`` has: flock, fallocate, rename with flags, statx's relatives."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def flock(self, fd: int, operation: int) -> None:
        fcntl.flock(fd, operation)

    def getfl(self, fd: int) -> int:
        return fcntl.fcntl(fd, fcntl.F_GETFL)

    def setfl(self, fd: int, flags: int) -> None:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        self._check(self._libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))

    def rename(
        self, src: str, dst: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None, flags: int = 0
    ) -> None:
        names = _at(src_dir_fd), os.fsencode(src), _at(dst_dir_fd), os.fsencode(dst)
        self._check(self._libc.renameat2(*names, flags))

    def link(
        self,
        src: str | int,
        dst: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = False,
    ) -> None:
        """As ``Process`` has it: a descriptor gives an open file without a name one."""
        fd, name, flags = (src, b"", AT_EMPTY_PATH) if isinstance(src, int) else (_at(src_dir_fd), os.fsencode(src), 0)
        flags |= AT_SYMLINK_FOLLOW if follow_symlinks else 0  # os.link() does not follow, whatever it is asked
        self._check(self._libc.linkat(fd, name, _at(dst_dir_fd), os.fsencode(dst), flags))

    @staticmethod
    def _check(result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _at(dir_fd: int | None) -> int:
    return AT_FDCWD if dir_fd is None else dir_fd


class World:
    """``os`` makes the system calls. ``world / name`` is a path in a directory that is empty at first, of mode 0755."""

    os: System
    elsewhere: str  # a file on another filesystem

    def __init__(self, base: str) -> None:
        self.base = base

    def __truediv__(self, name: str) -> str:
        return f"{self.base}/{name}"

    # -- short ways -------------------------------------------------------------------------------------------------

    def make(self, name: str, data: bytes = b"", mode: int = 0o644) -> str:
        """A file with ``data`` in it; returns its path."""
        path = self / name
        with self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) as fd:
            if data:
                assert self.os.write(fd, data) == len(data)
        self.os.chmod(path, mode)
        return path

    def mkdir(self, name: str, mode: int = 0o755) -> str:
        """A directory; returns its path."""
        path = self / name
        self.os.mkdir(path)
        self.os.chmod(path, mode)
        return path

    @contextlib.contextmanager
    def open(self, path: str, flags: int, mode: int = 0o644) -> Iterator[int]:
        """A descriptor, closed at the end."""
        fd = self.os.open(path, flags, mode)
        try:
            yield fd
        finally:
            self.os.close(fd)

    def contents(self, path: str) -> bytes:
        """All of a file."""
        data = b""
        with self.open(path, os.O_RDONLY) as fd:
            while piece := self.os.read(fd, 1 << 20):
                data += piece
        return data

    def exists(self, path: str) -> bool:
        """Whether the name is there; a link that leads nowhere is."""
        try:
            self.os.lstat(path)
        except FileNotFoundError:
            return False
        return True

    def mode(self, path: str) -> int:
        """The permission bits, set-ID and sticky included."""
        return stat.S_IMODE(self.os.lstat(path).st_mode)

    # -- others -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def as_user(self, uid: int, gid: int, groups: Sequence[int] = ()) -> Iterator[None]:
        """System calls within are made as this user. Only in behaviours that need root."""
        raise NotImplementedError
        yield

    def in_another_process(self, function: Callable[[System], object]) -> int:
        """What ``function`` fails with in a child process, which has the same open files: its errno, or 0."""
        raise NotImplementedError

    @property
    def is_root(self) -> bool:
        """Whether behaviours that need root can run."""
        return os.geteuid() == 0


class Here(World):
    """A directory of this machine."""

    elsewhere = "/proc/version"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self.os = Os()

    @contextlib.contextmanager
    def as_user(self, uid: int, gid: int, groups: Sequence[int] = ()) -> Iterator[None]:
        before = os.getgroups()
        os.setgroups(list(groups))
        os.setegid(gid)
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(before)

    def in_another_process(self, function: Callable[[System], object]) -> int:
        child = os.fork()
        if not child:
            number = 255
            try:
                function(self.os)
                number = 0
            except OSError as error:
                number = error.errno or 255
            finally:
                os._exit(number)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Mountless(World):
    """A filesystem on our kernel half, with another one beside it."""

    os: Process
    elsewhere = "/elsewhere/file"

    def __init__(self, process: Process, base: str) -> None:
        super().__init__(base)
        self.os = process

    @contextlib.contextmanager
    def as_user(self, uid: int, gid: int, groups: Sequence[int] = ()) -> Iterator[None]:
        process = self.os
        other = process.fork()
        other.setgroups(list(groups))
        other.setegid(gid)
        other.seteuid(uid)
        self.os = other
        try:
            yield
        finally:
            self.os = process
            other.exit()

    def in_another_process(self, function: Callable[[System], object]) -> int:
        child = self.os.fork()
        try:
            function(child)
        except OSError as error:
            return error.errno or 255
        finally:
            child.exit()
        return 0


@contextlib.contextmanager
def mountless(factory: Callable[[], Any]) -> Iterator[World]:
    """A fresh filesystem, made by ``factory``: an Operations, or a context manager that gives one."""
    with contextlib.ExitStack() as stack:
        made = factory()
        if not isinstance(made, Operations):
            made = stack.enter_context(made)
        if not isinstance(made, Operations):
            raise TypeError(f"the factory made a {type(made).__name__}, which is no fusewire.Operations")
        kernel = stack.enter_context(Kernel())
        kernel.mount(made, "/fs", default_permissions=True)
        kernel.mount(MemoryFS({"file": b""}), "/elsewhere")
        process = kernel.process("conformance")
        process.umask(0o022)
        process.mkdir("/fs/conformance", 0o755)
        yield Mountless(process, "/fs/conformance")
        process.exit()


@contextlib.contextmanager
def here(path: str | os.PathLike[str]) -> Iterator[World]:
    """A directory of its own in ``path``, removed at the end."""
    base = tempfile.mkdtemp(prefix="conformance-", dir=os.fspath(path))
    os.chmod(base, 0o755)
    before = os.umask(0o022)
    try:
        yield Here(base)
    finally:
        os.umask(before)
        _remove(base)


def _remove(base: str) -> None:
    for directory, _, _ in os.walk(base):
        os.chmod(directory, 0o700)
    shutil.rmtree(base)


def fails(numbers: int | tuple[int, ...], function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """The call fails with this errno, or one of these."""
    __tracebackhide__ = True  # pytest shows the behaviour, not this
    wanted = (numbers,) if isinstance(numbers, int) else numbers
    names = " or ".join(errno.errorcode[number] for number in wanted)
    try:
        result = function(*args, **kwargs)
    except OSError as error:
        got = errno.errorcode.get(error.errno or 0, str(error.errno))
        if error.errno not in wanted:
            raise AssertionError(f"{names} was to be expected, not {got}: {error}") from error
    else:
        raise AssertionError(f"{names} was to be expected; it succeeded, with {result!r}")
