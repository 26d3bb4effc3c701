"""Who has locked what of one file: fcntl(2)'s byte ranges and flock(2)'s whole files. The two do not see each other.

Rules on plain values; waiting is ``locking``'s. Whoever calls holds the filesystem's lock.
"""

from __future__ import annotations

from ...daemon import Lock
from ..waiting import Waiters

F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2  # <fcntl.h> of Linux, which the protocol uses


class FileLocks:
    """The locks of one inode. ``waiters`` are woken when one is given up, in whole or in part."""

    __slots__ = ("flocks", "ranges", "waiters")

    def __init__(self) -> None:
        self.waiters = Waiters()
        self.ranges: list[Lock] = []  # sorted by start; those of one owner neither overlap nor touch with equal types
        self.flocks: dict[int, Lock] = {}  # by owner

    def __bool__(self) -> bool:
        return bool(self.ranges or self.flocks)

    # -- byte ranges ----------------------------------------------------------------------------------------------

    def range_conflict(self, wanted: Lock) -> Lock | None:
        """A lock of someone else's that is in the way of ``wanted``."""
        for held in self.ranges:
            if held.start > wanted.end:
                break
            if held.end >= wanted.start and _exclude(held, wanted):
                return held
        return None

    def set_range(self, wanted: Lock) -> None:
        """Lock or unlock a range of its owner's; nothing is in the way. What the owner had there is split or merged."""
        kept = []
        for held in self.ranges:
            if held.owner != wanted.owner:
                kept.append(held)
            elif held.type == wanted.type and held.start <= wanted.end + 1 and wanted.start <= held.end + 1:
                wanted = wanted._replace(start=min(held.start, wanted.start), end=max(held.end, wanted.end))
            else:
                kept += _without(held, wanted)
        if wanted.type != F_UNLCK:
            kept.append(wanted)
        self.ranges = sorted(kept)
        self.waiters.wake()

    def release_ranges(self, owner: int) -> None:
        """The owner closed the file: what it locked is free."""
        self.ranges = [held for held in self.ranges if held.owner != owner]
        self.waiters.wake()

    # -- whole files ----------------------------------------------------------------------------------------------

    def flock_conflict(self, wanted: Lock) -> Lock | None:
        """A lock of another open file that is in the way of ``wanted``."""
        return next((held for held in self.flocks.values() if _exclude(held, wanted)), None)

    def set_flock(self, wanted: Lock) -> None:
        """Lock; nothing is in the way."""
        self.flocks[wanted.owner] = wanted

    def release_flock(self, owner: int) -> None:
        """Unlock, if it was locked."""
        if self.flocks.pop(owner, None) is not None:
            self.waiters.wake()

    def clear(self) -> None:
        """Nobody has the file open any more."""
        self.ranges = []
        self.flocks = {}
        self.waiters.wake()


def _exclude(held: Lock, wanted: Lock) -> bool:
    return held.owner != wanted.owner and (held.type == F_WRLCK or wanted.type == F_WRLCK)


def _without(held: Lock, taken: Lock) -> list[Lock]:
    """What is left of a range when another is taken out of it: nothing, a part, or two."""
    if held.end < taken.start or held.start > taken.end:
        return [held]
    left = []
    if held.start < taken.start:
        left.append(held._replace(end=taken.start - 1))
    if held.end > taken.end:
        left.append(held._replace(start=taken.end + 1))
    return left
