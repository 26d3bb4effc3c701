"""Inodes and dentries: the one inode table, with lookup counts, and the names that lead to it.

An inode lives while a dentry holds it; then it is evicted, and its lookup count goes back to the daemon as a FORGET of exactly
that many. A dentry lives while it is hashed (its parent knows it by name) or something holds it: an open file, a working
directory, a mount, a child that is there, a system call that waits. Whoever awaits with a dentry or an inode in hand holds
it meanwhile.
"""

from __future__ import annotations

import enum
import stat
from typing import TYPE_CHECKING

from ...wire.errno import Errno
from ...wire.layouts import Attr
from ..queue import Semaphore

if TYPE_CHECKING:
    from ...wire.posix_acl import Acl
    from .dir_cache import DirCache
    from .locks import FileLockContext
    from .page_cache import PageCache
    from .pipe import Pipe
    from .program import ProgramTask
    from .super import Super

# What may be invalid of cached attributes: statx(2)'s mask.
STATX_MODE, STATX_NLINK, STATX_UID, STATX_GID = 0x2, 0x4, 0x8, 0x10
STATX_ATIME, STATX_MTIME, STATX_CTIME, STATX_SIZE, STATX_BLOCKS = 0x20, 0x40, 0x80, 0x200, 0x400
STATX_BASIC, STATX_BTIME = 0x7FF, 0x800
STATX_MODSIZE = STATX_MTIME | STATX_CTIME | STATX_SIZE | STATX_BLOCKS  # what a write changes
STATX_PERM = STATX_MODE | STATX_UID | STATX_GID

# States of an inode.
BAD = 1  # the daemon lied about it: EIO for ever
DEAD = 2  # a directory that was removed
INIT_RDPLUS = 4  # READDIRPLUS brought it: the first use of its name tells that READDIRPLUS pays
ADVISE_RDPLUS = 8  # of a directory: names in it are looked up, so the next reading is READDIRPLUS


class Unknown(enum.Enum):
    """What is not cached, where None is an answer."""

    UNKNOWN = enum.auto()


UNKNOWN = Unknown.UNKNOWN


class Inode:
    """``nodeid`` is the daemon's name for it; ``nlookup`` how many references we owe back; ``count`` who holds it here.

    ``attr_expires`` is in nanoseconds of the driver's clock, ``inval_mask`` which attributes (STATX_*) are known to be stale
    before that, ``attr_version`` when (in the super block's count) they were last changed: an answer to a question that is
    older than that is not taken. ``aliases`` are its dentries; ``name`` is the one it was first found by.
    """

    __slots__ = (
        "acl", "aliases", "attr", "attr_expires", "attr_version", "btime", "count", "generation", "inval_mask", "is_dir",
        "is_link", "is_reg", "link", "listing", "locks", "name", "nlookup", "nodeid", "own_semaphore", "pages", "pipe",
        "sb", "state", "writecount",
    )  # fmt: skip

    def __init__(self, sb: Super, nodeid: int, generation: int, attr: Attr, name: bytes) -> None:
        self.sb = sb
        self.nodeid = nodeid
        self.generation = generation
        self.attr = attr
        kind = stat.S_IFMT(attr.mode)  # for good: an answer of another one is of another inode
        self.is_dir, self.is_reg, self.is_link = kind == stat.S_IFDIR, kind == stat.S_IFREG, kind == stat.S_IFLNK
        self.attr_expires = 0
        self.attr_version = 0
        self.inval_mask = STATX_BASIC | STATX_BTIME
        self.btime: tuple[int, int] | None = None
        self.nlookup = 0
        self.count = 0
        self.state = 0
        self.writecount = 0  # open files that write to it; below 0: programs that it is
        self.aliases: tuple[Dentry, ...] = ()
        self.acl: Acl | Unknown | None = UNKNOWN
        self.link: bytes | None = None  # the target of a symbolic link, where it may be cached
        self.listing: DirCache | None = None  # of a directory, where it may be cached
        self.locks: FileLockContext | None = None
        self.pages: PageCache | None = None  # its cached contents, once there were some
        self.pipe: Pipe | None = None  # what is behind a FIFO, while it is open
        self.name = name
        self.own_semaphore: Semaphore | None = None  # once somebody took it: most inodes are only looked at

    @property
    def semaphore(self) -> Semaphore:
        """The inode semaphore of ``kernel.txt``."""
        if self.own_semaphore is None:
            name = self.name.decode("utf-8", "backslashreplace")
            self.own_semaphore = Semaphore(f'inode semaphore for "{name}"', self.sb.connection)
        return self.own_semaphore

    @property
    def mode(self) -> int:
        return self.attr.mode

    def invalidate(self, mask: int = STATX_BASIC) -> None:
        """These attributes are to be asked for again."""
        self.inval_mask |= mask

    def deny_write(self) -> None:
        """It is about to be run. Raises ETXTBSY for one that is open for writing."""
        if self.writecount > 0:
            raise OSError(int(Errno.ETXTBSY), "Text file busy: it is open for writing")
        self.writecount -= 1

    def allow_write(self) -> None:
        """One that ran it does so no longer."""
        self.writecount += 1

    def get_write(self) -> None:
        """It is about to be written to: until :meth:`put_write` it cannot be run, nor its filesystem be made read-only. Raises
        ETXTBSY for one that runs, EROFS."""
        if self.writecount < 0:
            raise OSError(int(Errno.ETXTBSY), "Text file busy: a program that runs")
        self.sb.want_write()
        self.add_writer()

    def add_writer(self) -> None:
        """It is open for writing: the same, and nobody asks any more whether it may be."""
        self.writecount += 1
        self.sb.writers += 1

    def put_write(self) -> None:
        """One writer fewer."""
        self.writecount -= 1
        self.sb.writers -= 1

    def grab(self) -> bool:
        """Hold it, unless it is evicted already (``igrab``)."""
        if not self.count:
            return False
        self.count += 1
        return True

    def put(self, task: ProgramTask | None) -> None:
        """Let go of one reference; at the last the inode is evicted."""
        self.count -= 1
        if not self.count:
            self.sb.evict(task, self)


