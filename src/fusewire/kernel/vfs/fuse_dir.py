"""Names that are looked up: ``fuse_lookup``, ``fuse_dentry_revalidate``, ``fuse_get_link``, as fs/fuse/dir.c has them."""

from __future__ import annotations

import errno

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, InitFlag, Opcode
from ...wire.layouts import ENTRY_OUT, EntryOut
from ..queue import traced
from .fuse_attr import FuseAttr
from .fuse_base import bad_inode, c_string, valid_attr
from .inode import ADVISE_RDPLUS, BAD, DEAD, INIT_RDPLUS, UNKNOWN, Dentry, Inode
from .program import ProgramTask


class FuseDir(FuseAttr):
    """The dentries of a FUSE filesystem."""

    def cached(self, parent: Dentry, name: bytes) -> Dentry | None:
        """What is known of the name and still valid; a mountpoint always is."""
        dentry = parent.children.get(name)
        if dentry is None:
            return None
        if dentry.mounted is None and (dentry.epoch != self.epoch or self.clock() >= dentry.expires):
            return None
        inode = dentry.inode
        if inode is not None and inode.state:
            if inode.state & BAD:
                return None
            if inode.state & INIT_RDPLUS:
                inode.state &= ~INIT_RDPLUS
                parent.positive.state |= ADVISE_RDPLUS
        return dentry

    async def lookup(self, task: ProgramTask, parent: Dentry, name: bytes, fresh: bool = False) -> Dentry:
        dentry = self.cached(parent, name)
        if dentry is not None and not (fresh and dentry.mounted is None):
            return dentry
        directory = parent.positive
        parent.get()
        try:
            dentry = parent.children.get(name)
            if dentry is not None and await self._still_there(task, dentry):
                return dentry
            held = directory.semaphore.owner is task
            if not held:
                await directory.semaphore.acquire(task)
            try:
                return await self._lookup_locked(task, parent, directory, name, fresh)
            finally:
                if not held:
                    directory.semaphore.release(task)
        finally:
            parent.put(task)

    async def _still_there(self, task: ProgramTask, dentry: Dentry) -> bool:
        """Ask again for an expired name; one that leads elsewhere now, or nowhere, is dropped."""
        if dentry.inode is None or dentry.inode.state & BAD or dentry.epoch != self.epoch:
            dentry.drop(task)
            return False
        dentry.get()
        try:
            valid = await self._revalidate(task, dentry)
            if not valid:
                dentry.drop(task)
            return valid and dentry.hashed
        finally:
            dentry.put(task)

    async def _revalidate(self, task: ProgramTask, dentry: Dentry) -> bool:
        """``fuse_dentry_revalidate``: does the name still lead to the same inode?"""
        version = self.attr_version
        inode = dentry.positive
        parent = dentry.parent
        assert parent is not None
        try:
            entry = await self._ask_entry(task, parent.positive, dentry.name)
        except OSError as error:
            if error.errno in (errno.ENOMEM, errno.EINTR):
                raise
            return False
        if entry.nodeid != inode.nodeid:
            if entry.nodeid:
                self.connection.queue_forget(task, entry.nodeid, 1)
            return False
        inode.nlookup += 1
        if not valid_attr(entry.attr):
            return False
        if self.is_stale(inode, entry):
            inode.state |= BAD
            return False
        inode.acl = UNKNOWN
        self.set_attr(inode, entry.attr, entry.attr_valid, entry.attr_valid_nsec, version)
        dentry.expires = self.until(entry.entry_valid, entry.entry_valid_nsec)
        return True

    @traced("fuse_lookup")
    async def _lookup_locked(
        self, task: ProgramTask, parent: Dentry, directory: Inode, name: bytes, fresh: bool
    ) -> Dentry:
        if directory.state & BAD:
            raise bad_inode()
        if directory.state & DEAD:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        dentry = None if fresh else self.cached(parent, name)
        if dentry is not None:  # another program looked it up while we waited for the semaphore
            return dentry
        version, epoch = self.attr_version, self.epoch
        try:
            entry = await self._ask_entry(task, directory, name)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return self._absent(task, parent, name)  # ENOENT is not cached
        if not entry.nodeid:
            return self._absent(task, parent, name, self.until(entry.entry_valid, entry.entry_valid_nsec), epoch)
        dentry = self.add(task, parent, name, entry, version, epoch)
        directory.state |= ADVISE_RDPLUS
        return dentry

    async def _ask_entry(self, task: ProgramTask, directory: Inode, name: bytes) -> EntryOut:
        return await self.ask_for(
            task, Opcode.LOOKUP, directory.nodeid, ENTRY_OUT, c_string(name), late=self.forget_late_entry
        )  # fmt: skip

    def _absent(self, task: ProgramTask, parent: Dentry, name: bytes, expires: int = 0, epoch: int = 0) -> Dentry:
        old = parent.children.get(name)
        if old is not None:
            old.drop(task)
        return parent.add(name, None, expires, epoch) if expires else Dentry(name, parent, None)

    def add(self, task: ProgramTask, parent: Dentry, name: bytes, entry: EntryOut, version: int, epoch: int) -> Dentry:
        """The name leads to what the daemon answered. Raises EIO for an entry that cannot be."""
        inode = self.instantiate(task, entry, name, version)
        expires = self.until(entry.entry_valid, entry.entry_valid_nsec)
        inode.count += 1
        try:
            return self._splice(task, parent, name, inode, expires, epoch)
        finally:
            inode.put(task)

    @staticmethod
    def _splice(task: ProgramTask, parent: Dentry, name: bytes, inode: Inode, expires: int, epoch: int) -> Dentry:
        """A directory has one place in the tree: found anew, it has moved there. Raises ELOOP for one found in itself."""
        old = parent.children.get(name)
        alias = inode.aliases[0] if inode.aliases and inode.is_dir else None
        if alias is not None:
            if parent.is_below(alias):
                raise OSError(int(Errno.ELOOP), f"{name!r} leads to a directory that it is in")
            if alias is not old:
                if old is not None:
                    old.drop(task)
                alias.move(task, parent, name)
            alias.expires, alias.epoch = expires, epoch
            return alias
        if old is not None:
            old.drop(task)
        return parent.add(name, inode, expires, epoch)

    # -- symbolic links -------------------------------------------------------------------------------------------

    async def readlink(self, task: ProgramTask, inode: Inode) -> bytes:
        if inode.state & BAD:
            raise bad_inode()
        if inode.link is not None:
            return inode.link
        inode.count += 1
        out = self.take_memory(PAGE_SIZE - 1)
        try:
            size = await self.ask_for_data(task, Opcode.READLINK, inode.nodeid, out)
            target = bytes(memoryview(out)[:size]).partition(b"\0")[0]
        finally:
            self.give_memory(out)
            inode.put(task)
        if self.flags & InitFlag.CACHE_SYMLINKS:
            inode.link = target
        return target
