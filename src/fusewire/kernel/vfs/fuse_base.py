"""What every FUSE operation stands on: ask the daemon, decode, remember what it does not support, keep the inode table."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import TypeVar

from ...wire.errno import Errno
from ...wire.flags import ROOT_ID, InitFlag, Opcode
from ...wire.layout import Layout
from ...wire.layouts import ENTRY_OUT, RELEASE_IN, Attr, EntryOut, ReleaseIn
from ..queue import Args, Connection
from .inode import Dentry, Inode
from .program import ProgramTask
from .super import Super

T = TypeVar("T")
NANO = 1_000_000_000
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
    """A FUSE filesystem's inode table and its line to the daemon. ``clock`` gives the driver's nanoseconds."""

    connection: Connection

    def __init__(self, connection: Connection, clock: Callable[[], int]) -> None:
        self.connection = connection
        self.device_number = connection.number
        self.clock = clock
        self.inodes: dict[int, Inode] = {}
        self.missing: set[Opcode] = set()  # the daemon answered ENOSYS, and is not asked again
        self.flags = InitFlag(0)
        self.max_write = 4096
        self.max_read = 32 * 4096
        self.largest = (
            1 << 20
        )  # the most that one READ or WRITE may carry, whatever INIT agrees on: the transport's limit
        self.root = Dentry(b"", None, self._root_inode())
        self._slab: dict[int, list[bytearray]] = {}

    def _root_inode(self) -> Inode:
        inode = Inode(self, ROOT_ID, 0, Attr(ROOT_ID, mode=stat.S_IFDIR | 0o755, nlink=1))
        inode.semaphore.name = 'inode semaphore for "/"'
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
        out = self.take_memory(layout.size)
        try:
            await self.connection.call(task, Args(opcode, nodeid, body, out, late=late, creds=task.creds))
            return layout.unpack(out)
        finally:
            self.give_memory(out)

    async def ask_for_data(
        self,
        task: ProgramTask,
        opcode: Opcode,
        nodeid: int,
        into: bytearray | memoryview,
        *body: bytes | memoryview,
    ) -> int:
        """A request whose answer is as much data as fits; returns its length."""
        args = Args(opcode, nodeid, body, into, argvar=True, creds=task.creds)
        return await self.connection.call(task, args)

    def take_memory(self, size: int) -> bytearray:
        """Memory of the caller's for an answer. What an earlier caller left in it is still there, as on a stack."""
        free = self._slab.get(size)
        return free.pop() if free else bytearray(size)

    def give_memory(self, memory: bytearray) -> None:
        """The caller leaves: the next one gets the same memory."""
        self._slab.setdefault(len(memory), []).append(memory)

    # -- inodes ---------------------------------------------------------------------------------------------------

    def instantiate(self, task: ProgramTask, entry: EntryOut, name: bytes) -> Inode:
        """The inode of an entry that the daemon answered, counted once more. Raises EIO for an entry that cannot be."""
        mode = stat.S_IFMT(entry.attr.mode)
        if entry.nodeid in (0, ROOT_ID) or mode not in _TYPES or entry.attr.size > MAX_SIZE:
            if entry.nodeid > ROOT_ID:
                self.connection.queue_forget(task, entry.nodeid, 1)
            raise OSError(
                int(Errno.EIO),
                f"the daemon answered node {entry.nodeid}, mode {entry.attr.mode:#o}",
            )
        inode = self.inodes.get(entry.nodeid)
        if inode is not None and (inode.generation != entry.generation or stat.S_IFMT(inode.attr.mode) != mode):
            self.connection.queue_forget(task, entry.nodeid, 1)
            raise OSError(int(Errno.EIO), f"node {entry.nodeid} changed its type or generation")
        if inode is None:
            inode = Inode(self, entry.nodeid, entry.generation, entry.attr)
            inode.semaphore.name = f'inode semaphore for "{name.decode("utf-8", "backslashreplace")}"'
            self.inodes[entry.nodeid] = inode
        inode.nlookup += 1
        self.set_attr(inode, entry.attr, entry.attr_valid, entry.attr_valid_nsec)
        return inode

    def set_attr(self, inode: Inode, attr: Attr, valid: int, valid_nsec: int) -> None:
        """Take the daemon's attributes. Raises EIO when they cannot be those of this inode."""
        if stat.S_IFMT(attr.mode) != stat.S_IFMT(inode.attr.mode) or attr.size > MAX_SIZE:
            raise OSError(int(Errno.EIO), f"the daemon answered mode {attr.mode:#o} for node {inode.nodeid}")
        inode.attr = attr
        inode.attr_expires = self.until(valid, valid_nsec)

    def until(self, seconds: int, nanoseconds: int) -> int:
        """When something valid for so long expires; for no time at all: it has expired."""
        return self.clock() + seconds * NANO + nanoseconds if seconds or nanoseconds else 0

    def evict(self, task: ProgramTask | None, inode: Inode) -> None:
        """Nobody here holds it: give the daemon its references back."""
        del self.inodes[inode.nodeid]
        if inode.nodeid != ROOT_ID:
            self.connection.queue_forget(task, inode.nodeid, inode.nlookup)

    # -- answers that come after the caller left --------------------------------------------------------------------

    def forget_late_entry(self, body: bytes) -> None:
        """A LOOKUP was answered after its caller left: the reference it granted goes back."""
        if len(body) >= ENTRY_OUT.size:
            entry = ENTRY_OUT.unpack(body)
            if entry.nodeid > ROOT_ID:
                self.connection.queue_forget(None, entry.nodeid, 1)

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


def c_string(*names: bytes) -> bytes:
    """Names as they stand in a request."""
    return b"".join(name + b"\0" for name in names)
