"""The FUSE operations on open files, as fs/fuse/file.c has them: open, read, write, flush, release."""

from __future__ import annotations

import errno
import os
import stat

from ...wire.errno import Errno
from ...wire.flags import FAttr, InitFlag, Opcode
from ...wire.layouts import (
    FLUSH_IN,
    OPEN_IN,
    OPEN_OUT,
    READ_IN,
    WRITE_IN,
    WRITE_OUT,
    FlushIn,
    OpenIn,
    OpenOut,
    ReadIn,
    ReleaseIn,
    SetattrIn,
    WriteIn,
)
from ..queue import traced
from .files import File
from .fuse_dir import NOT_SENT, FuseDir
from .inode import Dentry, Inode
from .program import ProgramTask


class FuseFile(FuseDir):
    """Operations by open file."""

    @traced("fuse_open")
    async def open(self, task: ProgramTask, dentry: Dentry, flags: int) -> File:
        inode = dentry.inode
        assert inode is not None
        if inode.is_dir:
            return await self.open_directory(task, dentry, flags)
        sent = flags & ~NOT_SENT
        atomic = bool(self.flags & InitFlag.ATOMIC_O_TRUNC)
        if not atomic:
            sent &= ~os.O_TRUNC
        out = await self._ask_open(task, inode, sent)
        file = File(dentry, inode, flags, out.fh, out.open_flags)
        if flags & os.O_TRUNC:
            inode.attr_expires = 0
            if not atomic:
                try:
                    await self.setattr(task, dentry, SetattrIn(FAttr.SIZE, size=0), file)
                except BaseException:
                    await file.release(task)
                    raise
        return file

    async def _ask_open(self, task: ProgramTask, inode: Inode, flags: int) -> OpenOut:
        if Opcode.OPEN in self.missing:
            return OpenOut()
        try:
            return await self.ask_for(
                task, Opcode.OPEN, inode.nodeid, OPEN_OUT, OPEN_IN.pack(OpenIn(flags)),
                late=lambda body: self._release_late(Opcode.RELEASE, inode.nodeid, body),
            )  # fmt: skip
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self.missing.add(Opcode.OPEN)
            return OpenOut()

    @traced("fuse_flush")
    async def flush(self, task: ProgramTask, file: File) -> None:
        if stat.S_ISDIR(file.inode.attr.mode) or Opcode.FLUSH in self.missing:
            return
        body = FLUSH_IN.pack(FlushIn(file.fh, lock_owner=_owner(task)))
        try:
            await self.ask(task, Opcode.FLUSH, file.inode, body, force=True)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self.missing.add(Opcode.FLUSH)

    async def release(self, task: ProgramTask, file: File) -> None:
        opcode = Opcode.RELEASEDIR if file.inode.is_dir else Opcode.RELEASE
        opening = Opcode.OPENDIR if file.inode.is_dir else Opcode.OPEN
        if opening not in self.missing or file.fh:
            self.send_release(task, opcode, file.inode.nodeid, ReleaseIn(file.fh, file.flags & ~NOT_SENT))

    @traced("fuse_read")
    async def read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        done = 0
        while done < len(into):
            part = into[done : done + self.max_read]
            asked = ReadIn(file.fh, offset + done, len(part), flags=file.flags)
            size = await self.ask_for_data(task, Opcode.READ, file.inode.nodeid, part, READ_IN.pack(asked))
            done += size
            if size < len(part):
                break
        file.inode.attr_expires = 0  # the access time
        return done

    @traced("fuse_write")
    async def write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> int:
        inode = file.inode
        done = 0
        await inode.semaphore.acquire(task)
        try:
            if file.flags & os.O_APPEND:
                await self.getattr(task, inode, file)
                offset = inode.attr.size
            while done < len(data):
                part = data[done : done + self.max_write]
                asked = WriteIn(file.fh, offset + done, len(part), flags=file.flags)
                out = await self.ask_for(task, Opcode.WRITE, inode.nodeid, WRITE_OUT, WRITE_IN.pack(asked), part)
                if out.size > len(part):
                    raise OSError(int(Errno.EIO), f"{out.size} bytes written of {len(part)}")
                done += out.size
                if out.size < len(part):
                    break
        except OSError:
            if not done:
                raise
        finally:
            if offset + done > inode.attr.size:
                inode.attr = inode.attr._replace(size=offset + done)
            inode.attr_expires = 0
            inode.semaphore.release(task)
        file.pos = offset + done
        return done


def _owner(task: ProgramTask) -> int:
    return id(task.program.files) & ((1 << 64) - 1)
