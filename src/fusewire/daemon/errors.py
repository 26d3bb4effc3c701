"""The one errno mapper: from whatever a handler raised to the number that the caller sees.

An OSError keeps its own; one raised without a number (``FileNotFoundError()``) gets its class's; ``NotImplementedError`` is
ENOSYS. Anything else is the filesystem's own bug: the caller sees EIO, and the traceback is for the log.
"""

from __future__ import annotations

from ..wire.errno import MAX_ERRNO, Errno

_BY_CLASS: tuple[tuple[type[BaseException], Errno], ...] = (
    (FileNotFoundError, Errno.ENOENT),
    (FileExistsError, Errno.EEXIST),
    (IsADirectoryError, Errno.EISDIR),
    (NotADirectoryError, Errno.ENOTDIR),
    (PermissionError, Errno.EACCES),
    (InterruptedError, Errno.EINTR),
    (BlockingIOError, Errno.EAGAIN),
    (ChildProcessError, Errno.ECHILD),
    (ProcessLookupError, Errno.ESRCH),
    (BrokenPipeError, Errno.EPIPE),
    (ConnectionAbortedError, Errno.ECONNABORTED),
    (ConnectionRefusedError, Errno.ECONNREFUSED),
    (ConnectionResetError, Errno.ECONNRESET),
    (TimeoutError, Errno.ETIMEDOUT),
    (NotImplementedError, Errno.ENOSYS),
)


def errno_of(error: BaseException) -> int | None:
    """A positive errno, or None for an exception that is a bug and no answer."""
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if isinstance(number, int) and 0 < number <= MAX_ERRNO:
        return number
    for kind, mapped in _BY_CLASS:
        if isinstance(error, kind):
            return int(mapped)
    return None
