"""The page cache: ``struct folio`` and ``struct address_space`` of Linux, as mm/filemap.c has them.

A page is locked by who fills it or takes it away: a task, or a request in the background until it ends. Who waits for the
lock knows who has it, so the wait-for graph sees the page. Lock order: the inode's semaphore, then pages by their index.
A page that was taken out of its cache has no ``cache`` any more: who waited for its lock looks for another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...wire.flags import PAGE_SIZE
from ..queue import Args, Connection, Mode, Semaphore, Task

if TYPE_CHECKING:
    from .inode import Inode

PAGE_LIMIT = 1 << 16  # pages, 256 MiB: what a kernel caches before it gives up what was not used for longest


class Io:
    """A request in the background that has pages locked, or under writeback, until it ends."""

    __slots__ = ("args", "connection")

    events = None  # nobody's steps

    def __init__(self, connection: Connection, args: Args) -> None:
        self.connection = connection
        self.args = args

    def answerers(self) -> Iterable[Task]:
        """Who could end it."""
        for req in self.connection.unused_list.in_use:
            if req.args is self.args:
                return self.connection.answerers(req) or ()
        return self.connection.serving()


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

    def _enders(self) -> Iterable[Task]:
        owner: object = self.owner
        return owner.answerers() if isinstance(owner, Io) else super()._enders()


class PageLru:
    """All pages of a kernel, the oldest first; beyond ``limit`` the clean ones that were not used are given up."""

    def __init__(self, limit: int = PAGE_LIMIT) -> None:
        self.limit = limit
        self.pages: dict[Page, None] = {}

    def add(self, page: Page) -> None:
        self.pages[page] = None
        if len(self.pages) > self.limit:
            self._shrink()

    def _shrink(self) -> None:
        """A second chance for who was used, and none lost for who is busy."""
        for _ in range(2 * len(self.pages)):
            if len(self.pages) <= self.limit:
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

    def drop_clean(self) -> None:
        """As drop_caches does: whatever nobody works on and the daemon can give again."""
        for page in list(self.pages):
            if not busy(page):
                self.drop(page)


def busy(page: Page) -> bool:
    """Whether it cannot be given up now."""
    return page.dirty or page.owner is not None or page.writeback is not None


class PageCache:
    """The cached pages of one inode (``address_space`` in Linux), by their index."""

    def __init__(self, inode: Inode, lru: PageLru) -> None:
        self.inode = inode
        self.lru = lru
        self.pages: dict[int, Page] = {}

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
        del self.pages[page.index]
        self.lru.pages.pop(page, None)
        page.cache = None