class Dentry:
    """A name in a directory. ``inode`` None: cached as absent. ``expires``: until when (ns) it needs no look-up;
    ``epoch``: of the super block's count when it was; ``count``: who holds it; ``mounted``: the root of what covers it."""

    __slots__ = ("children", "count", "epoch", "expires", "hashed", "inode", "mounted", "name", "parent")

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name = name
        self.parent = parent
        self.inode = inode
        self.children: dict[bytes, Dentry] = NO_CHILDREN
        self.expires = 0
        self.epoch = 0
        self.count = 0
        self.hashed = parent is None
        self.mounted: Dentry | None = None
        if inode is not None:
            if parent is not None:
                parent.count += 1
            inode.count += 1
            inode.aliases += (self,)

    @property
    def positive(self) -> Inode:
        """The inode of a dentry that is known to have one."""
        assert self.inode is not None
        return self.inode

    @property
    def path(self) -> bytes:
        """From the root of its own mount."""
        parts = []
        dentry: Dentry | None = self
        while dentry is not None and dentry.parent is not None:
            parts.append(dentry.name)
            dentry = dentry.parent
        return b"/" + b"/".join(reversed(parts))

    def add(self, name: bytes, inode: Inode | None, expires: int, epoch: int = 0) -> Dentry:
        """Put a name under this one."""
        child = Dentry(name, self, inode)
        child.expires = expires
        child.epoch = epoch
        child._hash()
        return child

    def _hash(self) -> None:
        assert self.parent is not None
        if self.parent.children is NO_CHILDREN:
            self.parent.children = {}
        self.parent.children[self.name] = self
        self.hashed = True

    def _unhash(self) -> None:
        if self.hashed and self.parent is not None:
            del self.parent.children[self.name]
            self.hashed = False

    def get(self) -> Dentry:
        """Hold it."""
        self.count += 1
        return self

    def put(self, task: ProgramTask | None) -> None:
        """Let go. One that is hashed stays cached."""
        self.count -= 1
        if not self.count and not self.hashed:
            self._kill(task)

    def drop(self, task: ProgramTask | None) -> None:
        """Take this name, and all that is cached beneath it, out of its parent. A mountpoint stays where it is."""
        if self.mounted is not None:
            return
        self.drop_children(task)
        self._unhash()
        if not self.count and not self.hashed:
            self._kill(task)

    def drop_children(self, task: ProgramTask | None) -> None:
        """What is cached beneath, used or not, is looked up anew."""
        for child in list(self.children.values()):
            child.drop(task)

    def shrink(self, task: ProgramTask | None) -> None:
        """Forget what is cached beneath and not in use."""
        for child in list(self.children.values()):
            child.shrink(task)
            if not child.count:
                child.drop(task)

    def move(self, task: ProgramTask | None, parent: Dentry, name: bytes) -> None:
        """rename(2): from here on it is ``name`` in ``parent``, where nothing of that name is left."""
        old = self.parent
        assert old is not None
        self._unhash()
        parent.count += 1
        self.parent, self.name = parent, name
        self._hash()
        old.put(task)

    def is_below(self, above: Dentry) -> bool:
        """Whether ``above`` is this one, or one of those on the way up to the root."""
        dentry: Dentry | None = self
        while dentry is not None:
            if dentry is above:
                return True
            dentry = dentry.parent
        return False

    def _kill(self, task: ProgramTask | None) -> None:
        if self.inode is not None:
            inode, self.inode = self.inode, None
            inode.aliases = tuple(alias for alias in inode.aliases if alias is not self)
            inode.put(task)
            if self.parent is not None:
                self.parent.put(task)


NO_CHILDREN: dict[bytes, Dentry] = {}  # every leaf's; never written to
