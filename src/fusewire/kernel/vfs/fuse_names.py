"""Names that are made, removed and moved: ``fuse_create``, ``fuse_unlink``, ``fuse_rename``, ... as fs/fuse/dir.c has them.

Whoever calls holds the directory's semaphore.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from ...wire.errno import Errno
from ...wire.flags import InitFlag, Opcode, OpenInFlag
from ...wire.layout import Layout
from ...wire.layouts import (
    CREATE_IN,
    ENTRY_OUT,
    LINK_IN,
    MKDIR_IN,
    MKNOD_IN,
    OPEN_OUT,
    RENAME2_IN,
    RENAME_IN,
    CreateIn,
    EntryOut,
    LinkIn,
    MkdirIn,
    MknodIn,
    OpenOut,
    ReleaseIn,
    Rename2In,
    RenameIn,
)
from ..queue import Interrupted, traced
from .files import File
from .fuse_base import c_string
from .fuse_dir import FuseDir
from .inode import DEAD, Dentry, Inode
from .open_flags import opened, sent
from .program import ProgramTask

T = TypeVar("T")


class _Created:
    """CREATE's answer: an entry, then an open."""

    size = ENTRY_OUT.size + OPEN_OUT.size
    name = "fuse_entry_out + fuse_open_out"

    @staticmethod
    def unpack(buffer: bytes | bytearray | memoryview) -> tuple[EntryOut, OpenOut]:
        return ENTRY_OUT.unpack(buffer), OPEN_OUT.unpack(buffer, ENTRY_OUT.size)


