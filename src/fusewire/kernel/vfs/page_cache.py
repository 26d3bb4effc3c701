"""The page cache: ``struct folio`` and ``struct address_space`` of Linux, as mm/filemap.c has them.

A page is locked by who fills it or takes it away: a task, or a request in the background until it ends. Who waits for the
lock knows who has it, so the wait-for graph sees the page. Lock order: the inode's semaphore, then pages by their index.
A page that was taken out of its cache has no ``cache`` any more: who waited for its lock looks for another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakSet

from ...wire.flags import PAGE_SIZE
from ..queue import Args, Connection, Mode, Semaphore, Task, WaitQueue

if TYPE_CHECKING:
    from .files import File
    from .flusher import Flusher
    from .inode import Inode

SCANNED = 128  # pages that are looked at to find one that can go
PAGE_LIMIT = 1 << 16  # pages, 256 MiB: what a kernel caches before it gives up what was not used for longest


class Io:
    """A request in the background that has pages locked, or under writeback, until it ends. ``sender`` is about to queue
    it; ``args`` is set once it has been."""

    __slots__ = ("args", "connection", "sender")

    events = None  # nobody's steps

    def __init__(self, connection: Connection, sender: Task) -> None:
        self.connection = connection
        self.sender = sender
        self.args: Args | None = None

    def answerers(self) -> Iterable[Task] | None:
        """Who could end it; None: its time does."""
        if self.args is None:
            return (self.sender,)
        fc = self.connection
        for req in fc.under_way():
            if req.args is self.args:
                return None if req in fc.timeouts.deadlines else fc.answerers(req)
        return fc.serving()


class Page(Semaphore):
    """One page: its lock (a page is one), its memory, and what is known of it.

    ``uptodate``: the memory holds the file's contents; ``dirty``: a program changed it and the daemon does not know yet;
    ``writeback``: the WRITE that tells it is under way; ``readahead``: who reads it has more read ahead; ``referenced``:
    it was used since somebody last looked for a page to give up.
    """

    __slots__ = ("cache", "dirty", "index", "memory", "readahead", "referenced", "uptodate", "writeback")

    def __init__(self, cache: PageCache, index: int, memory: memoryview) -> None:
        self.connection = cache.inode.sb.connection
        self.owner = None
        self.waiters = deque()
        self.cache: PageCache | None = cache
        self.index = index
        self.memory = memory
        self.uptodate = self.dirty = self.readahead = self.referenced = False
        self.writeback: Io | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        cache = self.cache
        return f"page {self.index} of {cache.name if cache is not None else 'what was cut off'}"

    def try_lock(self, by: Task | Io) -> bool:
        """Lock it, if nobody has."""
        if self.owner is not None:
            return False
        self.owner = by  # type: ignore[assignment]  # what is said of an owner here: who could end it (_enders)
        return True

    async def lock(self, task: Task, mode: Mode | None = None) -> None:
        """``lock_page``: lock it, or sleep until it is ours. Raises :class:`Interrupted` for a signal that ``mode`` lets
        through, ENOTCONN for an abort."""
        if task.events is not None:
            task.step("lock page")
        if not self.try_lock(task):
            await self.acquire(task, mode)
        elif task.points:
            await task.point("page locked")

    def unlock(self, by: Task | Io) -> None:
        """``unlock_page``."""
        if self.owner is not by:
            raise AssertionError(f"{by!r} unlocks {self.name}, which {self.owner!r} has")
        if isinstance(by, Task) and by.events is not None:
            by.step("unlock page")
        self.hand_over()

    def _enders(self) -> Iterable[Task] | None:
        owner: object = self.owner
        return owner.answerers() if isinstance(owner, Io) else super()._enders()


class PageLru:
    """All pages of a kernel, the oldest first; beyond ``limit`` the clean ones that were not used are given up."""

    def __init__(self, limit: int = PAGE_LIMIT) -> None:
        self.limit = limit
        self.dirty_limit = limit // 5  # as vm.dirty_ratio: who makes more dirty waits until they are written
        self.pages: dict[Page, None] = {}
        self.dirty = 0
        self.flusher: Flusher | None = None

    def count_dirty(self, cache: PageCache) -> None:
        """One more, of that file."""
        self.dirty += 1
        if self.flusher is not None and self.dirty > self.flusher.background:
            self.flusher.too_many(cache.inode.sb)

    def add(self, page: Page) -> None:
        if len(self.pages) >= self.limit:
            self._shrink()  # before it is one of them: whoever adds it has yet to lock it
        self.pages[page] = None

    def _shrink(self) -> None:
        """A second chance for who was used, and none lost for who is busy; where nobody is found soon, there is one more."""
        for _ in range(min(2 * len(self.pages), SCANNED)):
            if len(self.pages) < self.limit:
                break
            page = next(iter(self.pages))
            if page.cache is not None and (page.referenced or busy(page)):
                page.referenced = False
                del self.pages[page]
                self.pages[page] = None
            else:
                self.drop(page)

    def drop(self, page: Page) -> None:
        if page.cache is not None:
            page.cache.remove(page)

    def dirty_files(self) -> list[PageCache]:
        """Of which the daemon is still to hear something, or is hearing it: what was dirty first comes first."""
        files = dict.fromkeys(self.flusher.dirtied) if self.flusher is not None else {}
        for page in self.pages:
            if page.cache is not None and (page.dirty or page.writeback is not None):
                files[page.cache] = None
        return list(files)

    def drop_clean(self) -> None:
        """As drop_caches does: whatever nobody works on and the daemon can give again."""
        for page in list(self.pages):
            if not busy(page):
                self.drop(page)


def busy(page: Page) -> bool:
    """Whether it cannot be given up now."""
    return page.dirty or page.owner is not None or page.writeback is not None


class Copy:
    """A page of a private mapping that was written to, and so is the program's own; ``gone`` when the file ends before it."""

    __slots__ = ("__weakref__", "gone", "index", "memory")

    def __init__(self, cache: PageCache, index: int, memory: memoryview) -> None:
        self.index = index
        self.memory = memoryview(bytearray(memory))
        self.gone = False
        cache.copies.add(self)


