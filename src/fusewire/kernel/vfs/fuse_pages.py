"""The FUSE operations that fill the page cache: ``fuse_readpage``, ``fuse_readahead``, ``fuse_cache_read_iter``, as
fs/fuse/file.c and mm/filemap.c have them."""

from __future__ import annotations

from collections.abc import Callable

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, Opcode
from ...wire.layouts import READ_IN, ReadIn
from ..queue import Args, Interrupted, traced
from .address_space import MADV_RANDOM, MADV_SEQUENTIAL, fault_mode
from .files import File
from .fuse_base import bad_inode
from .fuse_io import FuseIo
from .inode import BAD, STATX_ATIME, STATX_SIZE, Inode
from .page_cache import Io, Page, PageCache
from .program import ProgramTask
from .readahead import Readahead

Ended = Callable[[int, int], None]


class FusePages(FuseIo):
    """Reading by pages."""

    def page_cache(self, inode: Inode) -> PageCache:
        if inode.pages is None:
            inode.pages = PageCache(inode, self.lru)
        return inode.pages

    # -- one page -----------------------------------------------------------------------------------------------------

    @traced("fuse_readpage")
    async def readpage(self, task: ProgramTask, file: File, page: Page) -> None:
        """Fill a page that the task has locked."""
        inode = file.inode
        if inode.state & BAD:
            raise bad_inode()
        await self.wait_writeback(task, inode, page.index, page.index)
        version = self.attr_version
        task.step("queue READ request")
        asked = self.pack(READ_IN, ReadIn(file.fh, page.index * PAGE_SIZE, PAGE_SIZE, flags=file.flags))
        size = await self.ask_for_data(task, Opcode.READ, inode.nodeid, page.memory, asked)
        self._filled(inode, page.index * PAGE_SIZE, page.memory, size, version)
        page.uptodate = True

    def _filled(self, inode: Inode, offset: int, memory: memoryview, size: int, version: int) -> None:
        """READ was answered, with ``size`` bytes: the rest is zeros, and the file's end (``fuse_short_read``)."""
        if size < len(memory):
            memory[size:] = bytes(len(memory) - size)
            end = offset + size
            if not self.writeback_cache and version >= inode.attr_version and end < inode.attr.size:
                self.changed_attr(inode)
                inode.attr = inode.attr._replace(size=end)
        inode.inval_mask |= STATX_ATIME

    # -- read(2) ------------------------------------------------------------------------------------------------------

    async def cache_read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        """``fuse_cache_read_iter``: the file's size is asked for where it may be out of date and matters."""
        inode = file.inode
        beyond = offset + len(into) > inode.attr.size
        if (self.auto_inval_data or beyond) and not self._fresh(inode, STATX_SIZE, 0):
            await self.getattr(task, inode, file, STATX_SIZE)
        cache = inode.pages or self.page_cache(inode)
        done = cache.read(into, offset, inode.attr.size)
        if done < len(into) and offset + done < inode.attr.size:
            return await self._filemap_read(task, file, cache, into, offset, done)
        return done

    async def _filemap_read(
        self, task: ProgramTask, file: File, cache: PageCache, into: memoryview, offset: int, done: int
    ) -> int:
        """``filemap_read``: what is not there is read, page by page or ahead."""
        inode = file.inode
        last = (offset + len(into) - 1) // PAGE_SIZE
        try:
            while done < len(into) and offset + done < inode.attr.size:
                await self._get_page(task, file, cache, (offset + done) // PAGE_SIZE, last)
                done += cache.read(into[done:], offset + done, inode.attr.size)
        except OSError:
            if not done:
                raise
        if file.ra is not None:
            file.ra.prev = (offset + done - 1) // PAGE_SIZE
        return done

    async def _get_page(self, task: ProgramTask, file: File, cache: PageCache, index: int, last: int) -> None:
        """``filemap_get_pages``: have page ``index`` there. ``last`` is where the reader will end."""
        page = cache.pages.get(index)
        if page is None:
            if self.ra_pages:
                await self._readahead(task, file, cache, index, last + 1 - index, None)
        elif page.readahead:
            page.readahead = False
            if not self.connection.background.congested:
                await self._readahead(task, file, cache, index, last + 1 - index, page)
        page = cache.find_or_create(task, index)
        if page.uptodate:
            return
        await page.lock(task, fault_mode(page))
        try:
            if page.cache is cache and not page.uptodate:  # nobody reads it ahead, or that failed
                await self.readpage(task, file, page)
        finally:
            page.unlock(task)

    # -- ahead --------------------------------------------------------------------------------------------------------

    async def _readahead(
        self, task: ProgramTask, file: File, cache: PageCache, index: int, wanted: int, marked: Page | None
    ) -> None:
        if file.ra is None:
            file.ra = Readahead()
        limit = self.ra_pages * file.ra.scale
        if marked is None and file.ra.random:
            window: tuple[int, int, int | None] = index, wanted, None
        elif marked is None:
            window = file.ra.on_miss(cache, index, wanted, limit)
        else:
            found = file.ra.on_mark(cache, index, wanted, limit)
            if found is None:
                return
            window = found
        await self._read_window(task, file, cache, *window)

    async def fault_readahead(self, task: ProgramTask, file: File, cache: PageCache, index: int, advice: int) -> None:
        """``do_sync_mmap_readahead`` and ``do_async_mmap_readahead``: mapped memory is touched at page ``index``."""
        if advice == MADV_RANDOM or not self.ra_pages:
            return
        if file.ra is None:
            file.ra = Readahead()
        limit = self.ra_pages * file.ra.scale
        page = cache.pages.get(index)
        window: tuple[int, int, int | None] | None = None
        if page is None and advice == MADV_SEQUENTIAL:
            window = file.ra.on_miss(cache, index, limit, limit)
        elif page is None:
            window = file.ra.on_fault(index, limit)
        else:
            file.ra.hit(1)
            if page.readahead:
                page.readahead = False
                if not self.connection.background.congested:
                    window = file.ra.on_mark(cache, index, limit, limit)
        if window is not None:
            await self._read_window(task, file, cache, *window)

    async def willneed(self, task: ProgramTask, file: File, index: int, count: int) -> None:
        """``force_page_cache_ra``: MADV_WILLNEED, POSIX_FADV_WILLNEED."""
        await self._read_window(task, file, self.page_cache(file.inode), index, min(count, self.ra_pages), None)

    async def _read_window(
        self, task: ProgramTask, file: File, cache: PageCache, start: int, count: int, mark: int | None
    ) -> None:
        end = min(start + count, -(-cache.inode.attr.size // PAGE_SIZE))
        await self._fuse_readahead(task, file, cache, start, end, mark)

    @traced("fuse_readahead")
    async def _fuse_readahead(
        self, task: ProgramTask, file: File, cache: PageCache, start: int, end: int, mark: int | None
    ) -> None:
        """READs for what is not there of the pages from ``start`` to before ``end``; each as long as one may be."""
        most = max(1, self.max_read // PAGE_SIZE)
        while start < end:
            if start in cache.pages:
                start += 1
                continue
            stop = start + 1
            while stop < end and stop - start < most and stop not in cache.pages:
                stop += 1
            if cache.written(start, stop - 1):
                await self.wait_writeback(task, cache.inode, start, stop - 1)
                continue  # who knows what is there now
            await self._read_run(task, file, cache, start, stop, mark)
            start = stop

    async def _read_run(
        self, task: ProgramTask, file: File, cache: PageCache, start: int, stop: int, mark: int | None
    ) -> None:
        """One READ of pages that are side by side, in the background if the daemon allows that (ASYNC_READ). They are
        locked until it ends. One piece of memory is the request's, and its pages are theirs."""
        inode = cache.inode
        memory = memoryview(bytearray((stop - start) * PAGE_SIZE))
        io = Io(self.connection, task) if self.async_read else None
        pages = []
        for index in range(start, stop):
            at = (index - start) * PAGE_SIZE
            page = cache.add(index, memory[at : at + PAGE_SIZE])
            page.try_lock(io or task)
            page.readahead = index == mark
            pages.append(page)
        version = self.attr_version

        def ended(error: int, size: int) -> None:
            if not error:
                self._filled(inode, start * PAGE_SIZE, memory, size, version)
            for page in pages:
                page.uptodate = not error
                page.unlock(io or task)
            if io is not None:
                inode.put(None)

        asked = self.pack(READ_IN, ReadIn(file.fh, start * PAGE_SIZE, len(memory), flags=file.flags))
        args = Args(Opcode.READ, inode.nodeid, (asked,), memory, argvar=True, end=ended, creds=task.creds)
        if io is None:
            await self._read_in_front(task, args, ended)
        else:
            await self._read_behind(task, args, io, inode, pages)

    async def _read_behind(self, task: ProgramTask, args: Args, io: Io, inode: Inode, pages: list[Page]) -> None:
        inode.count += 1
        try:
            await self.connection.request_send_background(task, args)
            io.args = args
        except BaseException:
            inode.put(task)
            _unlock_unread(io, pages)
            raise

    async def _read_in_front(self, task: ProgramTask, args: Args, ended: Ended) -> None:
        try:
            size = await self.connection.call(task, args)
        except Interrupted:
            ended(int(Errno.EINTR), 0)
            raise
        except OSError as failed:
            ended(failed.errno or int(Errno.EIO), 0)  # who needs one of the pages asks for that one, and hears of it
        else:
            ended(0, size)


def _unlock_unread(io: Io, pages: list[Page]) -> None:
    for page in pages:
        if page.cache is not None:
            page.cache.remove(page)
        page.unlock(io)
