"""Locking files: fcntl(2) and flock(2), and waiting for others to unlock.

Whoever waits is a coroutine, and takes no thread: any number of them leaves room for the request that unlocks. They try again
when something is unlocked; an interrupt cancels the coroutine; the end of the session ends them all.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from ...daemon import Granted, Lock, current_request
from .inodes import Inodes
from .locks import F_UNLCK, FileLocks
from .nodes import error

# <linux/fuse.h>: FUSE_RELEASE (an open that was never delivered is released without it), FUSE_RELEASE_FLOCK_UNLOCK
RELEASE, RELEASE_FLOCK_UNLOCK = 18, 1 << 1


class Wanted:
    """A byte range of one file that one request asks for; of two that ask for the same each is its own."""

    __slots__ = ("lock", "locks")

    def __init__(self, locks: FileLocks, lock: Lock) -> None:
        self.locks = locks
        self.lock = lock


class Locking(Inodes):
    """Byte-range locks belong to the descriptor table that took them, flocks to the open file."""

    def __init__(self, size: int | None) -> None:
        super().__init__(size)
        self._over = False
        # By owner, what it waits for: threads of one process are one owner. For whom is not kept, but looked at anew: who
        # had unlocked, and was not looked at again, would be waited for still.
        self._waiting: dict[int, list[Wanted]] = {}

    def getlk(self, ino: int, fh: int, lock: Lock) -> Lock | None:
        with self._lock:
            locks = self._node(ino).locks
            return locks.range_conflict(lock) if locks is not None else None

    async def setlk(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:  # type: ignore[override]
        with self._lock:
            wanted = Wanted(self._locks(ino), lock)
        try:
            await self._acquire(wanted.locks, lambda: self._try_range(wanted, wait), wait)
        finally:
            if wait:
                with self._lock:
                    self._waits_no_more(wanted)

    async def flock(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:  # type: ignore[override]
        with self._lock:
            locks = self._locks(ino)
            # flock(2): a lock is converted by giving it up first, or two that share it would wait for each other.
            if lock.type == F_UNLCK or locks.flock_conflict(lock) is not None:
                locks.release_flock(lock.owner)
            if lock.type == F_UNLCK:
                return
        await self._acquire(locks, lambda: self._try_flock(locks, lock), wait)

    def flush(self, ino: int, fh: int) -> None:
        """A descriptor is closed: POSIX has its process lose all its locks on the file."""
        node = self._node(ino)
        if node.locks is None:
            return
        with self._lock:
            if node.locks is not None:
                node.locks.release_ranges(current_request().args.lock_owner)

    def release(self, ino: int, fh: int, flags: int) -> None:
        with self._lock:
            node = self._node(ino)
            node.opens -= 1
            if node.locks is None:
                return
            if node.opens <= 0:
                # Locks of open file descriptions (F_OFD_SETLK) end here: the kernel sends nothing else for them.
                node.locks.clear()
                node.locks = None
                return
            request = current_request()
            if request.opcode == RELEASE and request.args.release_flags & RELEASE_FLOCK_UNLOCK:
                node.locks.release_flock(request.args.lock_owner)

    def init(self, granted: Granted) -> None:
        super().init(granted)
        self._over = False  # one that was mounted before may be mounted again

    def destroy(self) -> None:
        """Nobody will unlock anything any more."""
        with self._lock:
            self._over = True
            for node in self.nodes.values():
                if node.locks is not None:
                    node.locks.waiters.wake()

    # -- waiting --------------------------------------------------------------------------------------------------

    def _locks(self, ino: int) -> FileLocks:
        node = self._node(ino)
        if node.locks is None:
            node.locks = FileLocks()
        return node.locks

    async def _acquire(self, locks: FileLocks, attempt: Callable[[], bool], wait: bool) -> None:
        """Return when ``attempt`` got it. Raises BlockingIOError, or InterruptedError if the end of the session came first."""
        if attempt():
            return
        if not wait:
            raise BlockingIOError
        with locks.waiters.joined() as changed:
            while not self._over:
                changed.clear()  # before the attempt: what is unlocked after it wakes us
                if attempt():
                    return
                await changed.wait()
        raise InterruptedError

    def _try_range(self, wanted: Wanted, wait: bool) -> bool:
        with self._lock:
            if wanted.lock.type != F_UNLCK and self._in_the_way(wanted, wait):
                return False
            wanted.locks.set_range(wanted.lock)
            return True

    def _try_flock(self, locks: FileLocks, lock: Lock) -> bool:
        with self._lock:
            if locks.flock_conflict(lock) is not None:
                return False
            locks.set_flock(lock)
            return True

    def _in_the_way(self, wanted: Wanted, wait: bool) -> bool:
        """Whether a lock is. Raises OSError(EDEADLK) where waiting for it would close a circle."""
        held = wanted.locks.range_conflict(wanted.lock)
        if held is None:
            return False
        if wait:
            owner = wanted.lock.owner
            self._check_no_circle(owner, held.owner)
            waiting = self._waiting.setdefault(owner, [])
            if wanted not in waiting:
                waiting.append(wanted)
        return True

    def _check_no_circle(self, waiter: int, holder: int) -> None:
        seen = {holder}
        following = [holder]
        while following:
            for wanted in self._waiting.get(following.pop(), ()):
                held = wanted.locks.range_conflict(wanted.lock)
                if held is None or held.owner in seen:
                    continue
                if held.owner == waiter:
                    raise error(errno.EDEADLK)
                seen.add(held.owner)
                following.append(held.owner)

    def _waits_no_more(self, wanted: Wanted) -> None:
        owner = wanted.lock.owner
        waiting = self._waiting.get(owner, [])
        if wanted in waiting:
            waiting.remove(wanted)
            if not waiting:
                del self._waiting[owner]
