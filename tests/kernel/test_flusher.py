"""Dirty pages are written back when their time has come, or when there are too many: at the times at which Linux does it."""

from __future__ import annotations

import os

import pytest
from cached import Recorded, World, WritingBack, world
from conftest import wait_until

from fusewire import Kernel, Process
from fusewire.kernel.vfs.page_cache import PageCache
from fusewire.testing import MockDaemon, attr, entry, opened
from fusewire.wire.flags import PAGE_SIZE, InitFlag


def written(w: World) -> list[str]:
    return [name for name in w.filesystem.names() if name in ("WRITE", "SETATTR")]


def test_what_is_dirty_for_thirty_seconds_is_written_and_then_its_times() -> None:
    with world(WritingBack({"f": b""})) as w:
        fd = w.open()
        w.process.write(fd, b"x" * 10_000)
        w.kernel.advance(29.9)
        assert written(w) == []
        w.kernel.advance(0.2)
        assert written(w) == ["WRITE", "SETATTR"]
        assert w.contents() == b"x" * 10_000
        w.kernel.advance(100)
        assert written(w) == []


def test_that_it_is_written_to_again_does_not_put_it_off() -> None:
    with world(WritingBack({"f": b""})) as w:
        fd = w.open()
        for _ in range(31):
            w.process.pwrite(fd, b"x", 0)
            w.kernel.advance(1)
        assert written(w) == ["WRITE", "SETATTR"]


def test_time_is_looked_at_every_five_seconds_from_the_first_that_is_dirty() -> None:
    with world(WritingBack({"f": b"", "g": b""})) as w:
        w.process.write(w.open("/f"), b"x")
        w.kernel.advance(7)
        w.process.write(w.open("/g"), b"y")
        w.kernel.advance(23.1)
        assert written(w) == ["WRITE", "SETATTR"]
        w.kernel.advance(9.7)  # 39.8 since the first: its own thirty seconds are over, but no tick came
        assert written(w) == []
        w.kernel.advance(0.3)
        assert written(w) == ["WRITE", "SETATTR"]
        assert w.contents("g") == b"y"


def test_what_was_written_in_time_is_not_written_again() -> None:
    with world(WritingBack({"f": b""})) as w:
        fd = w.open()
        w.process.write(fd, b"x")
        w.process.fsync(fd)
        assert written(w) == ["WRITE", "SETATTR"]
        w.kernel.advance(29)
        w.process.write(fd, b"y")
        w.kernel.advance(29)
        assert written(w) == []
        w.kernel.advance(2)
        assert written(w) == ["WRITE", "SETATTR"]


def test_stores_to_mapped_memory_are_written_too() -> None:
    with world(Recorded()) as w:
        mapping = w.process.mmap(w.open(), PAGE_SIZE)
        mapping[0] = 99
        w.kernel.advance(31)
        assert written(w) == ["WRITE"]
        assert w.contents()[0] == 99
        mapping[0] = 98  # and are seen anew
        w.kernel.advance(31)
        assert w.contents()[0] == 98


def test_both_times_can_be_set() -> None:
    with world(WritingBack({"f": b""})) as w:
        fd = w.open()
        w.process.write(fd, b"x")
        w.kernel.flusher.dirty_writeback = 1
        w.kernel.flusher.dirty_expire = 2.5
        w.kernel.advance(2.9)
        assert written(w) == []
        w.kernel.advance(0.2)
        assert written(w) == ["WRITE", "SETATTR"]
        w.kernel.flusher.dirty_writeback = 0
        w.process.write(fd, b"x")
        w.kernel.advance(1000)
        assert written(w) == []


def test_too_many_are_written_at_once() -> None:
    with world(WritingBack({"f": b""})) as w:
        w.kernel.flusher.background = 4
        fd = w.open()
        w.process.write(fd, bytes(4 * PAGE_SIZE))
        assert written(w) == []
        w.process.write(fd, b"x")
        assert written(w) == ["WRITE", "SETATTR"]


def test_a_write_that_fails_is_told_by_fsync() -> None:
    with world(WritingBack({"f": b""})) as w:
        fd = w.open()
        w.process.write(fd, b"x")
        w.filesystem.fail["WRITE"] = 28
        w.kernel.advance(31)
        with pytest.raises(OSError, match="did not reach"):
            w.process.fsync(fd)


def test_an_unmount_leaves_nothing_to_write() -> None:
    with world(WritingBack({"f": b""})) as w:
        w.process.write(w.open(), b"x")
        w.mount.abort()
        w.kernel.advance(31)
        w.process.exit()
        w.mount.end()
        w.kernel.advance(100)


def test_on_threads_it_is_the_real_clock() -> None:
    with world(WritingBack({"f": b""}), "threads") as w:
        w.kernel.flusher.dirty_writeback = w.kernel.flusher.dirty_expire = 0.01
        w.process.write(w.open(), b"x")
        wait_until(lambda: w.contents() == b"x")


