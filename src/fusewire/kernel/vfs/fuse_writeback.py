"""The FUSE operations that write pages: through the cache (``fuse_perform_write``), later (WRITEBACK_CACHE, and what a program
wrote to mapped memory: ``fuse_writepages``), and those that take pages out of it. As fs/fuse/file.c has them.

A WRITE of dirty pages carries what they hold when it is queued, and a page may be written to again meanwhile: then it is
dirty anew. Nobody sends a second WRITE of a page before the first has ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, FAttr, FOpenFlag, InitFlag, Opcode, WriteFlag
from ...wire.layouts import WRITE_IN, WRITE_OUT, SetattrIn, WriteIn
from ..queue import Args, Task, traced
from .files import File
from .fuse_base import NANO
from .fuse_pages import FusePages
from .inode import STATX_BLOCKS, STATX_CTIME, STATX_MTIME, Inode
from .page_cache import Io, Page, PageCache, busy
from .program import ProgramTask
from .readahead import Readahead


class FuseWriteback(FusePages):
    """Writing by pages."""

    # -- write(2), through --------------------------------------------------------------------------------------------

    @traced("fuse_perform_write")
    async def perform_write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> int:
        """Into the pages, and to the daemon: a WRITE for each stretch of pages that can be had at once."""
        cache = self.page_cache(file.inode)
        done = 0
        if offset > file.inode.attr.size:
            cache.resize(file.inode.attr.size, offset)
        try:
            while done < len(data):
                pages, count, locked = await self._fill_write_pages(task, cache, data[done:], offset + done)
                try:
                    written = await self._send_write_pages(task, file, pages, data[done : done + count], offset + done)
                finally:
                    if locked is not None:
                        locked.unlock(task)
                done += written
                if written < count:
                    break
        except OSError:
            if not done:
                raise
        finally:
            self.write_update_attr(file.inode, offset + done, done)
        return done

    async def _fill_write_pages(
        self, task: ProgramTask, cache: PageCache, data: memoryview, offset: int
    ) -> tuple[list[Page], int, Page | None]:
        """Copy into the pages, as much as one WRITE takes. A page of which only a part is known then cannot be read before
        the daemon has the rest: it stays locked, and is the last. Returns the pages, how many bytes, and that page."""
        pages: list[Page] = []
        most = min(len(data), self.max_write // PAGE_SIZE * PAGE_SIZE - offset % PAGE_SIZE)
        told = task.events is not None or task.points
        count = 0
        while count < most:
            index, skip = divmod(offset + count, PAGE_SIZE)
            size = min(PAGE_SIZE - skip, most - count)
            page = cache.find_or_create(task, index)
            if told or not page.try_lock(task):
                try:
                    await page.lock(task)
                except OSError:
                    if not count:
                        raise
                    break
            if page.cache is not cache:
                page.unlock(task)
                continue
            page.memory[skip : skip + size] = data[count : count + size]
            page.referenced = True
            pages.append(page)
            count += size
            if size == PAGE_SIZE:
                page.uptodate = True
            if not page.uptodate:
                return pages, count, page
            page.unlock(task)
        return pages, count, None

    async def _send_write_pages(
        self, task: ProgramTask, file: File, pages: list[Page], data: memoryview, offset: int
    ) -> int:
        written = 0
        try:
            await self.wait_writeback(task, file.inode, pages[0].index, pages[-1].index)
            written = await self.send_write(task, file, data, offset)
        finally:
            for page in pages:
                if page.index * PAGE_SIZE + PAGE_SIZE > offset + written and written < len(data):
                    page.uptodate = False  # the daemon has something else there
        return written

    # -- write(2), later ----------------------------------------------------------------------------------------------

    async def cache_write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> int:
        """WRITEBACK_CACHE: into the pages, which are dirty then. Size and mtime are the kernel's own."""
        inode = file.inode
        cache = self.page_cache(inode)
        if offset > inode.attr.size:
            cache.resize(inode.attr.size, offset)
        done = 0
        try:
            while done < len(data):
                index, skip = divmod(offset + done, PAGE_SIZE)
                size = min(PAGE_SIZE - skip, len(data) - done)
                page = await self._write_begin(task, file, cache, index, skip, size)
                page.memory[skip : skip + size] = data[done : done + size]
                page.referenced = True
                cache.soil(page)
                done += size
                if offset + done > inode.attr.size:
                    inode.attr = inode.attr._replace(size=offset + done)
                page.unlock(task)
                if self.lru.dirty > self.lru.dirty_limit:
                    await self.write_and_wait(task, inode)
        except OSError:
            if not done:
                raise
        return done

    async def _write_begin(
        self, task: ProgramTask, file: File, cache: PageCache, index: int, skip: int, size: int
    ) -> Page:
        """``fuse_write_begin``: the page, locked, and read first if a part of it is to stay."""
        while True:
            page = cache.find_or_create(task, index)
            await page.lock(task)
            try:
                if page.cache is cache and not page.uptodate and size < PAGE_SIZE:
                    if index * PAGE_SIZE >= cache.inode.attr.size:
                        page.memory[:] = bytes(PAGE_SIZE)
                    else:
                        await self.readpage(task, file, page)
                if page.cache is cache:
                    page.uptodate = True
                    return page
            except BaseException:
                page.unlock(task)
                raise
            page.unlock(task)

    def update_time(self, inode: Inode) -> None:
        """``file_update_time``, where the kernel's clock is the file's."""
        if self.writeback_cache:
            seconds, nanoseconds = divmod(time.time_ns(), NANO)
            inode.attr = inode.attr._replace(mtime=seconds, mtimensec=nanoseconds, ctime=seconds, ctimensec=nanoseconds)
            cache = self.page_cache(inode)
            cache.about_to_be_dirty()
            cache.times_dirty = True

    # -- writeback ----------------------------------------------------------------------------------------------------

    async def write_and_wait(self, task: Task, inode: Inode, first: int = 0, last: int | None = None) -> None:
        """``filemap_write_and_wait_range``: dirty pages of these indices go to the daemon, and have been answered."""
        cache = inode.pages
        if cache is None:
            return
        if cache.dirty:
            await self._writepages(task, cache, first, last)
        await self.wait_writeback(task, inode, first, last)

    async def wait_writeback(self, task: Task, inode: Inode, first: int = 0, last: int | None = None) -> None:
        """Until no WRITE of these pages is under way."""
        cache = inode.pages
        if cache is None or not cache.writebacks:
            return

        def enders() -> Iterable[Task] | None:
            tasks: dict[Task, None] = {}
            for answerers in (io.answerers() for io in cache.written(first, last)):
                if answerers is None:
                    return None
                tasks.update(dict.fromkeys(answerers))
            return tasks

        mode = self.connection.policy.forced
        await cache.writeback_waitq.wait_event(task, lambda: not cache.written(first, last), mode, enders)

    @traced("fuse_writepages")
    async def _writepages(self, task: Task, cache: PageCache, first: int, last: int | None) -> None:
        """Queue a WRITE for each stretch of dirty pages. The inode is held until they have ended."""
        dirty = sorted(index for index in cache.dirty if index >= first and (last is None or index <= last))
        most = max(1, self.max_write // PAGE_SIZE)
        while dirty:
            count = 1
            while count < len(dirty) and count < most and dirty[count] == dirty[0] + count:
                count += 1
            dirty = dirty[await self._write_run(task, cache, dirty[:count]) :]

    async def _write_run(self, task: Task, cache: PageCache, indices: list[int]) -> int:
        """Returns how many of the pages were seen to: those behind one that is not dirty any more are not."""
        await self.wait_writeback(task, cache.inode, indices[0], indices[-1])
        pages: list[Page] = []
        try:
            for index in indices:
                page = cache.pages.get(index)
                if page is None or not page.dirty:
                    break
                await page.lock(task)
                if not page.dirty or page.writeback is not None or page.cache is not cache:
                    page.unlock(task)
                    break
                pages.append(page)
            if pages:
                self._send_writepages(task, cache, pages)
        finally:
            for page in pages:
                page.unlock(task)
        if not pages:
            first = cache.pages.get(indices[0])
            return 0 if first is not None and first.dirty else 1
        return len(pages)

    def _send_writepages(self, task: Task, cache: PageCache, pages: list[Page]) -> None:
        """Pages that the task has locked become clean, and their WRITE is queued."""
        inode = cache.inode
        offset = pages[0].index * PAGE_SIZE
        for page in pages:
            cache.clean(page)
        size = min(len(pages) * PAGE_SIZE, inode.attr.size - offset)
        if size <= 0:
            return  # they lie behind the file's end
        if not cache.write_files:
            self._writeback_failed(cache, int(Errno.EIO))
            return
        file = cache.write_files[0]
        body = memoryview(b"".join(page.memory for page in pages))[:size]
        io = Io(self.connection, task)
        out = bytearray(WRITE_OUT.size)

        def ended(error: int, answered: int) -> None:
            if error or WRITE_OUT.unpack(out).size < size:
                self._writeback_failed(cache, error or int(Errno.EIO))
            for page in pages:
                if page.writeback is io:
                    page.writeback = None
            if not self.writeback_cache:
                inode.invalidate(STATX_MTIME | STATX_CTIME | STATX_BLOCKS)
            del cache.writebacks[io]
            cache.writeback_waitq.wake_all()
            inode.put(None)

        for page in pages:
            page.writeback = io
        cache.writebacks[io] = (pages[0].index, pages[-1].index)
        inode.count += 1
        asked = self.pack(WRITE_IN, WriteIn(file.fh, offset, size, WriteFlag.CACHE, 0, file.flags))
        args = Args(Opcode.WRITE, inode.nodeid, (asked, body), out, force=True, end=ended)
        io.args = args
        self.connection.send_forced(task, args)

    @staticmethod
    def _writeback_failed(cache: PageCache, error: int) -> None:
        cache.wb_errors += 1
        cache.wb_errno = error
        cache.wb_failed = True

    def check_writeback(self, file: File) -> None:
        """Raises the error of a WRITE that nobody could be told of, once for each open file (fsync)."""
        cache = file.inode.pages
        if cache is not None and file.wb_seen != cache.wb_errors:
            file.wb_seen = cache.wb_errors
            cache.wb_failed = False
            raise OSError(cache.wb_errno, "what was written before did not reach the daemon")

    def check_writeback_once(self, inode: Inode) -> None:
        """The same, told to whoever comes first (close)."""
        cache = inode.pages
        if cache is not None and cache.wb_failed:
            cache.wb_failed = False
            raise OSError(cache.wb_errno, "what was written before did not reach the daemon")

    async def write_inode_now(self, task: ProgramTask, inode: Inode) -> None:
        """Dirty pages, then the times of the kernel's own (``fuse_flush_times``), to the daemon."""
        cache = inode.pages
        if cache is None:
            return
        await self.write_and_wait(task, inode)
        await self._flush_times(task, cache)

    async def write_inode(self, task: ProgramTask, inode: Inode) -> None:
        """The same, without waiting for what it writes: nobody asked for it (WB_SYNC_NONE)."""
        cache = inode.pages
        if cache is not None:
            await self._writepages(task, cache, 0, None)
            await self._flush_times(task, cache)

    async def _flush_times(self, task: ProgramTask, cache: PageCache) -> None:
        inode = cache.inode
        if cache.times_dirty and cache.write_files:
            cache.times_dirty = False
            cache.maybe_clean()
            attr = inode.attr
            valid = FAttr.MTIME | FAttr.CTIME | FAttr.FH
            changes = SetattrIn(
                valid, fh=cache.write_files[0].fh, mtime=attr.mtime, mtimensec=attr.mtimensec, ctime=attr.ctime,
                ctimensec=attr.ctimensec,
            )  # fmt: skip
            await self._setattr(task, inode, changes)

    # -- mapped files ------------------------------------------------------------------------------------------------

    @traced("fuse_file_mmap")
    async def mmap(self, task: ProgramTask, file: File, shared: bool) -> None:
        if file.open_flags & FOpenFlag.DIRECT_IO:
            if shared and not self.flags & InitFlag.DIRECT_IO_ALLOW_MMAP:
                raise OSError(int(Errno.ENODEV), "No such device: the daemon opened it for direct I/O")
            await self.invalidate_inode_pages2(task, file.inode)
        if shared and file.writable:
            self.link_write_file(file)

    async def page_mkwrite(self, task: ProgramTask, file: File, page: Page) -> None:
        assert page.cache is not None
        self.update_time(file.inode)
        await self.wait_writeback(task, file.inode, page.index, page.index)
        page.cache.soil(page)

    def link_write_file(self, file: File) -> None:
        """Its handle may be used to write dirty pages."""
        files = self.page_cache(file.inode).write_files
        if file not in files:
            files.append(file)

    # -- taking pages out ---------------------------------------------------------------------------------------------

    async def fadvise(self, task: ProgramTask, file: File, start: int, end: int, advice: int) -> None:
        """``generic_fadvise``. POSIX_FADV_DONTNEED begins to write what is dirty, and forgets what is clean already, by whole
        pages; a part of a page goes only at the file's end."""
        inode = file.inode
        if file.ra is None:
            file.ra = Readahead()
        if advice in (os.POSIX_FADV_NORMAL, os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM):
            file.ra.scale = 2 if advice == os.POSIX_FADV_SEQUENTIAL else 1
            file.ra.random = advice == os.POSIX_FADV_RANDOM
        elif advice == os.POSIX_FADV_WILLNEED and inode.is_reg:
            await self.willneed(task, file, start // PAGE_SIZE, -(-end // PAGE_SIZE) - start // PAGE_SIZE)
        elif advice == os.POSIX_FADV_DONTNEED and inode.pages is not None:
            await self._writepages(task, inode.pages, start // PAGE_SIZE, (end - 1) // PAGE_SIZE)
            last = (end // PAGE_SIZE if end < inode.attr.size else -(-end // PAGE_SIZE)) - 1
            for page in inode.pages.within(-(-start // PAGE_SIZE), last):
                if not busy(page):
                    self.lru.drop(page)

    async def invalidate_inode_pages2(self, task: Task, inode: Inode, first: int = 0, last: int | None = None) -> None:
        """Nothing of these pages is cached any more. Who fills one, or writes it, is waited for, and what is dirty is written
        first: a daemon that does this while it owes one of those answers waits for itself."""
        cache = inode.pages
        if cache is None:
            return
        for page in cache.within(first, last):
            await self._invalidate(task, cache, page)

    async def _invalidate(self, task: Task, cache: PageCache, page: Page) -> None:
        while page.cache is cache:
            if busy(page):
                if page.dirty:
                    await self._writepages(task, cache, page.index, page.index)
                await self.wait_writeback(task, cache.inode, page.index, page.index)
                await page.lock(task)
                if not page.dirty and page.writeback is None and page.cache is cache:
                    cache.remove(page)
                page.unlock(task)
            else:
                cache.remove(page)
