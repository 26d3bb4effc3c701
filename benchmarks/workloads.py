"""What is measured: each measure uses a filesystem for some time, and returns microseconds per operation.

``program`` is used like ``os``: it is the module itself on a mount, a ``fusewire.Process`` in process.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count, cycle
from time import perf_counter_ns
from typing import Any, Literal, NamedTuple

SMALL, MIDDLE, LARGE = 4096, 1 << 17, 1 << 20
FILE_SIZE = 8 * LARGE  # all of it fits in the processor's cache
BIG_SIZE = 256 * LARGE  # and of this one it does not
ENTRIES, MANY = 1000, 100_000
Micros = dict[str, float]


def repeat(action: Callable[[], object], seconds: float) -> float:
    """Microseconds that ``action`` takes, done again and again for about ``seconds``, and at least once."""
    end = perf_counter_ns() + seconds * 1e9
    done, batch, spent = 0, 1, 0
    while True:
        start = perf_counter_ns()
        for _ in range(batch):
            action()
        now = perf_counter_ns()
        spent += now - start
        done += batch
        if now >= end:
            return spent / done / 1000
        batch = min(batch * 2, 64)


@contextmanager
def opened(program: Any, path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """An open file."""
    fd = program.open(path, flags)
    try:
        yield fd
    finally:
        program.close(fd)


def stat_(program: Any, place: str, seconds: float) -> Micros:
    """fstat of an open file: one GETATTR, where attributes are not cached."""
    with opened(program, f"{place}/file") as fd:
        return {"stat": repeat(lambda: program.fstat(fd), seconds)}


def stat_cached(program: Any, place: str, seconds: float) -> Micros:
    """stat of a path whose name and attributes are cached: the daemon is not asked."""
    path = f"{place}/file"
    program.stat(path)
    return {"stat-cached": repeat(lambda: program.stat(path), seconds)}


def lookup(program: Any, place: str, seconds: float) -> Micros:
    """A name that is not there: one LOOKUP. access(2), since the error of stat costs Python more."""
    path = f"{place}/absent"
    return {"lookup": repeat(lambda: program.access(path, os.F_OK), seconds)}


def open_close(program: Any, place: str, seconds: float) -> Micros:
    """open(2) and close(2)."""
    path = f"{place}/file"
    return {"open": repeat(lambda: program.close(program.open(path, os.O_RDONLY)), seconds)}


def open_read_close(program: Any, place: str, seconds: float) -> Micros:
    """open(2), read(2) of 4 KiB and close(2)."""
    path = f"{place}/file"

    def once() -> None:
        fd = program.open(path, os.O_RDONLY)
        program.read(fd, SMALL)
        program.close(fd)

    return {"open-read": repeat(once, seconds)}


_serial = count()


def names(program: Any, place: str, seconds: float) -> Micros:
    """Files made (and closed), renamed and removed, ten of each in turn."""
    spent, done = [0, 0, 0], 0
    while sum(spent) < seconds * 1e9:
        made = [f"{place}/made-{next(_serial)}" for _ in range(10)]
        moved = [f"{path}-moved" for path in made]
        times = [perf_counter_ns()]
        for path in made:
            program.close(program.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        times.append(perf_counter_ns())
        for old, new in zip(made, moved, strict=True):
            program.rename(old, new)
        times.append(perf_counter_ns())
        for path in moved:
            program.unlink(path)
        times.append(perf_counter_ns())
        spent = [total + after - before for total, before, after in zip(spent, times, times[1:], strict=False)]
        done += len(made)
    return dict(zip(("create", "rename", "unlink"), (total / done / 1000 for total in spent), strict=True))


def readdir(program: Any, place: str, seconds: float) -> Micros:
    """A directory of 1,000 listed; per entry."""
    path = f"{place}/thousand"
    return {"readdir": repeat(lambda: program.listdir(path), seconds) / ENTRIES}


def readdir_many(program: Any, place: str, seconds: float) -> Micros:
    """A directory of 100,000 listed; per entry."""
    path = f"{place}/many"
    return {"readdir-100k": repeat(lambda: program.listdir(path), seconds) / MANY}


def ls(program: Any, place: str, seconds: float) -> Micros:
    """What ``ls -l`` does in a directory of 1,000: scandir and a stat of each; per entry. With caches on they are warm."""
    path = f"{place}/thousand"

    def once() -> None:
        with program.scandir(path) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)

    once()
    return {"ls": repeat(once, seconds) / ENTRIES}


def _offsets(size: int) -> Iterable[int]:
    return cycle(range(0, FILE_SIZE, size))


def _read(name: str, size: int) -> Measure:
    def measure(program: Any, place: str, seconds: float) -> Micros:
        offsets = iter(_offsets(size))
        with opened(program, f"{place}/file") as fd:
            return {name: repeat(lambda: program.pread(fd, size, next(offsets)), seconds)}

    return measure


def _read_big(name: str, size: int, *, shuffled: bool) -> Measure:
    """Of a file that the processor's cache does not hold, all of it in the page cache."""
    offsets = list(range(0, BIG_SIZE, size))
    if shuffled:
        random.Random(0).shuffle(offsets)

    def measure(program: Any, place: str, seconds: float) -> Micros:
        places = cycle(offsets)
        with opened(program, f"{place}/big") as fd:
            return {name: repeat(lambda: program.pread(fd, size, next(places)), seconds)}

    return measure


