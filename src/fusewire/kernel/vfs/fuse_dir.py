"""The FUSE operations on names and attributes: ``fuse_lookup``, ``fuse_unlink``, ... as fs/fuse/dir.c has them."""

from __future__ import annotations

import errno
import os
import stat

from ...wire.codec import iter_dirents
from ...wire.errno import Errno
from ...wire.flags import FAttr, GetattrFlag, Opcode, ReleaseFlag
from ...wire.layout import Layout, ProtocolError
from ...wire.layouts import (
    ATTR_OUT,
    CREATE_IN,
    ENTRY_OUT,
    GETATTR_IN,
    MKDIR_IN,
    OPEN_IN,
    OPEN_OUT,
    READ_IN,
    SETATTR_IN,
    STATFS_OUT,
    CreateIn,
    EntryOut,
    GetattrIn,
    Kstatfs,
    MkdirIn,
    OpenIn,
    OpenOut,
    ReadIn,
    ReleaseIn,
    SetattrIn,
)
from ..queue import traced
from .files import File
from .fuse_base import FuseBase, c_string
from .inode import Dentry, Inode
from .program import ProgramTask

NOT_SENT = os.O_CREAT | os.O_EXCL | os.O_NOCTTY


class _Created:
    """CREATE's answer: an entry, then an open."""

    size = ENTRY_OUT.size + OPEN_OUT.size
    name = "fuse_entry_out + fuse_open_out"

    @staticmethod
    def unpack(buffer: bytes | bytearray | memoryview) -> tuple[EntryOut, OpenOut]:
        return ENTRY_OUT.unpack(buffer), OPEN_OUT.unpack(buffer, ENTRY_OUT.size)


