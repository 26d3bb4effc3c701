"""What is read ahead when mapped memory is touched: the READs of Linux 6.18, and the same of our kernel half."""

from __future__ import annotations

import mmap as real
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from cached import Tuned, reads_on_linux, world

from fusewire.wire.flags import PAGE_SIZE

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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_touching_mapped_memory_asks_what_linux_asks(case: Case) -> None:
    filesystem = Tuned()
    with world(filesystem) as w:
        w.process.truncate("/f", filesystem.PAGES * PAGE_SIZE)
        mapping = w.process.mmap(w.open(), filesystem.PAGES * PAGE_SIZE, flags=case.flags)
        mapping.madvise(case.advice)
        for page in case.touched:
            if page < 0:
                mapping[-page * PAGE_SIZE] = 1
            else:
                assert mapping[page * PAGE_SIZE] == 0
        assert filesystem.reads() == case.asked


READER = """
import mmap
fd = os.open("f", os.O_RDWR)
memory = mmap.mmap(fd, 0, flags=FLAGS)
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
    reader = READER
    for name, value in {"FLAGS": case.flags, "ADVICE": case.advice, "TOUCHED": list(case.touched)}.items():
        reader = reader.replace(name, str(value))
    assert reads_on_linux(mountpoint, reader, len(case.asked)) == case.asked