class FuseNames(FuseDir):
    """Operations by dentry."""

    # -- making ---------------------------------------------------------------------------------------------------

    @traced("fuse_create")
    async def create(self, task: ProgramTask, parent: Dentry, name: bytes, flags: int, mode: int) -> File | None:
        """Make and open at once. None: it was made by MKNOD, and is to be opened."""
        if Opcode.CREATE not in self.missing:
            try:
                return await self._create(task, Opcode.CREATE, parent, name, flags, mode)
            except OSError as failed:
                if failed.errno == errno.EEXIST:
                    parent.positive.invalidate()
                if failed.errno != errno.ENOSYS:
                    raise
                self.missing.add(Opcode.CREATE)
        await self.mknod(task, parent, name, stat.S_IFREG | mode, 0)
        return None

    @traced("fuse_tmpfile")
    async def tmpfile(self, task: ProgramTask, parent: Dentry, flags: int, mode: int) -> File:
        unsupported = OSError(int(Errno.EOPNOTSUPP), "Operation not supported")
        if Opcode.TMPFILE in self.missing:
            raise unsupported
        try:
            return await self._create(task, Opcode.TMPFILE, parent, b"/", flags, mode)
        except OSError as failed:
            if failed.errno != errno.ENOSYS:
                raise
            self.missing.add(Opcode.TMPFILE)
            raise unsupported from None

    async def _create(
        self, task: ProgramTask, opcode: Opcode, parent: Dentry, name: bytes, flags: int, mode: int
    ) -> File:
        layout: Layout[tuple[EntryOut, OpenOut]] = _Created  # type: ignore[assignment]
        open_flags = 0
        if self.flags & InitFlag.HANDLE_KILLPRIV_V2 and flags & os.O_TRUNC and not task.cred.capable:
            open_flags = OpenInFlag.KILL_SUIDGID
        # The daemon is to know that it makes a file: O_CREAT and O_EXCL are not taken away here.
        asked = CreateIn(sent(flags) | flags & (os.O_CREAT | os.O_EXCL), self._mode(task, stat.S_IFREG | mode),
                         task.program.umask, open_flags)  # fmt: skip
        version, epoch = self.attr_version, self.epoch
        body = self.pack(CREATE_IN, asked) + c_string(name)
        entry, out = await self._make(task, opcode, parent, layout, body, self._release_late_create)
        try:
            if not stat.S_ISREG(entry.attr.mode):
                self.forget_late_entry(ENTRY_OUT.pack(entry))
                raise OSError(int(Errno.EIO), f"{opcode.name} answered something that is no regular file")
            if opcode is Opcode.TMPFILE:
                dentry = Dentry(b"#%d" % entry.nodeid, parent, self.instantiate(task, entry, name, version))
            else:
                dentry = self._add_made(task, parent, name, entry, version, epoch)
                self._changed(parent)
        except OSError:
            self.send_release(task, Opcode.RELEASE, entry.nodeid, ReleaseIn(out.fh, sent(flags)))
            raise
        return opened(dentry, flags, out)

    async def _make(
        self,
        task: ProgramTask,
        opcode: Opcode,
        parent: Dentry,
        layout: Layout[T],
        body: bytes,
        late: Callable[[bytes], None],
    ) -> T:
        """Ask for a new name. An interrupted caller leaves without knowing whether there is one."""
        try:
            return await self.ask_for(task, opcode, parent.positive.nodeid, layout, body, late=late)
        except Interrupted:
            self._changed(parent)
            raise

    def _release_late_create(self, body: bytes) -> None:
        if len(body) >= _Created.size:
            entry, out = _Created.unpack(body)
            self.send_release(None, Opcode.RELEASE, entry.nodeid, ReleaseIn(out.fh))
            self.forget_late_entry(body)

    @traced("fuse_mknod")
    async def mknod(self, task: ProgramTask, parent: Dentry, name: bytes, mode: int, rdev: int) -> None:
        asked = MknodIn(self._mode(task, mode), rdev, task.program.umask)
        await self._new(task, Opcode.MKNOD, parent, name, mode, self.pack(MKNOD_IN, asked) + c_string(name))

    @traced("fuse_mkdir")
    async def mkdir(self, task: ProgramTask, parent: Dentry, name: bytes, mode: int) -> None:
        asked = MkdirIn(self._mode(task, mode), task.program.umask)
        await self._new(task, Opcode.MKDIR, parent, name, stat.S_IFDIR, MKDIR_IN.pack(asked) + c_string(name))

    @traced("fuse_symlink")
    async def symlink(self, task: ProgramTask, parent: Dentry, name: bytes, target: bytes) -> None:
        await self._new(task, Opcode.SYMLINK, parent, name, stat.S_IFLNK, c_string(name, target))

    @traced("fuse_link")
    async def link(self, task: ProgramTask, source: Dentry, parent: Dentry, name: bytes) -> None:
        inode = source.positive
        refused = PermissionError(int(Errno.EPERM), "Operation not permitted")
        if Opcode.LINK in self.missing:
            raise refused
        body = LINK_IN.pack(LinkIn(inode.nodeid)) + c_string(name)
        try:
            await self._new(task, Opcode.LINK, parent, name, inode.mode, body)
            self.update_ctime_in_cache(inode)
        except OSError as failed:
            if isinstance(failed, Interrupted):
                inode.invalidate()
            if failed.errno != errno.ENOSYS:
                raise
            self.missing.add(Opcode.LINK)
            raise refused from None

    async def _new(
        self, task: ProgramTask, opcode: Opcode, parent: Dentry, name: bytes, mode: int, body: bytes
    ) -> None:
        """``create_new_entry``: ask for a new name, and keep what the daemon made. Raises EIO for another kind of file."""
        version, epoch = self.attr_version, self.epoch
        entry = await self._make(task, opcode, parent, ENTRY_OUT, body, self.forget_late_entry)
        if entry.nodeid and stat.S_IFMT(entry.attr.mode) != stat.S_IFMT(mode):
            self.forget_late_entry(ENTRY_OUT.pack(entry))
            raise OSError(int(Errno.EIO), f"{opcode.name} answered something of mode {entry.attr.mode:#o}")
        self._add_made(task, parent, name, entry, version, epoch)
        self._changed(parent)

    def _add_made(
        self, task: ProgramTask, parent: Dentry, name: bytes, entry: EntryOut, version: int, epoch: int
    ) -> Dentry:
        """The dentry of something that the daemon says it has made. Raises EIO when it answered a negative entry."""
        if not entry.nodeid:
            raise OSError(int(Errno.EIO), f"the daemon made {name!r} and answered node 0")
        return self.add(task, parent, name, entry, version, epoch)

    def _mode(self, task: ProgramTask, mode: int) -> int:
        return mode if self.flags & InitFlag.DONT_MASK else mode & ~task.program.umask

    # -- removing -------------------------------------------------------------------------------------------------

    @traced("fuse_unlink")
    async def unlink(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        await self._remove(task, Opcode.UNLINK, parent, dentry)

    @traced("fuse_rmdir")
    async def rmdir(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        await self._remove(task, Opcode.RMDIR, parent, dentry)
        dentry.positive.state |= DEAD

    async def _remove(self, task: ProgramTask, opcode: Opcode, parent: Dentry, dentry: Dentry) -> None:
        try:
            await self.ask(task, opcode, parent.positive, c_string(dentry.name))
        except (Interrupted, FileNotFoundError):
            dentry.expires = 0  # who knows whether it is still there
            raise
        self._removed(task, parent, dentry)

    def _removed(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        """``fuse_entry_unlinked``."""
        self._lost_a_name(dentry.positive)
        self.update_ctime(dentry.positive)
        self._changed(parent)
        dentry.drop(task)

    def _lost_a_name(self, inode: Inode) -> None:
        self.changed_attr(inode)
        nlink = 0 if inode.is_dir else max(0, inode.attr.nlink - 1)
        inode.attr = inode.attr._replace(nlink=nlink)

    @staticmethod
    def _changed(parent: Dentry) -> None:
        parent.positive.invalidate()
        parent.positive.listing = None

    # -- moving ---------------------------------------------------------------------------------------------------

    @traced("fuse_rename")
    async def rename(
        self, task: ProgramTask, parent: Dentry, dentry: Dentry, newparent: Dentry, target: Dentry, flags: int
    ) -> None:
        names = c_string(dentry.name, target.name)
        newdir = newparent.positive.nodeid
        invalid = OSError(int(Errno.EINVAL), "Invalid argument: the daemon takes no flags of rename")
        if flags and (Opcode.RENAME2 in self.missing or self.connection.dialect.minor < 23):
            raise invalid
        try:
            if flags:
                body = RENAME2_IN.pack(Rename2In(newdir, flags)) + names
                await self.ask(task, Opcode.RENAME2, parent.positive, body)
            else:
                body = RENAME_IN.pack(RenameIn(newdir)) + names
                await self.ask(task, Opcode.RENAME, parent.positive, body)
        except OSError as failed:
            if failed.errno in (errno.EINTR, errno.ENOENT):
                dentry.expires = target.expires = 0
            if flags and failed.errno == errno.ENOSYS:
                self.missing.add(Opcode.RENAME2)
                raise invalid from None
            raise
        self._renamed(task, parent, dentry, newparent, target, flags)

    def _renamed(
        self, task: ProgramTask, parent: Dentry, dentry: Dentry, newparent: Dentry, target: Dentry, flags: int
    ) -> None:
        exchange = flags & RENAME_EXCHANGE
        self.update_ctime(dentry.positive)
        self._changed(parent)
        self._changed(newparent)
        old_name, new_name = dentry.name, target.name
        if target.inode is not None and not exchange:
            inode = target.inode
            if inode.is_dir:
                inode.state |= DEAD
            if inode is not dentry.inode:
                self._removed(task, newparent, target)
        if exchange:
            self.update_ctime(target.positive)
            _exchange(task, parent, dentry, newparent, target, old_name, new_name)
            return
        there = newparent.children.get(new_name)
        if there is not None and there is not dentry:
            there.drop(task)
        dentry.move(task, newparent, new_name)


RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4


def _exchange(
    task: ProgramTask, parent: Dentry, dentry: Dentry, newparent: Dentry, target: Dentry, old: bytes, new: bytes
) -> None:
    target.move(task, newparent, b"/")  # out of the way: no name has a slash
    dentry.move(task, newparent, new)
    target.move(task, parent, old)
