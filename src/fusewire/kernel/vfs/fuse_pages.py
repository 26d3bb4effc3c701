"""The FUSE operations on pages of files: ``fuse_readpage`` and its kin, as fs/fuse/file.c has them."""

from __future__ import annotations

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, FOpenFlag, InitFlag, Opcode
from ...wire.layouts import READ_IN, ReadIn
from ..queue import traced
from .files import File
from .fuse_base import bad_inode
from .fuse_readdir import FuseReaddir
from .inode import BAD, STATX_ATIME, Inode
from .page_cache import Page, PageCache, PageLru
from .program import ProgramTask


class FusePages(FuseReaddir):
    """What fills the page cache. ``lru`` has the pages of all mounts of one kernel."""

    lru: PageLru

    def page_cache(self, inode: Inode) -> PageCache:
        if inode.pages is None:
            inode.pages = PageCache(inode, self.lru)
        return inode.pages

    @traced("fuse_file_mmap")
    async def mmap(self, task: ProgramTask, file: File, shared: bool) -> None:
        if file.open_flags & FOpenFlag.DIRECT_IO and shared and not self.flags & InitFlag.DIRECT_IO_ALLOW_MMAP:
            raise OSError(int(Errno.ENODEV), "No such device: the daemon opened it for direct I/O")

    @traced("fuse_readpage")
    async def readpage(self, task: ProgramTask, file: File, page: Page) -> None:
        """Fill a page that the task has locked."""
        inode = file.inode
        if inode.state & BAD:
            raise bad_inode()
        task.step("queue READ request")
        asked = ReadIn(file.fh, page.index * PAGE_SIZE, PAGE_SIZE, flags=file.flags)
        size = await self.ask_for_data(task, Opcode.READ, inode.nodeid, page.memory, self.pack(READ_IN, asked))
        page.memory[size:] = bytes(PAGE_SIZE - size)
        page.uptodate = True
        inode.inval_mask |= STATX_ATIME

    async def page_mkwrite(self, task: ProgramTask, file: File, page: Page) -> None:
        """A program is about to write to a page that it has mapped shared, and that the task has locked."""
        page.dirty = True
