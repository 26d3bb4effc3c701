"""How the filesystems on mfusepy are served."""

from __future__ import annotations

import sys
from typing import Any

import mfusepy


def arguments() -> tuple[str, str, bool]:
    """The mountpoint, the source, and whether caches are on."""
    _, mountpoint, source, caches = sys.argv[:4]
    return mountpoint, source, caches == "on"


def run(operations: mfusepy.Operations, mountpoint: str, cached: bool, **options: Any) -> None:
    """Serve until it is unmounted. ``one``, a last argument: one thread instead of libfuse's pool.

    ``raw_fi`` spares mfusepy a look at the signature of ``create`` at each call, ``hard_remove`` the files that libfuse hides
    instead of removing them.
    """
    timeout = 1.0 if cached else 0.0
    mfusepy.FUSE(
        operations, mountpoint, raw_fi=True, foreground=True, nothreads=sys.argv[-1] == "one", fsname="mfusepy",
        entry_timeout=timeout, attr_timeout=timeout, negative_timeout=0.0, direct_io=not cached, hard_remove=True, **options,
    )  # fmt: skip
