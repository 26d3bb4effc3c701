"""What a daemon tells the kernel's half unasked: what each of the nine does, and how what is wrong with one is refused."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import errno_of, wait_until
from noted import Noted

from fusewire import Kernel, Process
from fusewire.drive import Mount
from fusewire.filesystems import MemoryFS
from fusewire.wire.codec import Message, encode_notification
from fusewire.wire.flags import InvalEntryFlag, NotifyCode
from fusewire.wire.layouts import (
    ForgetIn,
    NotifyDeleteOut,
    NotifyInvalEntryOut,
    NotifyInvalInodeOut,
    NotifyPollWakeupOut,
    NotifyPruneOut,
    NotifyRetrieveOut,
    NotifyStoreOut,
)

DEVICE = 0  # the daemon's descriptor of /dev/fuse


class Watched(Noted):
    """Timeouts are for ever."""

    entry_timeout = attr_timeout = 1e9

    def __init__(self) -> None:
        super().__init__({"f": b"data", "d/x": b""})


@pytest.fixture
def filesystem() -> Watched:
    return Watched()


@pytest.fixture
def kernel(filesystem: Watched) -> Iterator[Kernel]:
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        yield kernel


@pytest.fixture
def process(kernel: Kernel) -> Process:
    return kernel.process()


@pytest.fixture
def mount(kernel: Kernel) -> Mount:
    return kernel.mounts[0]


def tell(mount: Mount, code: NotifyCode, *structs: Any, name: bytes = b"", **rest: Any) -> None:
    names = (name,) if name else ()
    mount.daemon.write(DEVICE, encode_notification(code, Message(structs, names, **rest)))


def test_inval_inode_has_attributes_asked_for_again(mount: Mount, process: Process, filesystem: Watched) -> None:
    ino = process.stat("/f").st_ino
    filesystem.asked.clear()
    process.stat("/f")
    assert filesystem.asked == []
    tell(mount, NotifyCode.INVAL_INODE, NotifyInvalInodeOut(ino, -1, 0))
    process.stat("/f")
    assert filesystem.asked == ["GETATTR"]


def test_inval_entry_has_a_name_looked_up_again(mount: Mount, process: Process, filesystem: Watched) -> None:
    process.stat("/f")
    filesystem.asked.clear()
    tell(mount, NotifyCode.INVAL_ENTRY, NotifyInvalEntryOut(1, 1), name=b"f")
    assert filesystem.asked == ["FORGET"]
    process.stat("/f")
    assert filesystem.asked[1:] == ["LOOKUP"] or filesystem.asked[1:] == ["GETATTR", "LOOKUP"]


def test_expire_only_keeps_the_inode(mount: Mount, process: Process, filesystem: Watched) -> None:
    process.stat("/f")
    filesystem.asked.clear()
    tell(mount, NotifyCode.INVAL_ENTRY, NotifyInvalEntryOut(1, 1, InvalEntryFlag.EXPIRE_ONLY), name=b"f")
    assert filesystem.asked == []
    process.stat("/f")
    assert "LOOKUP" in filesystem.asked
    assert "FORGET" not in filesystem.asked


def test_delete_says_which_inode_lost_its_name(mount: Mount, process: Process) -> None:
    ino = process.stat("/f").st_ino
    assert errno_of(lambda: tell(mount, NotifyCode.DELETE, NotifyDeleteOut(1, ino + 1, 1), name=b"f")) == errno.ENOENT
    process.stat("/f")
    fd = process.open("/f", os.O_RDONLY)
    tell(mount, NotifyCode.DELETE, NotifyDeleteOut(1, ino, 1), name=b"f")
    assert process.read(fd, 9) == b"data"


def test_delete_of_a_directory_with_names_in_use_is_enotempty(mount: Mount, process: Process) -> None:
    ino = process.stat("/d").st_ino
    process.open("/d/x", os.O_RDONLY)
    assert errno_of(lambda: tell(mount, NotifyCode.DELETE, NotifyDeleteOut(1, ino, 1), name=b"d")) == errno.ENOTEMPTY


def test_inc_epoch_has_every_name_looked_up_again(mount: Mount, process: Process, filesystem: Watched) -> None:
    process.stat("/f")
    process.stat("/d/x")
    filesystem.asked.clear()
    tell(mount, NotifyCode.INC_EPOCH)
    process.stat("/f")
    process.stat("/d/x")
    assert filesystem.asked.count("LOOKUP") == 3


def test_prune_gives_back_what_nobody_uses(mount: Mount, process: Process, filesystem: Watched) -> None:
    unused, used = process.stat("/d/x").st_ino, process.stat("/f").st_ino
    process.open("/f", os.O_RDONLY)
    filesystem.asked.clear()
    tell(mount, NotifyCode.PRUNE, NotifyPruneOut(2), items=(ForgetIn(unused), ForgetIn(used)))
    assert filesystem.asked == ["FORGET"]
    assert unused not in mount.sb.inodes
    assert used in mount.sb.inodes


def test_retrieve_is_answered_with_what_is_cached(mount: Mount, process: Process, filesystem: Watched) -> None:
    ino = process.stat("/f").st_ino
    filesystem.asked.clear()
    tell(mount, NotifyCode.RETRIEVE, NotifyRetrieveOut(77, ino, 0, 4))
    assert filesystem.asked == ["NOTIFY_REPLY"]


def test_store_may_extend_a_file(mount: Mount, process: Process) -> None:
    ino = process.stat("/f").st_ino
    tell(mount, NotifyCode.STORE, NotifyStoreOut(ino, 10, 3), data=b"abc")
    assert mount.sb.inodes[ino].attr.size == 13


LONGEST = (1 << 63) - 1


def test_what_is_stored_beyond_the_longest_file_is_cut_off(mount: Mount, process: Process) -> None:
    ino = process.stat("/f").st_ino
    tell(mount, NotifyCode.STORE, NotifyStoreOut(ino, LONGEST - 3, 8), data=b"12345678")
    assert mount.sb.inodes[ino].attr.size == LONGEST


@pytest.mark.parametrize("offset", [LONGEST, LONGEST + 1, (1 << 64) - 1])
def test_an_offset_that_no_file_reaches_is_einval(mount: Mount, process: Process, offset: int) -> None:
    ino = process.stat("/f").st_ino
    store, retrieve = NotifyStoreOut(ino, offset, 1), NotifyRetrieveOut(7, ino, offset, 1)
    assert errno_of(lambda: tell(mount, NotifyCode.STORE, store, data=b"x")) == errno.EINVAL
    assert errno_of(lambda: tell(mount, NotifyCode.RETRIEVE, retrieve)) == errno.EINVAL
    assert mount.sb.inodes[ino].attr.size == 4


def test_poll_wakes_who_waits_for_events() -> None:
    class Pollable(MemoryFS):
        ready = 0
        handle: int | None = None

        def poll(self, ino: int, fh: int, events: int, handle: int | None) -> int:
            self.handle = handle if handle is not None else self.handle
            return self.ready

    filesystem = Pollable({"f": b""})
    with Kernel("threads") as kernel:
        mount = kernel.mount(filesystem, "/")
        process = kernel.process()
        fd = process.open("/f", os.O_RDONLY)
        assert process.poll([(fd, 1)], 0) == []
        assert filesystem.handle is None
        found: list[Any] = []
        waiter = threading.Thread(target=lambda: found.append(process.poll([(fd, 1)])))
        waiter.start()
        wait_until(lambda: filesystem.handle is not None)
        filesystem.ready = 1
        tell(mount, NotifyCode.POLL, NotifyPollWakeupOut(filesystem.handle))
        waiter.join(10)
        assert found == [[(fd, 1)]]


@pytest.mark.parametrize("driver", ["inline", "threads"])
def test_poll_ends_with_its_time(driver: str) -> None:
    class Quiet(MemoryFS):
        def poll(self, ino: int, fh: int, events: int, handle: int | None) -> int:
            return 0

    with Kernel(driver) as kernel:
        kernel.mount(Quiet({"f": b""}), "/")
        process = kernel.process()
        assert process.poll([(process.open("/f", os.O_RDONLY), 1)], 30) == []


def test_what_is_not_known_is_enoent_and_what_is_malformed_einval(mount: Mount) -> None:
    assert errno_of(lambda: tell(mount, NotifyCode.INVAL_INODE, NotifyInvalInodeOut(99, 0, 0))) == errno.ENOENT
    assert errno_of(lambda: tell(mount, NotifyCode.INVAL_ENTRY, NotifyInvalEntryOut(1, 2), name=b"no")) == errno.ENOENT
    assert errno_of(lambda: tell(mount, NotifyCode.INVAL_ENTRY, NotifyInvalEntryOut(1, 5), name=b"f")) == errno.EINVAL
    assert errno_of(lambda: tell(mount, NotifyCode.STORE, NotifyStoreOut(1, 0, 9), data=b"a")) == errno.EINVAL
    long = NotifyInvalEntryOut(1, 5000)
    assert errno_of(lambda: tell(mount, NotifyCode.INVAL_ENTRY, long, name=b"n" * 5000)) == errno.ENAMETOOLONG
    raw = struct.pack("<IiQ", 16, 42, 0)
    assert errno_of(lambda: mount.daemon.write(DEVICE, raw)) == errno.EINVAL
    assert errno_of(lambda: mount.daemon.write(DEVICE, struct.pack("<IiQ", 16, 2, 0))) == errno.EINVAL


def test_a_name_in_a_file_is_enotdir(mount: Mount, process: Process) -> None:
    ino = process.stat("/f").st_ino
    assert (
        errno_of(lambda: tell(mount, NotifyCode.INVAL_ENTRY, NotifyInvalEntryOut(ino, 1), name=b"x")) == errno.ENOTDIR
    )


def test_nothing_is_taken_once_the_connection_is_gone(mount: Mount) -> None:
    mount.abort()
    with pytest.raises((OSError, ProcessLookupError)):
        tell(mount, NotifyCode.INC_EPOCH)


def test_a_late_answer_does_not_overwrite_newer_attributes() -> None:
    """GETATTR was asked before INVAL_INODE and answered after it: what it says is of before."""

    class Slow(MemoryFS):
        hold = threading.Event()
        slow = False
        entered = threading.Event()

        def getattr(self, ino: int, fh: int | None) -> Any:
            found = super().getattr(ino, fh)
            if self.slow and ino != 1:
                self.slow = False
                self.entered.set()
                self.hold.wait(10)
            return found

    filesystem = Slow({"f": b"data"})
    filesystem.attr_timeout = 0
    with Kernel("threads") as kernel:
        mount = kernel.mount(filesystem, "/", workers=2)
        process = kernel.process()
        fd = process.open("/f", os.O_RDWR)
        inode = mount.sb.inodes[process.fstat(fd).st_ino]
        filesystem.slow = True
        asker = threading.Thread(target=lambda: process.fstat(fd))
        asker.start()
        assert filesystem.entered.wait(10)
        process.pwrite(fd, b"longer than before", 0)
        assert inode.attr.size == 18
        version = inode.attr_version
        filesystem.hold.set()
        asker.join(10)
        assert inode.attr_version == version
