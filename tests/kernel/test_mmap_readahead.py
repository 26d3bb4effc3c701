"""What is read ahead when mapped memory is touched: the READs of Linux 6.18, and the same of our kernel half."""

from __future__ import annotations

import mmap as real
import random
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from cached import Recorded, world
from conftest import real_mount, wait_until

from fusewire import InitFlag, Settings
from fusewire.wire.flags import PAGE_SIZE

PAGES = 4096  # of the file
FAR = [at * 37 + 64 for at in range(108)]
random.Random(1).shuffle(FAR)
SHARED, PRIVATE = real.MAP_SHARED, real.MAP_PRIVATE


class Case(NamedTuple):
    """Pages that are touched, one after the other (written to, if negative), and the READs: first page, how many."""

    touched: Sequence[int]
    asked: list[tuple[int, int]]
    flags: int = SHARED
    advice: int = real.MADV_NORMAL


def around(page: int) -> tuple[int, int]:
    return page - 16, 32


def written(pages: Sequence[int]) -> list[int]:
    return [-page for page in pages]


CASES = {
    "one": Case([100], [(84, 32)]),
    "at the start": Case([5], [(0, 32)]),
    "at the end": Case([4095], [(4079, 17)]),
    "forwards from the start": Case(range(200), [(at, 32) for at in range(0, 256, 32)]),
    "forwards from the middle": Case(range(100, 300), [(at, 32) for at in range(84, 309, 32)]),
    "backwards": Case(range(300, 200, -1), [(284, 32), (267, 17), (250, 17), (233, 17), (216, 17), (199, 17)]),
    "here and there": Case(FAR[:105], [around(page) for page in FAR[:105]]),
    "what is touched at random": Case([100, 101, 50], [(100, 1), (101, 1), (50, 1)], advice=real.MADV_RANDOM),
    "what is touched in order": Case(
        range(100, 250), [(at, 32) for at in range(100, 229, 32)], advice=real.MADV_SEQUENTIAL
    ),
    "what will be touched": Case([], [(0, 32)], advice=real.MADV_WILLNEED),
    "stores": Case(written([100, 101, 140]), [(84, 32), (124, 32)]),
    "private stores": Case(written([100, 101, 140]), [(84, 32), (124, 32)], PRIVATE),
    "stores here and there, until that does not pay": Case(
        written(FAR), [around(page) for page in FAR[:100]] + [(page, 1) for page in FAR[100:]]
    ),
    "private stores here and there": Case(
        written(FAR), [around(page) for page in FAR[:100]] + [(page, 1) for page in FAR[100:]], PRIVATE
    ),
    "stores here and there, then where something is, then here and there": Case(
        written([*FAR[:104], *(page + 1 for page in FAR[:30]), *FAR[104:]]),
        [around(page) for page in FAR[:100]]
        + [(page, 1) for page in FAR[100:104]]
        + [around(page) for page in FAR[104:]],
    ),
}


class Tuned(Recorded):
    settings = Settings(refused=InitFlag.AUTO_INVAL_DATA)

    def __init__(self) -> None:
        super().__init__({"f": b""})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_touching_mapped_memory_asks_what_linux_asks(case: Case) -> None:
    with world(Tuned()) as w:
        w.process.truncate("/f", PAGES * PAGE_SIZE)
        mapping = w.process.mmap(w.open(), PAGES * PAGE_SIZE, flags=case.flags)
        mapping.madvise(case.advice)
        for page in case.touched:
            if page < 0:
                mapping[-page * PAGE_SIZE] = 1
            else:
                assert mapping[page * PAGE_SIZE] == 0
        reads = [(one[1] // PAGE_SIZE, one[2] // PAGE_SIZE) for one in w.filesystem.asked if one[0] == "READ"]
        assert reads == case.asked


DAEMON = """
import sys, fusewire
from fusewire.filesystems import MemoryFS

class Recorded(MemoryFS):
    entry_timeout = attr_timeout = 1000.0
    settings = fusewire.Settings(refused=fusewire.InitFlag.AUTO_INVAL_DATA)
    log = open(sys.argv[1] + ".log", "w", buffering=1)

    def read(self, ino, fh, offset, size):
        self.log.write(f"{offset // 4096} {size // 4096}\\n")
        return super().read(ino, fh, offset, size)

fusewire.run(Recorded({"f": b""}), sys.argv[1])
"""
READER = """
import mmap, os
os.truncate("f", PAGES * 4096)
fd = os.open("f", os.O_RDWR)
memory = mmap.mmap(fd, PAGES * 4096, flags=FLAGS)
memory.madvise(ADVICE)
for page in TOUCHED:
    if page < 0:
        memory[-page * 4096] = 1
    else:
        memory[page * 4096]
"""


@pytest.mark.real
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_linux_asks_that(case: Case, mountpoint: Path) -> None:
    log = Path(f"{mountpoint}.log")
    names = {"PAGES": PAGES, "FLAGS": case.flags, "ADVICE": case.advice, "TOUCHED": list(case.touched)}
    reader = textwrap.dedent(READER)
    for name, value in names.items():
        reader = reader.replace(name, str(value))
    with real_mount(mountpoint, DAEMON) as mounted:
        mounted.run("python3", "-c", reader)

        def asked() -> list[tuple[int, ...]]:
            return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]

        wait_until(lambda: len(asked()) >= len(case.asked))
        assert asked() == case.asked
