"""Mapped files: what a program sees in its memory, and what is asked of the daemon for that."""

from __future__ import annotations

import errno
import mmap as real
import os
import signal
import threading

import pytest
from cached import PATTERN, Recorded, WritingBack, pages, world
from conftest import errno_of, in_thread, wait_until

from fusewire import InitFlag, Settings
from fusewire.kernel.vfs import BusError, SegmentationFault
from fusewire.wire.flags import PAGE_SIZE, FOpenFlag, NotifyCode
from fusewire.wire.layouts import NotifyInvalInodeOut

READ, READ_WRITE = real.PROT_READ, real.PROT_READ | real.PROT_WRITE
PRIVATE_ANONYMOUS = real.MAP_PRIVATE | real.MAP_ANONYMOUS
FIXED = 0x10  # MAP_FIXED, which Python's mmap does not have


def test_nothing_is_read_before_it_is_touched_and_then_once() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(), 8 * PAGE_SIZE)
        assert w.filesystem.names() == []
        assert mapping[PAGE_SIZE] == 2
        assert mapping[:] == PATTERN[: 8 * PAGE_SIZE]
        assert w.filesystem.asked == [("READ", 0, 8 * PAGE_SIZE)]


class Single(Recorded):
    settings = Settings(refused=InitFlag.AUTO_INVAL_DATA, max_readahead=0)


def test_without_readahead_each_page_is_read_when_it_is_touched() -> None:
    with world(Single()) as w:
        mapping = w.process.mmap(w.open(), 8 * PAGE_SIZE)
        assert mapping[PAGE_SIZE : PAGE_SIZE + 3] == b"\2\2\2"
        assert w.filesystem.asked == [("READ", PAGE_SIZE, PAGE_SIZE)]


def test_what_is_stored_goes_to_the_daemon_by_msync() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(), 8 * PAGE_SIZE)
        mapping[100:103] = b"new"
        assert w.filesystem.names() == ["READ"]
        assert w.contents()[100:103] == b"\1\1\1"
        mapping.flush()
        assert w.filesystem.names() == ["WRITE", "FSYNC"]
        assert w.contents()[100:103] == b"new"


def test_what_is_stored_goes_to_the_daemon_by_munmap_and_by_close() -> None:
    for end in ("munmap", "close", "exit"):
        with world() as w:
            fd = w.open()
            mapping = w.process.mmap(fd, 8 * PAGE_SIZE)
            mapping[100:103] = b"new"
            {"munmap": mapping.close, "close": lambda: w.process.close(fd), "exit": w.process.exit}[end]()
            assert w.contents()[100:103] == b"new"


def test_a_store_after_msync_is_written_again() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(), PAGE_SIZE)
        for value in (1, 2):
            mapping[0] = value
            mapping.flush()
            assert w.contents()[0] == value


def test_memory_and_file_are_the_same() -> None:
    with world() as w:
        fd = w.open()
        mapping = w.process.mmap(fd, 2 * PAGE_SIZE)
        mapping[5] = 77
        assert w.process.pread(fd, 1, 5) == b"\x4d"
        w.process.pwrite(fd, b"file", 10)
        assert mapping[10:14] == b"file"


def test_two_processes_share_what_is_mapped_shared() -> None:
    with world(Recorded(open_flags=FOpenFlag.KEEP_CACHE)) as w:
        other = w.kernel.process(uid=0, gid=0)
        mine = w.process.mmap(w.open(), PAGE_SIZE)
        theirs = other.mmap(other.open("/f", os.O_RDWR), PAGE_SIZE)
        mine[0] = 99
        assert theirs[0] == 99


def test_what_is_stored_privately_stays_private() -> None:
    with world() as w:
        fd = w.open(flags=os.O_RDONLY)
        mapping = w.process.mmap(fd, 2 * PAGE_SIZE, flags=real.MAP_PRIVATE)
        assert mapping[0] == 1
        mapping[0] = 99
        assert mapping[:2] == b"\x63\1"
        mapping.close()
        w.process.close(fd)
        assert w.contents()[0] == 1
        assert "WRITE" not in w.filesystem.names()


