"""Reading ahead: how much is asked for before it is wanted, and when it is not."""

from __future__ import annotations

import threading

from cached import PATTERN, Recorded, pages, world
from conftest import wait_until

from fusewire import InitFlag, Settings
from fusewire.wire.flags import PAGE_SIZE

LARGE = {"f": PATTERN[: 160 * PAGE_SIZE]}


class Tuned(Recorded):
    def __init__(self, **settings: object) -> None:
        super().__init__(LARGE)
        self.settings = Settings(**{"refused": InitFlag.AUTO_INVAL_DATA, **settings})  # type: ignore[arg-type]


def reads(filesystem: Recorded) -> list[tuple[int, int]]:
    """First page and number of pages of each READ."""
    return [(one[1] // PAGE_SIZE, one[2] // PAGE_SIZE) for one in filesystem.asked if one[0] == "READ"]


def test_the_first_read_of_a_file_asks_for_more_than_it_wants() -> None:
    with world(Tuned()) as w:
        w.process.pread(w.open(), 10, 0)
        assert reads(w.filesystem) == [(0, 4)]


def test_windows_grow_while_a_file_is_read_from_front_to_back_and_come_before_they_are_wanted() -> None:
    with world(Tuned()) as w:
        fd = w.open()
        for page in range(160):
            assert w.process.read(fd, PAGE_SIZE) == pages(page, page + 1)
            assert reads(w.filesystem)[-1][0] + reads(w.filesystem)[-1][1] > page
        asked = reads(w.filesystem)
        assert [count for _, count in asked[:4]] == [4, 8, 16, 32]
        assert max(count for _, count in asked) == 32
        assert sum(count for _, count in asked) == 160  # each page once


def test_reading_here_and_there_asks_for_what_is_wanted_and_no_more() -> None:
    with world(Tuned()) as w:
        fd = w.open()
        for page in (100, 20, 70):
            assert w.process.pread(fd, 10, page * PAGE_SIZE) == pages(page, page + 1)[:10]
        assert reads(w.filesystem) == [(100, 1), (20, 1), (70, 1)]


def test_nothing_is_read_behind_the_end() -> None:
    with world(Recorded({"f": PATTERN[:5000]})) as w:
        w.process.pread(w.open(), 10, 0)
        assert reads(w.filesystem) == [(0, 2)]


def test_a_read_that_wants_more_than_a_window_is_several_requests() -> None:
    with world(Tuned()) as w:
        assert w.process.pread(w.open(), 100 * PAGE_SIZE, 0) == pages(0, 100)
        asked = reads(w.filesystem)
        assert {count for _, count in asked} == {32}


def test_the_daemon_says_in_init_how_far() -> None:
    with world(Tuned(max_readahead=2 * PAGE_SIZE)) as w:
        w.process.pread(w.open(), 10, 0)
        assert reads(w.filesystem)[0][1] <= 2
    with world(Tuned(max_readahead=0)) as w:
        w.process.pread(w.open(), 10, 0)
        assert reads(w.filesystem) == [(0, 1)]


def test_without_async_read_the_reader_asks_and_waits_itself() -> None:
    for refused, background in ((InitFlag.ASYNC_READ, False), (InitFlag(0), True)):
        seen: list[bool] = []

        class Looks(Tuned):
            def read(self, *args: object) -> object:
                seen.extend(req.background for req in w.mount.connection.unused_list.in_use)
                return super().read(*args)

        with world(Looks(refused=InitFlag.AUTO_INVAL_DATA | refused)) as w:
            assert w.process.pread(w.open(), 10, 0) == PATTERN[:10]
            assert seen == [background]


def test_a_congested_connection_reads_only_what_is_wanted() -> None:
    with world(Tuned(congestion_threshold=1, max_background=1)) as w:
        fd = w.open()
        w.process.read(fd, PAGE_SIZE)
        background = w.mount.connection.background
        background.num_background += 1  # as if something else were under way
        w.process.read(fd, PAGE_SIZE)
        assert reads(w.filesystem) == [(0, 4)]
        background.num_background -= 1


def test_while_a_window_is_read_what_is_there_is_returned() -> None:
    class Slow(Tuned):
        go_on = threading.Event()

        def read(self, ino: int, fh: int, offset: int, size: int) -> object:
            if offset:
                self.go_on.wait(20)
            return super().read(ino, fh, offset, size)

    filesystem = Slow()
    with world(filesystem, "threads") as w:
        fd = w.open()
        for page in range(4):  # the second comes to the mark, and has the next window read
            assert w.process.read(fd, PAGE_SIZE) == pages(page, page + 1)
        wait_until(lambda: len(reads(filesystem)) == 2)
        filesystem.go_on.set()
        assert w.process.read(fd, PAGE_SIZE) == pages(4, 5)


def test_a_page_that_could_not_be_read_ahead_does_no_harm() -> None:
    with world(Tuned()) as w:
        fd = w.open()
        w.process.read(fd, PAGE_SIZE)
        w.filesystem.fail["READ"] = 5
        assert w.process.read(fd, PAGE_SIZE) == pages(1, 2)  # what follows cannot be had now
        w.filesystem.fail.clear()
        for page in range(2, 20):
            assert w.process.read(fd, PAGE_SIZE) == pages(page, page + 1)
