"""FUSE, both halves, in Python.

``fusewire.mount(fs, path)`` serves a filesystem written in Python on Linux; ``fusewire.Kernel()`` drives any FUSE filesystem
with no mount at all. The rooms of the house are described in docs/design.md.
"""

import logging

from ._version import __version__
from .daemon import (
    Attributes,
    Changes,
    DirEntry,
    Entry,
    FOpenFlag,
    InitFlag,
    Lock,
    Opened,
    Operations,
    Request,
    Session,
    Settings,
    StatFS,
    current_request,
)
from .drive import Buried, DaemonError, Deadlock, Kernel, Process
from .linux.options import MountError, MountOptions
from .mounting import Mounted, mount
from .running import run
from .serving import amount, serve

logging.getLogger("fusewire").addHandler(logging.NullHandler())

__all__ = [
    "Attributes",
    "Buried",
    "Changes",
    "DaemonError",
    "Deadlock",
    "DirEntry",
    "Entry",
    "FOpenFlag",
    "InitFlag",
    "Kernel",
    "Lock",
    "MountError",
    "MountOptions",
    "Mounted",
    "Opened",
    "Operations",
    "Process",
    "Request",
    "Session",
    "Settings",
    "StatFS",
    "__version__",
    "amount",
    "current_request",
    "mount",
    "run",
    "serve",
]
