"""WRITEBACK_CACHE: what a program writes stays in the page cache until something has it written."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from typing import Any

import pytest
from cached import PATTERN, WritingBack, pages, world
from conftest import in_thread, wait_until

from fusewire import InitFlag, Kernel
from fusewire.filesystems import MemoryFS
from fusewire.wire.flags import PAGE_SIZE, WriteFlag


def writes(filesystem: WritingBack) -> list[tuple[int, int]]:
    return [(one[1], one[2]) for one in filesystem.asked if one[0] == "WRITE"]


def test_a_write_asks_for_nothing_until_the_file_is_closed() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 2 * PAGE_SIZE, 0)
        assert writes(filesystem) == []
        w.process.close(fd)
        assert writes(filesystem) == [(0, 2 * PAGE_SIZE)]
        assert filesystem.write_flags == [WriteFlag.CACHE]
        assert filesystem.names()[-4:] == ["WRITE", "SETATTR", "FLUSH", "RELEASE"]
        assert w.contents() == b"x" * 2 * PAGE_SIZE + pages(2, 8)


def test_sync_has_all_that_is_dirty_written_and_waits_for_it() -> None:
    filesystem = WritingBack({"f": b"", "g": b""})
    with world(filesystem) as w:
        for name in ("f", "g"):
            w.process.pwrite(w.open(f"/{name}"), b"x" * 10, 0)
        w.process.sync()
        assert (w.contents("f"), w.contents("g")) == (b"x" * 10, b"x" * 10)
        filesystem.asked.clear()
        w.process.sync()
        assert filesystem.asked == []


@pytest.mark.parametrize("by", ["sync", "flusher"])
def test_a_file_that_goes_while_another_is_written_is_given_back_once(by: str) -> None:
    class Removing(WritingBack):
        def write(self, ino: int, *args: Any) -> Any:
            remove_others(ino, "sync")
            return super().write(ino, *args)

        def setattr(self, ino: int, *args: Any) -> Any:
            remove_others(ino, "flusher")  # which waits for this only
            return super().setattr(ino, *args)

        def forget(self, ino: int, nlookup: int) -> None:
            forgotten.append(ino)
            super().forget(ino, nlookup)

    def remove_others(ino: int, written_by: str) -> None:
        left = dict(fds) if by == written_by else {}
        for name, fd in left.items():
            fds.clear()
            if p.fstat(fd).st_ino != ino:
                p.unlink(f"/{name}")
                p.close(fd)

    forgotten: list[int] = []
    fds: dict[str, int] = {}
    with Kernel() as kernel:
        kernel.mount(Removing({"f": b"", "g": b""}), "/", workers=2)
        p = kernel.process(uid=0, gid=0)
        opened = {name: p.open(f"/{name}", os.O_WRONLY) for name in ("f", "g")}
        for fd in opened.values():
            p.pwrite(fd, b"x", 0)
        fds.update(opened)
        if by == "sync":
            kernel.process().sync()
        else:
            kernel.advance(40)
        assert not fds
        kernel.advance(1)
        assert len(forgotten) == 1


def test_what_is_not_needed_any_more_is_written_and_then_forgotten() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 2 * PAGE_SIZE, 0)
        w.process.posix_fadvise(fd, PAGE_SIZE, PAGE_SIZE, os.POSIX_FADV_DONTNEED)
        w.process.posix_fadvise(fd, PAGE_SIZE, PAGE_SIZE, os.POSIX_FADV_DONTNEED)  # the first only begins to write
        assert writes(filesystem) == [(PAGE_SIZE, PAGE_SIZE)]
        cached = w.process._main.program.files.file(fd).inode.pages
        assert cached is not None
        assert sorted(cached.pages) == [0]


def test_writes_side_by_side_become_one() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open(flags=os.O_RDWR | os.O_TRUNC)
        for page in (2, 0, 1, 5):
            w.process.pwrite(fd, pages(page, page + 1), page * PAGE_SIZE)
        w.process.fsync(fd)
        assert writes(filesystem) == [(0, 3 * PAGE_SIZE), (5 * PAGE_SIZE, PAGE_SIZE)]
        assert w.contents() == pages(0, 3) + bytes(2 * PAGE_SIZE) + pages(5, 6)


def test_a_part_of_a_page_has_the_rest_read_first() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 10, 100)
        assert ("READ", 0, PAGE_SIZE) in filesystem.asked
        assert w.process.pread(fd, 200, 0) == PATTERN[:100] + b"x" * 10 + PATTERN[110:200]


def test_behind_the_end_nothing_is_read() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 10, 9 * PAGE_SIZE + 100)
        assert "READ" not in [one[0] for one in filesystem.asked]
        assert w.process.pread(fd, 200, 9 * PAGE_SIZE) == bytes(100) + b"x" * 10


def test_size_and_mtime_are_the_kernels_own() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        before = w.process.fstat(fd)
        w.process.pwrite(fd, b"x" * 10, 8 * PAGE_SIZE)
        w.kernel.advance(2)
        after = w.process.fstat(fd)
        assert after.st_size == 8 * PAGE_SIZE + 10
        assert after.st_mtime_ns > before.st_mtime_ns
        assert len(w.contents()) == 8 * PAGE_SIZE
        w.process.fsync(fd)
        assert filesystem.getattr(after.st_ino, None).mtime_ns == w.process.fstat(fd).st_mtime_ns


def test_the_last_page_is_written_up_to_the_files_end() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 10, 8 * PAGE_SIZE)
        w.process.fsync(fd)
        assert writes(filesystem) == [(8 * PAGE_SIZE, 10)]


def test_o_append_appends_to_the_kernels_size() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open(flags=os.O_RDWR | os.O_APPEND | os.O_TRUNC)
        w.process.write(fd, b"one")
        w.process.write(fd, b"two")
        assert w.process.pread(fd, 10, 0) == b"onetwo"


def test_what_is_cut_off_is_not_written() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * 8 * PAGE_SIZE, 0)
        w.process.ftruncate(fd, PAGE_SIZE)
        w.process.close(fd)
        assert writes(filesystem) == [(0, PAGE_SIZE)]
        assert w.contents() == b"x" * PAGE_SIZE


def test_a_failed_write_is_told_by_fsync_to_each_open_file_once() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        one, two = w.open(), w.open()
        w.process.pwrite(one, b"x" * PAGE_SIZE, 0)
        filesystem.fail["WRITE"] = errno.ENOSPC
        for fd in (one, two):
            with pytest.raises(OSError, match="did not reach") as caught:
                w.process.fsync(fd)
            assert caught.value.errno == errno.ENOSPC
            w.process.fsync(fd)


def test_a_failed_write_is_told_by_close() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x" * PAGE_SIZE, 0)
        filesystem.fail["WRITE"] = errno.EIO
        with pytest.raises(OSError, match="did not reach") as caught:
            w.process.close(fd)
        assert caught.value.errno == errno.EIO


def test_too_many_dirty_pages_are_written_by_who_made_them() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        w.kernel.page_lru.dirty_limit = 10
        fd = w.open()
        for page in range(40):
            w.process.pwrite(fd, b"x" * PAGE_SIZE, page * PAGE_SIZE)
            assert w.kernel.page_lru.dirty <= 10
        assert len(writes(filesystem)) >= 3


def test_sync_writes_files_in_the_order_in_which_they_were_made_dirty() -> None:
    names = [f"f{number}" for number in (3, 1, 4, 5, 9, 2, 6, 8)]
    filesystem = WritingBack(dict.fromkeys(names, b""))
    with world(filesystem) as w:
        for name in names:
            w.process.write(w.open(f"/{name}"), name.encode())
        w.process.sync()
        assert filesystem.bodies == [name.encode() for name in names]


def test_what_copies_or_removes_ranges_finds_what_was_written() -> None:
    filesystem = WritingBack({"f": PATTERN[: 2 * PAGE_SIZE], "g": b""})
    with world(filesystem) as w:
        fd, target = w.open(), w.open("/g")
        w.process.pwrite(fd, b"new", 0)
        assert w.process.copy_file_range(fd, target, 10, 0, 0) == 10
        assert w.process.pread(target, 10, 0) == b"new" + PATTERN[3:10]
        w.process.fallocate(fd, 3, 1, 1)
        assert w.process.pread(fd, 4, 0) == b"n\0w" + PATTERN[3:4]


def test_chmod_comes_after_what_was_written() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"new", 0)
        filesystem.names()
        w.process.fchmod(fd, 0o600)
        assert filesystem.names() == ["WRITE", "SETATTR", "SETATTR"]


def test_a_process_that_ends_leaves_nothing_dirty() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pwrite(fd, b"new", 0)
        w.process.exit()
        assert w.contents()[:3] == b"new"
        assert not w.kernel.page_lru.dirty


def test_direct_reads_find_what_was_written() -> None:
    filesystem = WritingBack()
    with world(filesystem) as w:
        cached, direct = w.open(), w.open(flags=os.O_RDONLY | os.O_DIRECT)
        w.process.pwrite(cached, b"new", 0)
        assert w.process.pread(direct, 3, 0) == b"new"


class Slow(WritingBack):
    """WRITE waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, *args: object) -> object:
        self.go_on.wait(20)
        return super().write(*args)


