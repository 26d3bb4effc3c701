"""The FUSE operations on open files, as fs/fuse/file.c has them: open, read, write, flush, release, ...

Reads and writes go through the page cache, but for files that are direct (FOPEN_DIRECT_IO, O_DIRECT); ``inode.semaphore``
is held by all that changes a file's size.
"""

from __future__ import annotations

import errno
import os

from ...wire.flags import (
    PAGE_SIZE,
    FAttr,
    FOpenFlag,
    FsyncFlag,
    InitFlag,
    Opcode,
    OpenInFlag,
    ReleaseFlag,
)
from ...wire.layouts import (
    FLUSH_IN,
    FSYNC_IN,
    OPEN_IN,
    OPEN_OUT,
    FlushIn,
    FsyncIn,
    OpenIn,
    OpenOut,
    ReleaseIn,
    SetattrIn,
)
from ..queue import Interrupted, traced
from .files import File, put_file
from .fuse_base import bad_inode
from .fuse_io import is_direct
from .fuse_writeback import FuseWriteback
from .inode import BAD, STATX_MODE, STATX_MODSIZE, STATX_SIZE, Dentry, Inode
from .open_flags import opened, sent
from .permission import SUID_SGID
from .program import ProgramTask

_PARALLEL = int(FOpenFlag.DIRECT_IO | FOpenFlag.PARALLEL_DIRECT_WRITES)


