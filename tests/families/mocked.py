"""What the families share: both drivers, a file that is there, the errno of a call."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import Any

import pytest
from conftest import errno_of as errno_of

from fusewire import FOpenFlag, Process
from fusewire.testing import MockDaemon, entry, opened

BOTH = pytest.mark.parametrize("fuse_kernel", ["inline", "threads"], indirect=True)
DIR, REG, LNK, FIFO = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600
FOREVER = 1 << 20  # seconds
DIRECT = FOpenFlag.DIRECT_IO
LARGEFILE = 0o100000  # what a 64-bit Linux adds to every open


def forgotten(daemon: MockDaemon) -> dict[int, int]:
    """How many references to each node were given back, one by one or in a batch."""
    daemon.settle()
    counts: Counter[int] = Counter()
    for asked in daemon.came("forget"):
        counts[asked.nodeid] += asked.nlookup
    for asked in daemon.came("batch_forget"):
        for one in asked.items:
            counts[one.nodeid] += one.nlookup
    return dict(counts)


def there(daemon: MockDaemon, name: bytes = b"f", nodeid: int = 2, mode: int = REG, **attributes: Any) -> None:
    """A name in the root that every LOOKUP finds, and that stays known."""
    attributes.setdefault("valid", FOREVER)
    daemon.default.lookup(1, name).reply(entry(nodeid, mode, **attributes))


def absent(daemon: MockDaemon, name: bytes) -> None:
    """A name in the root that no LOOKUP finds."""
    daemon.default.lookup(1, name).error(2)


def open_file(
    daemon: MockDaemon, process: Process, flags: int = os.O_RDWR, *, how: int = DIRECT, fh: int = 7, **attributes: Any
) -> int:
    """A descriptor of ``/f``, node 2, whose handle is 7."""
    there(daemon, **attributes)
    daemon.default.open(2).reply(opened(fh, how))
    daemon.default.getxattr(2, b"security.capability").error(61)
    return process.open("/f", flags)
