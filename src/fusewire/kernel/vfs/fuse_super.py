"""A FUSE super block: INIT and what was agreed in it. The operations are in ``fuse_dir`` and ``fuse_file``."""

from __future__ import annotations

from collections.abc import Callable

from ...wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, PAGE_SIZE, InitFlag, Opcode
from ...wire.layouts import INIT_IN, INIT_OUT, InitIn
from ...wire.table import Dialect
from ..queue import Args, Connection
from .fuse_file import FuseFile

OFFERED = (
    InitFlag.ASYNC_READ
    | InitFlag.ATOMIC_O_TRUNC
    | InitFlag.BIG_WRITES
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.NO_OPEN_SUPPORT
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.INIT_EXT
)
MAX_PAGES_LIMIT = 256
DEFAULT_MAX_PAGES = 32


class FuseSuper(FuseFile):
    """One mounted FUSE filesystem."""

    def __init__(self, connection: Connection, clock: Callable[[], int]) -> None:
        super().__init__(connection, clock)
        self._init_out = bytearray(INIT_OUT.size)

    def send_init(self) -> None:
        """Queue INIT. Callers wait until it is answered."""
        asked = InitIn(
            KERNEL_VERSION,
            KERNEL_MINOR_VERSION,
            max_readahead=32 * PAGE_SIZE,
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
        self.flags = flags & OFFERED
        pages = DEFAULT_MAX_PAGES
        if flags & InitFlag.MAX_PAGES:
            pages = min(MAX_PAGES_LIMIT, max(1, out.max_pages))
        self.max_read = min(pages * PAGE_SIZE, self.largest)
        self.max_write = min(max(PAGE_SIZE, out.max_write), pages * PAGE_SIZE, self.largest)
        if out.minor >= 13:
            background = self.connection.background
            background.set_limits(out.max_background or 12, out.congestion_threshold or 9)
        minor = min(KERNEL_MINOR_VERSION, out.minor)
        self.connection.initialize(Dialect(minor, flags), max(PAGE_SIZE, out.max_write))
