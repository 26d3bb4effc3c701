"""Descriptors of the host's that several requests may use at once, and their end.

A caller that is interrupted may leave while its handler still runs (not under Linux, but under kernel halves that let it go
at once): RELEASE or FORGET then come while a descriptor is in use. Closed there and then, its number would go to the next file
that is opened, and the handler would read, write or make names in a stranger. So it is closed by whoever lets go of it last,
as Linux does it with its own ``struct file``; the counting is Python's, of references, and costs a handler nothing.
"""

from __future__ import annotations

import errno
import os
from typing import NoReturn, TypeVar

T = TypeVar("T", bound="Descriptor")


class Descriptor:
    """A descriptor that is closed with the last reference to this object.

    Rule: whoever uses ``fd`` (or a path through it) has this object in a local variable until the call is over.
    ``table[number].fd`` as an argument is wrong: it lets go of the object before the call begins.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        try:
            os.close(self.fd)
        except OSError:  # what the host reports at close, FLUSH has reported
            pass


class OpenFiles(dict[int, T]):
    """Open files by ``fh``. An ``fh`` is never used twice, so a request that comes late meets no stranger, but EBADF."""

    def __missing__(self, fh: int) -> NoReturn:
        raise OSError(errno.EBADF, f"open file {fh} is released")
