"""The memory filesystem, message by message: what each request does and what its answer says."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import queue
import stat
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fusewire import Kernel, Session, Settings
from fusewire.daemon import Lock
from fusewire.daemon.session import Later
from fusewire.filesystems import MemoryFS
from fusewire.filesystems.memory import directories
from fusewire.transport.eventloop import EventLoop
from fusewire.wire import layouts as L
from fusewire.wire import posix_acl as acl
from fusewire.wire.codec import (
    Message,
    decode_out_header,
    decode_reply,
    encode_request,
    iter_direntplus,
    iter_dirents,
)
from fusewire.wire.flags import FAttr, InitFlag, LkFlag, Opcode, ReleaseFlag, WriteFlag
from fusewire.wire.table import OPERATIONS

PAGE = 4096
END = (1 << 63) - 1
RDLCK, WRLCK, UNLCK = 0, 1, 2
NOW = FAttr.ATIME | FAttr.ATIME_NOW


class Client:
    """Asks a MemoryFS as the kernel does. ``uid``, ``gid``, ``umask``: whoever asks."""

    def __init__(self, filesystem: MemoryFS) -> None:
        self.filesystem = filesystem
        self.session = Session(filesystem)
        self.loop = EventLoop()
        self.uid = self.gid = self.umask = 0
        self.uniques = itertools.count(2, 2)
        offered = 0x73FFFFFB  # Linux 6.18's
        self.init = self.ask(Opcode.INIT, 0, L.InitIn(7, 45, 1 << 17, offered, 0)).structs[0]

    def ask(
        self, opcode: Opcode, node: int, *structs: Any, names: tuple[bytes, ...] = (), data: bytes = b"", unique: int = 0
    ) -> Message:  # fmt: skip
        unique = unique or next(self.uniques)
        message = Message(structs, names, data=data)
        dialect = self.session.dialect
        who = {"uid": self.uid, "gid": self.gid, "pid": 1}
        request = encode_request(opcode, message, unique=unique, nodeid=node, dialect=dialect, **who)
        reply = b"".join(self._answer(request))
        error = -decode_out_header(reply).error
        if error:
            raise OSError(error, os.strerror(error))
        probe = OPERATIONS[opcode].probe is not None and structs[0].size == 0
        return decode_reply(opcode, reply, probe=probe, dialect=dialect)[1]

    def _answer(self, request: bytes) -> tuple[Any, ...]:
        answer = self.session.handle(request)
        if not isinstance(answer, Later):
            assert isinstance(answer, tuple)
            return answer
        done: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.loop.start(answer, done.put)
        return done.get(timeout=20)

    # -- names ----------------------------------------------------------------------------------------------------

    def lookup(self, name: bytes, parent: int = 1) -> L.Attr:
        return self.ask(Opcode.LOOKUP, parent, names=(name,)).structs[0].attr

    def create(self, name: bytes, mode: int = 0o644, parent: int = 1) -> L.Attr:
        asked = L.CreateIn(os.O_RDWR, stat.S_IFREG | mode, self.umask)
        return self.ask(Opcode.CREATE, parent, asked, names=(name,)).structs[0].attr

    def mkdir(self, name: bytes, mode: int = 0o755, parent: int = 1) -> L.Attr:
        return self.ask(Opcode.MKDIR, parent, L.MkdirIn(mode, self.umask), names=(name,)).structs[0].attr

    def mknod(self, name: bytes, mode: int, rdev: int = 0) -> L.Attr:
        return self.ask(Opcode.MKNOD, 1, L.MknodIn(mode, rdev, self.umask), names=(name,)).structs[0].attr

    def link(self, ino: int, name: bytes, parent: int = 1) -> L.Attr:
        return self.ask(Opcode.LINK, parent, L.LinkIn(ino), names=(name,)).structs[0].attr

    def unlink(self, name: bytes, parent: int = 1) -> None:
        self.ask(Opcode.UNLINK, parent, names=(name,))

    def rename(self, old: bytes, new: bytes, flags: int = 0, parent: int = 1, newparent: int = 1) -> None:
        self.ask(Opcode.RENAME2, parent, L.Rename2In(newparent, flags), names=(old, new))

    def forget(self, ino: int, nlookup: int = 1) -> None:
        request = encode_request(Opcode.FORGET, Message((L.ForgetIn(nlookup),)), nodeid=ino)
        assert self.session.handle(request) is None

    def listdir(self, ino: int = 1, offset: int = 0, size: int = 4096) -> list[tuple[bytes, int]]:
        """Names with their cookies, of one READDIR."""
        data = self.ask(Opcode.READDIR, ino, L.ReadIn(0, offset, size)).data
        return [(name, dirent.off) for name, dirent in iter_dirents(data)]

    # -- contents and attributes ------------------------------------------------------------------------------------

    def read(self, ino: int, offset: int = 0, size: int = 1 << 20) -> bytes:
        return self.ask(Opcode.READ, ino, L.ReadIn(0, offset, size)).data

    def write(self, ino: int, data: bytes, offset: int = 0, flags: int = 0) -> int:
        asked = L.WriteIn(0, offset, len(data), flags)
        return int(self.ask(Opcode.WRITE, ino, asked, data=data).structs[0].size)

    def fallocate(self, ino: int, mode: int, offset: int, length: int) -> None:
        self.ask(Opcode.FALLOCATE, ino, L.FallocateIn(0, offset, length, mode))

    def lseek(self, ino: int, offset: int, whence: int) -> int:
        return int(self.ask(Opcode.LSEEK, ino, L.LseekIn(0, offset, whence)).structs[0].offset)

    def stat(self, ino: int) -> L.Attr:
        return self.ask(Opcode.GETATTR, ino, L.GetattrIn()).structs[0].attr

    def setattr(self, ino: int, **changes: int) -> L.Attr:
        valid = FAttr(changes.pop("valid", 0))
        for field in changes:
            valid |= FAttr[field.upper()]
        return self.ask(Opcode.SETATTR, ino, L.SetattrIn(valid=valid, **changes)).structs[0].attr

    # -- extended attributes ----------------------------------------------------------------------------------------

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
        self.ask(Opcode.SETXATTR, ino, L.SetxattrIn(len(value), flags), names=(name,), data=value)

    def getxattr(self, ino: int, name: bytes) -> bytes:
        return self.ask(Opcode.GETXATTR, ino, L.GetxattrIn(65536), names=(name,)).data

    def listxattr(self, ino: int) -> list[bytes]:
        return self.ask(Opcode.LISTXATTR, ino, L.GetxattrIn(65536)).data.split(b"\0")[:-1]

    # -- locks ----------------------------------------------------------------------------------------------------

    def lock(
        self, ino: int, owner: int, start: int, end: int, kind: int, *, wait: bool = False, flock: bool = False, unique: int = 0
    ) -> None:  # fmt: skip
        asked = L.LkIn(0, owner, L.FileLock(start, end, kind, owner), LkFlag.FLOCK if flock else 0)
        self.ask(Opcode.SETLKW if wait else Opcode.SETLK, ino, asked, unique=unique)

    def in_the_way(self, ino: int, owner: int, start: int, end: int, kind: int = WRLCK) -> tuple[int, int, int]:
        """F_GETLK: start, end and type of a lock in the way."""
        found = self.ask(Opcode.GETLK, ino, L.LkIn(0, owner, L.FileLock(start, end, kind, owner))).structs[0].lk
        return found.start, found.end, found.type

    def interrupt(self, unique: int) -> None:
        request = encode_request(Opcode.INTERRUPT, Message((L.InterruptIn(unique),)), unique=unique + 1)
        self.session.handle(request)


@pytest.fixture
def client() -> Client:
    return Client(MemoryFS())


@pytest.fixture
def small() -> Client:
    """Room for four pages."""
    return Client(MemoryFS(size=4 * PAGE))


def fails(number: int) -> Any:
    return pytest.raises(OSError, match=os.strerror(number).replace("(", r"\(").replace(")", r"\)"))


def perms(attr: L.Attr) -> int:
    return stat.S_IMODE(attr.mode)


# -- making things -------------------------------------------------------------------------------------------------


def test_what_is_made_belongs_to_the_caller(client: Client) -> None:
    client.uid, client.gid = 1000, 2000
    for attr in (client.create(b"f"), client.mkdir(b"d"), client.mknod(b"p", stat.S_IFIFO | 0o600)):
        assert (attr.uid, attr.gid) == (1000, 2000)


def test_the_umask_is_applied(client: Client) -> None:
    client.umask = 0o027
    assert perms(client.create(b"f", 0o666)) == 0o640
    assert perms(client.mkdir(b"d", 0o777)) == 0o750


def test_a_setgid_directory_hands_on_its_group_and_to_directories_the_bit(client: Client) -> None:
    parent = client.mkdir(b"d").ino
    client.setattr(parent, gid=50, mode=0o2775)
    assert client.create(b"f", parent=parent).gid == 50
    below = client.mkdir(b"d", parent=parent)
    assert (below.gid, below.mode & stat.S_ISGID) == (50, stat.S_ISGID)
    link = client.ask(Opcode.SYMLINK, parent, names=(b"l", b"f")).structs[0].attr
    assert link.gid == 50


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_mknod_makes_every_type(client: Client, kind: int) -> None:
    attr = client.mknod(b"n", kind | 0o600, 0x103 if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)
    assert attr.mode == kind | 0o600
    assert attr.rdev == (0x103 if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)


def test_a_symlink_is_read_back(client: Client) -> None:
    attr = client.ask(Opcode.SYMLINK, 1, names=(b"l", b"to/where")).structs[0].attr
    assert (stat.S_ISLNK(attr.mode), attr.size) == (True, 8)
    assert client.ask(Opcode.READLINK, attr.ino).data == b"to/where"


def test_a_name_may_have_255_bytes_and_no_more(client: Client) -> None:
    client.create(b"n" * 255)
    for call in (client.create, client.lookup, client.mkdir):
        with fails(errno.ENAMETOOLONG):
            call(b"n" * 256)
    with fails(errno.ENAMETOOLONG):
        client.rename(b"n" * 255, b"n" * 256)


def test_nothing_is_made_in_a_removed_directory(client: Client) -> None:
    parent = client.mkdir(b"d").ino
    client.ask(Opcode.RMDIR, 1, names=(b"d",))
    with fails(errno.ENOENT):
        client.create(b"f", parent=parent)


# -- links and lives -------------------------------------------------------------------------------------------------


def test_hard_links_are_one_file(client: Client) -> None:
    ino = client.create(b"a").ino
    assert (client.link(ino, b"b").ino, client.stat(ino).nlink) == (ino, 2)
    client.unlink(b"a")
    assert (client.lookup(b"b").ino, client.stat(ino).nlink) == (ino, 1)


def test_an_open_file_lives_on_without_a_name_until_it_is_forgotten(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"data")
    client.unlink(b"f")
    assert client.read(ino) == b"data"
    assert client.stat(ino).nlink == 0
    client.forget(ino)
    assert list(client.filesystem.nodes) == [1]
    with fails(errno.ESTALE):
        client.stat(ino)


def test_an_unlinked_file_gets_no_new_name(client: Client) -> None:
    ino = client.create(b"f").ino
    client.unlink(b"f")
    with fails(errno.ENOENT):
        client.link(ino, b"g")


def test_a_tmpfile_has_no_name_and_may_be_given_one(client: Client) -> None:
    made = client.ask(Opcode.TMPFILE, 1, L.CreateIn(os.O_RDWR, stat.S_IFREG | 0o600), names=(b"/",))
    attr = made.structs[0].attr
    assert (attr.nlink, client.listdir()[2:]) == (0, [])
    assert client.link(attr.ino, b"named").nlink == 1
    assert client.lookup(b"named").ino == attr.ino


def test_a_tmpfile_made_with_o_excl_gets_no_name(client: Client) -> None:
    asked = L.CreateIn(os.O_RDWR | os.O_EXCL, stat.S_IFREG | 0o600)
    ino = client.ask(Opcode.TMPFILE, 1, asked, names=(b"/",)).structs[0].attr.ino
    with fails(errno.ENOENT):
        client.link(ino, b"named")


def test_a_directory_counts_itself_its_name_and_its_subdirectories(client: Client) -> None:
    ino = client.mkdir(b"d").ino
    client.mkdir(b"below", parent=ino)
    assert (client.stat(ino).nlink, client.stat(1).nlink) == (3, 3)
    client.rename(b"below", b"above", parent=ino)
    assert (client.stat(ino).nlink, client.stat(1).nlink) == (2, 4)


def test_a_directory_gets_no_second_name(client: Client) -> None:
    with fails(errno.EPERM):
        client.link(client.mkdir(b"d").ino, b"e")


def test_a_file_handle_finds_its_directory_and_its_parent(client: Client) -> None:
    ino = client.mkdir(b"d").ino
    assert (client.lookup(b".", ino).ino, client.lookup(b"..", ino).ino) == (ino, 1)


def test_a_file_handle_finds_a_file_that_the_kernel_has_forgotten(client: Client) -> None:
    ino = client.create(b"f").ino
    client.forget(ino)
    assert client.lookup(b".", ino).ino == ino
    assert client.filesystem.nodes[ino].nlookup == 1
    with fails(errno.ESTALE):
        client.lookup(b".", ino + 1)
    with fails(errno.ENOTDIR):
        client.lookup(b"name", ino)


# -- renaming --------------------------------------------------------------------------------------------------------


def test_rename_replaces_what_is_there(client: Client) -> None:
    one, other = client.create(b"a").ino, client.create(b"b").ino
    client.rename(b"a", b"b")
    assert client.lookup(b"b").ino == one
    assert client.stat(other).nlink == 0
    with fails(errno.ENOENT):
        client.lookup(b"a")


def test_renaming_one_name_of_a_file_over_another_does_nothing(client: Client) -> None:
    ino = client.create(b"a").ino
    client.link(ino, b"b")
    client.rename(b"a", b"b")
    assert (client.lookup(b"a").ino, client.lookup(b"b").ino, client.stat(ino).nlink) == (ino, ino, 2)


def test_noreplace_keeps_what_is_there(client: Client) -> None:
    client.create(b"a")
    other = client.create(b"b").ino
    with fails(errno.EEXIST):
        client.rename(b"a", b"b", 1)
    client.rename(b"a", b"c", 1)
    assert client.lookup(b"b").ino == other


def test_exchange_swaps_a_file_and_a_directory_of_different_parents(client: Client) -> None:
    parent = client.mkdir(b"d").ino
    file, inner = client.create(b"f").ino, client.mkdir(b"inner", parent=parent).ino
    client.rename(b"f", b"inner", 2, newparent=parent)
    assert (client.lookup(b"f").ino, client.lookup(b"inner", parent).ino) == (inner, file)
    assert client.lookup(b"..", inner).ino == 1
    assert (client.stat(1).nlink, client.stat(parent).nlink) == (4, 2)


def test_exchange_needs_both_names(client: Client) -> None:
    client.create(b"a")
    with fails(errno.ENOENT):
        client.rename(b"a", b"b", 2)


def test_whiteout_leaves_a_device_0_0(client: Client) -> None:
    ino = client.create(b"a").ino
    client.rename(b"a", b"b", 4)
    left = client.lookup(b"a")
    assert (left.mode, left.rdev) == (stat.S_IFCHR, 0)
    assert client.lookup(b"b").ino == ino


def test_a_whiteout_inherits_as_what_is_made_does(client: Client) -> None:
    client.create(b"a")
    client.setattr(1, mode=0o2777, gid=54321)
    client.setxattr(1, acl.DEFAULT, make_acl(7, 5, 1, 6, (1000, 7)))
    client.rename(b"a", b"b", 4)
    left = client.lookup(b"a")
    assert (left.gid, perms(left)) == (54321, 0)
    assert client.getxattr(left.ino, acl.ACCESS) == make_acl(0, 5, 0, 0, (1000, 7))


@pytest.mark.parametrize("flags", [2 | 1, 2 | 4, 8])
def test_flags_that_contradict_or_are_unknown_are_refused(client: Client, flags: int) -> None:
    client.create(b"a")
    client.create(b"b")
    with fails(errno.EINVAL):
        client.rename(b"a", b"b", flags)


def test_a_directory_does_not_move_into_itself(client: Client) -> None:
    ino = client.mkdir(b"d").ino
    below = client.mkdir(b"e", parent=ino).ino
    for flags in (0, 1):
        with fails(errno.EINVAL):
            client.rename(b"d", b"x", flags, newparent=below)


def test_rename_minds_types_and_contents(client: Client) -> None:
    full = client.mkdir(b"full").ino
    client.create(b"f", parent=full)
    client.mkdir(b"empty")
    client.create(b"file")
    for old, new, number in (
        (b"empty", b"full", errno.ENOTEMPTY),
        (b"file", b"empty", errno.EISDIR),
        (b"empty", b"file", errno.ENOTDIR),
    ):
        with fails(number):
            client.rename(old, new)
    client.rename(b"full", b"empty")
    assert client.lookup(b"empty").ino == full


# -- directories -----------------------------------------------------------------------------------------------------


def names(entries: list[tuple[bytes, int]]) -> list[bytes]:
    return [name for name, _ in entries if name not in (b".", b"..")]


def everything(client: Client, between: Callable[[], None] = lambda: None, size: int = 512) -> list[bytes]:
    """All names, piece by piece; ``between`` runs after each piece."""
    found: list[bytes] = []
    offset = 0
    while piece := client.listdir(offset=offset, size=size):
        found += names(piece)
        offset = piece[-1][1]
        between()
    return found


def test_a_listing_goes_on_where_it_was(client: Client) -> None:
    made = [b"%04d" % number for number in range(500)]
    for name in made:
        client.create(name)
    assert everything(client) == made


def test_names_that_stay_are_listed_once_whatever_comes_and_goes(client: Client) -> None:
    stays = [b"stays%03d" % number for number in range(100)]
    goes = [b"goes%03d" % number for number in range(300)]
    for number in range(100):
        client.create(stays[number])
        for name in goes[number * 3 : number * 3 + 3]:
            client.create(name)
    come = [b"new%d" % number for number in range(30)]

    def change() -> None:
        for _ in range(10):
            if goes:
                client.unlink(goes.pop(len(goes) // 2))
        if come:
            client.create(come.pop())

    found = everything(client, change)
    assert [name for name in found if name.startswith(b"stays")] == stays
    assert len(set(found)) == len(found)


def test_a_name_that_is_replaced_keeps_its_place(client: Client) -> None:
    for name in (b"a", b"b", b"c", b"x"):
        client.create(name)
    first = client.listdir(size=96)  # ".", ".." and "a"
    client.rename(b"x", b"b")
    assert names(first) == [b"a"]
    assert names(client.listdir(offset=first[-1][1])) == [b"b", b"c"]


def test_a_removed_directory_is_emptied_while_it_is_listed(client: Client) -> None:
    for number in range(400):
        client.create(b"%d" % number)
    offset, left = 0, 400
    while piece := client.listdir(offset=offset):
        for name in names(piece):
            client.unlink(name)
            left -= 1
        offset = piece[-1][1]
    assert left == 0


def test_readdirplus_grants_what_fits_and_no_more(client: Client) -> None:
    for number in range(40):
        client.forget(client.create(b"%d" % number).ino)
    data = client.ask(Opcode.READDIRPLUS, 1, L.ReadIn(0, 0, 2048)).data
    told = [entry.nodeid for _, _, entry in iter_direntplus(data)]
    granted = {ino for ino, node in client.filesystem.nodes.items() if node.nlookup}
    assert told[:2] == [0, 0]  # "." and ".." grant nothing
    assert granted == set(told[2:])
    assert 0 < len(granted) < 40


def test_listing_does_not_slow_down_with_the_place() -> None:
    """Each READDIR of a large directory looks at what it answers, not at what lies before it."""
    client = Client(MemoryFS({f"{number:06}": b"" for number in range(20_000)}))
    assert len(everything(client, size=4096)) == 20_000
    directory = client.filesystem.nodes[1]
    listing = directory._listing  # type: ignore[attr-defined]
    client.listdir(offset=15_000)
    assert directory._listing is listing  # type: ignore[attr-defined]


# -- contents --------------------------------------------------------------------------------------------------------


def test_any_writes_give_what_a_plain_buffer_would_hold(client: Client) -> None:
    import random

    chance = random.Random(1)
    ino = client.create(b"f").ino
    model = bytearray()
    for _ in range(300):
        offset, length = chance.randrange(40_000), chance.choice([1, 10, 4096, 5000, 20_000])
        match chance.randrange(6):
            case 0:
                client.setattr(ino, size=offset)
                model[:] = model[:offset].ljust(offset, b"\0")
            case 1:
                client.fallocate(ino, 2 | 1, offset, length)
                end = min(len(model), offset + length)
                model[offset:end] = bytes(max(0, end - offset))
            case 2:
                client.fallocate(ino, 16, offset, length)
                model = model.ljust(offset + length, b"\0")
                model[offset : offset + length] = bytes(length)
            case 3:
                client.fallocate(ino, 0, offset, length)
                model = model.ljust(offset + length, b"\0")
            case _:
                data = chance.randbytes(length)
                assert client.write(ino, data, offset) == length
                model = model.ljust(offset, b"\0")
                model[offset : offset + length] = data
        assert client.stat(ino).size == len(model)
        assert client.read(ino) == model
    pages = client.filesystem._space.used
    assert client.stat(ino).blocks == pages * 8
    client.unlink(b"f")
    client.forget(ino)
    assert client.filesystem._space.used == 0


def test_a_sparse_file_takes_no_memory_for_its_holes(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setattr(ino, size=4 << 30)
    client.write(ino, b"end", (4 << 30) - 3)
    attr = client.stat(ino)
    assert (attr.size, attr.blocks) == (4 << 30, 8)
    assert client.read(ino, 1 << 30, 100) == bytes(100)


def test_data_and_holes_are_found(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"x", 10 * PAGE)
    client.write(ino, b"x", 1000 * PAGE)
    client.setattr(ino, size=2000 * PAGE)
    assert client.lseek(ino, 0, 3) == 10 * PAGE
    assert client.lseek(ino, 10 * PAGE + 5, 3) == 10 * PAGE + 5
    assert client.lseek(ino, 11 * PAGE, 3) == 1000 * PAGE
    assert client.lseek(ino, 5, 4) == 5
    assert client.lseek(ino, 10 * PAGE, 4) == 11 * PAGE
    for offset, whence in ((1001 * PAGE, 3), (2000 * PAGE, 3), (2000 * PAGE, 4)):
        with fails(errno.ENXIO):
            client.lseek(ino, offset, whence)


def test_the_end_of_a_file_without_holes_is_a_hole(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"x" * 5000)
    assert client.lseek(ino, 0, 4) == 5000


def test_a_punched_hole_gives_its_pages_back_and_keeps_the_size(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"x" * 4 * PAGE)
    client.fallocate(ino, 2 | 1, PAGE, 2 * PAGE)
    attr = client.stat(ino)
    assert (attr.size, attr.blocks) == (4 * PAGE, 16)
    assert client.read(ino) == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE


def test_fallocate_keep_size_reserves_behind_the_end(client: Client) -> None:
    ino = client.create(b"f").ino
    client.fallocate(ino, 1, 0, 3 * PAGE)
    assert (client.stat(ino).size, client.stat(ino).blocks) == (0, 24)
    client.setattr(ino, size=0)
    assert client.stat(ino).blocks == 0


def test_a_zeroed_range_stays_allocated(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"x" * 2 * PAGE)
    client.fallocate(ino, 16 | 1, 0, 4 * PAGE)
    assert (client.stat(ino).size, client.stat(ino).blocks) == (2 * PAGE, 32)
    assert client.read(ino) == bytes(2 * PAGE)
    client.fallocate(ino, 16, 0, 4 * PAGE)
    assert client.stat(ino).size == 4 * PAGE


@pytest.mark.parametrize("mode", [2, 8 | 1, 8, 32, 64, 4])
def test_other_modes_of_fallocate_are_not_supported(client: Client, mode: int) -> None:
    with fails(errno.EOPNOTSUPP):
        client.fallocate(client.create(b"f").ino, mode, 0, PAGE)


def test_what_was_cut_off_does_not_come_back(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"secret")
    client.setattr(ino, size=2)
    client.setattr(ino, size=6)
    assert client.read(ino) == b"se\0\0\0\0"


def test_a_range_is_copied(client: Client) -> None:
    one, other = client.create(b"a").ino, client.create(b"b").ino
    client.write(one, b"0123456789")
    asked = L.CopyFileRangeIn(0, 2, other, 0, 5000, 100)
    assert client.ask(Opcode.COPY_FILE_RANGE, one, asked).structs[0].size == 8
    assert client.read(other) == bytes(5000) + b"23456789"


def test_o_trunc_empties_a_file_as_it_is_opened(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"data")
    client.ask(Opcode.OPEN, ino, L.OpenIn(os.O_WRONLY | os.O_TRUNC))
    assert client.stat(ino).size == 0


# -- the size limit --------------------------------------------------------------------------------------------------


def test_a_full_filesystem_takes_what_fits_and_then_nothing(small: Client) -> None:
    ino = small.create(b"f").ino
    assert small.write(ino, b"x" * 10 * PAGE) == 4 * PAGE
    with fails(errno.ENOSPC):
        small.write(ino, b"x", 4 * PAGE)
    assert small.write(ino, b"y" * PAGE, PAGE) == PAGE  # what is there can be written over


def test_removing_makes_room(small: Client) -> None:
    ino = small.create(b"f").ino
    small.write(ino, b"x" * 4 * PAGE)
    small.unlink(b"f")
    with fails(errno.ENOSPC):
        small.write(small.create(b"g").ino, b"x")
    small.forget(ino)
    assert small.write(small.lookup(b"g").ino, b"x") == 1


def test_fallocate_takes_all_or_nothing(small: Client) -> None:
    ino = small.create(b"f").ino
    with fails(errno.ENOSPC):
        small.fallocate(ino, 0, 0, 1 << 50)
    assert (small.stat(ino).size, small.stat(ino).blocks) == (0, 0)
    small.fallocate(ino, 0, 0, 4 * PAGE)
    assert small.write(ino, b"x" * 4 * PAGE) == 4 * PAGE


def until_full(make: Callable[[int], object]) -> int:
    """How many could be made."""
    for number in itertools.count():
        try:
            make(number)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return number
        assert number < 20_000, "it is never full"
    raise AssertionError


def free_inodes(client: Client) -> int:
    return int(client.ask(Opcode.STATFS, 1).structs[0].st.ffree)


def test_as_many_files_can_be_made_as_statfs_says(small: Client) -> None:
    free = free_inodes(small)
    assert until_full(lambda number: small.create(b"%d" % number)) == free
    assert free_inodes(small) == 0
    small.unlink(b"0")
    assert free_inodes(small) == 0  # the kernel still has it
    small.forget(2)
    small.mkdir(b"d")


def test_a_name_counts_without_an_inode_too(small: Client) -> None:
    free, ino = free_inodes(small), small.create(b"f").ino
    assert until_full(lambda number: small.link(ino, b"%d" % number)) < free * 4
    small.rename(b"f", b"renamed")  # takes nothing
    small.rename(b"renamed", b"0")  # the same file: nothing happens
    small.unlink(b"renamed")
    small.link(ino, b"again")


def test_where_symbolic_links_lead_counts(small: Client) -> None:
    target = b"x" * 4000
    made = until_full(lambda number: small.ask(Opcode.SYMLINK, 1, names=(b"%d" % number, target)))
    assert made * len(target) < 1 << 20


def test_extended_attributes_count_until_they_are_removed(small: Client) -> None:
    ino, value = small.create(b"f").ino, bytes(60_000)
    made = until_full(lambda number: small.setxattr(ino, b"user.%d" % number, value))
    assert 10 < made < 20
    small.setxattr(ino, b"user.0", value)  # takes the place of what is there
    small.ask(Opcode.REMOVEXATTR, ino, names=(b"user.0",))
    small.setxattr(ino, b"user.new", value)


def test_inherited_acls_count(small: Client) -> None:
    users = [(acl.USER, 7, uid) for uid in range(5000)]
    others = [(tag, 7, 0) for tag in (acl.GROUP_OBJ, acl.MASK, acl.OTHER)]
    small.setxattr(1, acl.DEFAULT, acl.pack([(acl.USER_OBJ, 7, 0), *users, *others]))
    assert until_full(lambda number: small.create(b"%d" % number)) < 30


def test_nothing_is_left_of_the_limit_when_all_is_gone(client: Client) -> None:
    before = client.filesystem._metadata.used
    one, other = client.create(b"one").ino, client.create(b"other").ino
    client.setxattr(one, b"user.a", b"value")
    client.setxattr(one, b"user.a", b"another value")
    client.setxattr(other, b"security.capability", bytes(20))
    client.write(other, b"which is dropped now")
    client.link(one, b"link")
    client.rename(b"link", b"other")
    client.rename(b"one", b"moved", flags=4)  # RENAME_WHITEOUT
    for name in (b"one", b"other", b"moved"):
        client.unlink(name)
    client.forget(one, 2)
    client.forget(other)
    assert client.filesystem._metadata.used == before
    assert list(client.filesystem.nodes) == [1]


def test_what_is_there_from_the_start_fits_or_is_refused() -> None:
    with pytest.raises(OSError, match="large does not fit"):
        MemoryFS({"large": bytes(3 * PAGE)}, size=2 * PAGE)


def test_statfs_shows_the_limit_and_what_is_left(small: Client) -> None:
    small.write(small.create(b"f").ino, b"x")
    shown = small.ask(Opcode.STATFS, 1).structs[0].st
    assert (shown.blocks, shown.bfree, shown.frsize, shown.namelen) == (4, 3, PAGE, 255)


# -- attributes --------------------------------------------------------------------------------------------------------


def test_times_are_kept_to_the_nanosecond_and_before_1970(client: Client) -> None:
    ino = client.create(b"f").ino
    asked = L.SetattrIn(valid=FAttr.MTIME | FAttr.ATIME, mtime=2**64 - 5, mtimensec=123456789, atime=7, atimensec=1)
    attr = client.ask(Opcode.SETATTR, ino, asked).structs[0].attr
    assert (attr.mtime, attr.mtimensec, attr.atime, attr.atimensec) == (2**64 - 5, 123456789, 7, 1)


def test_setting_one_time_leaves_the_other(client: Client) -> None:
    ino = client.create(b"f").ino
    before = client.stat(ino)
    after = client.ask(Opcode.SETATTR, ino, L.SetattrIn(valid=NOW)).structs[0].attr
    assert (after.mtime, after.mtimensec) == (before.mtime, before.mtimensec)
    assert (after.atime, after.atimensec) > (before.atime, before.atimensec)


def test_statx_tells_the_time_of_birth(client: Client) -> None:
    ino = client.create(b"f").ino
    born = client.stat(ino)
    client.write(ino, b"x")
    shown = client.ask(Opcode.STATX, ino, L.StatxIn(sx_mask=0xFFF)).structs[0].stat
    assert (shown.btime.tv_sec, shown.btime.tv_nsec) == (born.mtime, born.mtimensec)
    assert (shown.size, shown.mask & 0x800) == (1, 0x800)


def test_reading_sets_the_access_time_once_after_a_change(client: Client) -> None:
    ino = client.create(b"f").ino
    client.write(ino, b"x")
    client.read(ino)
    first = client.stat(ino)
    assert (first.atime, first.atimensec) > (first.mtime, first.mtimensec)
    client.read(ino)
    assert client.stat(ino) == first


def test_o_noatime_leaves_the_access_time(client: Client) -> None:
    ino = client.create(b"f").ino
    before = client.stat(ino)
    client.ask(Opcode.READ, ino, L.ReadIn(0, 0, 10, flags=os.O_NOATIME))
    assert client.stat(ino) == before


def test_a_new_owner_takes_the_set_id_bits_and_capabilities_away(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setattr(ino, mode=0o6755)
    client.setxattr(ino, b"security.capability", b"caps")
    assert perms(client.setattr(ino, uid=5)) == 0o755
    assert client.listxattr(ino) == []


def test_a_directory_keeps_its_setgid_bit_under_a_new_owner(client: Client) -> None:
    ino = client.mkdir(b"d").ino
    client.setattr(ino, mode=0o2755)
    assert perms(client.setattr(ino, uid=5)) == 0o2755


def test_a_write_takes_set_id_bits_away_when_the_kernel_says_so(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setattr(ino, mode=0o6755)
    client.write(ino, b"x")
    assert perms(client.stat(ino)) == 0o6755
    client.write(ino, b"x", flags=WriteFlag.KILL_SUIDGID)
    assert perms(client.stat(ino)) == 0o755


def test_setgid_without_group_execution_survives_a_write(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setattr(ino, mode=0o6745)
    client.write(ino, b"x", flags=WriteFlag.KILL_SUIDGID)
    assert perms(client.stat(ino)) == 0o2745


def test_a_write_takes_capabilities_away_in_any_case(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setxattr(ino, b"security.capability", b"caps")
    client.write(ino, b"x")
    assert client.listxattr(ino) == []


def test_chmod_by_another_group_loses_setgid_where_the_kernel_does_not_see_to_it() -> None:
    class Unchecked(MemoryFS):
        settings = Settings(refused=InitFlag.POSIX_ACL)

    with Kernel() as kernel:
        kernel.mount(Unchecked({"f": b""}), "/")
        owner = kernel.process("chmod", uid=os.getuid() + 1000, gid=4321)
        owner.chmod("/f", 0o2755)
        assert stat.S_IMODE(owner.stat("/f").st_mode) == 0o755


# -- extended attributes -----------------------------------------------------------------------------------------------


def test_extended_attributes_are_set_listed_and_removed(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setxattr(ino, b"user.a", b"1")
    client.setxattr(ino, b"user.b", b"")
    assert client.listxattr(ino) == [b"user.a", b"user.b"]
    assert (client.getxattr(ino, b"user.a"), client.getxattr(ino, b"user.b")) == (b"1", b"")
    client.ask(Opcode.REMOVEXATTR, ino, names=(b"user.a",))
    assert client.listxattr(ino) == [b"user.b"]


def test_create_and_replace_mind_what_is_there(client: Client) -> None:
    ino = client.create(b"f").ino
    with fails(errno.ENODATA):
        client.setxattr(ino, b"user.a", b"1", 2)
    client.setxattr(ino, b"user.a", b"1", 1)
    with fails(errno.EEXIST):
        client.setxattr(ino, b"user.a", b"2", 1)
    client.setxattr(ino, b"user.a", b"2", 2)
    assert client.getxattr(ino, b"user.a") == b"2"


def test_what_is_not_there_is_enodata(client: Client) -> None:
    ino = client.create(b"f").ino
    with fails(errno.ENODATA):
        client.getxattr(ino, b"user.a")
    with fails(errno.ENODATA):
        client.ask(Opcode.REMOVEXATTR, ino, names=(b"user.a",))


def test_trusted_names_are_listed_to_root_only(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setxattr(ino, b"trusted.a", b"1")
    assert client.listxattr(ino) == [b"trusted.a"]
    client.uid = 1000
    assert client.listxattr(ino) == []


# -- ACLs ----------------------------------------------------------------------------------------------------------------


def make_acl(user: int, group: int, other: int, mask: int | None = None, *named: tuple[int, int]) -> bytes:
    """``named``: uid and permissions."""
    none = 0xFFFFFFFF
    entries = [
        (acl.USER_OBJ, user, none),
        *((acl.USER, bits, uid) for uid, bits in named),
        (acl.GROUP_OBJ, group, none),
    ]
    if mask is not None:
        entries.append((acl.MASK, mask, none))
    return acl.pack([*entries, (acl.OTHER, other, none)])


def test_the_mode_shows_the_access_acl(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setxattr(ino, acl.ACCESS, make_acl(7, 5, 1, 6, (1000, 7)))
    assert perms(client.stat(ino)) == 0o761
    assert client.listxattr(ino) == [acl.ACCESS]


def test_an_acl_that_says_what_the_mode_says_is_not_kept(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setxattr(ino, acl.ACCESS, make_acl(7, 5, 1, 6, (1000, 7)))
    client.setxattr(ino, acl.ACCESS, make_acl(6, 4, 0))
    assert (perms(client.stat(ino)), client.listxattr(ino)) == (0o640, [])


def test_chmod_sets_the_mask_of_the_acl(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setxattr(ino, acl.ACCESS, make_acl(7, 5, 1, 6, (1000, 7)))
    client.setattr(ino, mode=0o640)
    assert client.getxattr(ino, acl.ACCESS) == make_acl(6, 5, 0, 4, (1000, 7))


def test_a_default_acl_is_inherited_and_stands_in_for_the_umask(client: Client) -> None:
    default = make_acl(7, 7, 5, 7, (1000, 7))
    parent = client.mkdir(b"d").ino
    client.setxattr(parent, acl.DEFAULT, default)
    client.umask = 0o077
    file = client.create(b"f", 0o664, parent)
    assert perms(file) == 0o664
    assert client.getxattr(file.ino, acl.ACCESS) == make_acl(6, 7, 4, 6, (1000, 7))
    below = client.mkdir(b"d", 0o777, parent)
    assert perms(below) == 0o775
    assert client.getxattr(below.ino, acl.DEFAULT) == default


def test_a_minimal_default_acl_leaves_no_access_acl(client: Client) -> None:
    parent = client.mkdir(b"d").ino
    client.setxattr(parent, acl.DEFAULT, make_acl(7, 5, 0))
    file = client.create(b"f", 0o666, parent)
    assert (perms(file), client.listxattr(file.ino)) == (0o640, [])


def test_setting_an_acl_loses_the_setgid_bit_of_another_group(client: Client) -> None:
    ino = client.create(b"f").ino
    client.setattr(ino, mode=0o2755, uid=1000, gid=54321)
    client.setattr(ino, mode=0o2755)
    client.uid = client.gid = 1000
    client.setxattr(ino, acl.ACCESS, make_acl(7, 5, 5))
    assert perms(client.stat(ino)) == 0o755


def test_removing_an_acl_where_there_is_none_is_done_already(client: Client) -> None:
    ino = client.create(b"f").ino
    before = client.stat(ino)
    client.ask(Opcode.REMOVEXATTR, ino, names=(acl.ACCESS,))
    assert client.stat(ino) == before


@pytest.mark.parametrize(
    "value", [b"", b"\2\0\0", struct.pack("<I", 1), struct.pack("<IHHI", 2, 1, 7, 0), b"\2\0\0\0x"]
)
def test_a_value_that_is_no_acl_is_refused(client: Client, value: bytes) -> None:
    with fails(errno.EINVAL):
        client.setxattr(client.create(b"f").ino, acl.ACCESS, value)


def test_only_directories_have_default_acls(client: Client) -> None:
    with fails(errno.EACCES):
        client.setxattr(client.create(b"f").ino, acl.DEFAULT, make_acl(7, 5, 5))


def test_the_kernel_is_asked_to_check_acls_and_to_leave_the_umask_to_us(client: Client) -> None:
    flags = InitFlag(client.init.flags)
    assert flags & InitFlag.POSIX_ACL
    assert flags & InitFlag.DONT_MASK
    assert flags & InitFlag.HANDLE_KILLPRIV_V2


# -- locks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(client: Client) -> int:
    return client.create(b"f").ino


def test_writers_exclude_all_and_readers_only_writers(client: Client, file: int) -> None:
    client.lock(file, 1, 0, 9, RDLCK)
    client.lock(file, 2, 0, 9, RDLCK)
    with fails(errno.EAGAIN):
        client.lock(file, 3, 9, 20, WRLCK)
    client.lock(file, 3, 10, 20, WRLCK)


def test_getlk_shows_what_is_in_the_way(client: Client, file: int) -> None:
    client.lock(file, 1, 10, 19, WRLCK)
    assert client.in_the_way(file, 2, 0, END) == (10, 19, WRLCK)
    assert client.in_the_way(file, 1, 0, END)[2] == UNLCK
    assert client.in_the_way(file, 2, 20, END)[2] == UNLCK


def test_unlocking_the_middle_splits_a_range(client: Client, file: int) -> None:
    client.lock(file, 1, 0, 99, WRLCK)
    client.lock(file, 1, 40, 59, UNLCK)
    client.lock(file, 2, 40, 59, WRLCK)
    assert client.in_the_way(file, 2, 0, 59) == (0, 39, WRLCK)
    assert client.in_the_way(file, 2, 50, END) == (60, 99, WRLCK)


def test_ranges_that_touch_are_merged(client: Client, file: int) -> None:
    client.lock(file, 1, 0, 9, WRLCK)
    client.lock(file, 1, 20, 29, WRLCK)
    client.lock(file, 1, 10, 19, WRLCK)
    assert client.in_the_way(file, 2, 0, END) == (0, 29, WRLCK)


def test_a_range_of_another_type_replaces_what_it_covers(client: Client, file: int) -> None:
    client.lock(file, 1, 0, 99, WRLCK)
    client.lock(file, 1, 40, 59, RDLCK)
    assert client.in_the_way(file, 2, 40, 59) == (40, 59, RDLCK)
    assert client.in_the_way(file, 2, 40, 59, RDLCK)[2] == UNLCK
    assert client.in_the_way(file, 2, 60, END) == (60, 99, WRLCK)


def test_any_locking_gives_what_a_map_of_bytes_would(client: Client, file: int) -> None:
    import random

    chance = random.Random(2)
    held: dict[int, list[int]] = {owner: [UNLCK] * 50 for owner in (1, 2, 3)}
    for _ in range(2000):
        owner, kind = chance.choice([1, 2, 3]), chance.choice([RDLCK, WRLCK, UNLCK])
        start = chance.randrange(50)
        end = chance.randrange(start, 50)
        others = [held[other][at] for other in held if other != owner for at in range(start, end + 1)]
        refused = WRLCK in others if kind == RDLCK else kind == WRLCK and set(others) != {UNLCK}
        if refused:
            with fails(errno.EAGAIN):
                client.lock(file, owner, start, end, kind)
        else:
            client.lock(file, owner, start, end, kind)
            held[owner][start : end + 1] = [kind] * (end + 1 - start)


def test_closing_any_descriptor_loses_the_locks_of_the_process(client: Client, file: int) -> None:
    client.lock(file, 1, 0, 9, WRLCK)
    client.lock(file, 2, 20, 29, WRLCK)
    client.ask(Opcode.FLUSH, file, L.FlushIn(0, lock_owner=1))
    assert client.in_the_way(file, 3, 0, END) == (20, 29, WRLCK)


def test_the_last_close_loses_what_nothing_else_released(client: Client, file: int) -> None:
    client.lock(file, 77, 0, 9, WRLCK)
    client.ask(Opcode.RELEASE, file, L.ReleaseIn())
    assert client.in_the_way(file, 1, 0, END)[2] == UNLCK


class Waiter:
    """A thread that asks for a lock and waits."""

    def __init__(self, client: Client, *args: int, flock: bool = False) -> None:
        self.client = client
        self.unique = next(client.uniques)
        self.error: OSError | None = None
        self.thread = threading.Thread(target=self._run, args=args, kwargs={"flock": flock}, daemon=True)
        self.thread.start()
        while not self.waits and self.thread.is_alive():
            self.thread.join(0.001)

    @property
    def waits(self) -> bool:
        request = self.client.session.in_flight.get(self.unique)
        return request is not None and request.on_interrupt is not None

    def _run(self, *args: int, flock: bool) -> None:
        try:
            self.client.lock(*args, wait=True, flock=flock, unique=self.unique)
        except OSError as error:
            self.error = error

    def end(self) -> int | None:
        """Wait for it; returns its errno."""
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.error and self.error.errno


@pytest.mark.parametrize("flock", [False, True])
def test_a_waiter_gets_the_lock_when_it_is_given_up(client: Client, file: int, flock: bool) -> None:
    client.lock(file, 1, 0, END, WRLCK, flock=flock)
    waiter = Waiter(client, file, 2, 0, END, WRLCK, flock=flock)
    assert waiter.waits
    client.lock(file, 1, 0, END, UNLCK, flock=flock)
    assert waiter.end() is None
    with fails(errno.EAGAIN):
        client.lock(file, 1, 0, END, RDLCK, flock=flock)


@pytest.mark.parametrize("flock", [False, True])
def test_an_interrupted_waiter_gets_eintr_and_no_lock(client: Client, file: int, flock: bool) -> None:
    client.lock(file, 1, 0, END, WRLCK, flock=flock)
    waiter = Waiter(client, file, 2, 0, END, WRLCK, flock=flock)
    client.interrupt(waiter.unique)
    assert waiter.end() == errno.EINTR
    client.lock(file, 1, 0, END, UNLCK, flock=flock)
    client.lock(file, 3, 0, END, WRLCK, flock=flock)


def test_others_are_served_while_one_waits(client: Client, file: int) -> None:
    client.lock(file, 1, 0, END, WRLCK)
    waiter = Waiter(client, file, 2, 0, END, WRLCK)
    assert client.write(file, b"data") == 4
    client.interrupt(waiter.unique)
    waiter.end()


def test_the_end_of_the_session_ends_all_waiting(client: Client, file: int) -> None:
    client.lock(file, 1, 0, END, WRLCK)
    waiter = Waiter(client, file, 2, 0, END, WRLCK)
    client.session.destroy()
    assert waiter.end() == errno.EINTR


def test_waiting_in_a_circle_is_refused(client: Client, file: int) -> None:
    client.lock(file, 1, 0, 0, WRLCK)
    client.lock(file, 2, 1, 1, WRLCK)
    waiter = Waiter(client, file, 1, 1, 1, WRLCK)
    with fails(errno.EDEADLK):
        client.lock(file, 2, 0, 0, WRLCK, wait=True)
    client.lock(file, 2, 1, 1, UNLCK)
    assert waiter.end() is None


def test_a_circle_by_one_of_two_threads_is_refused_though_the_other_has_got_its_lock(client: Client, file: int) -> None:
    second = client.create(b"second").ino
    client.lock(file, 1, 1, 1, WRLCK)
    client.lock(file, 2, 2, 2, WRLCK)
    client.lock(second, 3, 3, 3, WRLCK)
    waits = Waiter(client, file, 1, 2, 2, WRLCK)
    gets = Waiter(client, second, 1, 3, 3, WRLCK)
    client.lock(second, 3, 3, 3, UNLCK)
    assert gets.end() is None
    with fails(errno.EDEADLK):
        client.lock(file, 2, 1, 1, WRLCK, wait=True)
    client.lock(file, 2, 2, 2, UNLCK)
    assert waits.end() is None
    assert not client.filesystem._waiting


def test_a_circle_is_refused_though_another_that_waited_for_the_same_is_interrupted(client: Client, file: int) -> None:
    client.lock(file, 1, 1, 1, WRLCK)
    client.lock(file, 2, 2, 2, WRLCK)
    waits, leaves = (Waiter(client, file, 1, 2, 2, WRLCK) for _ in range(2))
    client.interrupt(leaves.unique)
    assert leaves.end() == errno.EINTR
    with fails(errno.EDEADLK):
        client.lock(file, 2, 1, 1, WRLCK, wait=True)
    client.lock(file, 2, 2, 2, UNLCK)
    assert waits.end() is None


def test_whoever_has_been_let_on_and_has_not_looked_again_waits_for_nobody(client: Client, file: int) -> None:
    def setlk(owner: int, at: int, kind: int, wait: bool = False) -> Coroutine[Any, Any, None]:
        return client.filesystem.setlk(file, 0, Lock(at, at, kind, owner=owner), wait)

    async def both_get_what_they_want() -> None:
        await setlk(1, 1, WRLCK)
        await setlk(2, 2, WRLCK)
        one = asyncio.create_task(setlk(1, 2, WRLCK, wait=True))
        await asyncio.sleep(0)
        await setlk(2, 2, UNLCK)
        two = asyncio.create_task(setlk(2, 1, WRLCK, wait=True))
        await one
        await setlk(1, 1, UNLCK)
        await two

    asyncio.run(both_get_what_they_want())


def test_flock_and_byte_ranges_do_not_see_each_other(client: Client, file: int) -> None:
    client.lock(file, 1, 0, END, WRLCK)
    client.lock(file, 2, 0, END, WRLCK, flock=True)


def test_two_that_share_a_flock_can_both_ask_for_more(client: Client, file: int) -> None:
    client.lock(file, 1, 0, END, RDLCK, flock=True)
    client.lock(file, 2, 0, END, RDLCK, flock=True)
    waiter = Waiter(client, file, 1, 0, END, WRLCK, flock=True)
    client.lock(file, 2, 0, END, WRLCK, wait=True, flock=True)
    assert waiter.waits
    client.lock(file, 2, 0, END, UNLCK, flock=True)
    assert waiter.end() is None


def test_releasing_an_open_file_gives_its_flock_up(client: Client, file: int) -> None:
    client.ask(Opcode.OPEN, file, L.OpenIn(os.O_RDWR))
    client.lock(file, 5, 0, END, WRLCK, flock=True)
    client.ask(Opcode.RELEASE, file, L.ReleaseIn(0, 0, ReleaseFlag.FLOCK_UNLOCK, lock_owner=5))
    client.lock(file, 6, 0, END, WRLCK, flock=True)


# -- threads -------------------------------------------------------------------------------------------------------------


def test_a_file_that_goes_while_its_directory_is_listed_is_not_counted_again(client: Client) -> None:
    """Another thread removes it just before the listing gets hold of the inodes."""
    filesystem = client.filesystem
    ino = client.create(b"goes").ino
    client.write(ino, b"x" * 5000)
    client.forget(ino)

    class Preempted:
        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def __enter__(self) -> None:
            filesystem._lock = self.lock
            client.unlink(b"goes")
            self.lock.acquire()

        def __exit__(self, *exc: object) -> None:
            self.lock.release()

    listing = filesystem.readdirplus(1, 0, 2)
    filesystem._lock = Preempted(filesystem._lock)
    assert list(listing) == []
    assert list(filesystem.nodes) == [1]
    assert filesystem._metadata.used == filesystem.nodes[1].charge
    assert filesystem._space.used == 0


def test_a_time_that_is_set_while_its_directory_is_opened_stays(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ino = client.mkdir(b"directory").ino
    answered: list[int] = []
    other = threading.Thread(target=lambda: answered.append(client.setattr(ino, atime=5 << 30).atime))

    def preempted() -> int:
        monkeypatch.setattr(directories, "time_ns", time.time_ns)
        other.start()
        other.join(timeout=0.1)
        return time.time_ns()

    monkeypatch.setattr(directories, "time_ns", preempted)
    client.ask(Opcode.OPENDIR, ino, L.OpenIn())
    other.join(10)
    assert answered == [5 << 30]
    assert client.stat(ino).atime == 5 << 30


def test_many_threads_leave_nothing_behind(client: Client) -> None:
    def work(number: int) -> None:
        mine = b"%d" % number
        for _ in range(200):
            ino = client.create(mine).ino
            client.write(ino, b"x" * 5000)
            client.rename(mine, b"shared")
            client.ask(Opcode.READDIRPLUS, 1, L.ReadIn(0, 0, 4096))
            client.forget(ino)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    client.unlink(b"shared")
    for ino, node in list(client.filesystem.nodes.items()):
        if ino != 1:
            client.forget(ino, node.nlookup)
    assert list(client.filesystem.nodes) == [1]
    assert client.filesystem._metadata.used == client.filesystem.nodes[1].charge
    assert client.filesystem._space.used == 0