def test_a_private_copy_of_a_page_is_gone_when_the_file_ends_before_it() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(), 2 * PAGE_SIZE, flags=real.MAP_PRIVATE)
        mapping[0] = mapping[PAGE_SIZE] = 99
        child = w.process.fork()
        w.process.truncate("/f", PAGE_SIZE)
        assert mapping[0] == 99
        for process in (w.process, child):
            with pytest.raises(BusError):
                process.load(mapping.address + PAGE_SIZE)


def test_the_mapping_holds_the_file_open() -> None:
    with world() as w:
        fd = w.open()
        mapping = w.process.mmap(fd, PAGE_SIZE)
        w.process.close(fd)
        assert w.filesystem.names() == ["FLUSH"]
        assert mapping[0] == 1
        w.filesystem.names()
        mapping.close()
        assert w.filesystem.names() == ["RELEASE"]


def test_behind_the_end_of_the_file_is_sigbus_and_behind_that_of_the_mapping_sigsegv() -> None:
    with world(Recorded({"f": b"x" * 10})) as w:
        mapping = w.process.mmap(w.open(), 2 * PAGE_SIZE)
        assert mapping[:12] == b"x" * 10 + b"\0\0"
        with pytest.raises(BusError) as caught:
            mapping[PAGE_SIZE]
        assert caught.value.errno == errno.EFAULT
        with pytest.raises(SegmentationFault):
            w.process.load(mapping.address + 2 * PAGE_SIZE)


def test_a_page_that_was_cut_off_is_sigbus_and_comes_anew_when_the_file_grows() -> None:
    with world() as w:
        fd = w.open()
        mapping = w.process.mmap(fd, 2 * PAGE_SIZE)
        assert mapping[PAGE_SIZE] == 2
        w.process.ftruncate(fd, 100)
        with pytest.raises(BusError):
            mapping[PAGE_SIZE]
        assert mapping[99:101] == b"\1\0"
        w.process.ftruncate(fd, 2 * PAGE_SIZE)
        assert mapping[PAGE_SIZE] == 0


def test_what_is_stored_behind_the_end_in_its_page_never_is_in_the_file() -> None:
    with world(Recorded({"f": b"x" * 10})) as w:
        fd = w.open()
        mapping = w.process.mmap(fd, PAGE_SIZE)
        mapping[20] = 99
        mapping.flush()
        w.process.pwrite(fd, b"y", 30)
        assert w.process.pread(fd, 100, 0) == b"x" * 10 + bytes(20) + b"y"
        assert w.contents() == b"x" * 10 + bytes(20) + b"y"


def test_a_read_that_fails_is_sigbus_and_can_be_tried_again() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(), PAGE_SIZE)
        w.filesystem.fail["READ"] = errno.EIO
        with pytest.raises(BusError):
            mapping[0]
        w.filesystem.fail.clear()
        assert mapping[0] == 1


def test_after_an_abort_it_is_sigbus() -> None:
    with world(Single()) as w:
        mapping = w.process.mmap(w.open(), 2 * PAGE_SIZE)
        assert mapping[0] == 1
        w.mount.abort()
        assert mapping[0] == 1  # it is there
        with pytest.raises(BusError):
            mapping[PAGE_SIZE]


def test_an_invalidated_page_is_read_anew() -> None:
    with world() as w:
        fd = w.open()
        mapping = w.process.mmap(fd, PAGE_SIZE)
        assert mapping[0] == 1
        w.change(b"new")
        w.tell(NotifyCode.INVAL_INODE, NotifyInvalInodeOut(w.process.fstat(fd).st_ino, 0, 0))
        assert mapping[:3] == b"new"


