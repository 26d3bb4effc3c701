"""The requests that each system call brings about are those that Linux sends: a test for each row of the table that was
measured on Linux 6.18 with libfuse's passthrough_ll, cache=never (every timeout 0, direct I/O) and cache=auto (1 second, warm).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest
from noted import Noted

from fusewire import InitFlag, Kernel, Opened, Operations, Process, Settings
from fusewire.filesystems import MemoryFS

DIRECT_IO = 1 << 0


class Measured(Noted):
    """The memory filesystem, asking for no more in INIT than passthrough_ll does."""

    settings = Settings(flags=InitFlag.ATOMIC_O_TRUNC, refused=InitFlag.POSIX_LOCKS)

    def __init__(self, timeout: float) -> None:
        super().__init__({"f": b"0123456789", "g": b"other", "d/e/g": b"deep", "d/empty/x": b""})
        self.entry_timeout = self.attr_timeout = timeout
        self.direct = not timeout

    def _opened(self, opened: Any) -> Any:
        return Opened(opened.fh, DIRECT_IO) if self.direct else opened

    def open(self, ino: int, flags: int) -> Opened:
        return self._opened(super().open(ino, flags))

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> Any:
        entry, opened = super().create(parent, name, mode, flags)
        return entry, self._opened(opened)

    def tmpfile(self, parent: int, mode: int, flags: int) -> Any:
        entry, opened = super().tmpfile(parent, mode, flags)
        return entry, self._opened(opened)

    getxattr = Operations.getxattr

    def fsync(self, ino: int, fh: int, datasync: bool) -> None:
        return

    fsyncdir = fsync

    def ioctl(self, ino: int, fh: int, cmd: int, arg: int, data: Any, out_size: int, flags: int) -> Any:
        return 0, bytes(out_size)


Do = Callable[[Process], object]


def nothing(process: Process) -> None:
    return


def stat_f(process: Process) -> None:
    process.stat("/f")


def opened(flags: int = os.O_RDWR, path: str = "/f") -> Do:
    return lambda process: process.open(path, flags)


def link_to_f(process: Process) -> None:
    process.symlink("f", "/link")
    process.stat("/link")


def many(process: Process) -> None:
    for name in "abcdef":
        process.close(process.open(f"/d/empty/{name}", os.O_CREAT | os.O_WRONLY))
    process.unlink("/d/empty/x")
    process.stat("/d/empty")
    process.kernel.drop_caches()
    process.stat("/d/empty")


def list_with_attributes(process: Process) -> None:
    with process.scandir("/d/empty") as entries:
        for entry in entries:
            process.lstat(entry.path)


def twice(call: Do) -> Do:
    def both(process: Process) -> None:
        for _ in range(2):
            try:
                call(process)
            except OSError:
                pass

    return both


def closing(call: Do) -> Do:
    """``call`` opens; what it opened is closed."""
    return lambda process: process.close(call(process))  # type: ignore[arg-type]


def deleted(process: Process) -> None:
    process.open("/f", os.O_RDWR)
    process.unlink("/f")


def map_as_python_does(process: Process) -> None:
    """mmap.mmap() asks for the file's size, and keeps a duplicate of the descriptor until the mapping is closed."""
    process.kernel.page_lru.drop_clean()
    process.fstat(OPENED_BEFORE)
    duplicate = process.dup(OPENED_BEFORE)
    try:
        mapping = process.mmap(OPENED_BEFORE, 10)
        mapping[1] = mapping[0]
        mapping.flush()
        mapping.close()
    except OSError as failed:
        assert failed.errno == errno.ENODEV  # noqa: PT017
    process.close(duplicate)


