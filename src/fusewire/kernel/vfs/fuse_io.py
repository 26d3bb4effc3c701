"""READ and WRITE as a program's own memory has them, with no page between: direct I/O, as fs/fuse/file.c has it."""

from __future__ import annotations

import os

from ...wire.errno import Errno
from ...wire.flags import FOpenFlag, InitFlag, Opcode, ReadFlag, WriteFlag
from ...wire.layouts import READ_IN, WRITE_IN, WRITE_OUT, ReadIn, WriteIn
from .files import File
from .fuse_readdir import FuseReaddir
from .inode import STATX_ATIME, STATX_MODSIZE, Inode
from .program import ProgramTask

_FOPEN_DIRECT_IO = int(FOpenFlag.DIRECT_IO)
_READ_LOCKOWNER = int(ReadFlag.LOCKOWNER)
_LOCKOWNER, _KILL_SUIDGID = int(WriteFlag.LOCKOWNER), int(WriteFlag.KILL_SUIDGID)


def is_direct(file: File) -> bool:
    """Whether the page cache is not for it: the daemon's wish, or the program's."""
    return bool(file.open_flags & _FOPEN_DIRECT_IO or file.flags & os.O_DIRECT)


class FuseIo(FuseReaddir):
    """What one system call asks of the daemon, request by request."""

    async def direct_read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        inode = file.inode
        owner = self.lock_owner(task.program.files)
        done = 0
        while done < len(into):
            part = into[done : done + self.max_read]
            asked = ReadIn(file.fh, offset + done, len(part), _READ_LOCKOWNER, owner, file.flags)
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

    async def direct_write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> int:
        done = 0
        try:
            while done < len(data):
                part = data[done : done + self.max_write]
                written = await self.send_write(task, file, part, offset + done)
                done += written
                if written < len(part):
                    break
        except OSError:
            if not done:
                raise
        finally:
            self.write_update_attr(file.inode, offset + done, done)
        return done

    async def send_write(self, task: ProgramTask, file: File, part: memoryview, offset: int) -> int:
        """One WRITE; how many bytes the daemon took. Raises EIO for more than it was given."""
        direct = file.open_flags & _FOPEN_DIRECT_IO
        flags = 0
        if (direct or self.flags & InitFlag.HANDLE_KILLPRIV_V2) and not task.cred.capable:
            flags = _KILL_SUIDGID
        owner = 0
        if direct:
            flags |= _LOCKOWNER
            owner = self.lock_owner(task.program.files)
        asked = WriteIn(file.fh, offset, len(part), flags, owner, file.flags)
        body = self.pack(WRITE_IN, asked)
        out = await self.ask_for(task, Opcode.WRITE, file.inode.nodeid, WRITE_OUT, body, part)
        if out.size > len(part):
            raise OSError(int(Errno.EIO), f"{out.size} bytes written of {len(part)}")
        return out.size

    def write_update_attr(self, inode: Inode, end: int, written: int) -> None:
        """``fuse_write_update_attr``: the file ends at ``end`` at least; the daemon knows the rest."""
        self.changed_attr(inode)
        if written and end > inode.attr.size:
            inode.attr = inode.attr._replace(size=end)
        inode.invalidate(STATX_MODSIZE)
