"""The flags of an open file: what of open(2)'s the daemon sees, and what its FOPEN_* answer makes of the file."""

from __future__ import annotations

import os

from ...wire.flags import FOpenFlag
from ...wire.layouts import OpenOut
from .files import O_LARGEFILE, File
from .inode import Dentry

_NOT_SENT = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_CLOEXEC


def sent(flags: int) -> int:
    """As the daemon sees them."""
    return flags & ~_NOT_SENT | O_LARGEFILE


def opened(dentry: Dentry, flags: int, out: OpenOut, *, asked: bool = True) -> File:
    """``fuse_finish_open``. ``asked``: the daemon was, so that a release is due."""
    file = File(dentry, dentry.positive, flags, out.fh, out.open_flags, asked)
    if out.open_flags & FOpenFlag.STREAM or out.open_flags & FOpenFlag.NONSEEKABLE:
        file.seekable = file.positioned = False
    return file