OPENED_BEFORE = 0  # the first descriptor
D_AND_E = "LOOKUP LOOKUP "
# name, what was done before, what is done, requests with cache=never, with cache=auto (warm). None: not in the table.
ROWS: list[tuple[str, Do, Do, str, str | None]] = [
    ("stat", stat_f, stat_f, "LOOKUP GETATTR", ""),
    ("stat, cold", nothing, stat_f, "LOOKUP GETATTR", "LOOKUP"),
    ("stat, deep", nothing, lambda p: p.stat("/d/e/g"), D_AND_E + "LOOKUP GETATTR", D_AND_E + "LOOKUP"),
    ("stat, missing", nothing, twice(lambda p: p.stat("/no")), "LOOKUP LOOKUP", "LOOKUP LOOKUP"),
    ("access", stat_f, lambda p: p.access("/f", os.R_OK), "LOOKUP ACCESS", "ACCESS"),
    ("open", stat_f, opened(os.O_RDONLY), "LOOKUP OPEN", "OPEN"),
    ("pread", opened(), lambda p: p.pread(OPENED_BEFORE, 4096, 0), "READ", "READ"),
    ("pread, again", lambda p: p.pread(p.open("/f", os.O_RDWR), 4096, 0), lambda p: p.pread(OPENED_BEFORE, 4096, 0), "READ",
     ""),
    ("mmap", lambda p: p.read(p.open("/f", os.O_RDWR), 5), map_as_python_does, "GETATTR FLUSH",
     "GETATTR READ WRITE FSYNC FLUSH"),
    ("fstat after read", lambda p: p.read(p.open("/f", os.O_RDONLY), 5), lambda p: p.fstat(0), "GETATTR", "GETATTR"),
    ("lseek, data", opened(), lambda p: p.lseek(0, 0, os.SEEK_DATA), "LSEEK", "LSEEK"),
    ("lseek, end", lambda p: p.read(p.open("/f", 0), 5), lambda p: p.lseek(0, 0, os.SEEK_END), "GETATTR", ""),
    ("close of a duplicate", lambda p: p.dup(p.open("/f", 0)), lambda p: p.close(1), "FLUSH", "FLUSH"),
    ("close, last", opened(), lambda p: p.close(0), "FLUSH RELEASE", "FLUSH RELEASE"),
    ("open, truncating", stat_f, opened(os.O_RDWR | os.O_TRUNC), "LOOKUP OPEN GETXATTR", "OPEN GETXATTR"),
    ("pwrite", opened(os.O_RDWR | os.O_TRUNC), lambda p: p.pwrite(0, b"x" * 10, 0), "WRITE", "WRITE"),
    ("pwrite, 8 KiB", opened(os.O_RDWR | os.O_TRUNC), lambda p: p.pwrite(0, b"x" * 8192, 0), "WRITE", "WRITE"),
    ("fsync", opened(), lambda p: p.fsync(0), "FSYNC", "FSYNC"),
    ("fdatasync", opened(), lambda p: p.fdatasync(0), "FSYNC", "FSYNC"),
    ("ftruncate", opened(), lambda p: p.ftruncate(0, 3), "SETATTR", "SETATTR"),
    ("fallocate", opened(os.O_RDWR | os.O_TRUNC), lambda p: p.posix_fallocate(0, 0, 99), "FALLOCATE", "FALLOCATE"),
    ("flock", opened(), lambda p: p.flock(0, fcntl.LOCK_EX), "SETLKW", "SETLKW"),
    ("fcntl lock", opened(), lambda p: p.setlk(0, fcntl.F_WRLCK), "", ""),
    ("ioctl, flags", opened(), lambda p: p.ioctl(0, 0x80086601, bytearray(8)), "OPEN IOCTL RELEASE", "OPEN IOCTL RELEASE"),
    ("poll", opened(), lambda p: p.poll([(0, 1)], 0), "POLL", "POLL"),
    ("open, creating", nothing, opened(os.O_CREAT | os.O_RDWR, "/new"), "LOOKUP CREATE", "LOOKUP CREATE"),
    ("open, exclusive", nothing, twice(opened(os.O_CREAT | os.O_EXCL)), "LOOKUP LOOKUP", "LOOKUP LOOKUP"),
    ("open, without a name", nothing, closing(opened(os.O_TMPFILE | os.O_RDWR, "/")), "TMPFILE FLUSH RELEASE FORGET",
     "TMPFILE FLUSH RELEASE FORGET"),
    ("mkdir", nothing, lambda p: p.mkdir("/new"), "LOOKUP MKDIR", "LOOKUP MKDIR"),
    ("mknod", nothing, lambda p: p.mknod("/new"), "LOOKUP MKNOD", "LOOKUP MKNOD"),
    ("symlink", nothing, lambda p: p.symlink("f", "/new"), "LOOKUP SYMLINK", "LOOKUP SYMLINK"),
    ("readlink", link_to_f, lambda p: p.readlink("/link"), "LOOKUP READLINK", "READLINK"),
    ("stat through a link", link_to_f, lambda p: p.stat("/link"), "LOOKUP READLINK LOOKUP GETATTR", "READLINK"),
    ("link", stat_f, lambda p: p.link("/f", "/new"), "LOOKUP LOOKUP LINK", "LOOKUP LINK"),
    ("rename", stat_f, lambda p: p.rename("/f", "/new"), "LOOKUP LOOKUP RENAME", "LOOKUP RENAME"),
    ("rename over", lambda p: [p.stat("/f"), p.stat("/g")], lambda p: p.rename("/f", "/g"),
     "LOOKUP LOOKUP RENAME FORGET", "LOOKUP RENAME FORGET"),
    ("unlink", stat_f, lambda p: p.unlink("/f"), "LOOKUP UNLINK FORGET", "UNLINK FORGET"),
    ("rmdir", lambda p: p.mkdir("/new"), lambda p: p.rmdir("/new"), "LOOKUP RMDIR FORGET", "RMDIR FORGET"),
    ("chmod", stat_f, lambda p: p.chmod("/f", 0o600), "LOOKUP SETATTR", "SETATTR"),
    ("utimens", stat_f, lambda p: p.utime("/f"), "LOOKUP SETATTR", "SETATTR"),
    ("chown", stat_f, lambda p: p.chown("/f", 1, 1), "LOOKUP GETATTR SETATTR", "GETATTR SETATTR"),
    ("truncate", stat_f, lambda p: p.truncate("/f", 3), "LOOKUP SETATTR", "SETATTR"),
    ("setxattr", stat_f, lambda p: p.setxattr("/f", "user.x", b""), "LOOKUP SETXATTR", "SETXATTR"),
    ("listxattr", stat_f, lambda p: p.listxattr("/f"), "LOOKUP LISTXATTR", "LISTXATTR"),
    ("removexattr", lambda p: p.setxattr("/f", "user.x", b""), lambda p: p.removexattr("/f", "user.x"),
     "LOOKUP REMOVEXATTR", "REMOVEXATTR"),
    ("getxattr, twice", stat_f, twice(lambda p: p.getxattr("/f", "user.x")), "LOOKUP GETXATTR LOOKUP", "GETXATTR"),
    ("statvfs", nothing, lambda p: p.statvfs("/"), "STATFS", "STATFS"),
    ("listdir", nothing, lambda p: p.listdir("/d/e"), D_AND_E + "OPENDIR GETATTR READDIRPLUS READDIR RELEASEDIR",
     D_AND_E + "OPENDIR READDIRPLUS READDIR RELEASEDIR"),
    ("ls -l", many, list_with_attributes,
     D_AND_E + "OPENDIR READDIRPLUS " + (D_AND_E + "LOOKUP GETATTR ") * 6 + "READDIR RELEASEDIR",
     "OPENDIR READDIRPLUS READDIRPLUS RELEASEDIR"),
    ("fsync of a directory", lambda p: p.stat("/d"), lambda p: [p.fsync(p.open("/d", 0)), p.close(0)],
     "LOOKUP OPENDIR FSYNCDIR RELEASEDIR", "OPENDIR FSYNCDIR RELEASEDIR"),
    ("copy_file_range", lambda p: [p.open("/f", os.O_RDWR | os.O_TRUNC), p.open("/g", 0)],
     lambda p: p.copy_file_range(1, 0, 99), "COPY_FILE_RANGE_64", "COPY_FILE_RANGE_64"),
    ("fstat after unlink", deleted, lambda p: p.fstat(0), "GETATTR", "GETATTR"),
    ("close after unlink", deleted, lambda p: p.close(0), "FLUSH RELEASE FORGET", "FLUSH RELEASE FORGET"),
    ("syncfs", opened(), lambda p: p.syncfs(0), "", ""),
    ("drop_caches", lambda p: [p.stat("/f"), p.stat("/g")], lambda p: p.kernel.drop_caches(), "BATCH_FORGET",
     "BATCH_FORGET"),
    ("umount", stat_f, lambda p: p.kernel.mounts[0].unmount(lazy=True), "", ""),
]  # fmt: skip