def test_memory_of_no_file_is_zeros() -> None:
    with world() as w:
        mapping = w.process.mmap(-1, 2 * PAGE_SIZE, flags=PRIVATE_ANONYMOUS)
        assert mapping[PAGE_SIZE - 1 : PAGE_SIZE + 1] == b"\0\0"
        mapping[PAGE_SIZE - 1 : PAGE_SIZE + 1] = b"ab"
        assert mapping[PAGE_SIZE - 1 : PAGE_SIZE + 1] == b"ab"


# -- what is refused -----------------------------------------------------------------------------------------------------


def test_mmap_refuses_what_linux_refuses() -> None:
    with world() as w:
        p = w.process
        fd, reading, directory = w.open(), w.open(flags=os.O_RDONLY), p.open("/", os.O_RDONLY)
        writing, path = w.open(flags=os.O_WRONLY), w.open(flags=os.O_PATH)
        assert errno_of(lambda: p.mmap(fd, 0)) == errno.EINVAL
        assert errno_of(lambda: p.mmap(fd, 10, offset=5)) == errno.EINVAL
        assert errno_of(lambda: p.mmap(fd, 10, flags=0)) == errno.EINVAL
        assert errno_of(lambda: p.mmap(99, 10)) == errno.EBADF
        assert errno_of(lambda: p.mmap(path, 10)) == errno.EBADF
        assert errno_of(lambda: p.mmap(writing, 10)) == errno.EACCES
        assert errno_of(lambda: p.mmap(reading, 10)) == errno.EACCES
        assert errno_of(lambda: p.mmap(directory, 10, READ)) == errno.ENODEV
        assert errno_of(lambda: p.mmap(fd, 10, flags=0x11, address=5)) == errno.EINVAL
        assert errno_of(lambda: p.munmap(5, 10)) == errno.EINVAL
        assert errno_of(lambda: p.msync(PAGE_SIZE, 10)) == errno.ENOMEM
        assert errno_of(lambda: p.mprotect(PAGE_SIZE, 10, READ)) == errno.ENOMEM


def test_a_protected_page_is_sigsegv_until_it_is_allowed_again() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(), 3 * PAGE_SIZE, READ)
        with pytest.raises(SegmentationFault):
            mapping[0] = 1
        w.process.mprotect(mapping.address + PAGE_SIZE, PAGE_SIZE, READ_WRITE)
        mapping[PAGE_SIZE] = 9
        for page in (0, 2):
            with pytest.raises(SegmentationFault):
                mapping[page * PAGE_SIZE] = 1
        w.process.mprotect(mapping.address, 3 * PAGE_SIZE, 0)
        with pytest.raises(SegmentationFault):
            mapping[PAGE_SIZE]


def test_mprotect_refuses_writing_to_a_file_that_was_opened_for_reading() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(flags=os.O_RDONLY), PAGE_SIZE, READ)
        assert errno_of(lambda: w.process.mprotect(mapping.address, PAGE_SIZE, READ_WRITE)) == errno.EACCES


def test_direct_files_are_mapped_shared_only_where_the_daemon_allows_it() -> None:
    class Allows(Recorded):
        settings = Settings(flags=InitFlag.DIRECT_IO_ALLOW_MMAP)

    with world(Recorded(open_flags=FOpenFlag.DIRECT_IO)) as w:
        fd = w.open()
        assert errno_of(lambda: w.process.mmap(fd, PAGE_SIZE)) == errno.ENODEV
        assert w.process.mmap(fd, PAGE_SIZE, flags=real.MAP_PRIVATE)[0] == 1
    with world(Allows(open_flags=FOpenFlag.DIRECT_IO)) as w:
        fd = w.open()
        mapping = w.process.mmap(fd, PAGE_SIZE)
        mapping[0] = 50
        assert w.process.pread(fd, 1, 0) == b"\x32"


# -- parts, forks --------------------------------------------------------------------------------------------------------


