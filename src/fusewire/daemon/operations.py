"""``Operations``: a method for every request of FUSE, by inode number, names as ``bytes``.

Override what you support; whatever is left answers ENOSYS. Handlers are plain or ``async def``, freely mixed. They return
values and raise Python's own errors (``FileNotFoundError``, ``OSError(errno.X)``). What the kernel remembers of an ENOSYS is
said at each method: it then does not ask again until the next mount.

Units throughout: sizes and offsets are bytes, times ``*_ns`` nanoseconds since 1970, timeouts seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..wire.errno import Errno
from ..wire.layouts import Statx
from .attributes import Attributes, DirEntry, Entry, Lock, Opened, StatFS
from .settings import Granted, Settings

if TYPE_CHECKING:
    from .session import Session

Data = bytes | bytearray | memoryview
Listing = Iterable[DirEntry | tuple[bytes, int, int, int, Entry | None]]
"""Directory entries; a plain tuple of the same five is quicker to make."""


@dataclass(slots=True)
class Changes:
    """What SETATTR changes; None is left as it is. ``*_now``: the time was asked for as "now", and is filled in.

    ``kill_suidgid``: also clear the set-user-ID and set-group-ID bits (HANDLE_KILLPRIV_V2).
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    atime_now: bool = False
    mtime_now: bool = False
    kill_suidgid: bool = False
    lock_owner: int | None = None


def _unsupported() -> OSError:
    return OSError(int(Errno.ENOSYS), "Function not implemented")


