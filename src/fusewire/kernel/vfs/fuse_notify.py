"""What a daemon tells us unasked: ``fuse_notify`` of fs/fuse/dev.c and the ``fuse_reverse_inval_*`` behind it.

It runs inside the daemon's write(). INVAL_ENTRY and DELETE take the directory's semaphore, INVAL_INODE and STORE lock pages:
whoever holds those waits for an answer that this very task may owe. The queue's wait-for graph finds such a circle.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, InvalEntryFlag, NotifyCode, Opcode
from ...wire.layout import Layout, ProtocolError
from ...wire.layouts import (
    NOTIFY_DELETE_OUT,
    NOTIFY_INVAL_ENTRY_OUT,
    NOTIFY_INVAL_INODE_OUT,
    NOTIFY_POLL_WAKEUP_OUT,
    NOTIFY_PRUNE_OUT,
    NOTIFY_RETRIEVE_IN,
    NOTIFY_RETRIEVE_OUT,
    NOTIFY_STORE_OUT,
    NotifyRetrieveIn,
)
from ..queue import Args, Task
from .fuse_base import MAX_SIZE
from .fuse_lock import FuseLock
from .inode import DEAD, UNKNOWN, Dentry, Inode

T = TypeVar("T")
Take = Callable[[Task, bytes], Awaitable[None]]


class FuseNotify(FuseLock):
    """The nine notifications. Raises OSError: what the daemon's write() gets."""

    async def notify(self, task: Task, code: int, body: bytes) -> None:
        """``fuse_notify``. Raises EINVAL before INIT is answered, once the connection is gone, for an unknown code."""
        if not (self.connection.initialized and self.connection.connected):
            raise _invalid("there is no connection to notify")
        takes: dict[int, Take] = {
            NotifyCode.POLL: self._poll_wakeup,
            NotifyCode.INVAL_INODE: self._inval_inode,
            NotifyCode.INVAL_ENTRY: self._inval_entry,
            NotifyCode.STORE: self._store,
            NotifyCode.RETRIEVE: self._retrieve,
            NotifyCode.DELETE: self._delete,
            NotifyCode.RESEND: self._resend,
            NotifyCode.INC_EPOCH: self._inc_epoch,
            NotifyCode.PRUNE: self._prune,
        }
        take = takes.get(code)
        if take is None:
            raise _invalid(f"notification {code} is none of FUSE's")
        await take(task, body)

    async def _poll_wakeup(self, task: Task, body: bytes) -> None:
        waiting = self.polled.get(_exactly(NOTIFY_POLL_WAKEUP_OUT, body).kh)
        if waiting is not None:
            waiting.wake_all()

    # -- inodes ---------------------------------------------------------------------------------------------------

    def _known(self, nodeid: int) -> Inode:
        """Raises ENOENT for what is not cached: harmless."""
        inode = self.inodes.get(nodeid)
        if inode is None:
            raise OSError(int(Errno.ENOENT), f"node {nodeid} is not cached")
        return inode

    async def _inval_inode(self, task: Task, body: bytes) -> None:
        out = _exactly(NOTIFY_INVAL_INODE_OUT, body)
        inode = self._known(out.ino)
        self.changed_attr(inode)
        inode.invalidate()
        inode.acl = UNKNOWN
        inode.link = None
        if out.off >= 0:
            inode.listing = None
            last = (out.off + out.len - 1) // PAGE_SIZE if out.len > 0 else None
            await self._holding(inode, self.invalidate_inode_pages2(task, inode, out.off // PAGE_SIZE, last))

    @staticmethod
    async def _holding(inode: Inode, work: Awaitable[None]) -> None:
        """Pages are waited for: the inode is held meanwhile."""
        inode.count += 1
        try:
            await work
        finally:
            inode.put(None)

    async def _store(self, task: Task, body: bytes) -> None:
        out = _head(NOTIFY_STORE_OUT, body)
        data = memoryview(body)[NOTIFY_STORE_OUT.size :]
        if len(data) != out.size:
            raise _invalid(f"{out.size} bytes announced, {len(data)} came")
        _check_offset(out.offset)
        inode = self._known(out.nodeid)
        if not inode.is_reg:
            raise _invalid(f"node {out.nodeid} has no contents")
        data = data[: MAX_SIZE - out.offset]
        end = out.offset + len(data)
        if end > inode.attr.size:
            self.write_update_attr(inode, end, len(data))
        await self._holding(inode, self._store_pages(task, inode, out.offset, data))

    async def _store_pages(self, task: Task, inode: Inode, offset: int, data: memoryview) -> None:
        """``fuse_notify_store``: into pages, each locked meanwhile. What reaches the file's end fills its page."""
        cache = self.page_cache(inode)
        done = 0
        while done < len(data):
            index, skip = divmod(offset + done, PAGE_SIZE)
            size = min(PAGE_SIZE - skip, len(data) - done)
            page = cache.find_or_create(task, index)
            await page.lock(task)
            try:
                if page.cache is not cache:
                    continue
                page.memory[skip : skip + size] = data[done : done + size]
                done += size
                if not page.uptodate and not skip and (size == PAGE_SIZE or offset + done == inode.attr.size):
                    page.memory[size:] = bytes(PAGE_SIZE - size)
                    page.uptodate = True
            finally:
                page.unlock(task)

    async def _retrieve(self, task: Task, body: bytes) -> None:
        out = _exactly(NOTIFY_RETRIEVE_OUT, body)
        _check_offset(out.offset)
        inode = self._known(out.nodeid)
        if not inode.is_reg:
            raise _invalid(f"node {out.nodeid} has no contents")
        data = memoryview(bytearray(max(0, min(out.size, self.max_write, inode.attr.size - out.offset))))
        if inode.pages is not None:  # what is cached from there on without a gap, and no more
            data = data[: inode.pages.peek(data, out.offset)]
        else:
            data = data[:0]
        reply = NOTIFY_RETRIEVE_IN.pack(NotifyRetrieveIn(offset=out.offset, size=len(data)))
        args = Args(Opcode.NOTIFY_REPLY, out.nodeid, (reply, data), noreply=True)
        self.connection.send_notify_reply(task, args, out.notify_unique)

    async def _prune(self, task: Task, body: bytes) -> None:
        out = _head(NOTIFY_PRUNE_OUT, body)
        nodes = body[NOTIFY_PRUNE_OUT.size :]
        if out.padding or out.spare.to_bytes(8, "little").strip(b"\0") or len(nodes) != 8 * out.count:
            raise _invalid(f"{out.count} nodes announced in {len(body)} bytes")
        for (nodeid,) in struct.iter_unpack("<Q", nodes):
            inode = self.inodes.get(nodeid)
            for dentry in inode.aliases if inode is not None else ():
                if not dentry.count and dentry.parent is not None:
                    dentry.drop(None)

    # -- names ----------------------------------------------------------------------------------------------------

    async def _inval_entry(self, task: Task, body: bytes) -> None:
        out = _head(NOTIFY_INVAL_ENTRY_OUT, body)
        name = _name(body[NOTIFY_INVAL_ENTRY_OUT.size :], out.namelen, self.name_max)
        await self._reverse_inval_entry(task, out.parent, 0, name, bool(out.flags & InvalEntryFlag.EXPIRE_ONLY))

    async def _delete(self, task: Task, body: bytes) -> None:
        out = _head(NOTIFY_DELETE_OUT, body)
        name = _name(body[NOTIFY_DELETE_OUT.size :], out.namelen, self.name_max)
        await self._reverse_inval_entry(task, out.parent, out.child, name, False)

    async def _reverse_inval_entry(self, task: Task, parent: int, child: int, name: bytes, expire: bool) -> None:
        directory = self._known(parent)
        directory.count += 1
        try:
            await directory.semaphore.acquire(task)
            try:
                dentry = _find(directory, name)
                directory.invalidate()
                directory.listing = None
                dentry.expires = 0
                if not expire:
                    self._invalidate_entry(dentry, child)
            finally:
                directory.semaphore.release(task)
        finally:
            directory.put(None)

    @staticmethod
    def _invalidate_entry(dentry: Dentry, child: int) -> None:
        """``child``: DELETE says that this inode has lost the name. Raises ENOENT for another one, EBUSY, ENOTEMPTY."""
        inode = dentry.inode
        if child and inode is not None:
            if inode.nodeid != child:
                dentry.drop(None)
                raise OSError(int(Errno.ENOENT), f"{dentry.name!r} leads to node {inode.nodeid}, not {child}")
            if dentry.mounted is not None:
                raise OSError(int(Errno.EBUSY), f"{dentry.name!r} is a mountpoint")
            if inode.is_dir:
                dentry.shrink(None)
                if any(one.inode is not None for one in dentry.children.values()):
                    raise OSError(int(Errno.ENOTEMPTY), f"{dentry.name!r} has names in use")
                inode.state |= DEAD
            inode.attr = inode.attr._replace(nlink=0)
        dentry.drop(None)

    async def _inc_epoch(self, task: Task, body: bytes) -> None:
        if body:
            raise _invalid("INC_EPOCH has no body")
        self.epoch += 1

    async def _resend(self, task: Task, body: bytes) -> None:
        if body:
            raise _invalid("RESEND has no body")
        self.connection.resend(task)


def _find(directory: Inode, name: bytes) -> Dentry:
    """The cached name. Raises ENOTDIR, ENOENT."""
    if not directory.is_dir:
        raise NotADirectoryError(int(Errno.ENOTDIR), "Not a directory")
    dentry = directory.aliases[0].children.get(name) if directory.aliases else None
    if dentry is None:
        raise OSError(int(Errno.ENOENT), f"{name!r} is not cached")
    return dentry


def _check_offset(offset: int) -> None:
    """Raises EINVAL for one that no file reaches. (Linux 6.18 does not look yet; later ones do.)"""
    if offset >= MAX_SIZE:
        raise _invalid(f"an offset of {offset} bytes")


def _head(layout: Layout[T], body: bytes) -> T:
    try:
        return layout.unpack(body)
    except ProtocolError as error:
        raise _invalid(str(error)) from None


def _exactly(layout: Layout[T], body: bytes) -> T:
    if len(body) != layout.size:
        raise _invalid(f"{layout.name} takes {layout.size} bytes, {len(body)} came")
    return _head(layout, body)


def _name(tail: bytes, length: int, longest: int) -> bytes:
    """A name and its NUL. Raises ENAMETOOLONG, EINVAL."""
    if length > longest:
        raise OSError(int(Errno.ENAMETOOLONG), f"a name of {length} bytes")
    if len(tail) != length + 1 or not length:
        raise _invalid(f"a name of {length} bytes announced in {len(tail)}")
    return tail[:length]


def _invalid(why: str) -> OSError:
    return OSError(int(Errno.EINVAL), why)
