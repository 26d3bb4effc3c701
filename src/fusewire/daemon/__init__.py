"""The daemon's half: what a filesystem written in Python implements, and the session that answers the kernel with it.

Sans I/O: messages come and go as bytes; reading, writing, waiting and threads are ``fusewire.transport``'s.
"""

from ..wire import posix_acl
from ..wire.flags import FOpenFlag, InitFlag, OpenInFlag, WriteFlag
from ..wire.layouts import Statx, SxTime
from .attributes import Attributes, DirEntry, Entry, Lock, Opened, StatFS
from .operations import Changes, Operations
from .request import Request, current_request
from .session import Session
from .settings import Granted, Settings

__all__ = [
    "Attributes",
    "Changes",
    "DirEntry",
    "Entry",
    "FOpenFlag",
    "Granted",
    "InitFlag",
    "Lock",
    "OpenInFlag",
    "Opened",
    "Operations",
    "Request",
    "Session",
    "Settings",
    "StatFS",
    "Statx",
    "SxTime",
    "WriteFlag",
    "current_request",
    "posix_acl",
]
