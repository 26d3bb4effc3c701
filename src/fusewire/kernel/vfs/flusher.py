"""Writing dirty pages back when their time has come, or when there are too many, though nobody asks for it: as
fs/fs-writeback.c has it. The clock and the timers are the driver's; a task of its own does the writing and ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from .program import ProgramTask

if TYPE_CHECKING:
    from .page_cache import PageCache
    from .super import Super

NANO = 1_000_000_000
Work = Callable[[ProgramTask], Coroutine[Any, Any, None]]


class Flusher:
    """The flusher of a kernel. ``start`` runs work as a task of the kernel's own, ``clock`` gives nanoseconds, ``call_at``
    rings at one. ``background``: how many dirty pages may lie there (vm.dirty_background_ratio); ``dirtied`` are the files that
    have something dirty, with since when, in that order. Each filesystem has one task at most that writes."""

    def __init__(
        self,
        clock: Callable[[], int],
        call_at: Callable[[int, Callable[[], None]], None],
        start: Callable[[Work], None],
        background: int,
    ) -> None:
        self.clock = clock
        self.call_at = call_at
        self.start = start
        self.background = background
        self.dirtied: dict[PageCache, int] = {}
        self.running: set[Super] = set()
        self._expire = 30.0
        self._interval = 5.0
        self._first = 0  # when there was something dirty for the first time: ticks are counted from there
        self._due: int | None = None

    @property
    def dirty_expire(self) -> float:
        """After how many seconds what is dirty is written (vm.dirty_expire_centisecs)."""
        return self._expire

    @dirty_expire.setter
    def dirty_expire(self, seconds: float) -> None:
        self._expire = seconds
        self._arm()

    @property
    def dirty_writeback(self) -> float:
        """Every how many seconds that is looked at (vm.dirty_writeback_centisecs); 0: never."""
        return self._interval

    @dirty_writeback.setter
    def dirty_writeback(self, seconds: float) -> None:
        self._interval = seconds
        self._arm()

    def note(self, cache: PageCache) -> None:
        """A file that was clean is about to be dirty."""
        now = self.clock()
        if not self.dirtied:
            self._first = now
        self.dirtied[cache] = now
        self._arm()

    def forget(self, cache: PageCache) -> None:
        """It is clean."""
        self.dirtied.pop(cache, None)

    def too_many(self, sb: Super) -> None:
        """There are more dirty pages than may lie in the background: the filesystem of the last one writes all its own, as
        each on Linux has its own ``bdi_writeback``, and the one that is written to starts it (balance_dirty_pages)."""
        if sb not in self.running:
            self._run([cache for cache in self.dirtied if cache.inode.sb is sb])

    def _arm(self) -> None:
        """Have it ring at the first tick at which something will have been dirty for too long."""
        since = next((since for cache, since in self.dirtied.items() if cache.inode.sb not in self.running), None)
        if since is None or self._interval <= 0:
            self._due = None
            return
        oldest = since + int(self._expire * NANO)
        interval = int(self._interval * NANO)
        due = self._first + max(1, -(-(oldest - self._first) // interval)) * interval
        if due != self._due:
            self._due = due
            self.call_at(due, lambda: self._ring(due))

    def _ring(self, due: int) -> None:
        if due != self._due:
            return  # it was set anew
        self._due = None
        since = self.clock() - int(self._expire * NANO)
        self._run([cache for cache, at in self.dirtied.items() if at <= since])
        self._arm()

    def _run(self, caches: Iterable[PageCache]) -> None:
        by_super: dict[Super, list[PageCache]] = {}
        for cache in caches:
            by_super.setdefault(cache.inode.sb, []).append(cache)
        for sb in [sb for sb in by_super if sb not in self.running]:
            self.running.add(sb)
            self.start(functools.partial(self._write, sb=sb, caches=by_super[sb]))

    async def _write(self, task: ProgramTask, sb: Super, caches: Iterable[PageCache]) -> None:
        try:
            for cache in caches:
                self.dirtied.pop(cache, None)
                inode = cache.inode
                if not inode.grab():
                    continue  # it has gone while another was written
                try:
                    await inode.sb.write_inode(task, inode)
                except OSError:
                    continue  # fsync(2) and close(2) tell of it
                finally:
                    if cache.is_dirty:  # written to meanwhile, or it could not be sent
                        self.dirtied.setdefault(cache, self.clock())
                    inode.put(task)
        finally:
            self.running.discard(sb)
            self._arm()
