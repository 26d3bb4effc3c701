"""The FUSE operations on open files, as fs/fuse/file.c has them: open, read, write, flush, release, ...

Reads and writes go to the daemon directly. ``read`` and ``write`` are where a page cache comes in, for files that are not
``direct`` (FOPEN_DIRECT_IO); ``inode.semaphore`` is held by all that changes a file's size.
"""

from __future__ import annotations

import errno
import os

from ...wire.errno import Errno
from ...wire.flags import FAttr, FOpenFlag, FsyncFlag, InitFlag, Opcode, OpenInFlag, ReadFlag, ReleaseFlag, WriteFlag
from ...wire.layouts import (
    FLUSH_IN,
    FSYNC_IN,
    OPEN_IN,
    OPEN_OUT,
    READ_IN,
    WRITE_IN,
    WRITE_OUT,
    FlushIn,
    FsyncIn,
    OpenIn,
    OpenOut,
    ReadIn,
    ReleaseIn,
    SetattrIn,
    WriteIn,
)
from ..queue import traced
from .files import File, put_file
from .fuse_base import bad_inode
from .fuse_pages import FusePages
from .inode import BAD, STATX_ATIME, STATX_MODSIZE, STATX_SIZE, Dentry, Inode
from .open_flags import opened, sent
from .program import ProgramTask


class FuseFile(FusePages):
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
        return file

    async def _open(self, task: ProgramTask, dentry: Dentry, flags: int, asked: int) -> File:
        inode = dentry.positive
        if Opcode.OPEN not in self.missing:
            kill = asked & os.O_TRUNC and self.flags & InitFlag.HANDLE_KILLPRIV_V2 and not task.program.cred.capable
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
        await self.remove_privs(task, inode)
        if not atomic:
            await self.setattr(task, file.dentry, SetattrIn(FAttr.SIZE, size=0))
            return
        self.changed_attr(inode)
        inode.attr = inode.attr._replace(size=0)
        inode.invalidate(STATX_MODSIZE)

    # -- reading and writing ----------------------------------------------------------------------------------------

    @traced("fuse_read")
    async def read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        inode = file.inode
        if inode.state & BAD:
            raise bad_inode()
        done = 0
        while done < len(into):
            part = into[done : done + self.max_read]
            asked = ReadIn(
                file.fh, offset + done, len(part), ReadFlag.LOCKOWNER, self.lock_owner(task.program.files), file.flags
            )
            try:
                size = await self.ask_for_data(task, Opcode.READ, inode.nodeid, part, self.pack(READ_IN, asked))
            except OSError:
                if not done:
                    raise
                break
            done += size
            if size < len(part):
                break
        inode.inval_mask |= STATX_ATIME
        return done

    @traced("fuse_write")
    async def write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> tuple[int, int]:
        inode = file.inode
        if inode.state & BAD:
            raise bad_inode()
        parallel = FOpenFlag.DIRECT_IO | FOpenFlag.PARALLEL_DIRECT_WRITES
        if (
            file.open_flags & parallel == parallel
            and not file.flags & os.O_APPEND
            and offset + len(data) <= inode.attr.size
        ):
            return await self._write(task, file, data, offset), offset + len(data)
        await inode.semaphore.acquire(task)
        try:
            if file.flags & os.O_APPEND:
                await self.getattr(task, inode, file, STATX_SIZE)
                offset = inode.attr.size
            if not file.open_flags & FOpenFlag.DIRECT_IO:
                await self.remove_privs(task, inode)
            done = await self._write(task, file, data, offset)
        finally:
            inode.semaphore.release(task)
        return done, offset + done

    async def _write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> int:
        inode = file.inode
        flags = WriteFlag(0)
        killing = file.open_flags & FOpenFlag.DIRECT_IO or self.flags & InitFlag.HANDLE_KILLPRIV_V2
        if killing and not task.program.cred.capable:
            flags = WriteFlag.KILL_SUIDGID
        owner = 0
        if file.open_flags & FOpenFlag.DIRECT_IO:
            flags |= WriteFlag.LOCKOWNER
            owner = self.lock_owner(task.program.files)
        done = 0
        try:
            while done < len(data):
                part = data[done : done + self.max_write]
                asked = WriteIn(file.fh, offset + done, len(part), flags, owner, file.flags)
                out = await self.ask_for(
                    task, Opcode.WRITE, inode.nodeid, WRITE_OUT, self.pack(WRITE_IN, asked), part
                )  # fmt: skip
                if out.size > len(part):
                    raise OSError(int(Errno.EIO), f"{out.size} bytes written of {len(part)}")
                done += out.size
                if out.size < len(part):
                    break
        except OSError:
            if not done:
                raise
        finally:
            self.write_update_attr(inode, offset + done, done)
        return done

    def write_update_attr(self, inode: Inode, end: int, written: int) -> None:
        """``fuse_write_update_attr``: the file ends at ``end`` at least; the daemon knows the rest."""
        self.changed_attr(inode)
        if written and end > inode.attr.size:
            inode.attr = inode.attr._replace(size=end)
        inode.invalidate(STATX_MODSIZE)

    # -- closing ----------------------------------------------------------------------------------------------------

    @traced("fuse_flush")
    async def flush(self, task: ProgramTask, file: File) -> None:
        if file.inode.is_dir or file.open_flags & FOpenFlag.NOFLUSH:
            return
        if file.inode.state & BAD:
            raise bad_inode()
        body = FLUSH_IN.pack(FlushIn(file.fh, lock_owner=self.lock_owner(task.program.files)))
        await self.ask_once(task, Opcode.FLUSH, file.inode, body, force=True)

    async def release(self, task: ProgramTask, file: File) -> None:
        if not file.opened:
            return
        opcode = Opcode.RELEASEDIR if file.inode.is_dir else Opcode.RELEASE
        flags = ReleaseFlag.FLOCK_UNLOCK if file.flocked else ReleaseFlag(0)
        owner = self.lock_owner(file) if file.flocked else 0
        release = ReleaseIn(file.fh, file.flags | os.O_RDONLY, flags, owner)
        self.send_release(task, opcode, file.inode.nodeid, release)

    @traced("fuse_fsync")
    async def fsync(self, task: ProgramTask, file: File, datasync: bool) -> None:
        opcode = Opcode.FSYNCDIR if file.inode.is_dir else Opcode.FSYNC
        body = FSYNC_IN.pack(FsyncIn(file.fh, FsyncFlag.FDATASYNC if datasync else 0))
        await file.inode.semaphore.acquire(task)
        try:
            await self.ask_once(task, opcode, file.inode, body)
        finally:
            file.inode.semaphore.release(task)
