"""The FUSE operations on a file's layout: ``fuse_lseek``, ``fuse_file_fallocate``, ``fuse_copy_file_range``."""

from __future__ import annotations

import errno

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, Opcode
from ...wire.layouts import (
    COPY_FILE_RANGE_IN,
    COPY_FILE_RANGE_OUT,
    FALLOCATE_IN,
    LSEEK_IN,
    LSEEK_OUT,
    WRITE_OUT,
    CopyFileRangeIn,
    FallocateIn,
    LseekIn,
)
from ..queue import traced
from .files import File
from .fuse_file import FuseFile
from .inode import STATX_ATIME, STATX_MODSIZE, STATX_SIZE, Inode
from .program import ProgramTask

SEEK_DATA, SEEK_HOLE = 3, 4
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE = 1, 2, 16


class FuseSpace(FuseFile):
    """Where a file has data."""

    async def llseek(self, task: ProgramTask, file: File, offset: int, whence: int) -> int:
        if Opcode.LSEEK not in self.missing:
            body = LSEEK_IN.pack(LseekIn(file.fh, offset & ((1 << 64) - 1), whence))
            try:
                return (await self.ask_for(task, Opcode.LSEEK, file.inode.nodeid, LSEEK_OUT, body)).offset
            except OSError as failed:
                if failed.errno != errno.ENOSYS:
                    raise
                self.missing.add(Opcode.LSEEK)
        await self.getattr(task, file.inode, file, STATX_SIZE)
        size = file.inode.attr.size
        if not 0 <= offset < size:
            raise OSError(int(Errno.ENXIO), "No such device or address: behind the end of the file")
        return offset if whence == SEEK_DATA else size

    @traced("fuse_file_fallocate")
    async def fallocate(self, task: ProgramTask, file: File, mode: int, offset: int, length: int) -> None:
        inode = file.inode
        unsupported = OSError(int(Errno.EOPNOTSUPP), "Operation not supported")
        known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE
        if mode & ~known or Opcode.FALLOCATE in self.missing:
            raise unsupported
        await inode.semaphore.acquire(task)
        try:
            removes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)
            if removes:
                await self._writeback_range(task, inode, offset)
            await self.remove_privs(task, inode)
            self.update_time(inode)
            body = FALLOCATE_IN.pack(FallocateIn(file.fh, offset, length, mode))
            if not await self.ask_once(task, Opcode.FALLOCATE, inode, body):
                raise unsupported
            if not mode & FALLOC_FL_KEEP_SIZE:
                self.write_update_attr(inode, offset + length, length)
            if removes and inode.pages is not None:
                inode.pages.zero(offset, offset + length)
            inode.invalidate(STATX_MODSIZE)
        finally:
            inode.semaphore.release(task)

    async def _writeback_range(self, task: ProgramTask, inode: Inode, offset: int) -> None:
        """``fuse_writeback_range``: the daemon has what a program wrote from there on, and with that the file's end."""
        await self.write_and_wait(task, inode, offset // PAGE_SIZE)

    @traced("fuse_copy_file_range")
    async def copy_file_range(
        self, task: ProgramTask, source: File, offset: int, target: File, to: int, length: int
    ) -> int | None:
        if source.inode.sb is not self:
            return None
        inode = target.inode
        await self._writeback_range(task, source.inode, offset)
        await inode.semaphore.acquire(task)
        try:
            await self.remove_privs(task, inode)
            self.update_time(inode)
            await self._writeback_range(task, inode, to)
            for opcode in (Opcode.COPY_FILE_RANGE_64, Opcode.COPY_FILE_RANGE):
                copied = await self._copy(task, opcode, source, offset, target, to, length)
                if copied is not None:
                    if inode.pages is not None and copied:
                        inode.pages.zero(to - to % PAGE_SIZE, to + copied + -(to + copied) % PAGE_SIZE)
                    self.write_update_attr(inode, to + copied, copied)
                    source.inode.invalidate(STATX_ATIME)
                    return copied
                if opcode not in self.missing:  # it knows the operation, and cannot do this copy
                    break
        finally:
            inode.semaphore.release(task)
        return None

    async def _copy(
        self, task: ProgramTask, opcode: Opcode, source: File, offset: int, target: File, to: int, length: int
    ) -> int | None:
        """None when the daemon does not know the opcode, or cannot do this copy."""
        if opcode in self.missing:
            return None
        if opcode is Opcode.COPY_FILE_RANGE:  # its answer has 32 bits
            length = min(length, 0xFFFFFFFF & ~(PAGE_SIZE - 1))
        asked = CopyFileRangeIn(source.fh, offset, target.inode.nodeid, target.fh, to, length)
        body = COPY_FILE_RANGE_IN.pack(asked)
        try:
            if opcode is Opcode.COPY_FILE_RANGE_64:
                copied = (await self.ask_for(task, opcode, source.inode.nodeid, COPY_FILE_RANGE_OUT, body)).bytes_copied
            else:
                copied = (await self.ask_for(task, opcode, source.inode.nodeid, WRITE_OUT, body)).size
        except OSError as failed:
            if failed.errno == errno.ENOSYS:
                self.missing.add(opcode)
            elif failed.errno not in (errno.EOPNOTSUPP, errno.EXDEV):
                raise
            return None
        if copied > length:
            raise OSError(int(Errno.EIO), f"{copied} bytes copied of {length}")
        return copied