class PageCache:
    """The cached pages of one inode (``address_space`` in Linux), by their index.

    ``dirty`` are the indices of dirty pages; ``writebacks`` the WRITEs of them that are under way; ``write_files`` the open
    files whose handles those may carry. ``wb_errors`` counts writes that failed, the last with ``wb_errno``: fsync(2) tells
    each open file of it once, close(2) (``wb_failed``) whoever closes next. ``times_dirty``: the kernel's own mtime is
    newer than the daemon's. ``copies`` are the pages that programs have copied on write.
    """

    def __init__(self, inode: Inode, lru: PageLru) -> None:
        self.inode = inode
        self.lru = lru
        self.pages: dict[int, Page] = {}
        self.dirty: set[int] = set()
        self.writebacks: dict[Io, tuple[int, int]] = {}
        self.writeback_waitq = WaitQueue("writeback")
        self.write_files: list[File] = []
        self.wb_errors = 0
        self.wb_errno = 0
        self.wb_failed = False
        self.times_dirty = False
        self.copies: WeakSet[Copy] = WeakSet()

    @property
    def name(self) -> str:
        """What people call the file."""
        aliases = self.inode.aliases
        return f'"{aliases[0].name.decode("utf-8", "backslashreplace")}"' if aliases else f"node {self.inode.nodeid}"

    def find_or_create(self, task: Task, index: int) -> Page:
        """The page of that index, which may be in any state."""
        if task.events is not None:
            task.step("find or create page")
        return self.pages.get(index) or self.add(index, memoryview(bytearray(PAGE_SIZE)))

    def add(self, index: int, memory: memoryview) -> Page:
        page = self.pages[index] = Page(self, index, memory)
        self.lru.add(page)
        return page

    def remove(self, page: Page) -> None:
        """Nobody finds it any more; who has it mapped faults anew."""
        self.clean(page)
        del self.pages[page.index]
        self.lru.pages.pop(page, None)
        page.cache = None

    def soil(self, page: Page) -> None:
        """``folio_mark_dirty``."""
        if not page.dirty:
            self.about_to_be_dirty()
            page.dirty = True
            self.dirty.add(page.index)
            self.lru.count_dirty(self)

    @property
    def is_dirty(self) -> bool:
        """Whether the daemon is still to hear of something."""
        return bool(self.dirty) or self.times_dirty

    def about_to_be_dirty(self) -> None:
        """Its pages, or its times."""
        if self.lru.flusher is not None and not self.is_dirty:
            self.lru.flusher.note(self)

    def clean(self, page: Page) -> None:
        """It is dirty no longer: who has it mapped and writes to it again faults."""
        if page.dirty:
            page.dirty = False
            self.dirty.discard(page.index)
            self.lru.dirty -= 1
            self.maybe_clean()

    def maybe_clean(self) -> None:
        """A page, or the times, are dirty no longer."""
        if self.lru.flusher is not None and not self.is_dirty:
            self.lru.flusher.forget(self)

    def within(self, first: int, last: int | None) -> list[Page]:
        """The cached pages from index ``first`` to ``last`` (None: to the end), by their index."""
        pages = self.pages
        if last is not None and last - first < len(pages):
            return [page for index in range(first, last + 1) if (page := pages.get(index)) is not None]
        return [pages[index] for index in sorted(pages) if index >= first and (last is None or index <= last)]

    def written(self, first: int, last: int | None) -> list[Io]:
        """The WRITEs of pages in this range that are under way."""
        return [io for io, (lo, hi) in self.writebacks.items() if hi >= first and (last is None or lo <= last)]

    # -- without waiting --------------------------------------------------------------------------------------------

    def peek(self, into: memoryview, offset: int) -> int:
        """Copy what is there from ``offset`` on, as far as it is without a gap; nothing else comes of that."""
        done = 0
        while done < len(into):
            page = self.pages.get((offset + done) // PAGE_SIZE)
            if page is None or not page.uptodate:
                break
            skip = (offset + done) % PAGE_SIZE
            part = page.memory[skip : skip + len(into) - done]
            into[done : done + len(part)] = part
            done += len(part)
        return done

    def read(self, into: memoryview, offset: int, size: int) -> int:
        """Copy what is there from ``offset`` on, as far as it is without a gap, of a file of ``size`` bytes; stops at a page
        from which on more is to be read ahead. (A program reads: this is where each of its reads comes by.)"""
        pages = self.pages
        done, left = 0, min(len(into), size - offset)
        while left > 0:
            page = pages.get(offset // PAGE_SIZE)
            if page is None or not page.uptodate or page.readahead:
                break
            page.referenced = True
            skip = offset % PAGE_SIZE
            count = min(PAGE_SIZE - skip, left)
            into[done : done + count] = page.memory if count == PAGE_SIZE else page.memory[skip : skip + count]
            done += count
            offset += count
            left -= count
        return done

    def truncate(self, size: int) -> None:
        """``truncate_pagecache``: the file ends at ``size`` bytes. Who waits for a page that was cut off finds that out; a
        program's own copy of one is gone, too."""
        first = -(-size // PAGE_SIZE)
        for page in self.within(first, None):
            self.remove(page)
        for copy in list(self.copies):
            copy.gone = copy.gone or copy.index >= first
        self.zero(size, size + -size % PAGE_SIZE)

    def resize(self, old: int, new: int) -> None:
        """The file's end moves. What lay behind the old one, written to mapped memory, never was in it."""
        if new > old:
            self.zero(old, old + -old % PAGE_SIZE)
        else:
            self.truncate(new)

    def zero(self, start: int, end: int) -> None:
        """What is cached of these bytes reads as zeros; pages that lie wholly in there go."""
        for page in self.within(start // PAGE_SIZE, (end - 1) // PAGE_SIZE) if start < end else ():
            lo = max(start - page.index * PAGE_SIZE, 0)
            hi = min(end - page.index * PAGE_SIZE, PAGE_SIZE)
            if hi - lo == PAGE_SIZE:
                self.remove(page)
            elif page.uptodate:
                page.memory[lo:hi] = bytes(hi - lo)

    def drop(self) -> None:
        """What is cached may be of before: pages that nobody changed are read anew. (Where Linux would wait for a page that
        is being read: it is taken out, and who waits for it reads it anew.)"""
        for page in self.within(0, None):
            if not page.dirty and page.writeback is None:
                self.remove(page)