@pytest.mark.mock_daemon(flags=InitFlag.WRITEBACK_CACHE | InitFlag.HANDLE_KILLPRIV_V2)
def test_one_task_writes_for_a_filesystem_and_holds_up_no_other_one(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    other = WritingBack({"h": b""})
    mock_daemon.default.lookup(1, b"mnt").reply(entry(9, 0o40755, valid=1000))
    fuse_kernel.mount(other, "/mnt")
    for name, nodeid in ((b"f", 2), (b"g", 3)):
        mock_daemon.default.lookup(1, name).reply(entry(nodeid, valid=1000))
        mock_daemon.default.open(nodeid).reply(opened(nodeid))
        mock_daemon.default.write(nodeid).reply(size=1)
        mock_daemon.default.setattr(nodeid).reply(attr(nodeid, size=1))
    held = mock_daemon.expect.setattr(2).hold()
    for path in ("/f", "/g", "/mnt/h"):
        fuse_process.write(fuse_process.open(path, os.O_WRONLY), b"x")
        fuse_kernel.advance(36)
    assert [task.comm for task in fuse_kernel.driver.tasks].count("flush") == 1
    assert [asked.nodeid for asked in mock_daemon.came("write")] == [2]
    assert "WRITE" in other.names()
    held.asked[0].reply(attr(2, size=1))
    fuse_kernel.advance(6)
    assert [asked.nodeid for asked in mock_daemon.came("write")] == [2, 3]


@pytest.mark.mock_daemon(flags=InitFlag.WRITEBACK_CACHE | InitFlag.HANDLE_KILLPRIV_V2)
def test_too_many_are_written_at_once_while_another_filesystem_does_not_answer(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    other = WritingBack({"h": b""})
    mock_daemon.default.lookup(1, b"mnt").reply(entry(9, 0o40755, valid=1000))
    fuse_kernel.mount(other, "/mnt")
    mock_daemon.default.lookup(1, b"f").reply(entry(2, valid=1000))
    mock_daemon.default.open(2).reply(opened(2))
    mock_daemon.default.write(2).reply(size=1)
    held = mock_daemon.expect.setattr(2).hold()
    fuse_kernel.flusher.background = 0
    fuse_process.write(fuse_process.open("/f", os.O_WRONLY), b"x")
    assert held.asked
    fuse_process.write(fuse_process.open("/mnt/h", os.O_WRONLY), b"x")
    assert "WRITE" in other.names()
    held.asked[0].reply(attr(2, size=1))


@pytest.mark.parametrize("fuse_kernel", ["inline", "threads"], indirect=True)
@pytest.mark.mock_daemon(flags=InitFlag.WRITEBACK_CACHE | InitFlag.HANDLE_KILLPRIV_V2)
def test_a_daemon_that_does_not_answer_holds_up_nobody_but_who_waits_for_it(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    for name, nodeid in ((b"f", 2), (b"g", 3)):
        mock_daemon.default.lookup(1, name).reply(entry(nodeid, valid=60))
        mock_daemon.default.open(nodeid).reply(opened(nodeid))
        mock_daemon.default.setattr(nodeid).reply(attr(nodeid, size=1))
    fuse_kernel.flusher.dirty_writeback = fuse_kernel.flusher.dirty_expire = 0.01
    held = [mock_daemon.expect.write(nodeid).hold() for nodeid in (2, 3)]
    for path in ("/f", "/g"):
        fuse_process.write(fuse_process.open(path, os.O_RDWR), b"x")
    if fuse_kernel.driver.more_may_come is False:
        fuse_kernel.advance(1)
    for expectation in held:
        assert expectation.wait().data == b"x"
    assert fuse_process.pread(0, 1, 0) == b"x"
    for expectation in held:
        expectation.asked[0].reply(size=1)


def test_the_flusher_does_not_come_between_what_another_task_does_between_two_waits() -> None:
    with world(WritingBack({"f": bytes(16 * PAGE_SIZE)}), trace=True) as w:
        fd = w.open()
        w.process.pread(fd, 16 * PAGE_SIZE, 0)
        mapping = w.process.mmap(fd, 16 * PAGE_SIZE)
        w.kernel.flusher.background = 2
        assert w.kernel.events is not None
        events, lru, inside = w.kernel.events, w.kernel.page_lru, set()
        count_dirty = lru.count_dirty

        def counted(cache: PageCache) -> None:
            before = len(list(events))
            count_dirty(cache)
            inside.update(event.pid for event in list(events)[before:])

        lru.count_dirty = counted  # type: ignore[method-assign]
        for page in range(16):
            mapping[page * PAGE_SIZE] = 1
        assert not inside
        assert any(one[0] == "WRITE" for one in w.filesystem.asked)


def test_on_threads_nothing_is_left_of_a_flush() -> None:
    with world(WritingBack({"f": b""}), "threads") as w:
        flusher, workers = w.kernel.flusher, w.kernel.driver._workers  # type: ignore[attr-defined]
        before = len(workers)
        flusher.dirty_writeback, flusher.dirty_expire = 0.01, 0.0
        fd = w.open()
        for _ in range(3):
            w.process.pwrite(fd, b"x", 0)
            wait_until(lambda: "WRITE" in w.filesystem.names())
        wait_until(lambda: not flusher.running and len(workers) <= before)
