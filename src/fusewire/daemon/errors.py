"""The one errno mapper: from whatever a handler raised to the number that the caller sees.

An OSError keeps its own; one raised without a number (``FileNotFoundError()``) gets its class's; ``NotImplementedError`` is
ENOSYS. Anything else is the filesystem's own bug: the caller sees EIO, and the traceback is for the log.
"""

from __future__ import annotations

from ..wire.errno import MAX_ERRNO, Errno

_NUMBERS: dict[type[BaseException], int] = {
    FileNotFoundError: int(Errno.ENOENT),
    FileExistsError: int(Errno.EEXIST),
    IsADirectoryError: int(Errno.EISDIR),
    NotADirectoryError: int(Errno.ENOTDIR),
    PermissionError: int(Errno.EACCES),
    InterruptedError: int(Errno.EINTR),
    BlockingIOError: int(Errno.EAGAIN),
    ChildProcessError: int(Errno.ECHILD),
    ProcessLookupError: int(Errno.ESRCH),
    BrokenPipeError: int(Errno.EPIPE),
    ConnectionAbortedError: int(Errno.ECONNABORTED),
    ConnectionRefusedError: int(Errno.ECONNREFUSED),
    ConnectionResetError: int(Errno.ECONNRESET),
    TimeoutError: int(Errno.ETIMEDOUT),
    NotImplementedError: int(Errno.ENOSYS),
}


def errno_of(error: BaseException) -> int | None:
    """A positive errno, or None for an exception that is a bug and no answer."""
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if isinstance(number, int) and 0 < number <= MAX_ERRNO:
        return number
    mapped = _NUMBERS.get(type(error))
    if mapped is not None:
        return mapped
    for kind, mapped in _NUMBERS.items():
        if isinstance(error, kind):
            return mapped
    return None
