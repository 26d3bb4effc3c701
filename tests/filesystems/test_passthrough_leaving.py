"""A caller that leaves while its handler runs (not under Linux, but where a signal lets it go at once): RELEASE and FORGET then
come in between, and the numbers of the descriptors go to whatever is opened next."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_passthrough import ROOT, Client, descriptors

from fusewire.filesystems import PassthroughFS
from fusewire.filesystems.passthrough import syscalls
from fusewire.wire import layouts as L
from fusewire.wire.flags import FAttr, LkFlag, Opcode

IOCTL_GETFLAGS = 0x80086601
RENAME_EXCHANGE = 2


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "directory" / "inner").mkdir(parents=True)
    (source / "file").write_bytes(b"hello")
    (source / "other").write_bytes(b"another's")
    (source / "directory" / "old").touch()
    (source / "link").symlink_to("target")
    os.setxattr(source / "file", "user.one", b"value")
    return source


class Busy(Client):
    """With all that a request can refer to, each referred to once."""

    def __init__(self, source: Path) -> None:
        super().__init__(PassthroughFS(source))
        self.file, self.directory, self.link = map(self.lookup, (b"file", b"directory", b"link"))
        self.fh = self.open(self.file)
        self.dirfh = int(self.ask(Opcode.OPENDIR, self.directory, L.OpenIn()).structs[0].fh)

    def leave(self) -> None:
        """All of it is given back."""
        self.ask(Opcode.RELEASE, self.file, L.ReleaseIn(self.fh))
        self.ask(Opcode.RELEASEDIR, self.directory, L.ReleaseIn(self.dirfh))
        for nodeid in (self.file, self.directory, self.link):
            self.forget(nodeid)


@pytest.fixture
def client(source: Path) -> Iterator[Busy]:
    client = Busy(source)
    yield client
    client.session.destroy()


def between(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, work: Callable[[], object]) -> None:
    """``work`` is done once, when a handler is about to make this call."""
    call = getattr(module, name)

    def delayed(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, name, call)
        work()
        return call(*args, **kwargs)

    monkeypatch.setattr(module, name, delayed)


def test_a_write_whose_file_is_released_meanwhile_is_in_no_other(
    client: Busy, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = client.lookup(b"other")

    def leave_and_open_another() -> None:
        client.leave()
        for _ in range(8):  # of the numbers that were free one may be the lowest
            client.open(other)

    between(monkeypatch, os, "pwrite", leave_and_open_another)
    client.ask(Opcode.WRITE, client.file, L.WriteIn(client.fh, 0, 5), data=b"howdy")
    assert (source / "other").read_bytes() == b"another's"
    assert (source / "file").read_bytes() == b"howdy"


def test_a_request_that_comes_after_its_files_release_meets_no_other(client: Busy) -> None:
    client.ask(Opcode.RELEASE, client.file, L.ReleaseIn(client.fh))
    client.open(client.lookup(b"other"))
    with pytest.raises(OSError) as caught:
        client.ask(Opcode.WRITE, client.file, L.WriteIn(client.fh, 0, 5), data=b"howdy")
    assert caught.value.errno == errno.EBADF


def test_a_descriptor_is_closed_when_who_used_it_last_is_done(client: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    meanwhile = []

    def leave() -> None:
        client.leave()
        meanwhile.append(descriptors())

    between(monkeypatch, os, "pread", leave)
    client.ask(Opcode.READ, client.file, L.ReadIn(client.fh, 0, 5))
    assert meanwhile == [before - 3]  # the file, and its inode's, are still in use
    assert descriptors() == before - 5


def on_file(opcode: Opcode, struct: Callable[[Busy], Any], **more: Any) -> Callable[[Busy], Any]:
    return lambda client: client.ask(opcode, client.file, struct(client), **more)


def in_directory(opcode: Opcode, *names: bytes, struct: Any = None) -> Callable[[Busy], Any]:
    structs = () if struct is None else (struct,)
    return lambda client: client.ask(opcode, client.directory, *structs, names=names)


LOCK = L.FileLock(0, 9, fcntl.F_WRLCK, 1)
REQUESTS = {
    "getattr": (os, "fstat", on_file(Opcode.GETATTR, lambda c: L.GetattrIn())),
    "chmod": (os, "chmod", on_file(Opcode.SETATTR, lambda c: L.SetattrIn(FAttr.MODE, mode=stat.S_IFREG | 0o600))),
    "truncate": (os, "truncate", on_file(Opcode.SETATTR, lambda c: L.SetattrIn(FAttr.SIZE, size=1))),
    "ftruncate": (os, "truncate", on_file(Opcode.SETATTR, lambda c: L.SetattrIn(FAttr.SIZE | FAttr.FH, fh=c.fh))),
    "utimensat": (syscalls, "utimensat", on_file(Opcode.SETATTR, lambda c: L.SetattrIn(FAttr.MTIME, mtime=1))),
    "statx": (syscalls, "statx", on_file(Opcode.STATX, lambda c: L.StatxIn(sx_mask=0x7FF))),
    "setxattr": (os, "setxattr", on_file(Opcode.SETXATTR, lambda c: L.SetxattrIn(1), names=(b"user.one",), data=b"v")),
    "getxattr": (os, "getxattr", on_file(Opcode.GETXATTR, lambda c: L.GetxattrIn(99), names=(b"user.one",))),
    "listxattr": (os, "listxattr", on_file(Opcode.LISTXATTR, lambda c: L.GetxattrIn(99))),
    "removexattr": (os, "removexattr", lambda c: c.ask(Opcode.REMOVEXATTR, c.file, names=(b"user.one",))),
    "statfs": (os, "fstatvfs", lambda c: c.ask(Opcode.STATFS, c.file)),
    "readlink": (os, "readlink", lambda c: c.ask(Opcode.READLINK, c.link)),
    "lookup": (syscalls, "openat2", in_directory(Opcode.LOOKUP, b"old")),
    "mknod": (os, "mknod", in_directory(Opcode.MKNOD, b"new", struct=L.MknodIn(stat.S_IFREG | 0o600))),
    "mkdir": (os, "mkdir", in_directory(Opcode.MKDIR, b"new", struct=L.MkdirIn(0o700))),
    "symlink": (os, "symlink", in_directory(Opcode.SYMLINK, b"new", b"target")),
    "link": (os, "link", lambda c: c.ask(Opcode.LINK, c.directory, L.LinkIn(c.file), names=(b"new",))),
    "create": (os, "open", in_directory(Opcode.CREATE, b"new", struct=L.CreateIn(os.O_RDWR | os.O_CREAT, 0o600))),
    "tmpfile": (os, "open", in_directory(Opcode.TMPFILE, b"", struct=L.CreateIn(os.O_RDWR, stat.S_IFREG | 0o600))),
    "unlink": (os, "unlink", in_directory(Opcode.UNLINK, b"old")),
    "rmdir": (os, "rmdir", in_directory(Opcode.RMDIR, b"inner")),
    "rename": (os, "rename", lambda c: c.ask(Opcode.RENAME, ROOT, L.RenameIn(c.directory), names=(b"other", b"new"))),
    "rename2": (
        syscalls, "renameat2",
        lambda c: c.ask(Opcode.RENAME2, c.directory, L.Rename2In(ROOT, RENAME_EXCHANGE), names=(b"old", b"other")),
    ),
    "open": (os, "open", on_file(Opcode.OPEN, lambda c: L.OpenIn(os.O_RDONLY))),
    "read": (os, "pread", on_file(Opcode.READ, lambda c: L.ReadIn(c.fh, 0, 5))),
    "flush": (os, "dup", on_file(Opcode.FLUSH, lambda c: L.FlushIn(c.fh))),
    "fsync": (os, "fsync", on_file(Opcode.FSYNC, lambda c: L.FsyncIn(c.fh))),
    "fallocate": (syscalls, "fallocate", on_file(Opcode.FALLOCATE, lambda c: L.FallocateIn(c.fh, 0, 9))),
    "lseek": (os, "lseek", on_file(Opcode.LSEEK, lambda c: L.LseekIn(c.fh, 0, os.SEEK_DATA))),
    "copy_file_range": (
        os, "copy_file_range",
        on_file(Opcode.COPY_FILE_RANGE, lambda c: L.CopyFileRangeIn(c.fh, 0, c.file, c.open(c.file), 5, 5)),
    ),
    "ioctl": (fcntl, "ioctl", on_file(Opcode.IOCTL, lambda c: L.IoctlIn(c.fh, 0, IOCTL_GETFLAGS, 0, 0, 8))),
    "setlk": (os, "open", on_file(Opcode.SETLK, lambda c: L.LkIn(c.fh, 1, LOCK))),
    "flock": (fcntl, "flock", on_file(Opcode.SETLK, lambda c: L.LkIn(c.fh, 1, LOCK, LkFlag.FLOCK))),
    "opendir": (os, "open", in_directory(Opcode.OPENDIR, struct=L.OpenIn())),
    "readdir": (os, "lseek", lambda c: c.ask(Opcode.READDIR, c.directory, L.ReadIn(c.dirfh, 0, 4096))),
    "readdirplus": (syscalls, "openat2", lambda c: c.ask(Opcode.READDIRPLUS, c.directory, L.ReadIn(c.dirfh, 0, 4096))),
    "fsyncdir": (os, "fsync", lambda c: c.ask(Opcode.FSYNCDIR, c.directory, L.FsyncIn(c.dirfh))),
}  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_is_forgotten_and_released_meanwhile_is_there_until_the_request_is_done(
    client: Busy, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, call, ask = REQUESTS[request_]
    left = []

    def leave() -> None:
        client.leave()
        left.append(True)

    between(monkeypatch, module, call, leave)
    try:
        ask(client)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS):  # the host's filesystem does not have it
            raise
    assert left


def test_a_handler_that_outlives_the_session_keeps_its_file(client: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    between(monkeypatch, os, "pread", client.session.destroy)
    assert client.ask(Opcode.READ, client.file, L.ReadIn(client.fh, 0, 5)).data == b"hello"
    assert descriptors() == before - 6