@pytest.fixture(params=[0.0, 1.0], ids=["cache=never", "cache=auto"])
def timeout(request: pytest.FixtureRequest) -> float:
    return request.param


@pytest.mark.parametrize(("name", "before", "call", "never", "auto"), ROWS, ids=[row[0] for row in ROWS])
def test_a_system_call_asks_what_linux_asks(
    timeout: float, name: str, before: Do, call: Do, never: str, auto: str | None
) -> None:
    expected = auto if timeout else never
    if expected is None:
        return
    filesystem = Measured(timeout)
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process(uid=0, gid=0)
        process.stat("/")
        before(process)
        filesystem.asked.clear()
        call(process)
        # FORGET has a queue of its own: whether it is read before RELEASE is the daemon's speed.
        assert sorted(filesystem.asked, key="FORGET".__eq__) == expected.split()


class Unkept(Measured):
    """As passthrough_ll with cache=auto, it does not say KEEP_CACHE."""

    def _opened(self, opened: Any) -> Any:
        return Opened(opened.fh, DIRECT_IO if self.direct else 0)


def run_by_sh(process: Process, path: str) -> None:
    """What a shell does with a script that it is given: the descriptor moves out of the way, and is read to its end."""
    fd = process.open(path, os.O_RDONLY)
    moved = process.dup(fd)
    process.close(fd)
    process.read(moved, 8192)
    process.exit()