def test_a_page_can_be_written_to_while_it_is_written_back_and_is_written_again() -> None:
    filesystem = Slow()
    with world(filesystem, "threads") as w:
        fd = w.open()
        w.process.pwrite(fd, b"a" * PAGE_SIZE, 0)
        syncing = threading.Thread(target=lambda: w.process.syncfs(fd) or w.process.fsync(fd))
        syncing.start()
        wait_until(lambda: writes(filesystem) == [(0, PAGE_SIZE)])
        other = w.kernel.process(uid=0, gid=0)
        inode = w.mount.sb.inodes[2]
        assert inode.pages is not None
        assert inode.pages.pages[0].writeback is not None
        waits = w.kernel.graph().waits
        assert any("writeback" in waiting.what for waiting in waits.values())
        filesystem.go_on.set()
        syncing.join(20)
        again = other.open("/f", os.O_RDWR)
        other.pwrite(again, b"b" * PAGE_SIZE, 0)
        other.close(again)
        assert w.contents()[:PAGE_SIZE] == b"b" * PAGE_SIZE
        assert len(writes(filesystem)) == 2


def test_a_process_that_is_killed_in_close_leaves_its_writes_and_flush_behind() -> None:
    filesystem = Slow()
    with world(filesystem, "threads") as w:
        fd = w.open()
        w.process.pwrite(fd, b"new", 0)
        closing, outcome = in_thread(lambda: w.process.close(fd))
        wait_until(lambda: bool(writes(filesystem)))
        w.process.kill(9)
        closing.join(20)
        assert isinstance(outcome[0], InterruptedError)
        filesystem.go_on.set()
        wait_until(lambda: ("RELEASE",) in filesystem.asked)
        assert ("FLUSH",) in filesystem.asked
        assert w.contents()[:3] == b"new"


