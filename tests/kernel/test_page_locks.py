"""Pages that several want at once: notifications about them, readers, signals, aborts, time limits."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from cached import PATTERN, Recorded, WritingBack, pages, world
from conftest import in_thread, wait_until

from fusewire import Deadlock, InitFlag, Settings
from fusewire.wire.flags import PAGE_SIZE, NotifyCode
from fusewire.wire.layouts import NotifyInvalInodeOut, NotifyRetrieveOut, NotifyStoreOut

# -- notifications -------------------------------------------------------------------------------------------------------


def test_inval_inode_drops_the_pages_of_its_range() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 8 * PAGE_SIZE, 0)
        w.change(b"x" * 8 * PAGE_SIZE)
        w.tell(NotifyCode.INVAL_INODE, NotifyInvalInodeOut(w.process.fstat(fd).st_ino, PAGE_SIZE + 5, PAGE_SIZE))
        expected = pages(0, 1) + b"x" * 2 * PAGE_SIZE + pages(3, 8)
        assert w.process.pread(fd, 8 * PAGE_SIZE, 0) == expected


def test_inval_inode_has_dirty_pages_written_first() -> None:
    with world(WritingBack()) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * PAGE_SIZE, 0)
        ino = w.process.fstat(fd).st_ino
        w.filesystem.names()
        w.tell(NotifyCode.INVAL_INODE, NotifyInvalInodeOut(ino, 0, 0))
        assert w.filesystem.names() == ["WRITE"]
        assert w.contents()[:PAGE_SIZE] == b"x" * PAGE_SIZE
        assert not w.kernel.page_lru.pages


def test_a_store_fills_pages_that_are_then_not_read() -> None:
    with world() as w:
        fd = w.open()
        ino = w.process.fstat(fd).st_ino
        w.tell(NotifyCode.STORE, NotifyStoreOut(ino, PAGE_SIZE, PAGE_SIZE), data=b"s" * PAGE_SIZE)
        w.filesystem.names()
        assert w.process.pread(fd, PAGE_SIZE, PAGE_SIZE) == b"s" * PAGE_SIZE
        assert w.filesystem.names() == []


def test_a_store_of_a_part_of_a_page_does_not_make_it_known() -> None:
    with world() as w:
        fd = w.open()
        w.tell(NotifyCode.STORE, NotifyStoreOut(w.process.fstat(fd).st_ino, 10, 3), data=b"sss")
        w.filesystem.names()
        w.process.pread(fd, 20, 0)
        assert "READ" in w.filesystem.names()


def test_retrieve_gets_what_is_cached_without_a_gap_and_no_more() -> None:
    with world() as w:
        fd = w.open()
        ino = w.process.fstat(fd).st_ino
        w.tell(NotifyCode.STORE, NotifyStoreOut(ino, 0, PAGE_SIZE), data=b"s" * PAGE_SIZE)
        w.tell(NotifyCode.RETRIEVE, NotifyRetrieveOut(77, ino, 100, 2 * PAGE_SIZE))
        assert w.filesystem.asked[-1] == ("NOTIFY_REPLY",)
        assert w.filesystem.bodies[-1].endswith(b"s" * (PAGE_SIZE - 100))
        assert len(w.filesystem.bodies[-1]) == 40 + PAGE_SIZE - 100


def test_a_notification_about_a_page_that_the_daemon_itself_owes_is_a_deadlock() -> None:
    class Notifies(Recorded):
        armed = True

        def read(self, ino: int, *args: object) -> object:
            if self.armed:
                self.armed = False
                w.tell(NotifyCode.INVAL_INODE, NotifyInvalInodeOut(ino, 0, 0))
            return super().read(ino, *args)

    with world(Notifies()) as w:
        fd = w.open()
        with pytest.raises(Deadlock, match=r'waits on page 0 of "f", which only it itself could end'):
            w.process.pread(fd, 10, 0)


# -- several at once -----------------------------------------------------------------------------------------------------


class Slow(Recorded):
    """READ waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def read(self, *args: object) -> object:
        self.go_on.wait(20)
        return super().read(*args)


def test_two_readers_of_one_page_ask_once() -> None:
    with world(Slow(), "threads") as w:
        fd = w.open()
        got: list[bytes] = []
        readers = [threading.Thread(target=lambda: got.append(w.process.pread(fd, 10, 0))) for _ in range(2)]
        for reader in readers:
            reader.start()
        inode = w.mount.sb.inodes[2]
        wait_until(
            lambda: inode.pages is not None and 0 in inode.pages.pages and len(inode.pages.pages[0].waiters) == 2
        )
        w.filesystem.go_on.set()  # type: ignore[attr-defined]
        for reader in readers:
            reader.join(20)
        assert got == [PATTERN[:10]] * 2
        assert [one for one in w.filesystem.asked if one[:2] == ("READ", 0)] == [w.filesystem.asked[0]]


def test_a_reader_can_be_killed_while_a_page_is_read_and_the_page_comes_all_the_same() -> None:
    with world(Slow(), "threads") as w:
        victim = w.kernel.process("victim", uid=0, gid=0)
        fd = w.open()
        victims = victim.open("/f", os.O_RDONLY)
        reader, outcome = in_thread(lambda: victim.pread(victims, 10, 0))
        inode = w.mount.sb.inodes[2]
        wait_until(lambda: inode.pages is not None and 0 in inode.pages.pages and bool(inode.pages.pages[0].waiters))
        victim.kill(9)
        reader.join(20)
        assert isinstance(outcome[0], InterruptedError)
        w.filesystem.go_on.set()  # type: ignore[attr-defined]
        assert w.process.pread(fd, 10, 0) == PATTERN[:10]


def test_an_abort_frees_who_waits_for_a_page() -> None:
    with world(Slow(), "threads") as w:
        fd = w.open()
        reader, outcome = in_thread(lambda: w.process.pread(fd, 10, 0))
        inode = w.mount.sb.inodes[2]
        wait_until(lambda: inode.pages is not None and 0 in inode.pages.pages and bool(inode.pages.pages[0].waiters))
        w.mount.abort()
        reader.join(20)
        assert isinstance(outcome[0], OSError)
        assert all(page.owner is None for page in w.kernel.page_lru.pages)
        w.filesystem.go_on.set()  # type: ignore[attr-defined]


def test_a_page_whose_request_runs_out_of_time_is_no_deadlock() -> None:
    slow = Slow()
    slow.settings = Settings(refused=InitFlag.AUTO_INVAL_DATA)
    with world(slow, "threads", request_timeout=0.2, on_deadlock="raise") as w:
        fd = w.open()
        with pytest.raises(OSError, match="READ") as caught:
            w.process.pread(fd, 10, 0)
        assert caught.value.errno == errno.ETIMEDOUT
        slow.go_on.set()
        wait_until(lambda: not w.mount.connection.num_waiting)
        assert w.process.pread(fd, 10, 0) == PATTERN[:10]