def test_exec_of_a_script_asks_what_linux_asks(timeout: float) -> None:
    filesystem = Unkept(timeout)
    with Kernel() as kernel:
        kernel.mount(MemoryFS({"sh": b"\x7fELF"}), "/bin")
        kernel.mount(filesystem, "/mnt")
        process = kernel.process(uid=0, gid=0)
        with process.open_file("/mnt/script", "wb") as script:
            script.write(b"#!/bin/sh\n")
        for path in ("/mnt/script", "/bin/sh"):
            process.chmod(path, 0o755)
        kernel.drop_caches()
        filesystem.asked.clear()
        process.execv("/mnt/script", ["script"])
        run_by_sh(process, process.argv[1])
        again = "OPEN" if timeout else "LOOKUP OPEN"
        first = "LOOKUP" if timeout else "LOOKUP GETATTR"
        assert filesystem.asked == f"{first} OPEN READ RELEASE {again} FLUSH READ FLUSH RELEASE".split()


def test_exclusive_creation_looks_the_name_up_and_refuses() -> None:
    filesystem = Measured(0)
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        filesystem.asked.clear()
        with pytest.raises(FileExistsError):
            process.open("/f", os.O_CREAT | os.O_EXCL)
        assert filesystem.asked == ["LOOKUP"]


def test_mounting_asks_init_and_the_first_walk_nothing_without_default_permissions() -> None:
    filesystem = Measured(1)
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        assert stat.S_ISREG(kernel.process().stat("/f").st_mode)
        assert filesystem.asked == ["LOOKUP"]