class FuseDir(FuseBase):
    """Operations by dentry. Whoever changes a directory holds its semaphore, and then that of what it removes."""

    async def lookup(self, task: ProgramTask, parent: Dentry, name: bytes) -> Dentry:
        dentry = self._cached(parent, name)
        if dentry is not None:
            return dentry
        directory = _inode(parent)
        held = directory.semaphore.owner is task
        if not held:
            await directory.semaphore.acquire(task)
        try:
            return await self._lookup_locked(task, parent, name)
        finally:
            if not held:
                directory.semaphore.release(task)

    def _cached(self, parent: Dentry, name: bytes) -> Dentry | None:
        """What is known of the name and still valid; a mountpoint always is."""
        dentry = parent.children.get(name)
        if dentry is not None and (dentry.mounted or self.clock() < dentry.expires):
            return dentry
        return None

    @traced("fuse_lookup")
    async def _lookup_locked(self, task: ProgramTask, parent: Dentry, name: bytes) -> Dentry:
        dentry = self._cached(parent, name)
        if dentry is not None:
            return dentry
        dentry = parent.children.get(name)
        if dentry is not None:
            if dentry.inode is not None and await self._revalidate(task, parent, dentry):
                return dentry
            dentry.drop(task)
        try:
            entry = await self._ask_entry(task, parent, name)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return Dentry(name, parent, None)  # ENOENT is not cached
        return self._add(task, parent, name, entry)

    async def _ask_entry(self, task: ProgramTask, parent: Dentry, name: bytes) -> EntryOut:
        return await self.ask_for(
            task, Opcode.LOOKUP, _inode(parent).nodeid, ENTRY_OUT, c_string(name), late=self.forget_late_entry
        )  # fmt: skip

    async def _revalidate(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> bool:
        """Ask again for an expired name: does it still lead to the same inode?"""
        try:
            entry = await self._ask_entry(task, parent, dentry.name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOMEM):
                return False
            raise
        inode = _inode(dentry)
        if entry.nodeid != inode.nodeid:
            if entry.nodeid:
                self.connection.queue_forget(task, entry.nodeid, 1)
            return False
        try:
            self.instantiate(task, entry, dentry.name)
        except OSError:
            return False
        dentry.expires = self.until(entry.entry_valid, entry.entry_valid_nsec)
        return True

    def _add(self, task: ProgramTask, parent: Dentry, name: bytes, entry: EntryOut) -> Dentry:
        expires = self.until(entry.entry_valid, entry.entry_valid_nsec)
        inode = self.instantiate(task, entry, name) if entry.nodeid else None
        old = parent.children.get(name)
        if old is not None:
            old.drop(task)
        return parent.add(name, inode, expires)

    def _add_made(self, task: ProgramTask, parent: Dentry, name: bytes, entry: EntryOut) -> Dentry:
        """The dentry of something that the daemon says it has made. Raises EIO when it answered a negative entry."""
        if not entry.nodeid:
            raise OSError(int(Errno.EIO), f"the daemon made {name!r} and answered node 0")
        return self._add(task, parent, name, entry)

    # -- attributes -----------------------------------------------------------------------------------------------

    async def getattr(self, task: ProgramTask, inode: Inode, file: File | None = None) -> None:
        if self.clock() < inode.attr_expires:
            return
        asked = GetattrIn(GetattrFlag.FH if file else 0, 0, file.fh if file else 0)
        out = await self.ask_for(task, Opcode.GETATTR, inode.nodeid, ATTR_OUT, GETATTR_IN.pack(asked))
        self.set_attr(inode, out.attr, out.attr_valid, out.attr_valid_nsec)

    @traced("fuse_setattr")
    async def setattr(self, task: ProgramTask, dentry: Dentry, changes: SetattrIn, file: File | None = None) -> None:
        inode = _inode(dentry)
        if file is not None and file.writable:
            changes = changes._replace(valid=changes.valid | FAttr.FH, fh=file.fh)
        await inode.semaphore.acquire(task)
        try:
            out = await self.ask_for(task, Opcode.SETATTR, inode.nodeid, ATTR_OUT, SETATTR_IN.pack(changes))
            self.set_attr(inode, out.attr, out.attr_valid, out.attr_valid_nsec)
        finally:
            inode.semaphore.release(task)

    async def statfs(self, task: ProgramTask, dentry: Dentry) -> Kstatfs:
        return (await self.ask_for(task, Opcode.STATFS, _inode(dentry).nodeid, STATFS_OUT)).st

    # -- names ----------------------------------------------------------------------------------------------------

    @traced("fuse_create")
    async def create(self, task: ProgramTask, parent: Dentry, name: bytes, flags: int, mode: int) -> File:
        umask = task.program.umask
        asked = CreateIn(flags & ~os.O_NOCTTY, stat.S_IFREG | (mode & ~umask), umask)
        layout: Layout[tuple[EntryOut, OpenOut]] = _Created  # type: ignore[assignment]
        entry, opened = await self.ask_for(
            task,
            Opcode.CREATE,
            _inode(parent).nodeid,
            layout,
            CREATE_IN.pack(asked) + c_string(name),
            late=self._release_late_create,
        )
        self._changed(parent)
        try:
            dentry = self._add_made(task, parent, name, entry)
            if not stat.S_ISREG(_inode(dentry).attr.mode):
                raise OSError(int(Errno.EIO), "CREATE answered something that is no regular file")
        except OSError:
            self.send_release(task, Opcode.RELEASE, entry.nodeid, ReleaseIn(opened.fh, flags))
            raise
        return File(dentry, _inode(dentry), flags, opened.fh, opened.open_flags)

    def _release_late_create(self, body: bytes) -> None:
        if len(body) >= _Created.size:
            entry, opened = _Created.unpack(body)
            self.send_release(None, Opcode.RELEASE, entry.nodeid, ReleaseIn(opened.fh))
            self.forget_late_entry(body)

    @traced("fuse_mkdir")
    async def mkdir(self, task: ProgramTask, parent: Dentry, name: bytes, mode: int) -> None:
        umask = task.program.umask
        entry = await self.ask_for(
            task,
            Opcode.MKDIR,
            _inode(parent).nodeid,
            ENTRY_OUT,
            MKDIR_IN.pack(MkdirIn(mode & ~umask & 0o7777, umask)) + c_string(name),
            late=self.forget_late_entry,
        )
        self._changed(parent)
        if not stat.S_ISDIR(_inode(self._add_made(task, parent, name, entry)).attr.mode):
            raise OSError(int(Errno.EIO), "MKDIR answered something that is no directory")

    @traced("fuse_unlink")
    async def unlink(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        await self.ask(task, Opcode.UNLINK, _inode(parent), c_string(dentry.name))
        self._removed(task, parent, dentry)

    @traced("fuse_rmdir")
    async def rmdir(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        await self.ask(task, Opcode.RMDIR, _inode(parent), c_string(dentry.name))
        self._removed(task, parent, dentry)

    def _removed(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        _inode(dentry).attr_expires = 0
        self._changed(parent)
        dentry.drop(task)

    @staticmethod
    def _changed(parent: Dentry) -> None:
        _inode(parent).attr_expires = 0

    # -- listing --------------------------------------------------------------------------------------------------

    @traced("fuse_readdir")
    async def readdir(self, task: ProgramTask, file: File) -> list[tuple[bytes, int, int]]:
        entries: list[tuple[bytes, int, int]] = []
        offset = 0
        out = self.take_memory(self.max_read)
        try:
            while True:
                asked = ReadIn(file.fh, offset, len(out), flags=file.flags)
                size = await self.ask_for_data(task, Opcode.READDIR, file.inode.nodeid, out, READ_IN.pack(asked))
                if not size:
                    return entries
                before = offset
                for name, dirent in iter_dirents(memoryview(out)[:size]):
                    offset = dirent.off
                    if name not in (b".", b".."):
                        entries.append((name, dirent.ino, dirent.type))
                if offset == before:  # else we would ask the same for ever
                    raise OSError(int(Errno.EIO), f"READDIR at offset {before} answered {size} bytes and led nowhere")
        except ProtocolError as error:
            raise OSError(int(Errno.EIO), str(error)) from None
        finally:
            self.give_memory(out)

    async def open_directory(self, task: ProgramTask, dentry: Dentry, flags: int) -> File:
        inode = _inode(dentry)
        out = OpenOut()
        if Opcode.OPENDIR not in self.missing:
            try:
                out = await self.ask_for(
                    task, Opcode.OPENDIR, inode.nodeid, OPEN_OUT,
                    OPEN_IN.pack(OpenIn(flags & ~NOT_SENT)),
                    late=lambda body: self._release_late(Opcode.RELEASEDIR, inode.nodeid, body),
                )  # fmt: skip
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
                self.missing.add(Opcode.OPENDIR)
        return File(dentry, inode, flags, out.fh, out.open_flags)

    def _release_late(self, opcode: Opcode, nodeid: int, body: bytes) -> None:
        """An open was answered after its caller left."""
        if len(body) >= OPEN_OUT.size:
            fh = OPEN_OUT.unpack(body).fh
            self.send_release(None, opcode, nodeid, ReleaseIn(fh, 0, ReleaseFlag(0)))


def _inode(dentry: Dentry) -> Inode:
    """The inode of a dentry that is known to be positive."""
    assert dentry.inode is not None
    return dentry.inode
