"""Our filesystems as daemons: ``python -m benchmarks.ours memory|passthrough|backed MOUNTPOINT SOURCE off|on``.

``backed`` is passthrough as it comes, with FUSE passthrough; ``passthrough`` does the reads and writes itself, as other
libraries have to.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import fusewire
from fusewire import Opened, Operations
from fusewire.wire.flags import FOpenFlag, InitFlag

# What no peer has. With POSIX_ACL the kernel checks permissions itself, and asks for a directory's attributes again before
# each lookup where they are not cached.
NOT_MEASURED = InitFlag.PASSTHROUGH | InitFlag.POSIX_ACL


def daemon(kind: str, source: str, cached: bool) -> Operations:
    """The filesystem, with the timeouts and flags that all systems get."""
    base: type[Any]
    if kind == "memory":
        from fusewire.filesystems import MemoryFS as base
    else:
        from fusewire.filesystems import PassthroughFS as base
    if kind == "backed":
        return base(source)

    if cached:
        flags = int(FOpenFlag.KEEP_CACHE) if kind == "memory" else 0
    else:
        flags = int(FOpenFlag.DIRECT_IO)

    class Measured(base):
        entry_timeout = attr_timeout = 1.0 if cached else 0.0
        settings = replace(
            base.settings,
            flags=base.settings.flags & ~NOT_MEASURED,
            refused=base.settings.refused | NOT_MEASURED,
        )

        def open(self, ino: int, how: int) -> Opened:
            return Opened(_fh(super().open(ino, how)), flags)

        def create(self, parent: int, name: bytes, mode: int, how: int) -> tuple[Any, Opened]:
            entry, file = super().create(parent, name, mode, how)
            return entry, Opened(_fh(file), flags)

    return Measured() if kind == "memory" else Measured(source)


def _fh(file: Opened | int) -> int:
    return file if isinstance(file, int) else file.fh


if __name__ == "__main__":
    _, kind, mountpoint, source, caches = sys.argv
    fusewire.run(daemon(kind, source, caches == "on"), mountpoint)