def test_a_part_can_be_unmapped_and_the_file_stays_open_for_the_rest() -> None:
    with world() as w:
        fd = w.open()
        mapping = w.process.mmap(fd, 3 * PAGE_SIZE)
        w.process.close(fd)
        assert mapping[0] == 1
        w.process.munmap(mapping.address + PAGE_SIZE, PAGE_SIZE)
        assert mapping[2 * PAGE_SIZE] == 3
        with pytest.raises(SegmentationFault):
            mapping[PAGE_SIZE]
        w.filesystem.names()
        w.process.munmap(mapping.address, PAGE_SIZE)
        assert "RELEASE" not in w.filesystem.names()
        w.process.munmap(mapping.address, 3 * PAGE_SIZE)
        assert w.filesystem.names() == ["RELEASE"]


def test_a_fixed_address_takes_the_place_of_what_was_there() -> None:
    with world() as w:
        anonymous = w.process.mmap(-1, 3 * PAGE_SIZE, flags=PRIVATE_ANONYMOUS)
        anonymous[:] = b"a" * 3 * PAGE_SIZE
        w.process.mmap(w.open(), PAGE_SIZE, flags=FIXED | real.MAP_SHARED, address=anonymous.address + PAGE_SIZE)
        assert anonymous[PAGE_SIZE - 1 : PAGE_SIZE + 1] == b"a\1"
        assert anonymous[2 * PAGE_SIZE - 1 : 2 * PAGE_SIZE + 1] == b"\1a"


class Held(Recorded):
    """Its WRITEs and FSYNCs wait until they are let go."""

    def __init__(self) -> None:
        super().__init__({"f": PATTERN[:PAGE_SIZE], "g": PATTERN[:PAGE_SIZE]})
        self.reached, self.go = threading.Event(), threading.Event()

    def write(self, *args: object) -> int:
        self._hold()
        return int(super().write(*args))

    def fsync(self, ino: int, fh: int, datasync: bool) -> None:
        self._hold()

    def _hold(self) -> None:
        self.reached.set()
        assert self.go.wait(20)


def test_nobody_gets_a_fixed_address_while_what_was_there_is_let_go() -> None:
    held = Held()
    with world(held, "threads") as w:
        old = w.process.mmap(w.open(), PAGE_SIZE)
        old[0] = 9
        thread, _ = in_thread(
            lambda: w.process.mmap(-1, PAGE_SIZE, flags=FIXED | PRIVATE_ANONYMOUS, address=old.address)
        )
        assert held.reached.wait(20)
        other = w.process.mmap(-1, PAGE_SIZE, flags=PRIVATE_ANONYMOUS, address=old.address)
        held.go.set()
        thread.join(20)
        assert other.address != old.address


def test_a_file_that_is_unmapped_while_msync_waits_for_another_is_released_once() -> None:
    held = Held()
    with world(held, "threads") as w:
        fds = [w.open("/f"), w.open("/g")]
        second = w.process.mmap(fds[1], PAGE_SIZE)
        first = w.process.mmap(fds[0], PAGE_SIZE, flags=FIXED | real.MAP_SHARED, address=second.address - PAGE_SIZE)
        for fd in fds:
            w.process.close(fd)
        thread, outcome = in_thread(lambda: w.process.msync(first.address, 2 * PAGE_SIZE))
        assert held.reached.wait(20)
        second.close()
        held.go.set()
        thread.join(20)
        assert outcome == [None]
        first.close()
        wait_until(lambda: not w.mount.connection.unused_list.in_use)
        assert [one[0] for one in held.asked].count("RELEASE") == 2


@pytest.mark.parametrize("call", ["msync", "mprotect", "madvise"])
def test_of_no_bytes_nothing_is_wanted(call: str) -> None:
    """As Linux has it, mapped or not; munmap(2) alone refuses."""
    with world() as w:
        getattr(w.process, call)(1 << 30, 0, 0)
        assert errno_of(getattr(w.process, call), 1, 0, 0) == errno.EINVAL
        assert errno_of(w.process.munmap, 1 << 30, 0) == errno.EINVAL


