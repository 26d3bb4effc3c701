"""Directories that are read: ``fuse_readdir``, READDIR or READDIRPLUS as pays, as fs/fuse/readdir.c has it."""

from __future__ import annotations

import contextlib
import errno

from ...wire.codec import iter_direntplus, iter_dirents
from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, ROOT_ID, FOpenFlag, InitFlag, Opcode
from ...wire.layout import ProtocolError
from ...wire.layouts import OPEN_IN, OPEN_OUT, READ_IN, EntryOut, OpenIn, OpenOut, ReadIn
from ..queue import traced
from .dir_cache import DirCache
from .files import File
from .fuse_base import bad_inode, valid_attr
from .fuse_names import FuseNames
from .inode import ADVISE_RDPLUS, BAD, INIT_RDPLUS, STATX_ATIME, STATX_MTIME, Dentry
from .open_flags import opened, sent
from .program import ProgramTask
from .super import Listing

_CACHE_DIR = int(FOpenFlag.CACHE_DIR)
_DOTS = (b".", b"..")


class FuseReaddir(FuseNames):
    """Open directories."""

    async def open_directory(self, task: ProgramTask, dentry: Dentry, flags: int) -> File:
        inode = dentry.positive
        if Opcode.OPENDIR not in self.missing:
            try:
                out = await self.ask_for(
                    task, Opcode.OPENDIR, inode.nodeid, OPEN_OUT, OPEN_IN.pack(OpenIn(sent(flags))),
                    late=lambda body: self.release_late(Opcode.RELEASEDIR, inode.nodeid, body),
                )  # fmt: skip
                if not out.open_flags & FOpenFlag.KEEP_CACHE:
                    inode.listing = None
                return opened(dentry, flags, out)
            except OSError as failed:
                if failed.errno != errno.ENOSYS:
                    raise
                self.missing.add(Opcode.OPENDIR)
        return opened(dentry, flags, OpenOut(0, FOpenFlag.KEEP_CACHE | FOpenFlag.CACHE_DIR), asked=False)

    @traced("fuse_readdir")
    async def readdir(self, task: ProgramTask, file: File, size: int) -> Listing:
        if file.inode.state & BAD:
            raise bad_inode()
        if file.open_flags & _CACHE_DIR:
            cached = await self._readdir_cached(task, file, size)
            if cached is not None:
                return cached
        out = self.take_memory(max(PAGE_SIZE, min(size, self.max_read)))
        try:
            found = None
            while found is None:
                read = self._read_plus if self._use_readdirplus(file) else self._read_plain
                found = await read(task, file, out)
            return found
        except ProtocolError as error:
            raise OSError(int(Errno.EIO), str(error)) from None
        finally:
            self.give_memory(out)
            file.inode.invalidate(STATX_ATIME)

    async def _readdir_cached(self, task: ProgramTask, file: File, size: int) -> Listing | None:
        """``fuse_readdir_cached``. None: the daemon is to be asked, and what it answers makes the listing."""
        inode = file.inode
        if not file.pos:
            if self.auto_inval_data:
                await self.getattr(task, inode, file, STATX_MTIME)
            mtime = (inode.attr.mtime, inode.attr.mtimensec)
            if inode.listing is None or inode.listing.mtime != mtime:
                inode.listing = DirCache(mtime)
        listing = inode.listing
        if listing is None or not listing.complete:
            return None
        found = listing.read(file.pos, size)
        if found is None:
            return None
        entries, file.pos = found
        return entries

    def _use_readdirplus(self, file: File) -> bool:
        if not self.flags & InitFlag.DO_READDIRPLUS:
            return False
        if not self.flags & InitFlag.READDIRPLUS_AUTO:
            return True
        advised = file.inode.state & ADVISE_RDPLUS
        file.inode.state &= ~ADVISE_RDPLUS
        return bool(advised) or file.pos == 0

    async def _ask(self, task: ProgramTask, opcode: Opcode, file: File, out: bytearray) -> memoryview:
        asked = self.pack(READ_IN, ReadIn(file.fh, file.pos, len(out), flags=file.flags))
        late = self._forget_late_entries if opcode is Opcode.READDIRPLUS else None
        size = await self.ask_for_data(task, opcode, file.inode.nodeid, out, asked, late=late)
        return memoryview(out)[:size]

    def _forget_late_entries(self, body: bytes) -> None:
        """READDIRPLUS was answered after its caller left: the references that it granted go back."""
        with contextlib.suppress(ProtocolError):
            for name, _, entry in iter_direntplus(body):
                if entry.nodeid > ROOT_ID and name not in _DOTS:
                    self.connection.queue_forget(None, entry.nodeid, 1)

    async def _read_plain(self, task: ProgramTask, file: File, out: bytearray) -> Listing | None:
        start = offset = file.pos
        data = await self._ask(task, Opcode.READDIR, file, out)
        entries = []
        for name, dirent in iter_dirents(data):
            offset = dirent.off
            if name not in _DOTS:
                entries.append((name, dirent.ino, dirent.type, offset))
        return _advanced(file, start, offset, len(data), entries)

    async def _read_plus(self, task: ProgramTask, file: File, out: bytearray) -> Listing | None:
        start = offset = file.pos
        version, epoch = self.attr_version, self.epoch
        data = await self._ask(task, Opcode.READDIRPLUS, file, out)
        entries = []
        for name, dirent, entry in iter_direntplus(data):
            offset = dirent.off
            if name in _DOTS:
                continue
            entries.append((name, dirent.ino, dirent.type, offset))
            if entry.nodeid:
                self._link(task, file.dentry, name, entry, version, epoch)
        return _advanced(file, start, offset, len(data), entries)

    def _link(self, task: ProgramTask, parent: Dentry, name: bytes, entry: EntryOut, version: int, epoch: int) -> None:
        """``fuse_direntplus_link``: as if it had been looked up. What cannot be taken is given back."""
        dentry = parent.children.get(name)
        if dentry is not None and dentry.inode is not None and dentry.inode.nodeid == entry.nodeid:
            inode = dentry.inode
            if valid_attr(entry.attr) and not self.is_stale(inode, entry):
                inode.nlookup += 1
                self.set_attr(inode, entry.attr, entry.attr_valid, entry.attr_valid_nsec, version)
                dentry.expires, dentry.epoch = self.until(entry.entry_valid, entry.entry_valid_nsec), epoch
                inode.state |= INIT_RDPLUS
                return
        if (dentry is not None and dentry.mounted is not None) or not parent.hashed or entry.nodeid == ROOT_ID:
            self.connection.queue_forget(task, entry.nodeid, 1)
            return
        try:
            made = self.add(task, parent, name, entry, version, epoch)
        except OSError:  # its name is listed all the same
            return
        made.positive.state |= INIT_RDPLUS


def _advanced(
    file: File, start: int, offset: int, size: int, entries: list[tuple[bytes, int, int, int]]
) -> Listing | None:
    """The reader goes on behind what the daemon answered, which also goes into the listing. None where that was nothing but
    dots: what follows is to be asked for. Raises EIO for an answer that leads nowhere: else we would ask the same for ever."""
    if size and offset == start:
        raise OSError(int(Errno.EIO), f"a directory at offset {start} answered {size} bytes and led nowhere")
    if file.open_flags & _CACHE_DIR and file.inode.listing is not None:
        file.inode.listing.add(start, entries, offset)
    file.pos = offset
    return [entry[:3] for entry in entries] if entries or not size else None
