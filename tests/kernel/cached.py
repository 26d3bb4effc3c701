"""What the tests of the page cache share: a filesystem that says what it was asked, and whose files can be cached."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conftest import real_mount, wait_until
from noted import Noted

from fusewire import InitFlag, Kernel, Opened, Process, Settings
from fusewire.drive import Mount
from fusewire.filesystems.memory import pages as memory_pages
from fusewire.wire.codec import Message, encode_notification
from fusewire.wire.flags import PAGE_SIZE, FOpenFlag, NotifyCode, Opcode
from fusewire.wire.layouts import IN_HEADER, READ_IN, WRITE_IN

DEVICE = 0  # the daemon's descriptor of /dev/fuse
PATTERN = b"".join(bytes((number,)) * PAGE_SIZE for number in range(1, 201))


def pages(first: int, last: int) -> bytes:
    """What PATTERN has in its pages from ``first`` to before ``last``."""
    return PATTERN[first * PAGE_SIZE : last * PAGE_SIZE]


class Recorded(Noted):
    """``asked`` are the requests; of READ and WRITE with offset and size. ``fail`` are opcodes that answer an errno. Opens
    answer ``open_flags``. Timeouts are a second."""

    entry_timeout = attr_timeout = 1.0
    settings = Settings(refused=InitFlag.AUTO_INVAL_DATA)

    def __init__(self, files: Any = None, *, open_flags: FOpenFlag = FOpenFlag(0)) -> None:
        super().__init__({"f": PATTERN[: 8 * PAGE_SIZE]} if files is None else files)
        self.open_flags = open_flags
        self.bodies: list[bytes] = []  # of WRITE and NOTIFY_REPLY
        self.write_flags: list[int] = []
        self.fail: dict[str, int] = {}

    def note(self, message: bytes) -> None:
        name = Opcode(IN_HEADER.unpack(message).opcode).name
        body = message[IN_HEADER.size :]
        if name == "READ":
            asked = READ_IN.unpack(body)
            self.asked.append((name, asked.offset, asked.size))
        elif name == "WRITE":
            written = WRITE_IN.unpack(body)
            self.asked.append((name, written.offset, written.size))
            self.bodies.append(body[WRITE_IN.size :])
            self.write_flags.append(written.write_flags)
        else:
            if name == "NOTIFY_REPLY":
                self.bodies.append(body)
            self.asked.append((name,))

    def names(self) -> list[str]:
        """What was asked since the last time, by name."""
        names = [one[0] for one in self.asked]
        self.asked.clear()
        return names

    def _maybe_fail(self, name: str) -> None:
        if name in self.fail:
            raise OSError(self.fail[name], os.strerror(self.fail[name]))

    def open(self, ino: int, flags: int) -> Opened:
        return Opened(super().open(ino, flags).fh, self.open_flags)

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> Any:
        entry, opened = super().create(parent, name, mode, flags)
        return entry, Opened(opened.fh, self.open_flags)

    def read(self, *args: Any) -> Any:
        self._maybe_fail("READ")
        return super().read(*args)

    def write(self, *args: Any) -> Any:
        self._maybe_fail("WRITE")
        return super().write(*args)


class WritingBack(Recorded):
    """With WRITEBACK_CACHE."""

    settings = Settings(flags=InitFlag.WRITEBACK_CACHE, refused=InitFlag.AUTO_INVAL_DATA)


class Tuned(Recorded):
    """One long file, whose contents are zeros."""

    settings = Settings(refused=InitFlag.AUTO_INVAL_DATA)
    PAGES = 4096

    def __init__(self) -> None:
        super().__init__({"f": b""})

    def reads(self) -> list[tuple[int, int]]:
        """Which pages were asked for: the first, and how many."""
        return [(one[1] // PAGE_SIZE, one[2] // PAGE_SIZE) for one in self.asked if one[0] == "READ"]


DAEMON = """
import sys, fusewire
from fusewire.filesystems import MemoryFS

class Recorded(MemoryFS):
    entry_timeout = attr_timeout = 1000.0
    settings = fusewire.Settings(refused=fusewire.InitFlag.AUTO_INVAL_DATA)
    log = open(sys.argv[1] + ".log", "w", buffering=1)

    def read(self, ino, fh, offset, size):
        self.log.write(f"{offset // 4096} {size // 4096}\\n")
        return super().read(ino, fh, offset, size)

fusewire.run(Recorded({"f": b""}), sys.argv[1])
"""


def reads_on_linux(mountpoint: Path, reader: str, count: int) -> list[tuple[int, int]]:
    """What :meth:`Tuned.reads` is when the Python program ``reader`` runs on a mount of Linux's, where ``f`` is the file; waits
    for ``count`` of them."""
    log = Path(f"{mountpoint}.log")

    def reads() -> list[tuple[int, int]]:
        found = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
        return [(first, pages) for first, pages in found]

    with real_mount(mountpoint, DAEMON) as mounted:
        mounted.run("python3", "-c", f"import os; os.truncate('f', {Tuned.PAGES * PAGE_SIZE})\n{reader}")
        wait_until(lambda: len(reads()) >= count)
        return reads()


class World:
    """A kernel with ``filesystem`` mounted, and a process."""

    def __init__(self, filesystem: Recorded, kernel: Kernel) -> None:
        self.filesystem = filesystem
        self.kernel = kernel
        self.mount: Mount = kernel.mount(filesystem, "/")
        self.process: Process = kernel.process(uid=0, gid=0)

    def open(self, path: str = "/f", flags: int = os.O_RDWR) -> int:
        fd = self.process.open(path, flags)
        self.filesystem.asked.clear()
        return fd

    def tell(
        self, code: NotifyCode, *structs: Any, names: Sequence[bytes] = (), items: Sequence[Any] = (), **rest: Any
    ) -> None:
        """The daemon notifies."""
        self.mount.daemon.write(
            DEVICE, encode_notification(code, Message(structs, tuple(names), items=tuple(items), **rest))
        )

    def contents(self, name: str = "f") -> bytes:
        """What the daemon has of a file."""
        node = self.filesystem._directory(1).find(name.encode())
        return bytes(memory_pages.read(node, 0, 1 << 30))  # type: ignore[arg-type]

    def change(self, data: bytes, offset: int = 0, name: str = "f") -> None:
        """The daemon's file changes, and the kernel does not hear of it."""
        node: Any = self.filesystem._directory(1).find(name.encode())
        memory_pages.write(node, self.filesystem._space, offset, data)
        node.mtime_ns += 1


@contextlib.contextmanager
def world(filesystem: Recorded | None = None, driver: str = "inline", **options: Any) -> Iterator[World]:
    """One kernel with one filesystem."""
    with Kernel(driver, **options) as kernel:
        yield World(filesystem or Recorded(), kernel)
