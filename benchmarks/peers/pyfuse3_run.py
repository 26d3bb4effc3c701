"""How the filesystems on pyfuse3 are served."""

from __future__ import annotations

import sys

import pyfuse3
import trio


def arguments() -> tuple[str, str, bool]:
    """The mountpoint, the source, and whether caches are on."""
    _, mountpoint, source, caches = sys.argv[:4]
    return mountpoint, source, caches == "on"


def run(operations: pyfuse3.Operations, mountpoint: str) -> None:
    """Serve until it is unmounted. ``one``, a last argument: one task instead of as many as there are requests."""
    pyfuse3.init(operations, mountpoint, {"fsname=pyfuse3"})
    try:
        trio.run(pyfuse3.main, 1, 1 if sys.argv[-1] == "one" else 99)
    finally:
        pyfuse3.close(unmount=False)
