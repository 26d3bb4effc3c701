"""A FUSE super block: INIT and what was agreed in it. The operations are in ``fuse_dir`` and ``fuse_file``."""

from __future__ import annotations

from collections.abc import Callable

from ...wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, PAGE_SIZE, InitFlag, Opcode
from ...wire.layouts import INIT_IN, INIT_OUT, InitIn
from ...wire.table import Dialect
from ..queue import Args, Connection
from .fuse_notify import FuseNotify

OFFERED = (
    InitFlag.ASYNC_READ
    | InitFlag.POSIX_LOCKS
    | InitFlag.ATOMIC_O_TRUNC
    | InitFlag.EXPORT_SUPPORT
    | InitFlag.BIG_WRITES
    | InitFlag.DONT_MASK
    | InitFlag.FLOCK_LOCKS
    | InitFlag.HAS_IOCTL_DIR
    | InitFlag.AUTO_INVAL_DATA
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.NO_OPEN_SUPPORT
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.HANDLE_KILLPRIV
    | InitFlag.POSIX_ACL
    | InitFlag.ABORT_ERROR
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.HANDLE_KILLPRIV_V2
    | InitFlag.SETXATTR_EXT
    | InitFlag.INIT_EXT
    | InitFlag.HAS_EXPIRE_ONLY
    | InitFlag.HAS_RESEND
    | InitFlag.WRITEBACK_CACHE
    | InitFlag.DIRECT_IO_ALLOW_MMAP
    | InitFlag.REQUEST_TIMEOUT
)
MAX_PAGES_LIMIT = 256
MAX_READAHEAD = 32 * PAGE_SIZE  # bytes
DEFAULT_MAX_PAGES = 32
LONG_NAMES = 4095  # what a daemon may take that reads more than a page at once
COMPAT_MINOR = 12  # from this minor on every struct has its length of today


class FuseSuper(FuseNotify):
    """One mounted FUSE filesystem."""

    def __init__(self, connection: Connection, clock: Callable[[], int]) -> None:
        super().__init__(connection, clock)
        self._init_out = bytearray(INIT_OUT.size)
        self._init_polls()
        connection.notify = self.notify

    def drop_pages(self) -> None:
        """It is in the tree no longer, and nobody answers for what is cached."""
        for inode in self.inodes.values():
            if inode.pages is not None:
                inode.pages.truncate(0)

    def send_init(self) -> None:
        """Queue INIT. Callers wait until it is answered."""
        asked = InitIn(
            KERNEL_VERSION,
            KERNEL_MINOR_VERSION,
            max_readahead=MAX_READAHEAD,
            flags=OFFERED & 0xFFFFFFFF,
            flags2=OFFERED >> 32,
        )
        args = Args(
            Opcode.INIT,
            0,
            (INIT_IN.pack(asked),),
            self._init_out,
            argvar=True,
            force=True,
            end=self._process_init_reply,
        )
        self.connection.send_forced(None, args)

    def _process_init_reply(self, error: int, answered: int) -> None:
        out = INIT_OUT.unpack_short(memoryview(self._init_out)[:answered])
        if error or out.major != KERNEL_VERSION or answered < 8:
            self.connection.refuse()
            return
        flags = InitFlag(out.flags | (out.flags2 << 32 if out.flags & InitFlag.INIT_EXT else 0))
        self.flags = InitFlag(flags & OFFERED)
        pages = DEFAULT_MAX_PAGES
        if flags & InitFlag.MAX_PAGES:
            pages = min(MAX_PAGES_LIMIT, max(1, out.max_pages))
            if pages > 1:
                self.name_max = LONG_NAMES
        if self.flags & InitFlag.POSIX_ACL:
            self.posix_acl = self.checks_permissions = True
        self.auto_inval_data = bool(self.flags & InitFlag.AUTO_INVAL_DATA)
        self.explicit_inval_data = bool(self.flags & InitFlag.EXPLICIT_INVAL_DATA) and not self.auto_inval_data
        self.async_read = bool(self.flags & InitFlag.ASYNC_READ)
        self.writeback_cache = bool(self.flags & InitFlag.WRITEBACK_CACHE)
        self.ra_pages = min(MAX_READAHEAD, out.max_readahead) // PAGE_SIZE
        self.max_read = min(pages * PAGE_SIZE, self.largest)
        self.max_write = min(max(PAGE_SIZE, out.max_write), pages * PAGE_SIZE, self.largest)
        self.connection.abort_error = bool(self.flags & InitFlag.ABORT_ERROR)
        if out.minor >= 13:
            background = self.connection.background
            background.set_limits(out.max_background or 12, out.congestion_threshold or 9)
        if self.flags & InitFlag.REQUEST_TIMEOUT and out.request_timeout:
            mine = self.connection.timeouts.limit / 1e9
            self.connection.timeouts.set_limit(min(mine or out.request_timeout, out.request_timeout))
        minor = min(KERNEL_MINOR_VERSION, out.minor)
        self.old = minor < COMPAT_MINOR
        self.connection.initialize(Dialect(minor, flags), max(PAGE_SIZE, out.max_write))
