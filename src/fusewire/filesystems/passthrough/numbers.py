"""Inode numbers, as the mirror shows them.

Other filesystems may be mounted below the source. The mirror is one filesystem, with one st_dev, so equal numbers of two of
them would make hard links of files that have nothing to do with each other: tar(1) would store one of the two.

Rules. What lies on the source's own filesystem keeps its number. What lies elsewhere is shown in the upper half of the 64
bits: which filesystem, then its own number; and a number that has no room there, or is in the upper half itself, gets one
that is counted out. Each stays for the life of the mount, and no two files share one.
"""

from __future__ import annotations

import threading

ELSEWHERE = 1 << 63
_NUMBER_BITS = 48
_COUNTED = 0x7FFF  # stands for no filesystem: numbers that are counted out


class Numbers:
    """What numbers are shown, by device and inode number; ``device`` is the source's."""

    def __init__(self, device: int) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._filesystems: dict[int, int] = {}
        self._counted: dict[tuple[int, int], int] = {}

    def shown(self, device: int, ino: int) -> int:
        """The number of the inode ``ino`` of ``device`` (st_dev)."""
        if device == self.device and ino < ELSEWHERE:
            return ino
        with self._lock:
            filesystem = self._filesystems.setdefault(device, len(self._filesystems))
            if filesystem < _COUNTED and ino < 1 << _NUMBER_BITS:
                return ELSEWHERE | filesystem << _NUMBER_BITS | ino
            count = self._counted.setdefault((device, ino), len(self._counted))
        return ELSEWHERE | _COUNTED << _NUMBER_BITS | count