def test_an_abort_ends_what_waits_for_writeback_and_leaves_nothing_dirty() -> None:
    filesystem = Slow()
    with world(filesystem, "threads") as w:
        fd = w.open()
        w.process.pwrite(fd, b"new", 0)
        syncing, outcome = in_thread(lambda: w.process.fsync(fd))
        wait_until(lambda: bool(writes(filesystem)))
        w.mount.abort()
        syncing.join(20)
        assert isinstance(outcome[0], OSError)
        assert not w.kernel.page_lru.dirty
        filesystem.go_on.set()
    assert not w.kernel.page_lru.pages


def test_what_is_done_to_a_name_changes_the_kernels_own_ctime() -> None:
    changes = (
        lambda w: w.process.link("/f", "/g"),
        lambda w: w.process.rename("/f", "/h"),
        lambda w: w.process.unlink("/g"),
        lambda w: w.process.setxattr("/h", "user.x", b""),
        lambda w: w.process.removexattr("/h", "user.x"),
    )
    with world(WritingBack()) as w:
        fd = w.open()
        w.process.pwrite(fd, b"x", 0)
        for change in changes:
            before = w.process.fstat(fd)
            change(w)
            after = w.process.fstat(fd)
            assert after.st_ctime_ns > before.st_ctime_ns
            assert after.st_mtime_ns == before.st_mtime_ns


def test_what_is_done_to_the_contents_changes_the_kernels_own_mtime() -> None:
    with world(WritingBack()) as w:
        fd = w.open()
        other = w.process.open("/source", os.O_RDWR | os.O_CREAT)
        w.process.pwrite(other, b"source", 0)
        changes = (
            lambda: w.process.close(w.process.open("/f", os.O_WRONLY | os.O_TRUNC)),
            lambda: w.process.fallocate(fd, 1, 0, 10),
            lambda: w.process.copy_file_range(other, fd, 6, 0, 0),
        )
        for change in changes:
            before = w.process.fstat(fd)
            change()
            assert w.process.fstat(fd).st_mtime_ns > before.st_mtime_ns


def test_a_write_that_takes_set_id_bits_and_so_is_not_delayed_changes_the_kernels_own_mtime() -> None:
    with Kernel() as kernel:
        filesystem = MemoryFS({"f": b""})
        settings = filesystem.settings
        filesystem.settings = dataclasses.replace(settings, flags=settings.flags | InitFlag.WRITEBACK_CACHE)
        kernel.mount(filesystem, "/")
        process = kernel.process(uid=0, gid=0)
        fd = process.open("/f", os.O_RDWR)
        process.fchmod(fd, 0o4777)
        process.setresuid(1234, 1234, 1234)
        before = process.fstat(fd)
        process.pwrite(fd, b"x", 0)
        after = process.fstat(fd)
        assert after.st_mtime_ns > before.st_mtime_ns
        assert after.st_mode & 0o7777 == 0o777