class FuseFile(FuseWriteback):
    """Operations by open file."""

    @traced("fuse_open")
    async def open(self, task: ProgramTask, dentry: Dentry, flags: int) -> File:
        inode = dentry.positive
        if inode.state & BAD:
            raise bad_inode()
        if inode.is_dir:
            return await self.open_directory(task, dentry, flags)
        atomic = bool(self.flags & InitFlag.ATOMIC_O_TRUNC)
        asked = sent(flags)
        if not atomic:
            asked &= ~os.O_TRUNC
        file = await self._open(task, dentry, flags, asked)
        if flags & os.O_TRUNC:
            try:
                await self._open_truncated(task, file, atomic)
            except BaseException:
                await put_file(task, file)
                raise
        else:
            await self._finish_open(task, file)
        return file

    async def create(self, task: ProgramTask, parent: Dentry, name: bytes, flags: int, mode: int) -> File | None:
        file = await super().create(task, parent, name, flags, mode)
        if file is not None:
            await self._finish_open(task, file)
        return file

    async def tmpfile(self, task: ProgramTask, parent: Dentry, flags: int, mode: int) -> File:
        file = await super().tmpfile(task, parent, flags, mode)
        await self._finish_open(task, file)
        return file

    async def _finish_open(self, task: ProgramTask, file: File) -> None:
        """What is cached from before is not this open's, unless the daemon says that it may be (KEEP_CACHE)."""
        inode = file.inode
        if inode.pages is not None:
            file.wb_seen = inode.pages.wb_errors
            if not file.open_flags & FOpenFlag.KEEP_CACHE:
                try:
                    await self.invalidate_inode_pages2(task, inode)
                except BaseException:
                    await put_file(task, file)
                    raise
        if self.writeback_cache and file.writable:
            self.link_write_file(file)

    async def _open(self, task: ProgramTask, dentry: Dentry, flags: int, asked: int) -> File:
        inode = dentry.positive
        if Opcode.OPEN not in self.missing:
            kill = asked & os.O_TRUNC and self.flags & InitFlag.HANDLE_KILLPRIV_V2 and not task.cred.capable
            body = OPEN_IN.pack(OpenIn(asked, OpenInFlag.KILL_SUIDGID if kill else 0))
            try:
                out = await self.ask_for(
                    task, Opcode.OPEN, inode.nodeid, OPEN_OUT, body,
                    late=lambda body: self.release_late(Opcode.RELEASE, inode.nodeid, body),
                )  # fmt: skip
                return opened(dentry, flags, out)
            except OSError as failed:
                if failed.errno != errno.ENOSYS:
                    raise
                self.missing.add(Opcode.OPEN)
        return opened(dentry, flags, OpenOut(0, FOpenFlag.KEEP_CACHE), asked=False)

    async def _open_truncated(self, task: ProgramTask, file: File, atomic: bool) -> None:
        inode = file.inode
        if self.writeback_cache:
            self.link_write_file(file)
        await self.remove_privs(task, inode)
        if not atomic:
            await self.setattr(task, file.dentry, SetattrIn(FAttr.SIZE, size=0))
            return
        self.changed_attr(inode)
        inode.attr = inode.attr._replace(size=0)
        if inode.pages is not None:
            inode.pages.truncate(0)
        self.update_time(inode)
        inode.invalidate(STATX_MODSIZE)

    # -- reading and writing ----------------------------------------------------------------------------------------

    @traced("fuse_read")
    async def read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        inode = file.inode
        if inode.state & BAD:
            raise bad_inode()
        if not is_direct(file):
            return await self.cache_read(task, file, into, offset)
        if inode.pages is not None and len(into):
            await self.write_and_wait(task, inode, offset // PAGE_SIZE, (offset + len(into) - 1) // PAGE_SIZE)
        return await self.direct_read(task, file, into, offset)

    @traced("fuse_write")
    async def write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> tuple[int, int]:
        inode = file.inode
        if inode.state & BAD:
            raise bad_inode()
        if (
            file.open_flags & _PARALLEL == _PARALLEL
            and not file.flags & os.O_APPEND
            and offset + len(data) <= inode.attr.size
        ):
            return await self._direct_write(task, file, data, offset), offset + len(data)
        if self.writeback_cache and not is_direct(file):
            await self.getattr(task, inode, file, STATX_MODE)
        await inode.semaphore.acquire(task)
        try:
            if file.flags & os.O_APPEND:
                await self.getattr(task, inode, file, STATX_SIZE)
                offset = inode.attr.size
            if not file.open_flags & FOpenFlag.DIRECT_IO:
                await self.remove_privs(task, inode)
                self.update_time(inode)
            if is_direct(file):
                done = await self._direct_write(task, file, data, offset)
            elif self.writeback_cache and not self._drops_set_id(task, inode):
                done = await self.cache_write(task, file, data, offset)
            else:
                done = await self.perform_write(task, file, data, offset)
        finally:
            inode.semaphore.release(task)
        if file.flags & os.O_DSYNC and not is_direct(file):
            await self.fsync(task, file, file.flags & os.O_SYNC != os.O_SYNC)
        return done, offset + done

    def _drops_set_id(self, task: ProgramTask, inode: Inode) -> bool:
        """Whether the daemon is to clear set-ID bits with this write: then it is to hear of it now."""
        v2 = self.flags & InitFlag.HANDLE_KILLPRIV_V2
        return bool(inode.mode & SUID_SGID and v2 and not task.cred.capable)

    async def _direct_write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> int:
        """What is cached of these bytes is of before, then; and what was dirty in their pages comes first."""
        first, last = offset // PAGE_SIZE, (offset + len(data) - 1) // PAGE_SIZE
        cached = file.inode.pages is not None
        if cached:
            await self.write_and_wait(task, file.inode, first, last)
            await self.invalidate_inode_pages2(task, file.inode, first, last)
        done = await self.direct_write(task, file, data, offset)
        if cached:
            await self.invalidate_inode_pages2(task, file.inode, first, last)
        return done

    # -- closing ----------------------------------------------------------------------------------------------------

    @traced("fuse_flush")
    async def flush(self, task: ProgramTask, file: File) -> None:
        if file.inode.is_dir or (file.open_flags & FOpenFlag.NOFLUSH and not self.writeback_cache):
            return
        if file.inode.state & BAD:
            raise bad_inode()
        if file.inode.pages is not None:
            try:
                await self.write_inode_now(task, file.inode)
            except Interrupted:
                pass  # who is killed here leaves the WRITEs behind, and FLUSH is sent all the same
            self.check_writeback_once(file.inode)
        body = FLUSH_IN.pack(FlushIn(file.fh, lock_owner=self.lock_owner(task.program.files)))
        await self.ask_once(task, Opcode.FLUSH, file.inode, body, force=True)

    async def release(self, task: ProgramTask, file: File) -> None:
        cache = file.inode.pages
        if cache is not None and file in cache.write_files:
            cache.write_files.remove(file)
        if not file.opened:
            return
        opcode = Opcode.RELEASEDIR if file.inode.is_dir else Opcode.RELEASE
        flags = ReleaseFlag.FLOCK_UNLOCK if file.flocked else 0
        owner = self.lock_owner(file) if file.flocked else 0
        release = ReleaseIn(file.fh, file.flags | os.O_RDONLY, flags, owner)
        self.send_release(task, opcode, file.inode.nodeid, release)

    @traced("fuse_fsync")
    async def fsync(self, task: ProgramTask, file: File, datasync: bool) -> None:
        opcode = Opcode.FSYNCDIR if file.inode.is_dir else Opcode.FSYNC
        body = FSYNC_IN.pack(FsyncIn(file.fh, FsyncFlag.FDATASYNC if datasync else 0))
        await file.inode.semaphore.acquire(task)
        try:
            await self.write_inode_now(task, file.inode)
            self.check_writeback(file)
            await self.ask_once(task, opcode, file.inode, body)
        finally:
            file.inode.semaphore.release(task)
