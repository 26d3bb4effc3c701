"""Directories: as os.listdir, os.scandir and os.walk."""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar, cast

from ...kernel.vfs import syscalls as sc
from .base import PathOrFd
from .files import FileCalls
from .names import NameCalls

S = TypeVar("S", str, bytes)
DT_DIR, DT_REG, DT_LNK = 4, 8, 10
BUFFER = 1 << 20  # bytes of entries asked for at once; the filesystem gives what it can


class DirEntry(Generic[S]):
    """As os.DirEntry. What ``stat`` found is kept."""

    name: S
    path: S

    def __init__(self, process: Listings, name: S, path: S, dir_fd: int | None, inode: int, kind: int) -> None:
        self.name = name
        self.path = path
        self._process = process
        self._dir_fd = dir_fd  # where the path begins
        self._inode = inode
        self._kind = kind
        self._stats: dict[bool, os.stat_result] = {}

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def __fspath__(self) -> S:
        return self.path

    def inode(self) -> int:
        return self._inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(DT_DIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(DT_REG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(DT_LNK, False)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        follow = follow_symlinks and self.is_symlink()
        if follow not in self._stats:
            self._stats[follow] = self._process.stat(self.path, dir_fd=self._dir_fd, follow_symlinks=follow)
        return self._stats[follow]

    def _is(self, kind: int, follow: bool) -> bool:
        if self._kind and not (follow and self._kind == DT_LNK):
            return self._kind == kind
        try:
            found = self._process.stat(self.path, dir_fd=self._dir_fd, follow_symlinks=follow)
            return found.st_mode >> 12 == kind
        except FileNotFoundError:
            return False


class ScandirIterator(Generic[S]):
    """As what os.scandir returns: iterate it, or use it as a context manager."""

    _path: S
    _entries: Generator[DirEntry[S], None, None]

    def __init__(self, process: Listings, fd: int, path: S, dir_fd: int | None = None) -> None:
        self._process = process
        self._fd = fd
        self._path = path
        self._dir_fd = dir_fd
        self._entries = self._read()

    def _read(self) -> Generator[DirEntry[S], None, None]:
        path = self._path
        while batch := self._process._readdir(self._fd):
            for raw, inode, kind in batch:
                name = raw if isinstance(path, bytes) else os.fsdecode(raw)
                whole = os.path.join(path, name) if path else name
                yield DirEntry(self._process, name, whole, self._dir_fd, inode, kind)

    def __iter__(self) -> ScandirIterator[S]:
        return self

    def __next__(self) -> DirEntry[S]:
        try:
            return next(self._entries)
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        self._entries.close()
        if fd >= 0:
            self._process.close(fd)

    def __enter__(self) -> ScandirIterator[S]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Listings(FileCalls, NameCalls):
    """What is in a directory."""

    def listdir(self, path: PathOrFd = ".") -> list[str] | list[bytes]:
        """As os.listdir(): bytes for a path of bytes."""
        fd = self._open_directory(path)
        try:
            if not isinstance(path, int):
                self.fstat(fd)  # as opendir(3) does
            names: list[bytes] = []
            while batch := self._readdir(fd):
                names += [name for name, _, _ in batch]
        finally:
            self.close(fd)
        return names if isinstance(path, bytes) else [os.fsdecode(name) for name in names]

    def _readdir(self, fd: int) -> list[tuple[bytes, int, int]]:
        """As readdir(3): a directory that was removed is at its end."""
        try:
            return self._call(sc.sys_getdents, fd, BUFFER)
        except FileNotFoundError:
            return []

    def scandir(self, path: PathOrFd = ".") -> ScandirIterator[str] | ScandirIterator[bytes]:
        """As os.scandir()."""
        fd = self._open_directory(path)
        if isinstance(path, int):
            return ScandirIterator(self, fd, "", path)
        path = os.fspath(path)
        if isinstance(path, str):
            return ScandirIterator(self, fd, path)
        return ScandirIterator(self, fd, path)

    def _open_directory(self, path: PathOrFd) -> int:
        if not isinstance(path, int):
            return self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        fd = self.dup(path)
        try:
            if not _stat.S_ISDIR(self.fstat(fd).st_mode):  # as fdopendir(3) does
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self.lseek(fd, 0, os.SEEK_SET)
        except OSError:
            self.close(fd)
            raise
        return fd

    def fwalk(
        self,
        top: str = ".",
        topdown: bool = True,
        onerror: Callable[[OSError], object] | None = None,
        *,
        follow_symlinks: bool = False,
        dir_fd: int | None = None,
    ) -> Iterator[tuple[str, list[str], list[str], int]]:
        """As os.fwalk()."""
        nofollow = 0 if follow_symlinks else os.O_NOFOLLOW
        fd = self._open_walked(top, nofollow, dir_fd)
        if fd is not None:
            yield from self._fwalk(fd, top, topdown, onerror, nofollow)

    def _open_walked(self, name: str, nofollow: int, dir_fd: int | None) -> int | None:
        """None for what is not walked into: a link, or at the top a file."""
        if nofollow and not _stat.S_ISDIR(self.lstat(name, dir_fd=dir_fd).st_mode):
            return None
        return self.open(name, os.O_RDONLY | os.O_DIRECTORY | nofollow, dir_fd=dir_fd)

    def _fwalk(
        self, fd: int, path: str, topdown: bool, onerror: Callable[[OSError], object] | None, nofollow: int
    ) -> Iterator[tuple[str, list[str], list[str], int]]:
        """``fd``, which is closed at the end, is the directory that is told as ``path``."""
        try:
            dirs, files = self._sorted_out(fd)
            if topdown:
                yield path, dirs, files, fd
            for name in dirs:
                try:
                    inner = self._open_walked(name, nofollow, fd)
                except OSError as error:
                    if onerror is not None:
                        onerror(error)
                    continue
                if inner is not None:
                    yield from self._fwalk(inner, os.path.join(path, name), topdown, onerror, nofollow)
            if not topdown:
                yield path, dirs, files, fd
        finally:
            self.close(fd)

    def walk(
        self,
        top: str,
        topdown: bool = True,
        onerror: Callable[[OSError], object] | None = None,
        followlinks: bool = False,
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """As os.walk()."""
        try:
            dirs, files = self._sorted_out(top)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            return
        if topdown:
            yield top, dirs, files
        for name in dirs:
            path = os.path.join(top, name)
            if followlinks or not self._is_link(path):
                yield from self.walk(path, topdown, onerror, followlinks)
        if not topdown:
            yield top, dirs, files

    def _sorted_out(self, path: str | int) -> tuple[list[str], list[str]]:
        """The names of the directories there, and all others. Of which it cannot be told, those are others, too; but of a
        descriptor's, only links are, as os.fwalk has it."""
        dirs: list[str] = []
        files: list[str] = []
        with cast("ScandirIterator[str]", self.scandir(path)) as entries:
            for entry in entries:
                try:
                    is_dir = entry.is_dir()
                except OSError:  # a link that leads to itself
                    if isinstance(path, int) and not _is_surely_link(entry):
                        continue
                    is_dir = False
                (dirs if is_dir else files).append(entry.name)
        return dirs, files

    def _is_link(self, path: str) -> bool:
        """Not what has gone meanwhile."""
        try:
            return _stat.S_ISLNK(self.lstat(path).st_mode)
        except OSError:
            return False


def _is_surely_link(entry: DirEntry[str]) -> bool:
    """Not what cannot be looked at either."""
    try:
        return entry.is_symlink()
    except OSError:
        return False
