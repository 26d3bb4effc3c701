"""What is Linux's own: mounting and unmounting, fusectl, tracefs, /proc and the wait-for graph that it shows, and the watchdog
that ends a hung mount."""

from .fusectl import Control
from .mounts import connection_number, mount, unmount
from .options import MountError, MountOptions
from .watchdog import Watchdog

__all__ = [
    "Control",
    "MountError",
    "MountOptions",
    "Watchdog",
    "connection_number",
    "mount",
    "unmount",
]
