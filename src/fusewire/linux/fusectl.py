"""fusectl: /sys/fs/fuse/connections/N, by which a hung mount is seen and ended; and what sysctl says for all mounts."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

ROOT = Path("/sys/fs/fuse/connections")
MAX_PAGES_LIMIT = Path("/proc/sys/fs/fuse/max_pages_limit")


class Control:
    """The control directory of connection ``number`` (the minor of the mount's st_dev)."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.path = ROOT / str(number)

    @property
    def exists(self) -> bool:
        """Whether the connection is still there (and fusectl is mounted)."""
        return self.path.is_dir()

    @property
    def waiting(self) -> int:
        """How many requests wait: to be read, or to be answered."""
        return int((self.path / "waiting").read_text())

    def abort(self) -> None:
        """End the connection: callers get ECONNABORTED or ENOTCONN, readers ENODEV."""
        (self.path / "abort").write_text("1")


def ensure_mounted() -> bool:
    """Mount fusectl if it is not; whether it is there now."""
    if ROOT.is_dir() and not os.path.ismount(ROOT):
        ctypes.CDLL(None).mount(b"fusectl", os.fsencode(ROOT), b"fusectl", ctypes.c_ulong(0), None)
    return os.path.ismount(ROOT)


def max_pages_limit() -> int:
    """How many pages of 4096 bytes one request may carry (fs.fuse.max_pages_limit, since Linux 6.13; 256 before)."""
    try:
        return int(MAX_PAGES_LIMIT.read_text())
    except OSError:
        return 256
