"""Reading and writing through the page cache: what is asked of the daemon, and when what is cached goes."""

from __future__ import annotations

import errno
import os

import pytest
from cached import PATTERN, Recorded, WritingBack, pages, world

from fusewire import InitFlag, Settings
from fusewire.kernel.vfs import UserMemory
from fusewire.wire.flags import PAGE_SIZE, FOpenFlag, NotifyCode
from fusewire.wire.layouts import NotifyInvalInodeOut


class AutoInval(Recorded):
    settings = Settings(flags=InitFlag.AUTO_INVAL_DATA)


class ExplicitInval(Recorded):
    settings = Settings(flags=InitFlag.EXPLICIT_INVAL_DATA, refused=InitFlag.AUTO_INVAL_DATA)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_what_was_read_once_is_not_asked_for_again() -> None:
    with world() as w:
        fd = w.open()
        assert w.process.pread(fd, 4096, 0) == pages(0, 1)
        assert [one for one in w.filesystem.names() if one == "READ"]
        assert w.process.pread(fd, 100, 1000) == PATTERN[1000:1100]
        assert w.filesystem.names() == []


def test_a_second_process_finds_it_too() -> None:
    with world(Recorded(open_flags=FOpenFlag.KEEP_CACHE)) as w:
        w.process.pread(w.open(), 4096, 0)
        other = w.kernel.process(uid=0, gid=0)
        fd = other.open("/f", os.O_RDONLY)
        w.filesystem.names()
        assert other.pread(fd, 4096, 0) == pages(0, 1)
        assert w.filesystem.names() == []


def test_reading_behind_the_end_asks_for_nothing() -> None:
    with world() as w:
        fd = w.open()
        assert w.process.pread(fd, 10, 8 * PAGE_SIZE) == b""
        assert w.filesystem.names() == []


def test_reading_across_the_end_asks_for_the_size_once_it_may_have_changed() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 9 * PAGE_SIZE, 0)
        w.filesystem.names()
        w.kernel.advance(2)
        assert w.process.pread(fd, 100, 0) == PATTERN[:100]
        assert w.filesystem.names() == []
        w.process.pread(fd, 100, 8 * PAGE_SIZE - 10)
        assert w.filesystem.names() == ["GETATTR"]


def test_a_page_that_ends_the_file_is_read_whole_and_its_rest_is_zeros() -> None:
    with world(Recorded({"f": b"0123456789"})) as w:
        fd = w.open()
        assert w.process.pread(fd, 100, 0) == b"0123456789"
        assert w.filesystem.asked == [("READ", 0, PAGE_SIZE)]
        w.process.ftruncate(fd, 20)
        assert w.process.pread(fd, 100, 0) == b"0123456789" + bytes(10)


def test_a_short_read_says_where_the_file_ends() -> None:
    with world() as w:
        fd = w.open()
        w.filesystem._file(w.process.fstat(fd).st_ino)
        node = w.filesystem._directory(1).find(b"f")
        from fusewire.filesystems.memory import pages as memory_pages

        memory_pages.truncate(node, w.filesystem._space, 5000)  # type: ignore[arg-type]
        assert w.process.pread(fd, 8 * PAGE_SIZE, 0) == PATTERN[:5000]


def test_a_page_that_cannot_be_read_is_asked_for_by_itself_and_then_is_an_error() -> None:
    with world() as w:
        fd = w.open()
        w.filesystem.fail["READ"] = errno.EIO
        with pytest.raises(OSError, match="EIO") as caught:
            w.process.pread(fd, 10, 0)
        assert caught.value.errno == errno.EIO
        assert w.filesystem.asked[-1] == ("READ", 0, PAGE_SIZE)
        w.filesystem.fail.clear()
        assert w.process.pread(fd, 10, 0) == PATTERN[:10]


def test_what_was_read_before_an_error_is_returned() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 10, 0)
        w.tell(NotifyCode.INVAL_INODE, NotifyInvalInodeOut(w.process.fstat(fd).st_ino, PAGE_SIZE, 0))
        w.filesystem.fail["READ"] = errno.EIO
        assert w.process.pread(fd, 3 * PAGE_SIZE, 0) == pages(0, 1)


# -- writing through -----------------------------------------------------------------------------------------------------


def test_a_write_goes_to_the_daemon_at_once_and_whole_pages_are_cached() -> None:
    with world() as w:
        fd = w.open()
        assert w.process.pwrite(fd, b"x" * 2 * PAGE_SIZE, PAGE_SIZE) == 2 * PAGE_SIZE
        assert w.filesystem.asked[-1] == ("WRITE", PAGE_SIZE, 2 * PAGE_SIZE)
        w.filesystem.names()
        assert w.process.pread(fd, 2 * PAGE_SIZE, PAGE_SIZE) == b"x" * 2 * PAGE_SIZE
        assert w.filesystem.names() == []


