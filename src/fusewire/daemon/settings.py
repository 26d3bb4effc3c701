"""What a session asks of the kernel in INIT, and what it was granted: flags and limits by name."""

from __future__ import annotations

from dataclasses import dataclass

from ..wire.flags import KERNEL_MINOR_VERSION, PAGE_SIZE, InitFlag
from ..wire.layouts import InitIn, InitOut

DEFAULT_FLAGS = (
    InitFlag.ASYNC_READ
    | InitFlag.BIG_WRITES
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.ASYNC_DIO
    | InitFlag.AUTO_INVAL_DATA
    | InitFlag.ABORT_ERROR
    | InitFlag.HAS_IOCTL_DIR
)
MAX_PAGES = 256  # in a request: what Linux allows where its administrator has not said otherwise


@dataclass(frozen=True)
class Settings:
    """What to ask for. Sizes are bytes. None leaves the kernel's own.

    ``flags`` are wanted besides the defaults and what the overridden operations imply; ``refused`` are never wanted.
    ``max_write`` is the most one WRITE carries (on Linux up to the pages of fs.fuse.max_pages_limit); ``max_background`` how
    many background requests may be under way, ``congestion_threshold`` from how many on readahead holds back; ``time_gran``
    the finest time kept, in nanoseconds; ``request_timeout`` in seconds: the kernel aborts the mount when one takes longer
    (7.43). Raises ValueError for what the answer to INIT has no room for, or Linux has no use for.
    """

    flags: InitFlag = InitFlag(0)
    refused: InitFlag = InitFlag(0)
    max_write: int = 1 << 20
    max_readahead: int | None = None
    max_background: int = 64
    congestion_threshold: int = 48
    time_gran: int = 1
    max_stack_depth: int = 0
    request_timeout: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "max_readahead":
                continue
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"Settings.{name} is {value!r}: it must be a whole number from {least} to {most}")


_RANGES = {
    "max_write": (1, 0xFFFF * PAGE_SIZE),
    "max_readahead": (0, 0xFFFF_FFFF),
    "max_background": (0, 0xFFFF),
    "congestion_threshold": (0, 0xFFFF),
    "time_gran": (0, 1_000_000_000),
    "max_stack_depth": (0, 2),  # FILESYSTEM_MAX_STACK_DEPTH
    "request_timeout": (0, 0xFFFF),
}


@dataclass(frozen=True)
class Granted:
    """What both sides agreed on: the protocol's minor, the flags, the limits in bytes."""

    minor: int
    flags: InitFlag
    offered: InitFlag
    max_write: int
    max_readahead: int


def negotiate(
    asked: InitIn, settings: Settings, implied: InitFlag, max_pages: int = MAX_PAGES
) -> tuple[Granted, InitOut]:
    """The answer to INIT, and what it means. Flags that the kernel did not offer are not asked for, nor more
    than ``max_pages`` in a request.

    BIG_WRITES is always set: kernels of user space honour it without offering it.
    """
    offered = InitFlag(asked.flags | (asked.flags2 << 32 if asked.flags & InitFlag.INIT_EXT else 0))
    want = (DEFAULT_FLAGS | implied | settings.flags) & ~settings.refused
    flags = InitFlag((want & offered) | (InitFlag.BIG_WRITES & ~settings.refused))
    if flags >> 32:
        flags |= InitFlag.INIT_EXT
    max_write = min(max(PAGE_SIZE, settings.max_write), min(max_pages, 0xFFFF) * PAGE_SIZE)
    if not flags & InitFlag.MAX_PAGES:
        max_write = min(max_write, 32 * PAGE_SIZE)
    readahead = asked.max_readahead
    if settings.max_readahead is not None:
        readahead = min(readahead, settings.max_readahead)
    minor = min(asked.minor, KERNEL_MINOR_VERSION)
    out = InitOut(
        7,
        minor,
        readahead,
        flags & 0xFFFFFFFF,
        settings.max_background,
        settings.congestion_threshold,
        max_write,
        settings.time_gran,
        -(-max_write // PAGE_SIZE),
        0,
        flags >> 32,
        settings.max_stack_depth if flags & InitFlag.PASSTHROUGH else 0,
        settings.request_timeout if flags & InitFlag.REQUEST_TIMEOUT else 0,
    )
    return Granted(minor, flags, offered, max_write, readahead), out
