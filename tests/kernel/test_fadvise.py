"""What a program says it will read, and what it moves into a pipe: the READs of Linux 6.18, and the same of our kernel half."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cached import Recorded, Tuned, reads_on_linux, world

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon, entry, opened
from fusewire.wire.flags import PAGE_SIZE


class Case(NamedTuple):
    """What is done, in pages: ("advise", first, count, advice), ("read", first, count), ("move", first, count) into a pipe;
    and the READs: first page, how many."""

    done: Sequence[tuple[Any, ...]]
    asked: list[tuple[int, int]]


RANDOM, SEQUENTIAL, WILLNEED, DONTNEED, NORMAL = (
    os.POSIX_FADV_RANDOM, os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED, os.POSIX_FADV_NORMAL,
)  # fmt: skip
CASES = {
    "at random": Case([("advise", 0, 0, RANDOM), ("read", 0, 2), ("read", 100, 3)], [(0, 2), (100, 3)]),
    "at random no more": Case(
        [("advise", 0, 0, RANDOM), ("read", 100, 1), ("advise", 0, 0, NORMAL), ("read", 0, 1)], [(100, 1), (0, 4)]
    ),
    "in order": Case(
        [("advise", 0, 0, SEQUENTIAL), *(("read", page, 1) for page in range(40))],
        [(0, 4), (4, 8), (12, 16), (28, 32), (60, 64)],
    ),
    "in order, not advised": Case(
        [("read", page, 1) for page in range(40)], [(0, 4), (4, 8), (12, 16), (28, 32), (60, 32)]
    ),
    "what will be read": Case([("advise", 10, 20, WILLNEED), ("read", 12, 3)], [(10, 20)]),
    "what will be read, and is more than is read ahead": Case([("advise", 10, 100, WILLNEED)], [(10, 32)]),
    "what is not read again": Case(
        [("advise", 0, 16, WILLNEED), ("advise", 4, 4, DONTNEED), ("advise", 0, 0, RANDOM), ("read", 0, 16)],
        [(0, 16), (4, 4)],
    ),
    "moved": Case([("move", 0, 4), ("move", 4, 4)], [(0, 8), (8, 16)]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_advice_asks_what_linux_asks(case: Case) -> None:
    filesystem = Tuned()
    with world(filesystem) as w:
        process = w.process
        process.truncate("/f", filesystem.PAGES * PAGE_SIZE)
        fd = w.open()
        out, into = process.pipe()
        for what, *args in case.done:
            if what == "advise":
                first, count, advice = args
                process.posix_fadvise(fd, first * PAGE_SIZE, count * PAGE_SIZE, advice)
            elif what == "read":
                first, count = args
                assert process.pread(fd, count * PAGE_SIZE, first * PAGE_SIZE) == bytes(count * PAGE_SIZE)
            else:
                first, count = args
                assert process.splice(fd, into, count * PAGE_SIZE, first * PAGE_SIZE) == count * PAGE_SIZE
                assert process.read(out, count * PAGE_SIZE) == bytes(count * PAGE_SIZE)
        assert filesystem.reads() == case.asked


@pytest.mark.parametrize("advice", [WILLNEED, DONTNEED])
def test_what_lies_before_the_file_is_neither_read_nor_forgotten(advice: int) -> None:
    filesystem = Recorded()
    with world(filesystem) as w:
        fd = w.open()
        w.process.pread(fd, PAGE_SIZE, 0)
        filesystem.asked.clear()
        w.process.posix_fadvise(fd, -PAGE_SIZE, 2 * PAGE_SIZE, advice)
        w.process.pread(fd, PAGE_SIZE, 0)
        assert filesystem.asked == []


@pytest.mark.mock_daemon(flags=InitFlag.ASYNC_READ, max_readahead=32 * PAGE_SIZE)
def test_a_directory_that_will_be_read_is_not_read_as_a_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.default.lookup(1, b"d").reply(entry(2, mode=stat.S_IFDIR | 0o755, size=PAGE_SIZE, valid=60))
    mock_daemon.default.opendir(2).reply(opened(1))
    fd = fuse_process.open("/d", os.O_RDONLY | os.O_DIRECTORY)
    fuse_process.posix_fadvise(fd, 0, 0, WILLNEED)
    assert "READ" not in mock_daemon.names


READER = """
fd = os.open("f", os.O_RDWR)
out, into = os.pipe()
for what, first, count, *rest in DONE:
    if what == "advise":
        os.posix_fadvise(fd, first * 4096, count * 4096, *rest)
        if rest == [os.POSIX_FADV_WILLNEED]:
            os.pread(fd, 4096, first * 4096)  # that READ has come
    elif what == "read":
        os.pread(fd, count * 4096, first * 4096)
    else:
        os.splice(fd, into, count * 4096, first * 4096)
        os.read(out, count * 4096)
"""


@pytest.mark.real
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_linux_asks_that(case: Case, mountpoint: Path) -> None:
    reader = READER.replace("DONE", str(list(case.done)))
    assert reads_on_linux(mountpoint, reader, len(case.asked)) == case.asked
