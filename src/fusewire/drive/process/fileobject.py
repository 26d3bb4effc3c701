"""``process.open_file``: an ordinary Python file object on a file of the process's."""

from __future__ import annotations

import io
import os
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Path
    from .files import FileCalls

_ACCESS = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
           "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND}  # fmt: skip


class RawFile(io.RawIOBase):
    """A descriptor of a process, as the lowest layer of a file object."""

    def __init__(self, process: FileCalls, fd: int, mode: str) -> None:
        self.process = process
        self.fd = fd
        self.mode = mode

    def fileno(self) -> int:
        """The process's descriptor: of no use to this interpreter's own ``os``."""
        return self.fd

    def readable(self) -> bool:
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        return self.mode[0] in "wxa" or "+" in self.mode

    def seekable(self) -> bool:
        try:
            self.tell()
        except OSError:
            return False
        return True

    def readinto(self, buffer: Any) -> int:
        return self.process.readinto(self.fd, buffer)

    def write(self, data: Any) -> int:
        return self.process.write(self.fd, data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.process.lseek(self.fd, offset, whence)

    def tell(self) -> int:
        return self.process.lseek(self.fd, 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        self.process.ftruncate(self.fd, size)
        return size

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            finally:
                self.process.close(self.fd)


def open_file(
    process: FileCalls,
    path: Path,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> IO[Any]:
    """As open()."""
    binary = "b" in mode
    kind = mode.replace("b", "").replace("t", "").replace("+", "")
    if kind not in _ACCESS or ("t" in mode and binary) or len(set(mode)) != len(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    if binary and (encoding or errors or newline):
        raise ValueError("binary mode doesn't take an encoding, errors or newline argument")
    flags = _ACCESS[kind]
    if "+" in mode:
        flags = flags & ~os.O_ACCMODE | os.O_RDWR
    raw = RawFile(process, process.open(path, flags, 0o666), kind + "+" * ("+" in mode))
    try:
        return _layers(raw, mode, binary, buffering, encoding, errors, newline)
    except BaseException:
        raw.close()
        raise


def _layers(
    raw: RawFile, mode: str, binary: bool, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    if "a" in mode:
        raw.seek(0, os.SEEK_END)
    if buffering == 0:
        if not binary:
            raise ValueError("can't have unbuffered text I/O")
        return raw  # type: ignore[return-value]
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    if "+" in mode:
        buffered: Any = io.BufferedRandom(raw, size)
    elif raw.writable():
        buffered = io.BufferedWriter(raw, size)
    else:
        buffered = io.BufferedReader(raw, size)
    if binary:
        return buffered  # type: ignore[no-any-return]
    return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)
