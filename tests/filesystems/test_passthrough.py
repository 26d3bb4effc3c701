"""A directory mirrored, without a mount: through our kernel's half, and message by message where that has no call yet."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import logging
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from conftest import need

from fusewire import Kernel, Process, Session
from fusewire.filesystems import PassthroughFS
from fusewire.filesystems.passthrough import syscalls
from fusewire.filesystems.passthrough.caller import Identity
from fusewire.filesystems.passthrough.numbers import Numbers
from fusewire.wire import layouts as L
from fusewire.wire.codec import (
    Message,
    decode_notification,
    decode_reply,
    encode_request,
    iter_direntplus,
    iter_dirents,
)
from fusewire.wire.flags import FAttr, FOpenFlag, InitFlag, LkFlag, NotifyCode, Opcode, WriteFlag
from fusewire.wire.table import Dialect

ROOT = 1
EOF = (1 << 63) - 1
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


class Client:
    """The kernel's side of a session, message by message: ``ask`` returns the answer or raises its errno."""

    def __init__(self, fs: PassthroughFS, offered: InitFlag = InitFlag((1 << 44) - 1)) -> None:
        self.session = Session(fs)
        self.uniques = itertools.count(2, 2)
        flags = offered | InitFlag.INIT_EXT
        self.ask(Opcode.INIT, 0, L.InitIn(7, 45, 1 << 17, flags & 0xFFFFFFFF, flags >> 32))
        assert self.session.granted is not None
        self.dialect = Dialect(45, self.session.granted.flags)

    def ask(
        self, opcode: Opcode, nodeid: int, *structs: Any, names: tuple[bytes, ...] = (), data: bytes = b"", probe: bool = False
    ) -> Message:  # fmt: skip
        unique = next(self.uniques)
        answer = self.session.handle(self.request(unique, opcode, nodeid, *structs, names=names, data=data))
        if not isinstance(answer, tuple):
            assert answer is not None
            answer = asyncio.run(answer.run())
        return self.reply(opcode, answer, probe)

    def request(
        self, unique: int, opcode: Opcode, nodeid: int, *structs: Any, names: tuple[bytes, ...] = (), data: bytes = b""
    ) -> bytes:  # fmt: skip
        dialect = Dialect(45, InitFlag(0)) if opcode is Opcode.INIT else self.dialect
        return encode_request(
            opcode, Message(structs, names, data=data), unique=unique, nodeid=nodeid,
            uid=os.getuid(), gid=os.getgid(), pid=os.getpid(), dialect=dialect,
        )  # fmt: skip

    @staticmethod
    def reply(opcode: Opcode, answer: Any, probe: bool = False) -> Message:
        header, message = decode_reply(opcode, b"".join(answer), probe=probe)
        if header.error:
            raise OSError(-header.error, os.strerror(-header.error))
        return message

    def lookup(self, name: bytes, parent: int = ROOT) -> int:
        return int(self.ask(Opcode.LOOKUP, parent, names=(name,)).structs[0].nodeid)

    def forget(self, nodeid: int, nlookup: int = 1) -> None:
        message = self.request(next(self.uniques), Opcode.FORGET, nodeid, L.ForgetIn(nlookup))
        assert self.session.handle(message) is None

    def open(self, nodeid: int, flags: int = os.O_RDWR) -> int:
        return int(self.ask(Opcode.OPEN, nodeid, L.OpenIn(flags)).structs[0].fh)

    def create(self, name: bytes, mode: int = 0o644, flags: int = os.O_RDWR, umask: int = 0) -> tuple[int, int]:
        message = self.ask(Opcode.CREATE, ROOT, L.CreateIn(flags | os.O_CREAT, mode, umask), names=(name,))
        return message.structs[0].nodeid, message.structs[1].fh

    def close(self, nodeid: int, fh: int, owner: int = 0) -> None:
        self.ask(Opcode.FLUSH, nodeid, L.FlushIn(fh, lock_owner=owner))
        self.ask(Opcode.RELEASE, nodeid, L.ReleaseIn(fh))

    def lock(self, nodeid: int, fh: int, kind: int, owner: int, start: int = 0, end: int = EOF, flags: int = 0) -> None:
        self.ask(Opcode.SETLK, nodeid, L.LkIn(fh, owner, L.FileLock(start, end, kind, os.getpid()), flags))

    def names(self, nodeid: int, fh: int, offset: int = 0, size: int = 1 << 16) -> list[tuple[bytes, int]]:
        data = self.ask(Opcode.READDIR, nodeid, L.ReadIn(fh, offset, size)).data
        return [(name, dirent.off) for name, dirent in iter_dirents(data)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_bytes(b"hello")
    return path


@pytest.fixture
def fs(source: Path) -> PassthroughFS:
    return PassthroughFS(source)


@pytest.fixture
def client(fs: PassthroughFS) -> Iterator[Client]:
    client = Client(fs)
    yield client
    client.session.destroy()


@pytest.fixture
def program(fs: PassthroughFS) -> Iterator[Process]:
    with Kernel() as kernel:
        kernel.mount(fs, "/mnt")
        yield kernel.process("program")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- through our kernel's half -----------------------------------------------------------------------------------------


def test_a_file_of_the_source_is_read(program: Process) -> None:
    fd = program.open("/mnt/file", os.O_RDONLY)
    assert program.read(fd, 100) == b"hello"


def test_what_is_written_is_in_the_source(program: Process, source: Path) -> None:
    fd = program.open("/mnt/new", os.O_CREAT | os.O_WRONLY, 0o600)
    program.write(fd, b"written")
    program.close(fd)
    assert (source / "new").read_bytes() == b"written"
    assert stat.S_IMODE((source / "new").stat().st_mode) == 0o600


def test_the_umask_is_applied_once(program: Process, source: Path) -> None:
    program.umask(0o027)
    program.close(program.open("/mnt/new", os.O_CREAT | os.O_WRONLY, 0o666))
    assert stat.S_IMODE((source / "new").stat().st_mode) == 0o640


def test_directories_are_made_listed_and_removed(program: Process, source: Path) -> None:
    program.mkdir("/mnt/directory")
    assert sorted(set(program.listdir("/mnt")) - {".", ".."}) == ["directory", "file"]
    program.rmdir("/mnt/directory")
    assert os.listdir(source) == ["file"]


def test_an_unlinked_file_lives_on_while_it_is_open(program: Process, source: Path) -> None:
    fd = program.open("/mnt/file", os.O_RDWR)
    program.unlink("/mnt/file")
    program.write(fd, b"HE")
    assert program.pread(fd, 100, 0) == b"HEllo"
    assert os.listdir(source) == []


def test_chmod_and_truncate_by_path_reach_the_file(program: Process, source: Path) -> None:
    program.chmod("/mnt/file", 0o640)
    program.truncate("/mnt/file", 2)
    assert stat.S_IMODE((source / "file").stat().st_mode) == 0o640
    assert (source / "file").read_bytes() == b"he"


def test_statvfs_shows_the_host_filesystem(program: Process, source: Path) -> None:
    assert program.statvfs("/mnt").f_blocks == os.statvfs(source).f_blocks


# -- inodes ------------------------------------------------------------------------------------------------------------


def test_hard_links_are_one_inode(client: Client, source: Path) -> None:
    os.link(source / "file", source / "other")
    assert client.lookup(b"file") == client.lookup(b"other")


def test_a_child_stays_reachable_when_its_directory_is_renamed(client: Client, source: Path) -> None:
    (source / "before").mkdir()
    (source / "before" / "child").write_bytes(b"still here")
    child = client.lookup(b"child", client.lookup(b"before"))
    (source / "before").rename(source / "after")
    fh = client.open(child)
    assert client.ask(Opcode.READ, child, L.ReadIn(fh, 0, 100)).data == b"still here"


def test_the_last_forget_closes_the_descriptor(client: Client) -> None:
    before = descriptors()
    node = client.lookup(b"file")
    assert client.lookup(b"file") == node
    assert descriptors() == before + 1
    client.forget(node)
    assert descriptors() == before + 1
    client.forget(node)
    assert descriptors() == before
    with pytest.raises(OSError, match="Stale"):
        client.ask(Opcode.GETATTR, node, L.GetattrIn())


def test_a_forgotten_number_is_not_used_again(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    client.forget(node)
    assert client.lookup(b"file") != node


def test_the_end_of_the_session_closes_every_descriptor(source: Path) -> None:
    before = descriptors()
    client = Client(PassthroughFS(source))
    node, fh = client.create(b"new")
    client.ask(Opcode.OPENDIR, ROOT, L.OpenIn())
    client.lock(node, fh, fcntl.F_WRLCK, owner=1)
    client.session.destroy()
    assert descriptors() == before


@pytest.mark.parametrize("name", [b"..", b".", b"", b"../up", b"/etc"])
def test_a_name_that_leads_out_is_refused(fs: PassthroughFS, client: Client, name: bytes) -> None:
    with pytest.raises(OSError) as caught:
        fs.lookup(ROOT, name)
    assert caught.value.errno == errno.EINVAL


def test_a_symbolic_link_is_not_followed(client: Client, source: Path) -> None:
    (source / "link").symlink_to("/etc")
    link = client.lookup(b"link")
    assert client.ask(Opcode.READLINK, link).data == b"/etc"
    with pytest.raises(NotADirectoryError):
        client.lookup(b"passwd", link)
    with pytest.raises(NotADirectoryError):
        client.ask(Opcode.OPENDIR, link, L.OpenIn())


def test_a_directory_swapped_for_a_link_is_still_the_directory(client: Client, source: Path) -> None:
    (source / "directory").mkdir()
    directory = client.lookup(b"directory")
    (source / "directory").rename(source / "away")
    (source / "directory").symlink_to("/")
    with pytest.raises(FileNotFoundError):
        client.lookup(b"etc", directory)
    client.ask(Opcode.MKDIR, directory, L.MkdirIn(0o755), names=(b"made",))
    assert (source / "away" / "made").is_dir()


def test_the_parent_of_the_root_is_not_shown(client: Client, source: Path) -> None:
    fh = client.ask(Opcode.OPENDIR, ROOT, L.OpenIn()).structs[0].fh
    data = client.ask(Opcode.READDIR, ROOT, L.ReadIn(fh, 0, 4096)).data
    assert {name: dirent.ino for name, dirent in iter_dirents(data)}[b".."] == source.stat().st_ino


def test_a_fifo_is_not_opened_here(client: Client, source: Path) -> None:
    os.mkfifo(source / "fifo")
    with pytest.raises(OSError) as caught:
        client.open(client.lookup(b"fifo"))
    assert caught.value.errno == errno.ENXIO


def test_running_out_of_descriptors_is_told_as_what_it_is(
    client: Client, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    fillers = []
    try:
        while True:
            fillers.append(os.open("/", os.O_PATH))
    except OSError:
        pass
    try:
        with pytest.raises(OSError) as caught:
            client.lookup(b"file")
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.ENFILE
    assert "raise the hard limit" in caplog.text


def test_the_kernel_is_asked_to_forget_before_descriptors_run_out(
    client: Client, fs: PassthroughFS, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def sink(raw: bytes) -> Future[None]:
        sent.append(raw)
        return Future()

    client.session.notify.sink = sink
    monkeypatch.setattr(fs, "_plenty", 3)
    busy, _ = client.create(b"busy")
    idle = client.lookup(b"file")
    (source / "third").touch()
    client.lookup(b"third")
    (source / "fourth").touch()
    client.lookup(b"fourth")
    assert len(sent) == 1  # the second has to wait for the first
    code, message = decode_notification(sent[0])
    assert code == NotifyCode.PRUNE
    asked = [item.nlookup for item in message.items]
    assert idle in asked
    assert busy not in asked
    assert ROOT not in asked


class Preempted(PassthroughFS):
    """Whenever a thread has looked at the last prune, another finds it refused, and drops it."""

    @property
    def _pruned(self) -> Future[None] | None:
        last, self.last = self.last, None
        return last

    @_pruned.setter
    def _pruned(self, last: Future[None] | None) -> None:
        self.last = last


def test_two_that_have_the_kernel_asked_to_forget_at_once_both_find_their_file(source: Path) -> None:
    fs = Preempted(source)
    client = Client(fs)
    (source / "other").touch()
    refused: Future[None] = Future()
    refused.set_exception(FileNotFoundError())
    client.session.notify.sink = lambda _: refused
    fs._plenty = 1
    assert client.lookup(b"file")
    assert client.lookup(b"other")
    client.session.destroy()


def test_a_name_is_found_though_the_kernel_cannot_be_asked_to_forget(
    client: Client, fs: PassthroughFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: bytes) -> Future[None]:
        raise RuntimeError("can't start new thread")

    client.session.notify.sink = no_thread
    monkeypatch.setattr(fs, "_plenty", 1)
    assert client.lookup(b"file")


@pytest.mark.parametrize(("name", "error"), [("missing", FileNotFoundError), ("file", NotADirectoryError)])
def test_a_source_that_cannot_be_mirrored_is_refused(source: Path, name: str, error: type[OSError]) -> None:
    with pytest.raises(error, match=f"cannot mirror .*{name}"):
        PassthroughFS(source / name)


@pytest.fixture
def system() -> Iterator[Client]:
    """The whole machine mirrored, with other filesystems mounted below."""
    if not (os.path.ismount("/proc") and os.path.ismount("/sys")):
        pytest.skip("needs /proc and /sys")
    client = Client(PassthroughFS("/"))
    yield client
    client.session.destroy()


def shown(client: Client, name: bytes, parent: int = ROOT) -> int:
    return int(client.ask(Opcode.LOOKUP, parent, names=(name,)).structs[0].attr.ino)


def test_equal_numbers_of_two_filesystems_are_shown_as_different_ones(system: Client) -> None:
    assert os.stat("/proc").st_ino == os.stat("/sys").st_ino
    assert shown(system, b"proc") != shown(system, b"sys")
    assert shown(system, b"etc") == os.stat("/etc").st_ino


def test_every_request_shows_the_same_number_of_an_inode(system: Client) -> None:
    proc = system.lookup(b"proc")
    number, nodeid = shown(system, b"version", proc), system.lookup(b"version", proc)
    assert number != os.stat("/proc/version").st_ino
    assert system.ask(Opcode.GETATTR, nodeid, L.GetattrIn()).structs[0].attr.ino == number
    assert system.ask(Opcode.STATX, nodeid, L.StatxIn(0, 0, 0, 0, 0x7FF)).structs[0].stat.ino == number
    fh = system.ask(Opcode.OPENDIR, proc, L.OpenIn()).structs[0].fh
    listed, offset = {}, 0
    while data := system.ask(Opcode.READDIR, proc, L.ReadIn(fh, offset, 1 << 16)).data:
        for name, dirent in iter_dirents(data):
            listed[name], offset = dirent.ino, dirent.off
    assert listed[b"version"] == number


def test_numbers_without_room_beside_their_filesystems_are_counted_out() -> None:
    numbers = Numbers(device=1)
    large = (1 << 64) - 1
    places = [(1, 7), (1, large), (2, 7), (2, large), (3, 7)]
    first, again = ([numbers.shown(device, ino) for device, ino in places] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(first)
    assert first[0] == 7
    assert max(first) < 1 << 64


# -- names -------------------------------------------------------------------------------------------------------------


def rename2(client: Client, old: bytes, new: bytes, flags: int) -> None:
    client.ask(Opcode.RENAME2, ROOT, L.Rename2In(ROOT, flags), names=(old, new))


def test_rename_exchange_swaps(client: Client, source: Path) -> None:
    (source / "other").write_bytes(b"other")
    rename2(client, b"file", b"other", RENAME_EXCHANGE)
    assert (source / "file").read_bytes() == b"other"
    assert (source / "other").read_bytes() == b"hello"


def test_rename_noreplace_keeps_what_is_there(client: Client, source: Path) -> None:
    (source / "other").touch()
    with pytest.raises(FileExistsError):
        rename2(client, b"file", b"other", RENAME_NOREPLACE)


def test_rename_moves_over_what_is_there(client: Client, source: Path) -> None:
    (source / "other").touch()
    client.ask(Opcode.RENAME, ROOT, L.RenameIn(ROOT), names=(b"file", b"other"))
    assert (source / "other").read_bytes() == b"hello"
    assert os.listdir(source) == ["other"]


def test_link_gives_a_second_name_and_a_second_reference(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    entry = client.ask(Opcode.LINK, ROOT, L.LinkIn(node), names=(b"other",)).structs[0]
    assert (entry.nodeid, entry.attr.nlink) == (node, 2)
    client.forget(node)
    client.ask(Opcode.GETATTR, node, L.GetattrIn())


def test_a_link_to_a_symbolic_link_is_to_the_link_itself(client: Client, source: Path) -> None:
    (source / "one").symlink_to("/nowhere")
    client.ask(Opcode.LINK, ROOT, L.LinkIn(client.lookup(b"one")), names=(b"two",))
    assert os.readlink(source / "two") == "/nowhere"


def test_symlink_and_mknod_make_what_they_say(client: Client, source: Path) -> None:
    client.ask(Opcode.SYMLINK, ROOT, names=(b"link", b"target"))
    client.ask(Opcode.MKNOD, ROOT, L.MknodIn(stat.S_IFIFO | 0o600), names=(b"fifo",))
    assert os.readlink(source / "link") == "target"
    assert stat.S_ISFIFO((source / "fifo").stat().st_mode)


def test_a_file_without_a_name_gets_one_by_link(client: Client, source: Path) -> None:
    message = client.ask(Opcode.TMPFILE, ROOT, L.CreateIn(os.O_RDWR | os.O_TMPFILE, 0o600), names=(b"/",))
    node, fh = message.structs[0].nodeid, message.structs[1].fh
    client.ask(Opcode.WRITE, node, L.WriteIn(fh, 0, 4), data=b"data")
    assert os.listdir(source) == ["file"]
    client.ask(Opcode.LINK, ROOT, L.LinkIn(node), names=(b"named",))
    assert (source / "named").read_bytes() == b"data"


def test_create_of_a_file_that_another_just_made_opens_it(client: Client, source: Path) -> None:
    node, fh = client.create(b"file")
    assert client.ask(Opcode.READ, node, L.ReadIn(fh, 0, 9)).data == b"hello"
    with pytest.raises(FileExistsError):
        client.create(b"file", flags=os.O_RDWR | os.O_EXCL)


def test_create_does_not_follow_a_link_that_another_just_made(client: Client, source: Path) -> None:
    (source / "link").symlink_to(source / "file")
    with pytest.raises(FileExistsError):
        client.create(b"link")


def test_a_default_acl_overrides_the_umask(client: Client, source: Path) -> None:
    need("setfacl")
    subprocess.run(["setfacl", "-d", "-m", "u::rwx,g::rwx,o::rx", source], check=True)
    client.create(b"new", mode=0o666, umask=0o077)
    assert stat.S_IMODE((source / "new").stat().st_mode) == 0o664


def test_the_umask_of_the_process_is_left_alone(client: Client) -> None:
    before = os.umask(0o022)
    try:
        client.create(b"new", umask=0o777)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_while_a_daemon_that_gave_up_root_looks_who_it_is_no_other_thread_acts_as_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = (1 << 41) - 1
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(syscalls, "capabilities", lambda: (every, every, 0))
    identity = Identity()
    refused = []

    def other_thread() -> tuple[int, int, int]:
        monkeypatch.setattr(syscalls, "capabilities", lambda: (0, 0, 0))
        with identity.caller(1000, 1000, ()):
            return 0, 0, 0

    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setattr(syscalls, "capabilities", other_thread)
    monkeypatch.setattr(syscalls, "setgroups", refused.append)
    with identity.caller(1000, 1000, ()):
        assert not refused


# -- attributes --------------------------------------------------------------------------------------------------------


def setattr_(client: Client, name: bytes, **fields: int) -> Any:
    return client.ask(Opcode.SETATTR, client.lookup(name), L.SetattrIn(**fields)).structs[0].attr


def test_a_time_that_is_not_named_is_kept_to_the_nanosecond(client: Client, source: Path) -> None:
    os.utime(source / "file", ns=(1_000_000_001, 2_000_000_002))
    setattr_(client, b"file", valid=FAttr.ATIME, atime=7, atimensec=123_456_789)
    st = (source / "file").stat()
    assert (st.st_atime_ns, st.st_mtime_ns) == (7_123_456_789, 2_000_000_002)


def test_now_is_the_hosts_now(client: Client, source: Path) -> None:
    os.utime(source / "file", ns=(1, 2))
    setattr_(client, b"file", valid=FAttr.MTIME | FAttr.MTIME_NOW, mtime=5)
    st = (source / "file").stat()
    assert st.st_mtime_ns == st.st_ctime_ns
    assert st.st_atime_ns == 1


def test_a_time_before_1970_is_kept(client: Client, source: Path) -> None:
    setattr_(client, b"file", valid=FAttr.MTIME, mtime=(-2) & ((1 << 64) - 1), mtimensec=500_000_000)
    assert (source / "file").stat().st_mtime_ns == -1_500_000_000


def test_the_times_of_a_symbolic_link_are_its_own(client: Client, source: Path) -> None:
    (source / "link").symlink_to("file")
    setattr_(client, b"link", valid=FAttr.MTIME, mtime=5)
    assert (source / "link").lstat().st_mtime == 5
    assert (source / "file").stat().st_mtime != 5


def test_truncate_works_by_fh_and_by_path(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    client.ask(Opcode.SETATTR, node, L.SetattrIn(FAttr.SIZE | FAttr.FH, fh=client.open(node), size=3))
    assert (source / "file").read_bytes() == b"hel"
    assert setattr_(client, b"file", valid=FAttr.SIZE, size=10).size == 10


def test_open_with_o_trunc_empties_the_file(client: Client, source: Path) -> None:
    client.open(client.lookup(b"file"), os.O_WRONLY | os.O_TRUNC)
    assert (source / "file").read_bytes() == b""


def test_statx_tells_the_birth_time(client: Client) -> None:
    reply = client.ask(Opcode.STATX, client.lookup(b"file"), L.StatxIn(sx_mask=0xFFF)).structs[0].stat
    assert reply.size == 5
    assert reply.mask & 0x800
    assert 0 < reply.btime.tv_sec <= reply.ctime.tv_sec


def test_extended_attributes_are_the_hosts(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    client.ask(Opcode.SETXATTR, node, L.SetxattrIn(5), names=(b"user.one",), data=b"value")
    assert os.getxattr(source / "file", "user.one") == b"value"
    assert client.ask(Opcode.GETXATTR, node, L.GetxattrIn(99), names=(b"user.one",)).data == b"value"
    assert b"user.one\0" in client.ask(Opcode.LISTXATTR, node, L.GetxattrIn(999)).data
    client.ask(Opcode.REMOVEXATTR, node, names=(b"user.one",))
    with pytest.raises(OSError) as caught:
        client.ask(Opcode.GETXATTR, node, L.GetxattrIn(99), names=(b"user.one",))
    assert caught.value.errno == errno.ENODATA


# -- open files --------------------------------------------------------------------------------------------------------


def test_an_appending_write_goes_to_the_end_as_the_host_has_it(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    fh = client.open(node, os.O_WRONLY | os.O_APPEND)
    with (source / "file").open("ab") as host:
        host.write(b" host")
    client.ask(Opcode.WRITE, node, L.WriteIn(fh, 5, 6, flags=os.O_APPEND), data=b" fuse!")
    assert (source / "file").read_bytes() == b"hello host fuse!"


def test_a_write_of_the_page_cache_goes_to_its_offset_even_so(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    fh = client.open(node, os.O_RDWR | os.O_APPEND)
    client.ask(Opcode.WRITE, node, L.WriteIn(fh, 0, 1, write_flags=WriteFlag.CACHE), data=b"J")
    assert (source / "file").read_bytes() == b"Jello"


def test_holes_are_found_and_punched(client: Client, source: Path) -> None:
    node, fh = client.create(b"holes")
    client.ask(Opcode.WRITE, node, L.WriteIn(fh, 1 << 20, 4096), data=b"x" * 4096)
    assert client.ask(Opcode.LSEEK, node, L.LseekIn(fh, 0, os.SEEK_DATA)).structs[0].offset == 1 << 20
    client.ask(Opcode.FALLOCATE, node, L.FallocateIn(fh, 1 << 20, 4096, 1 | 2))
    with pytest.raises(OSError) as caught:
        client.ask(Opcode.LSEEK, node, L.LseekIn(fh, 0, os.SEEK_DATA))
    assert caught.value.errno == errno.ENXIO


def test_a_negative_offset_is_the_hosts_to_refuse(client: Client) -> None:
    nodeid = client.lookup(b"file")
    fh = client.open(nodeid)
    with pytest.raises(OSError) as caught:
        client.ask(Opcode.LSEEK, nodeid, L.LseekIn(fh, (1 << 64) - 1, os.SEEK_DATA))
    assert caught.value.errno == errno.ENXIO


def test_copy_file_range_copies_on_the_host(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    copy, out = client.create(b"copy")
    asked = L.CopyFileRangeIn(client.open(node), 1, copy, out, 0, 100, 0)
    assert client.ask(Opcode.COPY_FILE_RANGE, node, asked).structs[0].size == 4
    assert (source / "copy").read_bytes() == b"ello"


def test_fsync_reaches_files_and_directories(client: Client) -> None:
    node, fh = client.create(b"new")
    client.ask(Opcode.FSYNC, node, L.FsyncIn(fh, 1))
    directory = client.ask(Opcode.OPENDIR, ROOT, L.OpenIn()).structs[0].fh
    client.ask(Opcode.FSYNCDIR, ROOT, L.FsyncIn(directory))
    with pytest.raises(OSError):
        client.ask(Opcode.FSYNC, node, L.FsyncIn(9999))


def test_an_ioctl_that_is_not_known_is_refused(client: Client) -> None:
    node = client.lookup(b"file")
    with pytest.raises(OSError) as caught:
        client.ask(Opcode.IOCTL, node, L.IoctlIn(client.open(node), 0, 0x5401, 0, 0, 0))
    assert caught.value.errno == errno.ENOTTY


# -- directories -------------------------------------------------------------------------------------------------------


def test_reading_goes_on_where_it_stopped_though_names_go_and_come(client: Client, source: Path) -> None:
    for number in range(500):
        (source / f"name-{number:04}").touch()
    fh = client.ask(Opcode.OPENDIR, ROOT, L.OpenIn()).structs[0].fh
    seen: list[bytes] = []
    offset = 0
    while part := client.names(ROOT, fh, offset, 512):
        seen += [name for name, _ in part]
        offset = part[-1][1]
        for name, _ in part:
            if name.startswith(b"name"):
                (source / os.fsdecode(name)).unlink()
    assert sorted(seen) == sorted([b".", b"..", b"file", *(b"name-%04d" % number for number in range(500))])


def test_a_large_directory_is_read_in_any_order_of_offsets(client: Client, source: Path) -> None:
    for number in range(3000):
        (source / f"name-{number:040}").touch()
    fh = client.ask(Opcode.OPENDIR, ROOT, L.OpenIn()).structs[0].fh
    whole = client.names(ROOT, fh, 0, 1 << 20)
    assert len(whole) == len(dict(whole)) == 3003
    for place in (2500, 10, 1500, 2999):
        assert client.names(ROOT, fh, whole[place][1], 1 << 20) == whole[place + 1 :]


def test_offset_0_reads_the_directory_anew(client: Client, source: Path) -> None:
    fh = client.ask(Opcode.OPENDIR, ROOT, L.OpenIn()).structs[0].fh
    client.names(ROOT, fh)
    (source / "later").touch()
    assert b"later" in dict(client.names(ROOT, fh))


def test_readdirplus_grants_references_to_what_it_sent_and_no_more(client: Client, source: Path) -> None:
    for number in range(20):
        (source / f"name-{number}").touch()
    before = descriptors()
    fh = client.ask(Opcode.OPENDIR, ROOT, L.OpenIn()).structs[0].fh
    data = client.ask(Opcode.READDIRPLUS, ROOT, L.ReadIn(fh, 0, 1024)).data
    sent = [entry.nodeid for _, _, entry in iter_direntplus(data) if entry.nodeid]
    assert 0 < len(sent) < 20
    assert descriptors() == before + 1 + len(sent)
    for nodeid in sent:
        client.forget(nodeid)
    assert descriptors() == before + 1


# -- locks -------------------------------------------------------------------------------------------------------------


def host_is_blocked(path: Path, call: str) -> bool:
    """Whether a process of the host cannot lock ``path``."""
    script = f"import fcntl\nfile = open({str(path)!r}, 'r+')\n{call}"
    return "BlockingIOError" in subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True).stderr


HOST_LOCKF = "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
HOST_FLOCK = "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"


def test_locks_of_two_owners_conflict(client: Client) -> None:
    node = client.lookup(b"file")
    fh = client.open(node)
    client.lock(node, fh, fcntl.F_WRLCK, owner=1, end=9)
    client.lock(node, fh, fcntl.F_WRLCK, owner=1, start=5, end=20)
    with pytest.raises(BlockingIOError):
        client.lock(node, fh, fcntl.F_RDLCK, owner=2, start=15)
    client.lock(node, fh, fcntl.F_WRLCK, owner=2, start=21)


def test_a_lock_keeps_the_hosts_processes_out(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    fh = client.open(node)
    client.lock(node, fh, fcntl.F_WRLCK, owner=1)
    assert host_is_blocked(source / "file", HOST_LOCKF)
    client.lock(node, fh, fcntl.F_UNLCK, owner=1)
    assert not host_is_blocked(source / "file", HOST_LOCKF)


def test_getlk_tells_who_is_in_the_way(client: Client) -> None:
    node = client.lookup(b"file")
    fh = client.open(node)
    client.lock(node, fh, fcntl.F_WRLCK, owner=1, start=3, end=7)
    found = client.ask(Opcode.GETLK, node, L.LkIn(fh, 2, L.FileLock(0, EOF, fcntl.F_RDLCK, 99))).structs[0].lk
    assert (found.start, found.end, found.type, found.pid) == (3, 7, fcntl.F_WRLCK, os.getpid())
    free = client.ask(Opcode.GETLK, node, L.LkIn(fh, 2, L.FileLock(8, EOF, fcntl.F_RDLCK, 99))).structs[0].lk
    assert free.type == fcntl.F_UNLCK


def test_closing_the_file_releases_its_owners_locks_only(client: Client) -> None:
    node = client.lookup(b"file")
    fh, other = client.open(node), client.open(node)
    client.lock(node, fh, fcntl.F_RDLCK, owner=1)
    client.lock(node, other, fcntl.F_RDLCK, owner=2, end=5)
    client.close(node, fh, owner=1)
    client.lock(node, other, fcntl.F_WRLCK, owner=3, start=6)
    with pytest.raises(BlockingIOError):
        client.lock(node, other, fcntl.F_WRLCK, owner=3)


def test_flock_is_the_open_files_and_the_hosts(client: Client, source: Path) -> None:
    node = client.lookup(b"file")
    one, two = client.open(node), client.open(node)
    client.lock(node, one, fcntl.F_WRLCK, owner=1, flags=LkFlag.FLOCK)
    with pytest.raises(BlockingIOError):
        client.lock(node, two, fcntl.F_RDLCK, owner=2, flags=LkFlag.FLOCK)
    assert host_is_blocked(source / "file", HOST_FLOCK)
    client.close(node, one)
    client.lock(node, two, fcntl.F_RDLCK, owner=2, flags=LkFlag.FLOCK)


class Waiter(threading.Thread):
    """A SETLKW that waits, on an event loop of its own; ``result`` is what became of it."""

    def __init__(self, client: Client, nodeid: int, fh: int, flags: int = 0) -> None:
        super().__init__(daemon=True)
        asked = L.LkIn(fh, 77, L.FileLock(0, EOF, fcntl.F_WRLCK, 77), flags)
        self.later: Any = client.session.handle(client.request(next(client.uniques), Opcode.SETLKW, nodeid, asked))
        self.result: object = "waits"
        self.loop = asyncio.new_event_loop()
        self.start()

    def run(self) -> None:
        self.task = self.loop.create_task(self.later.run())
        try:
            Client.reply(Opcode.SETLKW, self.loop.run_until_complete(self.task))
            self.result = "locked"
        except asyncio.CancelledError:
            self.result = "interrupted"
        except OSError as error:
            self.result = error.errno

    def ends(self) -> object:
        self.join(timeout=10)
        return self.result


@pytest.mark.parametrize("flags", [0, LkFlag.FLOCK])
def test_who_waits_for_a_lock_gets_it_when_it_is_released(client: Client, flags: int) -> None:
    node = client.lookup(b"file")
    one, two = client.open(node), client.open(node)
    client.lock(node, one, fcntl.F_WRLCK, owner=1, flags=flags)
    waiter = Waiter(client, node, two, flags)
    waiter.join(timeout=0.1)
    assert waiter.result == "waits"
    client.close(node, one, owner=1)
    assert waiter.ends() == "locked"


def test_who_waits_for_a_process_of_the_host_gets_the_lock_when_it_is_gone(client: Client, source: Path) -> None:
    script = (
        f"import fcntl\nfile = open({str(source / 'file')!r}, 'r+')\nfcntl.lockf(file, fcntl.LOCK_EX)\nprint()\ninput()"
    )
    node = client.lookup(b"file")
    with subprocess.Popen(
        [sys.executable, "-uc", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as host:
        assert host.stdout is not None
        host.stdout.readline()
        waiter = Waiter(client, node, client.open(node))
        waiter.join(timeout=0.1)
        assert waiter.result == "waits"
        host.kill()
    assert waiter.ends() == "locked"


def test_who_waits_for_a_lock_can_be_interrupted_and_holds_nothing(client: Client) -> None:
    node = client.lookup(b"file")
    fh = client.open(node)
    client.lock(node, fh, fcntl.F_WRLCK, owner=1)
    waiter = Waiter(client, node, client.open(node))
    waiter.join(timeout=0.05)
    waiter.loop.call_soon_threadsafe(lambda: waiter.task.cancel())
    assert waiter.ends() == "interrupted"
    client.lock(node, fh, fcntl.F_UNLCK, owner=1)
    client.lock(node, fh, fcntl.F_WRLCK, owner=2)


def test_the_end_of_the_mount_ends_the_waiting(client: Client) -> None:
    node = client.lookup(b"file")
    client.lock(node, client.open(node), fcntl.F_WRLCK, owner=1)
    waiter = Waiter(client, node, client.open(node))
    waiter.join(timeout=0.05)
    client.session.destroy()
    assert waiter.ends() == errno.ENOTCONN


# -- FUSE passthrough --------------------------------------------------------------------------------------------------


class FakeBacking:
    """What /dev/fuse does with backing ids, or the errno that it fails with."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.ids = itertools.count(1)
        self.live: set[int] = set()

    def backing_open(self, fd: int) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        os.fstat(fd)
        number = next(self.ids)
        self.live.add(number)
        return number

    def backing_close(self, backing_id: int) -> None:
        self.live.remove(backing_id)


def opened(client: Client, nodeid: int) -> Any:
    return client.ask(Opcode.OPEN, nodeid, L.OpenIn(os.O_RDWR)).structs[0]


def test_all_opens_of_an_inode_share_one_backing_id_until_the_last_is_released(client: Client) -> None:
    client.session.backing = backing = FakeBacking()
    node = client.lookup(b"file")
    one, two = opened(client, node), opened(client, node)
    assert one.open_flags == two.open_flags == FOpenFlag.PASSTHROUGH
    assert one.backing_id == two.backing_id == 1
    client.close(node, one.fh)
    assert backing.live == {1}
    client.close(node, two.fh)
    assert backing.live == set()
    assert opened(client, node).backing_id == 2


def test_an_inode_that_is_open_without_passthrough_stays_so(client: Client) -> None:
    client.session.backing = backing = FakeBacking(errno.ELOOP)
    node = client.lookup(b"file")
    one = opened(client, node)
    assert one.open_flags == 0
    backing.error = 0
    two = opened(client, node)
    assert two.open_flags == 0
    client.close(node, one.fh)
    client.close(node, two.fh)
    assert opened(client, node).open_flags == FOpenFlag.PASSTHROUGH


def test_the_log_says_once_why_reads_and_writes_are_ordinary(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fusewire.passthrough")
    client.session.backing = FakeBacking(errno.EPERM)
    node = client.lookup(b"file")
    assert opened(client, node).open_flags == 0
    opened(client, client.create(b"other")[0])
    assert [record.message for record in caplog.records if record.name == "fusewire.passthrough"] == [
        "ordinary reads and writes, no FUSE passthrough: [Errno 1] Operation not permitted"
    ]


def test_the_log_says_that_reads_and_writes_are_passed_through(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fusewire.passthrough")
    client.session.backing = FakeBacking()
    opened(client, client.lookup(b"file"))
    opened(client, client.create(b"other")[0])
    assert caplog.text.count("FUSE passthrough") == 1


def test_a_kernel_without_passthrough_gets_ordinary_opens(source: Path) -> None:
    client = Client(PassthroughFS(source), InitFlag((1 << 44) - 1) & ~InitFlag.PASSTHROUGH)
    client.session.backing = FakeBacking()
    assert opened(client, client.lookup(b"file")).open_flags == 0
    client.session.destroy()
