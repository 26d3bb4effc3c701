"""What a read of /dev/fuse that fails means: the errno protocol of every read loop."""

from __future__ import annotations

import errno
from enum import Enum


class Next(Enum):
    """What the loop does."""

    AGAIN = "read again"
    REFUSE = "the message is too long, and gone; its header is there to answer"
    STOP = "the session is over"
    FAIL = "something is wrong: raise it"


_MEANING = {
    errno.EINTR: Next.AGAIN,  # a signal
    errno.EAGAIN: Next.AGAIN,  # another reader was faster
    errno.ENOENT: Next.AGAIN,  # the request was given up while it was copied
    errno.EMSGSIZE: Next.REFUSE,
    errno.ENODEV: Next.STOP,  # unmounted
    errno.ECONNABORTED: Next.STOP,  # aborted by fusectl, with ABORT_ERROR negotiated
}


def after_read(error: OSError) -> Next:
    """What to do after a read failed with ``error``."""
    return _MEANING.get(error.errno or 0, Next.FAIL)


def after_write(error: OSError) -> Next:
    """What to do after an answer was refused: ENOENT means that nobody waits for it any more."""
    if error.errno == errno.ENOENT:
        return Next.AGAIN
    return Next.STOP if error.errno in (errno.ENODEV, errno.ECONNABORTED) else Next.FAIL
