"""Copying within the filesystem, into it and out of it: one code for the three, since ``Process`` is used like ``os``."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from .registry import CommandError, Run, printable

CHUNK = 1 << 20  # bytes a read
PATIENCE = 0.5  # seconds that a copy may take before a bar is shown

System = Any
"""``os`` itself, or a ``Process``: what has its names."""


class Meter:
    """A progress bar for one file, on a terminal, once the copy has taken a while."""

    def __init__(self, console: Console, name: str, size: int) -> None:
        self.name = printable(name)
        self.console = console
        self.size = size
        self.done = 0
        self.begin = time.monotonic()
        self.progress: Progress | None = None
        self.task = TaskID(0)

    def advance(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress.update(self.task, completed=self.done)
        elif self.console.is_terminal and time.monotonic() - self.begin > PATIENCE:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
            )
            self.progress = Progress(*columns, console=self.console, transient=True)
            self.task = self.progress.add_task(self.name, total=max(self.size, self.done), completed=self.done)
            self.progress.start()

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()


class Copier:
    """Copies from ``source`` to ``target``. ``recursive``: directories, with links and special files as they are;
    ``preserve``: mode, owner, times and extended attributes."""

    def __init__(self, run: Run, source: System, target: System, *, recursive: bool, preserve: bool = False) -> None:
        self.run = run
        self.source = source
        self.target = target
        self.recursive = recursive
        self.preserve = preserve
        self.made: set[tuple[int, int]] = set()  # directories of the target, so that none is copied into itself

    def copy_all(self, paths: list[str], target: str) -> None:
        """As cp: into ``target`` where that is a directory, else to it. What fails is told, and the rest copied."""
        into = _kind(self.target, target) == stat.S_IFDIR
        if not into and (len(paths) > 1 or (target.endswith("/") and not self.recursive)):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), target)
        for path in paths:
            name = os.path.basename(path.rstrip("/"))
            with self.run.telling(path):
                self.copy(path, os.path.join(target, name) if into and name not in ("", ".", "..") else target)

    def copy(self, path: str, target: str) -> None:
        """One file, or a tree. Raises OSError, CommandError."""
        st = self.source.stat(path, follow_symlinks=not self.recursive)
        kind = stat.S_IFMT(st.st_mode)
        if kind == stat.S_IFDIR:
            if not self.recursive:
                raise CommandError(f"{path} is a directory: -r copies it with all that is in it")
            self._directory(path, target, st)
        elif self._is_same(st, target):
            raise CommandError(f"{path} and {target} are the same file")
        elif kind == stat.S_IFREG:
            self._file(path, target, st)
        elif not self.recursive:
            raise CommandError(f"{path} is no regular file")
        else:
            with contextlib.suppress(FileNotFoundError):
                self.target.unlink(target)
            if kind == stat.S_IFLNK:
                self.target.symlink(self.source.readlink(path), target)
            else:
                self.target.mknod(target, st.st_mode, st.st_rdev)
            self._attributes(path, target, st)

    def _is_same(self, st: os.stat_result, target: str) -> bool:
        if self.source is not self.target:
            return False
        with contextlib.suppress(FileNotFoundError):
            there = self.target.stat(target)
            return (there.st_dev, there.st_ino) == (st.st_dev, st.st_ino)
        return False

    def _directory(self, path: str, target: str, st: os.stat_result) -> None:
        if self.source is self.target and (st.st_dev, st.st_ino) in self.made:
            raise CommandError(f"{path} is not copied into itself")
        new = False
        try:  # writable until its contents are there
            self.target.mkdir(target, stat.S_IMODE(st.st_mode) | stat.S_IRWXU)
            new = True
        except FileExistsError:
            if _kind(self.target, target) != stat.S_IFDIR:
                raise
        made = self.target.stat(target)
        self.made.add((made.st_dev, made.st_ino))
        names = sorted(os.fsdecode(name) for name in self.source.listdir(path))
        for name in names:
            inner = os.path.join(path, name)
            with self.run.telling(inner):
                self.copy(inner, os.path.join(target, name))
        if new and not self.preserve and not st.st_mode & stat.S_IWUSR:
            self.target.chmod(target, stat.S_IMODE(made.st_mode) & st.st_mode)
        self._attributes(path, target, st)

    def _file(self, path: str, target: str, st: os.stat_result) -> None:
        meter = Meter(self.run.messages, path, st.st_size)
        with _opened(self.source, path, os.O_RDONLY) as source:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            # Its owner may write to it until it has its attributes.
            mode = stat.S_IMODE(st.st_mode) & 0o777 | (stat.S_IWUSR if self.preserve else 0)
            with _opened(self.target, target, flags, mode) as fd:
                try:
                    while data := self.source.read(source, CHUNK):
                        write_all(self.target, fd, data)
                        meter.advance(len(data))
                except OSError as error:
                    if error.filename is None:
                        error.filename, error.filename2 = path, target
                    raise
                finally:
                    meter.close()
        self._attributes(path, target, st)

    def _attributes(self, path: str, target: str, st: os.stat_result) -> None:
        """Owner first, which clears set-ID bits; times last."""
        if not self.preserve:
            return
        link = stat.S_ISLNK(st.st_mode)
        mode = stat.S_IMODE(st.st_mode)
        try:
            self.target.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
        except PermissionError:  # an ordinary user's copies are their own, and nobody's set-ID programs
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
        self._xattrs(path, target)
        if not link:
            self.target.chmod(target, mode)
        self.target.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)

    def _xattrs(self, path: str, target: str) -> None:
        try:
            for name in self.source.listxattr(path, follow_symlinks=False):
                value = self.source.getxattr(path, name, follow_symlinks=False)
                self.target.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.EPERM):  # then they are lost, as cp -p loses them
                raise


def write_all(system: System, fd: int, data: bytes) -> None:
    """Every byte, however few a write takes."""
    view = memoryview(data)
    while view:
        written = system.write(fd, view)
        if not written:
            raise OSError(errno.EIO, "the filesystem wrote nothing")
        view = view[written:]


@contextlib.contextmanager
def _opened(system: System, path: str, flags: int, mode: int = 0o666) -> Iterator[int]:
    """What goes wrong at close is an error, too: it may be where a filesystem says that data was lost."""
    fd = system.open(path, flags, mode)
    try:
        yield fd
    except BaseException:
        with contextlib.suppress(OSError):
            system.close(fd)
        raise
    try:
        system.close(fd)
    except OSError as error:
        error.filename = error.filename or path
        raise


def _kind(system: System, path: str) -> int:
    """The type bits of what is there, links followed; 0 for nothing."""
    try:
        return stat.S_IFMT(system.stat(path).st_mode)
    except OSError:
        return 0
