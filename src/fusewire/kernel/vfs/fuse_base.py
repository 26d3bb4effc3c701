"""What every FUSE operation stands on: ask the daemon, decode, remember what it does not support, keep the inode table."""

from __future__ import annotations

import stat
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from ...wire.errno import Errno
from ...wire.flags import ROOT_ID, InitFlag, Opcode
from ...wire.layout import Layout
from ...wire.layouts import ENTRY_OUT, OPEN_OUT, RELEASE_IN, Attr, EntryOut, ReleaseIn
from ..queue import Args, Connection
from .files import FilesStruct
from .inode import BAD, STATX_BASIC, STATX_CTIME, Dentry, Inode
from .page_cache import PageLru
from .program import ProgramTask
from .super import Super

T = TypeVar("T")
NANO = 1_000_000_000
MANY_NUMBERS = 4096
MAX_SIZE = (1 << 63) - 1
_TYPES = frozenset(
    {
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
    }
)


class FuseBase(Super):
    """A FUSE filesystem's inode table and its line to the daemon. ``clock`` gives the driver's nanoseconds.

    ``attr_version`` counts changes of attributes, ``epoch`` what INC_EPOCH began; ``owner`` is who mounted it (uid, gid).
    """

    connection: Connection
    magic = 0x65735546

    def __init__(self, connection: Connection, clock: Callable[[], int]) -> None:
        self.connection = connection
        super().__init__()
        self.device_number = connection.number
        self.clock = clock
        self.inodes: dict[int, Inode] = {}
        self.missing: set[Opcode] = set()  # the daemon answered ENOSYS, and is not asked again
        self.flags = InitFlag(0)
        self.max_write = 4096
        self.max_read = 32 * 4096
        self.name_max = 1024
        self.attr_version = 1
        self.epoch = 1
        self.allow_other = True
        self.owner = (0, 0)
        self.auto_inval_data = False  # these four as INIT agreed on them
        self.explicit_inval_data = False
        self.async_read = False
        self.writeback_cache = False
        self.ra_pages = 32  # the most that is read ahead
        self.lru = PageLru()  # a kernel with several mounts gives them one
        self.old = False  # the daemon speaks a minor whose structs are shorter
        self.largest = (
            1 << 20
        )  # the most that one READ or WRITE may carry, whatever INIT agrees on: the transport's limit
        self.root = Dentry(b"", None, self._root_inode())
        self._slab: defaultdict[int, list[bytearray]] = defaultdict(list)

    def _root_inode(self) -> Inode:
        inode = Inode(self, ROOT_ID, 0, Attr(ROOT_ID, mode=stat.S_IFDIR | 0o755, nlink=1), b"/")
        inode.nlookup = 1  # the root's is not given back
        self.inodes[ROOT_ID] = inode
        return inode

    # -- asking ---------------------------------------------------------------------------------------------------

    async def ask(
        self,
        task: ProgramTask,
        opcode: Opcode,
        inode: Inode,
        *body: bytes | memoryview,
        force: bool = False,
    ) -> None:
        """A request whose answer is only an errno."""
        if inode.state & BAD:
            raise bad_inode()
        await self.connection.call(task, Args(opcode, inode.nodeid, body, force=force, creds=task.creds))

    async def ask_for(
        self,
        task: ProgramTask,
        opcode: Opcode,
        nodeid: int,
        layout: Layout[T],
        *body: bytes | memoryview,
        late: Callable[[bytes], None] | None = None,
    ) -> T:
        """A request whose answer is one struct."""
        if self.old:
            return await self._ask_old(task, Args(opcode, nodeid, body, late=late, creds=task.creds), layout)
        free = self._slab[layout.size]  # take_memory, give_memory
        out = free.pop() if free else bytearray(layout.size)
        try:
            await self.connection.call(task, Args(opcode, nodeid, body, out, late=late, creds=task.creds))
            return layout.unpack(out)
        finally:
            free.append(out)

    async def _ask_old(self, task: ProgramTask, args: Args, layout: Layout[T]) -> T:
        """The daemon's struct ends before ours does."""
        args.out = out = bytearray(self.connection.dialect.size(layout))
        await self.connection.call(task, args)
        return layout.unpack_short(out)

    async def ask_for_data(
        self,
        task: ProgramTask,
        opcode: Opcode,
        nodeid: int,
        into: bytearray | memoryview,
        *body: bytes | memoryview,
        late: Callable[[bytes], None] | None = None,
    ) -> int:
        """A request whose answer is as much data as fits; returns its length."""
        args = Args(opcode, nodeid, body, into, argvar=True, late=late, creds=task.creds)
        return await self.connection.call(task, args)

    async def ask_once(
        self, task: ProgramTask, opcode: Opcode, inode: Inode, *body: bytes | memoryview, force: bool = False
    ) -> bool:
        """A request whose answer is only an errno, of which ENOSYS is remembered: returns whether the daemon did it."""
        if opcode in self.missing:
            return False
        try:
            await self.ask(task, opcode, inode, *body, force=force)
        except OSError as failed:
            if failed.errno != Errno.ENOSYS:
                raise
            self.missing.add(opcode)
            return False
        return True

    def pack(self, layout: Layout[T], value: T) -> bytes:
        """A struct as this daemon knows it."""
        packed = layout.pack(value)
        return packed[: self.connection.dialect.size(layout)] if self.old else packed

    def take_memory(self, size: int) -> bytearray:
        """Memory of the caller's for an answer. What an earlier caller left in it is still there, as on a stack."""
        free = self._slab[size]
        return free.pop() if free else bytearray(size)

    def give_memory(self, memory: bytearray) -> None:
        """The caller leaves: the next one gets the same memory."""
        self._slab[len(memory)].append(memory)

    # -- inodes ---------------------------------------------------------------------------------------------------

    def instantiate(self, task: ProgramTask | None, entry: EntryOut, name: bytes, version: int) -> Inode:
        """The inode of an entry that the daemon answered, counted once more. Raises EIO for an entry that cannot be.

        ``version``: the attributes' version when the daemon was asked.
        """
        nodeid = entry.nodeid
        if nodeid in (0, ROOT_ID) or not valid_attr(entry.attr):
            if nodeid > ROOT_ID:
                self.connection.queue_forget(task, nodeid, 1)
            raise OSError(int(Errno.EIO), f"the daemon answered node {nodeid}, mode {entry.attr.mode:#o}")
        inode = self.inodes.get(nodeid)
        if inode is not None and self.is_stale(inode, entry):
            inode.state |= BAD  # the number was used anew: what we knew under it is not to be touched any more
            inode = None
        if inode is None:
            attr = _shared(entry.attr, nodeid)
            inode = Inode(self, nodeid, entry.generation, attr, name)
            self.inodes[nodeid] = inode
            version = 0
        else:
            attr = entry.attr
        inode.nlookup += 1
        self.set_attr(inode, attr, entry.attr_valid, entry.attr_valid_nsec, version)
        return inode

    @staticmethod
    def is_stale(inode: Inode, entry: EntryOut) -> bool:
        """Whether an entry of the inode's number is of another inode."""
        return inode.generation != entry.generation or (inode.attr.mode ^ entry.attr.mode) & 0o170000 != 0

    def set_attr(self, inode: Inode, attr: Attr, valid: int, valid_nsec: int, version: int) -> None:
        """Take the daemon's attributes, unless they changed since it was asked (``version``; 0: it changed them itself).
        Raises EIO when they cannot be those of this inode."""
        if (attr.mode ^ inode.attr.mode) & 0o170000 or attr.size > MAX_SIZE:
            inode.state |= BAD
            raise OSError(int(Errno.EIO), f"the daemon answered mode {attr.mode:#o} for node {inode.nodeid}")
        if version and inode.attr_version > version:
            return
        self.attr_version = inode.attr_version = self.attr_version + 1  # as changed_attr
        old, inode.attr = inode.attr, attr
        if inode.pages is not None:
            self._contents_changed(inode, old)
        inode.inval_mask &= ~STATX_BASIC
        inode.attr_expires = self.until(valid, valid_nsec) if valid or valid_nsec else 0

    def _contents_changed(self, inode: Inode, old: Attr) -> None:
        """The daemon's attributes say whether what is cached of the file is still its contents; its size and times are the
        kernel's own under WRITEBACK_CACHE."""
        cache, new = inode.pages, inode.attr
        assert cache is not None
        if self.writeback_cache:
            inode.attr = new._replace(
                size=old.size, mtime=old.mtime, mtimensec=old.mtimensec, ctime=old.ctime, ctimensec=old.ctimensec
            )
        elif new.size != old.size:
            cache.resize(old.size, new.size)
            if not self.explicit_inval_data:
                cache.drop()
        elif self.auto_inval_data and (new.mtime, new.mtimensec) != (old.mtime, old.mtimensec):
            cache.drop()

    def update_ctime(self, inode: Inode) -> None:
        """``fuse_update_ctime``: something of it was changed that is not asked for again."""
        inode.invalidate(STATX_CTIME)
        self.update_ctime_in_cache(inode)

    def update_ctime_in_cache(self, inode: Inode) -> None:
        """Where the kernel's clock is the file's."""
        if self.writeback_cache and inode.is_reg:
            seconds, nanoseconds = divmod(time.time_ns(), NANO)
            inode.attr = inode.attr._replace(ctime=seconds, ctimensec=nanoseconds)

    def changed_attr(self, inode: Inode) -> None:
        """Answers that are under way are of what was before."""
        self.attr_version += 1
        inode.attr_version = self.attr_version

    def until(self, seconds: int, nanoseconds: int) -> int:
        """When something valid for so long expires; for no time at all: it has expired."""
        return self.clock() + seconds * NANO + nanoseconds if seconds or nanoseconds else 0

    def evict(self, task: ProgramTask | None, inode: Inode) -> None:
        """Nobody here holds it: give the daemon its references back."""
        if inode.pages is not None:
            inode.pages.truncate(0)
        if self.inodes.get(inode.nodeid) is inode:
            del self.inodes[inode.nodeid]
        if inode.nodeid != ROOT_ID:
            self.connection.queue_forget(task, inode.nodeid, inode.nlookup)

    # -- who asks --------------------------------------------------------------------------------------------------

    def allows(self, task: ProgramTask) -> bool:
        """``fuse_allow_current_process``: without ``allow_other`` only programs of whoever mounted it."""
        if self.allow_other:
            return True
        cred = task.cred
        uid, gid = self.owner
        return cred.uid == cred.ruid == cred.suid == uid and cred.gid == cred.rgid == cred.sgid == gid

    def check_allowed(self, task: ProgramTask) -> None:
        """Raises EACCES."""
        if not self.allows(task):
            raise PermissionError(int(Errno.EACCES), "Permission denied: mounted by another user, without allow_other")

    def lock_owner(self, owner: FilesStruct | object) -> int:
        """The number by which the daemon knows a descriptor table, or an open file description."""
        return id(owner) & ((1 << 64) - 1)

    # -- answers that come after the caller left --------------------------------------------------------------------

    def forget_late_entry(self, body: bytes) -> None:
        """A LOOKUP was answered after its caller left: the reference it granted goes back."""
        if len(body) >= self.connection.dialect.size(ENTRY_OUT):
            entry = ENTRY_OUT.unpack_short(body)
            if entry.nodeid > ROOT_ID:
                self.connection.queue_forget(None, entry.nodeid, 1)

    def release_late(self, opcode: Opcode, nodeid: int, body: bytes) -> None:
        """An open was answered after its caller left."""
        if len(body) >= OPEN_OUT.size:
            self.send_release(None, opcode, nodeid, ReleaseIn(OPEN_OUT.unpack(body).fh))

    def send_release(
        self,
        task: ProgramTask | None,
        opcode: Opcode,
        nodeid: int,
        release: ReleaseIn,
    ) -> None:
        """RELEASE or RELEASEDIR: nobody waits for it and nothing holds it back. The inode is held until it ended, so that no
        FORGET of it comes first."""
        inode = self.inodes.get(nodeid)
        if inode is not None:
            inode.count += 1

        def ended(error: int, answered: int) -> None:
            if inode is not None:
                inode.put(None)

        self.connection.send_forced(task, Args(opcode, nodeid, (RELEASE_IN.pack(release),), force=True, end=ended))