def test_a_part_of_a_page_that_is_not_cached_is_read_when_it_is_wanted() -> None:
    with world() as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 10, 100)
        w.filesystem.names()
        assert w.process.pread(fd, 200, 0) == PATTERN[:100] + b"x" * 10 + PATTERN[110:200]
        assert "READ" in w.filesystem.names()


def test_a_part_of_a_page_that_is_cached_changes_it() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 10, 0)
        w.process.pwrite(fd, b"x" * 10, 100)
        w.filesystem.names()
        assert w.process.pread(fd, 200, 0) == PATTERN[:100] + b"x" * 10 + PATTERN[110:200]
        assert w.filesystem.names() == []


def test_an_unaligned_write_is_one_write_up_to_a_page_that_is_only_known_in_part() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 8 * PAGE_SIZE, 0)
        w.filesystem.names()
        w.process.pwrite(fd, b"x" * 2 * PAGE_SIZE, 100)
        assert [one for one in w.filesystem.asked if one[0] == "WRITE"] == [("WRITE", 100, 2 * PAGE_SIZE)]
    with world() as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 2 * PAGE_SIZE, 100)
        assert [one for one in w.filesystem.asked if one[0] == "WRITE"] == [
            ("WRITE", 100, PAGE_SIZE - 100),
            ("WRITE", PAGE_SIZE, PAGE_SIZE + 100),
        ]


def test_what_could_not_be_written_is_read_again() -> None:
    with world() as w:
        fd = w.open()
        w.filesystem.fail["WRITE"] = errno.ENOSPC
        with pytest.raises(OSError, match="ENOSPC"):
            w.process.pwrite(fd, b"x" * PAGE_SIZE, 0)
        assert w.process.pread(fd, PAGE_SIZE, 0) == pages(0, 1)


def test_o_sync_makes_each_write_durable() -> None:
    with world() as w:
        fd = w.open(flags=os.O_RDWR | os.O_SYNC)
        w.process.pwrite(fd, b"x" * PAGE_SIZE, 0)
        assert w.filesystem.names()[-2:] == ["WRITE", "FSYNC"]


# -- what goes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "asked"), [(FOpenFlag(0), True), (FOpenFlag.KEEP_CACHE, False)])
def test_an_open_drops_what_is_cached_unless_the_daemon_says_keep(flags: FOpenFlag, asked: bool) -> None:
    with world(Recorded(open_flags=flags)) as w:
        w.process.pread(w.open(), 10, 0)
        again = w.open()
        w.process.pread(again, 10, 0)
        assert ("READ" in w.filesystem.names()) == asked


def test_a_changed_size_drops_what_is_cached() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 10, 0)
        w.change(b"new", 0)
        w.change(b"more", 8 * PAGE_SIZE)
        w.kernel.advance(2)
        w.process.fstat(fd)
        assert w.process.pread(fd, 3, 0) == b"new"


def test_with_explicit_inval_data_only_what_is_behind_the_new_end_goes() -> None:
    with world(ExplicitInval()) as w:
        fd = w.open()
        w.process.pread(fd, 10, 0)
        w.change(b"new", 0)
        w.change(b"more", 8 * PAGE_SIZE)
        w.kernel.advance(2)
        w.process.fstat(fd)
        assert w.process.pread(fd, 3, 0) == PATTERN[:3]


@pytest.mark.parametrize(("filesystem", "new"), [(AutoInval, True), (Recorded, False)])
def test_a_changed_mtime_drops_what_is_cached_with_auto_inval_data(filesystem: type[Recorded], new: bool) -> None:
    with world(filesystem()) as w:
        fd = w.open()
        w.process.pread(fd, 10, 0)
        w.change(b"new", 0)
        w.kernel.advance(2)
        assert w.process.pread(fd, 3, 0) == (b"new" if new else PATTERN[:3])


def test_a_file_made_shorter_and_longer_again_has_zeros() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 8 * PAGE_SIZE, 0)
        w.process.ftruncate(fd, 5000)
        w.process.ftruncate(fd, 10_000)
        assert w.process.pread(fd, 20_000, 0) == PATTERN[:5000] + bytes(5000)


def test_o_trunc_drops_all() -> None:
    with world(Recorded(open_flags=FOpenFlag.KEEP_CACHE)) as w:
        w.process.pread(w.open(), 10, 0)
        fd = w.open(flags=os.O_RDWR | os.O_TRUNC)
        w.process.pwrite(fd, b"a", 10)
        assert w.process.pread(fd, 100, 0) == bytes(10) + b"a"


