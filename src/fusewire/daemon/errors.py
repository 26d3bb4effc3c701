"""The one errno mapper: from whatever a handler raised to the number that the caller sees, and the answer that says so.

An OSError keeps its own; one raised without a number (``FileNotFoundError()``) gets its class's; ``NotImplementedError`` is
ENOSYS. Anything else is the filesystem's own bug: the caller sees EIO, and the traceback is for the log.
"""

from __future__ import annotations

import logging
import struct
import traceback

from ..wire.errno import MAX_ERRNO, Errno
from .attributes import BadAnswer
from .dispatch import Bound
from .encode import HEADER_SIZE, Answer, pack_header

log = logging.getLogger("fusewire.daemon")

_NONSENSE = (BadAnswer, TypeError, ValueError, AttributeError, struct.error)
_OURS = (f"{__package__}.", f"{(__package__ or '').rpartition('.')[0]}.wire.")
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


def error_answer(unique: int, number: int) -> Answer:
    return (pack_header(HEADER_SIZE, -int(number), unique),)


def raised(unique: int, nodeid: int, bound: Bound, error: Exception) -> Answer:
    """An error for the caller, or a bug of the handler's."""
    number = errno_of(error)
    if number is None:
        log.error("%s(node %d) raised", bound.name, nodeid, exc_info=error)
        number = Errno.EIO
    return error_answer(unique, number)


def not_encoded(unique: int, nodeid: int, bound: Bound, error: Exception) -> Answer:
    """A listing that raised while it was gone through, or nonsense."""
    if not isinstance(error, _NONSENSE) or _raised_outside(error):
        return raised(unique, nodeid, bound, error)
    log.error("%s(node %d) returned nonsense: %s", bound.name, nodeid, error)
    return error_answer(unique, Errno.EIO)


def _raised_outside(error: Exception) -> bool:
    """Whether it came out of the filesystem's own code: a generator's, a property's."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(not frame.f_globals.get("__name__", "").startswith(_OURS) for frame, _ in frames)
