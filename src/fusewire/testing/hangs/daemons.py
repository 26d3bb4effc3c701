"""Daemons that hang their own mount, on the daemon's half of fusewire: ``python -m fusewire.testing.hangs.daemons``.

Each serves by one thread, as the text's daemons do; several workers are several processes on one descriptor. ``unlink`` is
Scenario 1 of ``kernel.txt``; ``kamikaze`` Scenario 2; ``pool`` needs, to answer a background request, another one;
``locked`` writes an answer from a page that it does not have yet. What they do is told on standard output, a line each.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import signal
import stat
import struct
import sys
import threading
import time

from ...daemon import Attributes, Entry, FOpenFlag, InitFlag, Opened, Operations, Session, Settings
from ...transport.devfuse import DevFuse
from ...transport.readloop import Next, after_read
from ...wire.flags import PAGE_SIZE, Opcode
from ...wire.layouts import IN_HEADER, INTERRUPT_IN, OUT_HEADER, InHeader, OutHeader
from ...wire.render import opcode_name

Answer = tuple[bytes | bytearray | memoryview, ...]
libc = ctypes.CDLL(None, use_errno=True)  # a call through it lets go of the interpreter's lock, page faults and all
libc.mmap.restype = libc.write.restype = ctypes.c_ssize_t
libc.mmap.argtypes = [
    ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip
libc.write.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t]
libc.memcmp.argtypes = [ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
MAP_FIXED = 0x10
PR_SET_NAME = 15


def call_me(name: str) -> None:
    """As /proc has the name of this thread."""
    libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def tell(text: str, unique: int = 0, when: int = 0) -> None:
    """One line on standard output: when (nanoseconds; 0 is now), which thread, what, about which request."""
    line = json.dumps([when or time.monotonic_ns(), threading.get_native_id(), text, unique])
    with contextlib.suppress(BrokenPipeError):
        os.write(1, line.encode() + b"\n")


class Doomed(Operations):
    """``/file`` and ``/other``, which no request changes: so any number of workers agree on them."""

    entry_timeout = attr_timeout = 3600.0
    SIZE = PAGE_SIZE  # bytes
    NAMES = {b"file": 2, b"other": 3}  # noqa: RUF012

    def __init__(self, path: str) -> None:
        self.path = path

    def lookup(self, parent: int, name: bytes) -> Entry:
        if name not in self.NAMES:
            raise FileNotFoundError
        return Entry(self.getattr(self.NAMES[name], None))

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        if ino == 1:
            return Attributes(ino, stat.S_IFDIR | 0o755, nlink=2)
        return Attributes(ino, stat.S_IFREG | 0o644, size=self.SIZE)

    def open(self, ino: int, flags: int) -> Opened | int:
        return 0

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        return bytes(self.SIZE)[offset : offset + size]

    def flush(self, ino: int, fh: int) -> None:
        """Said, so that FLUSH comes."""


class Server:
    """Reads, handles and answers, one request after the other. An INTERRUPT is answered for the request that it is about:
    EINTR, whichever worker has it."""

    def __init__(self, operations: Operations, fd: int) -> None:
        self.session = Session(operations)
        self.channel = DevFuse(fd)
        self.buffer = memoryview(bytearray(self.session.buffer_size))

    def serve(self) -> None:
        """Until the connection is gone."""
        while True:
            try:
                size = self.channel.receive(self.buffer)
            except OSError as error:
                if after_read(error) is Next.AGAIN:
                    continue
                return tell(f"read failed: {errno.errorcode[error.errno or 0]}")
            self.serve_one(self.buffer[:size])

    def serve_one(self, message: memoryview) -> None:
        header = IN_HEADER.unpack(message)
        if header.opcode == Opcode.INTERRUPT:
            about = INTERRUPT_IN.unpack(message[IN_HEADER.size :]).unique
            tell(f"read INTERRUPT of req {about}", about)
            self.send(InHeader(unique=about), (OUT_HEADER.pack(OutHeader(OUT_HEADER.size, -errno.EINTR, about)),))
            return
        if header.opcode == Opcode.INIT:
            tell(f"INIT {message.hex()}")
        else:
            tell(f"read {opcode_name(header.opcode)} req {header.unique}", header.unique)
        answer = self.session.handle(message)
        if isinstance(answer, tuple):
            self.send(header, answer)

    def send(self, header: InHeader, answer: Answer) -> None:
        words = errno.errorcode.get(-OUT_HEADER.unpack(answer[0]).error, "done")
        now = time.monotonic_ns()  # before whoever it is for goes on
        try:
            self.channel.send(answer)
            if header.opcode != Opcode.INIT:
                tell(f"answer req {header.unique}: {words}", header.unique, now)
        except OSError as error:
            self.refused(header, error.errno or 0)

    def refused(self, header: InHeader, number: int) -> None:
        tell(f"answer to req {header.unique} refused: {errno.errorcode[number]}", header.unique)


# -- Scenario 1 --------------------------------------------------------------------------------------------------------


class Unlinks(Doomed):
    """Its handler of UNLINK unlinks the same name on its own mount."""

    def unlink(self, parent: int, name: bytes) -> None:
        os.unlink(os.path.join(os.fsencode(self.path), name))


# -- a pool of one -----------------------------------------------------------------------------------------------------


class Reads(Doomed):
    """Its handler of READ of one file reads another on its own mount: both are readahead's, and one may be under way."""

    SIZE = 16 * PAGE_SIZE
    settings = Settings(max_background=1, congestion_threshold=1)

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        if ino == self.NAMES[b"file"]:
            other = os.open(os.path.join(self.path, "other"), os.O_RDONLY)
            try:
                return os.pread(other, 1, 0) * size
            finally:
                os.close(other)
        return super().read(ino, fh, offset, size)


