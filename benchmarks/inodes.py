"""What cached inodes cost on our kernel half: ``python -m benchmarks.inodes FEW MANY``.

Bytes each, and how long a stat and a lookup take where so many are cached. Prints one line of JSON.
"""

from __future__ import annotations

import gc
import json
import random
import stat
import sys
import tracemalloc
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from fusewire import Kernel
from fusewire.filesystems import MemoryFS

from .workloads import repeat

ROUNDS, SECONDS = 15, 0.05
CACHED = 3600.0  # seconds: longer than any of this takes


class Tree:
    """``count`` files in directories of ``WIDTH``, on a kernel half of their own, with nothing cached yet."""

    WIDTH = 1000

    def __init__(self, count: int) -> None:
        self.kernel = Kernel("inline")
        filesystem = MemoryFS()
        filesystem.entry_timeout = filesystem.attr_timeout = CACHED
        self.kernel.mount(filesystem, "/")
        self.program = program = self.kernel.process()
        self.paths = [f"/{number // self.WIDTH}/{number}" for number in range(count)]
        for path in self.paths:
            if path.endswith("000") or path == "/0/0":
                program.mkdir(path.rpartition("/")[0])
            program.mknod(path, stat.S_IFREG | 0o644)
        random.Random(0).shuffle(self.paths)
        self.kernel.drop_caches()

    def cache(self) -> None:
        """All of them."""
        for path in self.paths:
            self.program.stat(path)

    def measures(self) -> dict[str, Callable[[], object]]:
        program, paths = self.program, cycle(self.paths)
        absent = cycle([f"{path}-absent" for path in self.paths])
        return {
            "stat": lambda: program.stat(next(paths)),
            "lookup": lambda: program.access(next(absent), 0),
        }


def measure(few: int, many: int) -> dict[str, Any]:
    """Bytes per cached inode, and for each measure its microseconds at ``few`` and at ``many`` and the ratio of the two."""
    sizes = Tree(few), Tree(many)
    gc.collect()
    tracemalloc.start()
    sizes[1].cache()
    gc.collect()
    each = tracemalloc.get_traced_memory()[0] / many
    tracemalloc.stop()
    sizes[0].cache()
    micros: dict[str, list[tuple[float, float]]] = {}
    measures = [tree.measures() for tree in sizes]
    for _ in range(ROUNDS):
        for name in measures[0]:
            micros.setdefault(name, []).append(tuple(repeat(one[name], SECONDS) for one in measures))  # type: ignore[arg-type]
    return {
        "few": few, "many": many, "bytes": each, "linux": _on_linux(),
        "micros": {
            name: (median(a for a, _ in pairs), median(b for _, b in pairs), median(b / a for a, b in pairs))
            for name, pairs in micros.items()
        },
    }  # fmt: skip


def _on_linux() -> int:
    """Bytes that Linux takes for an inode of FUSE and a dentry; 0 where it does not tell (to root only)."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()
    except OSError:
        return 0
    sizes = {fields[0]: int(fields[3]) for line in lines[2:] if (fields := line.split())}
    return sizes["fuse_inode"] + sizes["dentry"] if "fuse_inode" in sizes else 0


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