def _read_ahead(name: str, size: int) -> Measure:
    """Through the page cache, which is emptied before the file is read from the start: the kernel reads ahead."""

    def measure(program: Any, place: str, seconds: float) -> Micros:
        offsets = iter(_offsets(size))

        def once() -> None:
            offset = next(offsets)
            if not offset:
                program.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            program.pread(fd, size, offset)

        with opened(program, f"{place}/file") as fd:
            return {name: repeat(once, seconds)}

    return measure


def _write(name: str, size: int) -> Measure:
    def measure(program: Any, place: str, seconds: float) -> Micros:
        offsets, data = iter(_offsets(size)), bytes(size)
        with opened(program, f"{place}/written", os.O_WRONLY) as fd:
            return {name: repeat(lambda: program.pwrite(fd, data, next(offsets)), seconds)}

    return measure


Measure = Callable[[Any, str, float], Micros]
MEASURES: dict[str, Measure] = {
    "stat": stat_,
    "stat-cached": stat_cached,
    "lookup": lookup,
    "open": open_close,
    "open-read": open_read_close,
    "names": names,
    "readdir": readdir,
    "readdir-100k": readdir_many,
    "ls": ls,
    "read-4k": _read("read-4k", SMALL),
    "read-128k": _read("read-128k", MIDDLE),
    "read-1m": _read("read-1m", LARGE),
    "big-read-4k": _read_big("big-read-4k", SMALL, shuffled=False),
    "big-random-4k": _read_big("big-random-4k", SMALL, shuffled=True),
    "read-ahead-4k": _read_ahead("read-4k", SMALL),
    "read-ahead-1m": _read_ahead("read-1m", LARGE),
    "write-4k": _write("write-4k", SMALL),
    "write-1m": _write("write-1m", LARGE),
}


class Operation(NamedTuple):
    """A row: which measure it comes from with caches off, and with caches on (None: that would measure nothing of interest).
    ``compares``: libraries; our kernel's half with Linux's; or FUSE passthrough with the plain file."""

    title: str
    off: str | None
    on: str | None
    compares: Literal["libraries", "kernels", "backing"] = "libraries"


OPERATIONS = {
    "stat": Operation("stat (fstat of an open file)", "stat", None),
    "stat-cached": Operation("stat, cached", None, "stat-cached", "kernels"),
    "lookup": Operation("lookup of a missing name", "lookup", None),
    "open": Operation("open and close", "open", "open"),
    "open-read": Operation("open, read 4 KiB and close", "open-read", "open-read", "kernels"),
    "create": Operation("create and close", "names", "names"),
    "rename": Operation("rename", "names", "names"),
    "unlink": Operation("unlink", "names", "names"),
    "readdir": Operation("readdir of 1,000, per entry", "readdir", "readdir"),
    "readdir-100k": Operation("readdir of 100,000, per entry", "readdir-100k", None, "kernels"),
    "ls": Operation("ls -l of 1,000, per entry", "ls", "ls"),
    "read-4k": Operation("read 4 KiB", "read-4k", "read-ahead-4k"),
    "big-read-4k": Operation("read 4 KiB, on through 256 MiB", "big-read-4k", None, "backing"),
    "big-random-4k": Operation("read 4 KiB, at random in 256 MiB", "big-random-4k", None, "backing"),
    "read-128k": Operation("read 128 KiB", "read-128k", None),
    "read-1m": Operation("read 1 MiB", "read-1m", "read-ahead-1m"),
    "write-4k": Operation("write 4 KiB", "write-4k", "write-4k"),
    "write-1m": Operation("write 1 MiB", "write-1m", "write-1m"),
}


def prepare(program: Any, place: str, measures: list[str]) -> None:
    """Make the files that ``measures`` use."""
    contents = bytes(LARGE)
    for name in ("file", "written"):
        fd = program.open(f"{place}/{name}", os.O_CREAT | os.O_RDWR, 0o644)
        if any(measure.startswith(("read-", "write-", "open-read")) for measure in measures):
            for offset in range(0, FILE_SIZE, LARGE):
                program.pwrite(fd, contents, offset)
        program.close(fd)
    if any(measure.startswith("big-") for measure in measures):
        fd = program.open(f"{place}/big", os.O_CREAT | os.O_WRONLY, 0o644)
        for offset in range(0, BIG_SIZE, LARGE):
            program.pwrite(fd, contents, offset)
        program.close(fd)
    if {"readdir", "ls"} & set(measures):
        program.mkdir(f"{place}/thousand")
        for number in range(ENTRIES):
            program.close(program.open(f"{place}/thousand/entry-{number}", os.O_CREAT | os.O_WRONLY, 0o644))
    if "readdir-100k" in measures:
        program.mkdir(f"{place}/many")
        for number in range(MANY):
            program.mknod(f"{place}/many/entry-{number}", stat.S_IFREG | 0o644)
    assert stat.S_ISREG(program.stat(f"{place}/file").st_mode)