def _shared(attr: Attr, nodeid: int) -> Attr:
    """Equal numbers as one object each: that is a fifth of a cached inode's memory, and of what a stat of it touches."""
    atime, mtime, ctime = attr.atime, _one(attr.mtime), attr.ctime
    atimensec, mtimensec, ctimensec = attr.atimensec, attr.mtimensec, attr.ctimensec
    return Attr(
        nodeid if attr.ino == nodeid else attr.ino, attr.size, attr.blocks,
        mtime if atime == mtime else atime, mtime, mtime if ctime == mtime else ctime,
        mtimensec if atimensec == mtimensec else atimensec, mtimensec, mtimensec if ctimensec == mtimensec else ctimensec,
        _one(attr.mode), attr.nlink, _one(attr.uid), _one(attr.gid), attr.rdev, _one(attr.blksize), attr.flags,
    )  # fmt: skip


_ones: dict[int, int] = {}


def _one(number: int) -> int:
    """The object that stands for a number which many inodes have."""
    return _ones.setdefault(number, number) if len(_ones) < MANY_NUMBERS else _ones.get(number, number)


def valid_attr(attr: Attr) -> bool:
    """Whether a daemon's attributes can be those of any inode."""
    return stat.S_IFMT(attr.mode) in _TYPES and attr.size <= MAX_SIZE


def bad_inode() -> OSError:
    return OSError(int(Errno.EIO), "the daemon lied about it")


def c_string(*names: bytes) -> bytes:
    """Names as they stand in a request."""
    return b"".join(name + b"\0" for name in names)