class Operations:
    """A filesystem by inode number. The root is inode 1.

    ``entry_timeout`` and ``attr_timeout``: how long the kernel may keep a name and attributes, in seconds; 0 asks every time.
    ``session`` is set when the filesystem is served; it notifies the kernel (``session.notify``).
    """

    entry_timeout: float = 1.0
    attr_timeout: float = 1.0
    settings = Settings()
    session: Session

    # -- the session ----------------------------------------------------------------------------------------------

    def init(self, granted: Granted) -> None:
        """The kernel and we agreed on ``granted``. Comes once, before everything else."""

    def destroy(self) -> None:
        """The session ends: unmounted or aborted. Comes once, after everything else (Linux sends DESTROY for fuseblk
        and virtiofs only; the session calls this in any case)."""

    # -- names and inodes -----------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Entry:
        """The inode that ``name`` in directory ``parent`` leads to; grants one reference. Raise FileNotFoundError for
        none, or return an Entry with ``ino`` 0 to let the kernel remember its absence."""
        raise _unsupported()

    def forget(self, ino: int, nlookup: int) -> None:
        """The kernel gives back ``nlookup`` references of those that answered entries granted. At none left the number
        may be used anew. Has no answer; does not come for what is still cached when the mount ends."""

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        """Attributes. ``fh`` where the caller asks of an open file."""
        raise _unsupported()

    def setattr(self, ino: int, changes: Changes, fh: int | None) -> Attributes:
        """Change attributes; returns all of them as they are then. truncate(2) and open(O_TRUNC) come as ``size``."""
        raise _unsupported()

    def statx(self, ino: int, fh: int | None, flags: int, mask: int) -> Statx:
        """statx(2); sent only when the birth time is asked for (7.39). ENOSYS: GETATTR is used for ever."""
        raise _unsupported()

    def readlink(self, ino: int) -> bytes:
        """The target of a symbolic link, at most 4095 bytes, without a NUL."""
        raise _unsupported()

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        """Make a regular file, device, FIFO or socket; the umask is applied already (unless DONT_MASK)."""
        raise _unsupported()

    def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
        """Make a directory; ``mode`` may come without S_IFDIR."""
        raise _unsupported()

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name. The inode lives on while it is open or has other names, until it is forgotten."""
        raise _unsupported()

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory. Raise OSError(ENOTEMPTY) for one that is not."""
        raise _unsupported()

    def symlink(self, parent: int, name: bytes, target: bytes) -> Entry:
        """Make a symbolic link."""
        raise _unsupported()

    def rename(self, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        """Move a name, over what is there. ``flags``: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4.
        ENOSYS for flags: the kernel answers EINVAL to such calls for ever."""
        raise _unsupported()

    def link(self, ino: int, newparent: int, newname: bytes) -> Entry:
        """One more name for ``ino``. ENOSYS: callers get EPERM for ever."""
        raise _unsupported()

    def access(self, ino: int, mask: int) -> None:
        """access(2) and chdir(2) only, and not under default_permissions. ENOSYS: always allowed, for ever."""
        raise _unsupported()

    # -- files ----------------------------------------------------------------------------------------------------

    def open(self, ino: int, flags: int) -> Opened | int:
        """Open a file: an :class:`Opened`, or just its ``fh``. ``flags`` as in open(2), without O_CREAT and O_EXCL;
        O_TRUNC only with ATOMIC_O_TRUNC. ENOSYS: succeeds with fh 0 for ever, and no RELEASE comes."""
        raise _unsupported()

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> tuple[Entry, Opened | int]:
        """Make a regular file and open it, at once. ENOSYS: MKNOD and OPEN are used for ever."""
        raise _unsupported()

    def tmpfile(self, parent: int, mode: int, flags: int) -> tuple[Entry, Opened | int]:
        """open(O_TMPFILE): a file without a name (7.37). ENOSYS: EOPNOTSUPP for ever."""
        raise _unsupported()

    def read(self, ino: int, fh: int, offset: int, size: int) -> Data:
        """At most ``size`` bytes from ``offset``. Fewer mean the end of the file (except with direct I/O)."""
        raise _unsupported()

    def write(self, ino: int, fh: int, offset: int, data: memoryview) -> int:
        """How many bytes of ``data`` were written. ``data`` is valid until the handler returns; keep a copy, not it."""
        raise _unsupported()

    def flush(self, ino: int, fh: int) -> None:
        """Comes at each close(2) of a descriptor, so any number of times; its error is close's. ENOSYS: never again."""
        raise _unsupported()

    def release(self, ino: int, fh: int, flags: int) -> None:
        """The last reference to an open file is gone. Comes once for each open; its error is seen by nobody."""

    def fsync(self, ino: int, fh: int, datasync: bool) -> None:
        """Make durable; ``datasync``: the contents only. ENOSYS: succeeds for ever."""
        raise _unsupported()

    def fallocate(self, ino: int, fh: int, mode: int, offset: int, length: int) -> None:
        """``mode``: FALLOC_FL_KEEP_SIZE 1, PUNCH_HOLE 2, ZERO_RANGE 16. ENOSYS: EOPNOTSUPP for ever."""
        raise _unsupported()

    def lseek(self, ino: int, fh: int, offset: int, whence: int) -> int:
        """SEEK_DATA 3 or SEEK_HOLE 4: the offset found. Raise OSError(ENXIO) behind the end. ENOSYS: the kernel's own
        answer (all is data) for ever."""
        raise _unsupported()

    def copy_file_range(
        self, ino_in: int, fh_in: int, off_in: int, ino_out: int, fh_out: int, off_out: int, length: int, flags: int
    ) -> int:  # fmt: skip
        """Copy inside the filesystem; how many bytes were. ENOSYS: the kernel copies itself, for ever."""
        raise _unsupported()

    def bmap(self, ino: int, block: int, blocksize: int) -> int:
        """The device's block of a file's block (fuseblk only). ENOSYS: 0 for ever."""
        raise _unsupported()

    def ioctl(
        self, ino: int, fh: int, cmd: int, arg: int, data: memoryview, out_size: int, flags: int
    ) -> tuple[int, Data]:
        """ioctl(2): its result and at most ``out_size`` bytes. ENOSYS: ENOTTY, and it comes again."""
        raise _unsupported()

    def poll(self, ino: int, fh: int, events: int, handle: int | None) -> int:
        """Which of ``events`` are there. ``handle`` not None: call ``session.notify.poll(handle)`` when that changes.
        ENOSYS: always readable and writable, for ever."""
        raise _unsupported()

    # -- directories ----------------------------------------------------------------------------------------------

    def opendir(self, ino: int, flags: int) -> Opened | int:
        """Open a directory. ENOSYS: succeeds with fh 0 for ever, and no RELEASEDIR comes."""
        raise _unsupported()

    def readdir(self, ino: int, fh: int, offset: int) -> Listing:
        """Entries behind ``offset`` (0: from the start), ``.`` and ``..`` included if wished. As many are taken as the
        kernel asked for; the rest of the iterable is dropped, and the next call brings the last one's ``offset``."""
        raise _unsupported()

    def readdirplus(self, ino: int, fh: int, offset: int) -> Listing:
        """As readdir, each with an ``entry`` that grants a reference (7.21). Overriding it turns READDIRPLUS on. Grant as
        you yield: the reference of the one entry that was taken and did not fit is given back by ``forget``."""
        raise _unsupported()

    def releasedir(self, ino: int, fh: int, flags: int) -> None:
        """The last reference to an open directory is gone."""

    def fsyncdir(self, ino: int, fh: int, datasync: bool) -> None:
        """Make a directory durable. ENOSYS: succeeds for ever."""
        raise _unsupported()

    # -- extended attributes --------------------------------------------------------------------------------------

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        """``flags``: XATTR_CREATE 1, XATTR_REPLACE 2. ENOSYS: EOPNOTSUPP for ever."""
        raise _unsupported()

    def getxattr(self, ino: int, name: bytes) -> Data:
        """The whole value; how much of it the caller has room for is seen to. Raise OSError(ENODATA) for none.
        ENOSYS: EOPNOTSUPP for ever."""
        raise _unsupported()

    def listxattr(self, ino: int) -> Iterable[bytes]:
        """The names. ENOSYS: EOPNOTSUPP for ever."""
        raise _unsupported()

    def removexattr(self, ino: int, name: bytes) -> None:
        """Raise OSError(ENODATA) for none. ENOSYS: EOPNOTSUPP for ever."""
        raise _unsupported()

    # -- locks ----------------------------------------------------------------------------------------------------

    def getlk(self, ino: int, fh: int, lock: Lock) -> Lock | None:
        """fcntl(F_GETLK): a lock in the way of ``lock``, or None. Overriding it turns POSIX locks over to you."""
        raise _unsupported()

    def setlk(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:
        """fcntl(F_SETLK, F_SETLKW): raise BlockingIOError where one is in the way and ``wait`` is False. FLUSH releases
        what its ``lock_owner`` holds."""
        raise _unsupported()

    def flock(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:
        """flock(2). Overriding it turns flock over to you; else the kernel does it for this machine alone."""
        raise _unsupported()

    # -- the filesystem -------------------------------------------------------------------------------------------

    def statfs(self, ino: int) -> StatFS:
        """statvfs(3)."""
        return StatFS()

    def syncfs(self, ino: int) -> None:
        """syncfs(2); Linux sends it for fuseblk and virtiofs only."""
        raise _unsupported()

    def setupmapping(self, ino: int, fh: int, foffset: int, length: int, flags: int, moffset: int) -> None:
        """Map a piece of a file into the DAX window (virtiofs)."""
        raise _unsupported()

    def removemapping(self, mappings: list[tuple[int, int]]) -> None:
        """Unmap pieces of the DAX window: (moffset, length)."""
        raise _unsupported()