def test_a_hole_that_is_punched_reads_as_zeros() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 8 * PAGE_SIZE, 0)
        w.process.fallocate(fd, 3, 100, 2 * PAGE_SIZE)
        expected = PATTERN[:100] + bytes(2 * PAGE_SIZE) + PATTERN[100 + 2 * PAGE_SIZE : 8 * PAGE_SIZE]
        assert w.process.pread(fd, 8 * PAGE_SIZE, 0) == expected


def test_copy_file_range_drops_the_pages_that_it_changed() -> None:
    with world(Recorded({"f": PATTERN[: 2 * PAGE_SIZE], "g": b"g" * 100})) as w:
        source, target = w.open("/g"), w.open()
        w.process.pread(target, 2 * PAGE_SIZE, 0)
        w.process.copy_file_range(source, target, 100, 0, 50)
        assert w.process.pread(target, 200, 0) == PATTERN[:50] + b"g" * 100 + PATTERN[150:200]


@pytest.mark.parametrize("flags", [0, os.O_DIRECT])
def test_direct_files_ask_each_time_and_what_they_write_is_not_in_the_cache(flags: int) -> None:
    with world(Recorded(open_flags=FOpenFlag.KEEP_CACHE)) as w:
        cached = w.open()
        w.process.pread(cached, 10, 0)
        w.filesystem.open_flags = FOpenFlag.KEEP_CACHE | (FOpenFlag(0) if flags else FOpenFlag.DIRECT_IO)
        direct = w.open(flags=os.O_RDWR | flags)
        for _ in range(2):
            assert w.process.pread(direct, 4096, 0) == pages(0, 1)
        assert w.filesystem.names() == ["READ", "READ"]
        w.process.pwrite(direct, b"x" * 4096, 0)
        assert w.process.pread(cached, 10, 0) == b"x" * 10


def test_drop_caches_drops_pages_but_not_dirty_ones() -> None:
    with world(WritingBack()) as w:
        fd = w.open()
        w.process.pread(fd, 10, 0)
        w.process.pwrite(fd, b"x" * PAGE_SIZE, PAGE_SIZE)
        w.kernel.drop_caches()
        inode = w.mount.sb.inodes[2]
        assert inode.pages is not None
        assert list(inode.pages.pages) == [1]
        assert w.process.pread(fd, 10, PAGE_SIZE) == b"x" * 10


def test_beyond_the_limit_the_pages_that_were_not_used_go_first() -> None:
    with world(Recorded({"f": PATTERN[: 100 * PAGE_SIZE]})) as w:
        w.kernel.page_lru.limit = 64
        fd = w.open()
        for page in range(100):
            assert w.process.pread(fd, PAGE_SIZE, page * PAGE_SIZE) == pages(page, page + 1)
            assert w.process.pread(fd, 1, 0) == PATTERN[:1]
        assert len(w.kernel.page_lru.pages) <= 64
        reads = [one for one in w.filesystem.asked if one[0] == "READ"]
        assert sum(offset == 0 for _, offset, _ in reads) == 1  # used again and again, it stayed


def test_pages_go_with_their_inode() -> None:
    with world() as w:
        fd = w.open()
        w.process.pread(fd, 8 * PAGE_SIZE, 0)
        assert w.kernel.page_lru.pages
        w.process.close(fd)
        w.process.unlink("/f")
        assert not w.kernel.page_lru.pages


# -- memory by its address -----------------------------------------------------------------------------------------------


def test_read_and_write_take_memory_that_they_fault_in() -> None:
    with world() as w:
        fd = w.open()
        anonymous = w.process.mmap(-1, 3 * PAGE_SIZE, flags=0x22)
        part = anonymous.memory(100, 2 * PAGE_SIZE)
        assert w.process.readinto(fd, part, 0) == 2 * PAGE_SIZE
        assert anonymous[100 : 100 + 2 * PAGE_SIZE] == pages(0, 2)
        assert w.process.pwrite(fd, part, 4 * PAGE_SIZE) == 2 * PAGE_SIZE
        assert w.process.pread(fd, 2 * PAGE_SIZE, 4 * PAGE_SIZE) == pages(0, 2)


def test_memory_that_is_not_mapped_is_efault() -> None:
    with world() as w:
        fd = w.open()
        nowhere = UserMemory(w.process.program.mm, 0x1000, 10)
        for call in (lambda: w.process.readinto(fd, nowhere), lambda: w.process.write(fd, nowhere)):
            with pytest.raises(OSError, match="Bad address") as caught:
                call()
            assert caught.value.errno == errno.EFAULT
