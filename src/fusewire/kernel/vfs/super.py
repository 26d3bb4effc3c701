"""What a mounted filesystem answers to the system calls, whatever is behind it. The base refuses everything: it is empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from ...wire.errno import Errno
from ...wire.layouts import FileLock, Kstatfs, SetattrIn
from ..queue import Connection, Semaphore, Task, WaitQueue
from .files import File
from .inode import STATX_BASIC, Dentry, Inode
from .locks import F_UNLCK
from .page_cache import Page, PageCache
from .permission import MAY_CHDIR, check, generic_permission
from .program import ProgramTask

DEFAULT_POLLMASK = 0x1 | 0x4 | 0x40 | 0x100  # POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM
Listing = list[tuple[bytes, int, int]]


class Super:
    """A super block: the root and the operations on what is below it. Names are ``bytes``, times nanoseconds.

    ``users``: open files, working directories and mounts that are on it; ``writers``: files open for writing, or about to be;
    ``detached``: it was unmounted lazily and ends with its last user, by ``on_shutdown``.
    """

    connection: Connection | None = None
    device_number = 0
    magic = 0x01021994  # statfs(2)'s f_type: tmpfs, as Linux's own rootfs has it
    mountpoint_dentry: Dentry | None = None  # what this filesystem covers
    root: Dentry
    read_only = False
    checks_permissions = False  # by mode and owner: ``default_permissions``
    posix_acl = False
    name_max = 255

    def __init__(self) -> None:
        self.users = 0
        self.writers = 0
        self.detached = False
        self.on_shutdown: Callable[[ProgramTask | None], None] = lambda task: None
        self.rename_mutex = Semaphore("the rename mutex", self.connection)

    def shutdown(self, task: ProgramTask | None) -> None:
        """The last user of a detached filesystem is gone."""
        self.on_shutdown(task)

    def want_write(self) -> None:
        """Raises EROFS."""
        if self.read_only:
            raise OSError(int(Errno.EROFS), "Read-only file system")

    def evict(self, task: ProgramTask | None, inode: Inode) -> None:
        """Nobody holds the inode any more."""

    # -- names ----------------------------------------------------------------------------------------------------

    def cached(self, parent: Dentry, name: bytes) -> Dentry | None:
        """What is known of the name and still valid."""
        return parent.children.get(name) or Dentry(name, parent, None)

    async def lookup(self, task: ProgramTask, parent: Dentry, name: bytes, fresh: bool = False) -> Dentry:
        """The dentry of ``name``, positive or negative, asking the daemon where nothing valid is cached; ``fresh``: in any
        case."""
        dentry = self.cached(parent, name)
        assert dentry is not None
        return dentry

    async def readlink(self, task: ProgramTask, inode: Inode) -> bytes:
        self._refuse()

    async def create(self, task: ProgramTask, parent: Dentry, name: bytes, flags: int, mode: int) -> File | None:
        self._refuse()

    async def tmpfile(self, task: ProgramTask, parent: Dentry, flags: int, mode: int) -> File:
        raise OSError(int(Errno.EOPNOTSUPP), "Operation not supported")

    async def mknod(self, task: ProgramTask, parent: Dentry, name: bytes, mode: int, rdev: int) -> None:
        self._refuse()

    async def mkdir(self, task: ProgramTask, parent: Dentry, name: bytes, mode: int) -> None:
        self._refuse()

    async def symlink(self, task: ProgramTask, parent: Dentry, name: bytes, target: bytes) -> None:
        self._refuse()

    async def link(self, task: ProgramTask, source: Dentry, parent: Dentry, name: bytes) -> None:
        self._refuse()

    async def unlink(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        self._refuse()

    async def rmdir(self, task: ProgramTask, parent: Dentry, dentry: Dentry) -> None:
        self._refuse()

    async def rename(
        self, task: ProgramTask, parent: Dentry, dentry: Dentry, newparent: Dentry, target: Dentry, flags: int
    ) -> None:
        self._refuse()

    # -- attributes -----------------------------------------------------------------------------------------------

    def may_walk(self, task: ProgramTask, inode: Inode) -> bool:
        """Whether a directory may be searched, where that is known at once; if not, ``permission`` is asked."""
        return False

    async def permission(self, task: ProgramTask, inode: Inode, mask: int) -> None:
        """Raises EACCES for what the caller may not do."""
        check(generic_permission(task.cred, inode, mask & ~MAY_CHDIR))

    async def getattr(
        self, task: ProgramTask, inode: Inode, file: File | None = None, mask: int = STATX_BASIC, sync: int = 0
    ) -> None:
        """Bring what ``mask`` (STATX_*) says of ``inode.attr`` up to date; ``sync``: AT_STATX_* flags."""

    async def setattr(self, task: ProgramTask, dentry: Dentry, changes: SetattrIn, file: File | None = None) -> None:
        self._refuse()

    async def statfs(self, task: ProgramTask, dentry: Dentry) -> Kstatfs:
        return Kstatfs(bsize=4096, namelen=255, frsize=4096)

    async def getxattr(self, task: ProgramTask, inode: Inode, name: bytes, size: int) -> bytes | int:
        self._unsupported()

    async def listxattr(self, task: ProgramTask, inode: Inode, size: int) -> bytes | int:
        self._unsupported()

    async def setxattr(self, task: ProgramTask, inode: Inode, name: bytes, value: bytes, flags: int) -> None:
        self._unsupported()

    async def removexattr(self, task: ProgramTask, inode: Inode, name: bytes) -> None:
        self._unsupported()

    # -- open files -----------------------------------------------------------------------------------------------

    async def open(self, task: ProgramTask, dentry: Dentry, flags: int) -> File:
        return File(dentry, dentry.positive, flags)

    async def flush(self, task: ProgramTask, file: File) -> None:
        return

    async def release(self, task: ProgramTask, file: File) -> None:
        return

    async def read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        self._invalid()

    async def write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> tuple[int, int]:
        """Returns how many bytes were written, and the offset behind them."""
        self._invalid()

    # -- mapped files -----------------------------------------------------------------------------------------------

    async def mmap(self, task: ProgramTask, file: File, shared: bool) -> None:
        """Raises ENODEV for a file that cannot be mapped (so)."""
        raise OSError(int(Errno.ENODEV), "No such device: it cannot be mapped")

    def page_cache(self, inode: Inode) -> PageCache:
        """The inode's."""
        self._invalid()

    async def readpage(self, task: ProgramTask, file: File, page: Page) -> None:
        """Fill a page that the task has locked."""
        self._invalid()

    async def fault_readahead(self, task: ProgramTask, file: File, cache: PageCache, index: int, advice: int) -> None:
        """A program touches mapped memory at page ``index``: read it, and what is around it, ahead."""

    async def fadvise(self, task: ProgramTask, file: File, start: int, end: int, advice: int) -> None:
        """What is said of bytes ``start`` to ``end`` matters only where they are cached."""

    async def willneed(self, task: ProgramTask, file: File, index: int, count: int) -> None:
        """A program says that it is going to touch these pages."""

    async def page_mkwrite(self, task: ProgramTask, file: File, page: Page) -> None:
        """A program is about to write to a page that it has mapped shared, and that the task has locked."""

    # What is cached here is what there is: nothing needs to go anywhere, or to be read again.

    async def write_inode(self, task: ProgramTask, inode: Inode) -> None:
        """Dirty pages and times go where they are kept, in their own time."""

    async def write_and_wait(self, task: Task, inode: Inode, first: int = 0, last: int | None = None) -> None:
        """What was written to these pages goes to where it belongs, and has arrived."""

    async def wait_writeback(self, task: Task, inode: Inode, first: int = 0, last: int | None = None) -> None:
        """Until nothing of these pages is on its way."""

    async def write_inode_now(self, task: ProgramTask, inode: Inode) -> None:
        """All that was written, and the times of that."""

    async def invalidate_inode_pages2(self, task: Task, inode: Inode, first: int = 0, last: int | None = None) -> None:
        """Nothing of these pages is cached any more."""

    # -- directories --------------------------------------------------------------------------------------------------

    async def readdir(self, task: ProgramTask, file: File, size: int) -> Listing:
        """Entries from ``file.pos`` on, as many as fit into ``size`` bytes and without ``.`` and ``..``: name, inode number,
        type (DT_*). Advances ``file.pos``; none at the end."""
        entries = [
            (name, child.inode.nodeid, child.inode.attr.mode >> 12)
            for name, child in file.dentry.children.items()
            if child.inode is not None
        ]
        entries = entries[file.pos :]
        file.pos += len(entries)
        return entries

    async def fsync(self, task: ProgramTask, file: File, datasync: bool) -> None:
        self._invalid()

    async def syncfs(self, task: ProgramTask) -> None:
        return

    async def llseek(self, task: ProgramTask, file: File, offset: int, whence: int) -> int:
        """SEEK_DATA and SEEK_HOLE."""
        self._invalid()

    async def fallocate(self, task: ProgramTask, file: File, mode: int, offset: int, length: int) -> None:
        self._unsupported()

    async def copy_file_range(
        self, task: ProgramTask, source: File, offset: int, target: File, to: int, length: int
    ) -> int | None:
        """None: not here; the bytes are to be read and written."""
        return None

    async def getlk(self, task: ProgramTask, file: File, lock: FileLock, owner: object) -> FileLock:
        held = file.lock_context().conflict(lock.start, lock.end, lock.type, owner)
        if held is None:
            return lock._replace(type=F_UNLCK)
        return FileLock(held.start, held.end, held.type, held.task.program.tgid)

    async def setlk(self, task: ProgramTask, file: File, lock: FileLock, owner: object, wait: bool) -> None:
        await file.lock_context().set_posix(task, lock, owner, wait)

    async def flock(self, task: ProgramTask, file: File, type: int, wait: bool) -> None:
        await file.lock_context().set_flock(task, file, type, wait)

    async def ioctl(self, task: ProgramTask, file: File, cmd: int, arg: int, memory: bytearray | None) -> int:
        raise OSError(int(Errno.ENOTTY), "Inappropriate ioctl for device")

    async def poll(self, task: ProgramTask, file: File, events: int, notify: bool) -> int:
        return DEFAULT_POLLMASK

    def poll_queues(self, file: File) -> tuple[WaitQueue, ...]:
        """Where poll(2) waits for events of ``file``."""
        return ()

    def _refuse(self) -> NoReturn:
        raise OSError(int(Errno.EROFS), "nothing is mounted here")

    def _invalid(self) -> NoReturn:
        raise OSError(int(Errno.EINVAL), "Invalid argument")

    def _unsupported(self) -> NoReturn:
        raise OSError(int(Errno.EOPNOTSUPP), "Operation not supported")