def test_a_forked_process_shares_what_is_shared_and_has_its_own_of_what_is_private() -> None:
    with world() as w:
        fd = w.open()
        shared = w.process.mmap(fd, PAGE_SIZE)
        private = w.process.mmap(fd, PAGE_SIZE, flags=real.MAP_PRIVATE)
        own = w.process.mmap(-1, PAGE_SIZE, flags=PRIVATE_ANONYMOUS)
        both = w.process.mmap(-1, PAGE_SIZE, flags=real.MAP_SHARED | real.MAP_ANONYMOUS)
        private[0], own[0] = 50, 51
        child = w.process.fork()
        for mapping, value in ((shared, 60), (private, 61), (own, 62), (both, 63)):
            child.store(mapping.address, bytes((value,)))
        assert [one[0] for one in (shared, private, own, both)] == [60, 50, 51, 63]
        w.process.close(fd)
        w.process.exit()
        assert child.load(shared.address) == b"\x3c"
        w.filesystem.names()
        child.exit()
        assert "RELEASE" in w.filesystem.names()


def test_exec_unmaps_all() -> None:
    with world() as w:
        mapping = w.process.mmap(w.open(), PAGE_SIZE)
        mapping[0] = 70
        w.process.exec("other")
        with pytest.raises(SegmentationFault):
            mapping[0]
        assert w.contents()[0] == 70


# -- waiting -------------------------------------------------------------------------------------------------------------


def test_a_program_that_waits_for_a_page_can_be_interrupted() -> None:
    class Slow(Recorded):
        go_on = threading.Event()

        def read(self, *args: object) -> object:
            self.go_on.wait(20)
            return super().read(*args)

    filesystem = Slow()
    with world(filesystem, "threads") as w:
        w.process.signal(signal.SIGUSR1, lambda number: None)
        mapping = w.process.mmap(w.open(), PAGE_SIZE)
        thread, outcome = in_thread(lambda: mapping[0])
        wait_until(lambda: any(one[0] == "READ" for one in filesystem.asked))
        wait_until(lambda: any(task.sleep is not None for task in w.process.program.tasks))
        w.process.kill(signal.SIGUSR1)
        thread.join(20)
        assert isinstance(outcome[0], InterruptedError)
        filesystem.go_on.set()
        assert mapping[0] == 1


def test_with_the_writeback_cache_a_store_changes_the_kernels_mtime() -> None:
    with world(WritingBack()) as w:
        fd = w.open()
        before = w.process.fstat(fd).st_mtime_ns
        mapping = w.process.mmap(fd, PAGE_SIZE)
        mapping[0] = 5
        assert w.process.fstat(fd).st_mtime_ns > before
        mapping.close()
        assert w.contents() == b"\5" + PATTERN[1 : 8 * PAGE_SIZE]
        assert pages(0, 1)[0] == 1


def test_what_is_stored_behind_the_end_is_gone_when_the_file_is_made_longer() -> None:
    for filesystem in (Recorded({"f": b"x" * 10}), WritingBack({"f": b"x" * 10})):
        with world(filesystem) as w:
            fd = w.open()
            mapping = w.process.mmap(fd, PAGE_SIZE)
            mapping[20] = 99
            w.process.ftruncate(fd, 100)
            assert w.process.pread(fd, 100, 0) == b"x" * 10 + bytes(90)


def test_more_dirty_pages_than_the_limit_are_all_there() -> None:
    with world() as w:
        w.kernel.page_lru.limit = 2
        mapping = w.process.mmap(w.open(), 8 * PAGE_SIZE)
        for page in range(8):
            mapping[page * PAGE_SIZE] = 90 + page
        assert [mapping[page * PAGE_SIZE] for page in range(8)] == list(range(90, 98))
        mapping.close()
        assert [w.contents()[page * PAGE_SIZE] for page in range(8)] == list(range(90, 98))