# -- Scenario 2 --------------------------------------------------------------------------------------------------------


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def two_pages() -> int:
    """The address of two pages of memory: the first is for an answer's header, which ends where the second begins."""
    both = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return _checked(libc.mmap(0, 2 * PAGE_SIZE, *both, -1, 0))


def write_from(fd: int, addr: int, header: InHeader) -> None:
    """Write an answer of one page that lies at ``addr``. Raises OSError."""
    size = OUT_HEADER.size + PAGE_SIZE
    ctypes.memmove(addr - OUT_HEADER.size, OUT_HEADER.pack(OutHeader(size, 0, header.unique)), OUT_HEADER.size)
    _checked(libc.write(fd, addr - OUT_HEADER.size, size))


class Mapped(Doomed):
    """Its file is read page by page, each by whoever faults it in."""

    settings = Settings(refused=InitFlag.ASYNC_READ, max_readahead=0)


class Kamikaze(Server):
    """Thread 1 maps the file and reads a byte of it; thread 2, which serves, answers that READ from the very page."""

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(Mapped(path), fd)
        self.path = path
        self.addr = 0
        self.magic = False
        self.session.initialized.clear()
        threading.Thread(target=self._thread_1, daemon=True).start()

    def _thread_1(self) -> None:
        call_me("thread 1")
        self.session.initialized.wait()
        fd = os.open(os.path.join(self.path, "file"), os.O_RDONLY)
        addr = two_pages() + PAGE_SIZE
        _checked(libc.mmap(addr, PAGE_SIZE, mmap.PROT_READ, mmap.MAP_SHARED | MAP_FIXED, fd, 0))
        self.addr = addr
        os.close(fd)  # FLUSH triggers the magic flag
        tell("read a byte from addr")
        libc.memcmp(addr, b"\0", 1)
        tell("the byte has been read")

    def send(self, header: InHeader, answer: Answer) -> None:
        self.magic = self.magic or header.opcode == Opcode.FLUSH
        if header.opcode != Opcode.READ or not self.magic:
            return super().send(header, answer)
        tell(f"write the answer of req {header.unique} from the page at addr", header.unique)
        try:
            write_from(self.channel.fd, self.addr, header)
        except OSError as error:
            self.refused(header, error.errno or 0)


# -- req->locked -------------------------------------------------------------------------------------------------------

USERFAULTFD = {"x86_64": 323, "aarch64": 282}
UFFD_API, UFFDIO_API, UFFDIO_REGISTER, UFFDIO_ZEROPAGE = 0xAA, 0xC018AA3F, 0xC020AA00, 0xC020AA04
MODE_MISSING = 1


class Direct(Doomed):
    """A file that is read past the page cache: the answer is copied to memory of the caller's."""

    def open(self, ino: int, flags: int) -> Opened:
        return Opened(flags=FOpenFlag.DIRECT_IO)


class Missing(Server):
    """Answers READ from a page that is missing until standard input says a word: whoever touches it sleeps."""

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(Direct(path), fd)
        self.addr = two_pages() + PAGE_SIZE
        self.faults = _checked(libc.syscall(USERFAULTFD[platform.machine()], os.O_CLOEXEC))
        fcntl.ioctl(self.faults, UFFDIO_API, bytearray(struct.pack("=QQQ", UFFD_API, 0, 0)))
        fcntl.ioctl(
            self.faults, UFFDIO_REGISTER, bytearray(struct.pack("=QQQQ", self.addr, PAGE_SIZE, MODE_MISSING, 0))
        )
        threading.Thread(target=self._page_comes, daemon=True).start()

    def _page_comes(self) -> None:
        while os.read(0, 1):
            fcntl.ioctl(self.faults, UFFDIO_ZEROPAGE, bytearray(struct.pack("=QQQq", self.addr, PAGE_SIZE, 0, 0)))
            tell("the page is there")

    def send(self, header: InHeader, answer: Answer) -> None:
        if header.opcode != Opcode.READ:
            return super().send(header, answer)
        tell(f"write the answer of req {header.unique} from a page that is missing", header.unique)
        try:
            write_from(self.channel.fd, self.addr, header)
            tell(f"answer req {header.unique}: done", header.unique)
        except OSError as error:
            self.refused(header, error.errno or 0)


def main(scenario: str, path: str, fd: str, init: str = "") -> None:
    """Serve. ``init``: the INIT that another worker was asked, in hex: this one knows what was agreed on then."""
    call_me("thread 2" if scenario == "kamikaze" else "worker")
    signal.signal(signal.SIGINT, lambda number, frame: tell(f"handled {signal.Signals(number).name}"))
    match scenario:
        case "unlink":
            server = Server(Unlinks(path), int(fd))
        case "pool":
            server = Server(Reads(path), int(fd))
        case "kamikaze":
            server = Kamikaze(path, int(fd))
        case "locked":
            server = Missing(path, int(fd))
        case _:
            raise SystemExit(f"{scenario} is none of the scenarios")
    if init:
        server.session.handle(bytes.fromhex(init))
    tell("ready")
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
