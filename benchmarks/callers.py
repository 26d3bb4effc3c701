"""How many callers our kernel half takes at once: ``python -m benchmarks.callers N``.

Each is a thread whose request is in flight while all others' are too. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from fusewire import Attributes, Kernel, Operations

STACK = 256 * 1024  # bytes


class Held(Operations):
    """Answers nothing until it is let go."""

    attr_timeout = 0.0

    def __init__(self) -> None:
        self.go = threading.Event()

    def getattr(self, ino: int, fh: int | None = None) -> Attributes:
        self.go.wait()
        return Attributes(ino=ino, mode=0o040755, nlink=2)


def measure(count: int) -> dict[str, float]:
    """``count`` callers: seconds until all are in flight, KiB each, seconds until all are answered then."""
    threading.stack_size(STACK)
    filesystem = Held()
    with Kernel("threads") as kernel:
        mount = kernel.mount(filesystem, "/m")
        process = kernel.process()
        before, start = _resident(), time.perf_counter()
        callers = [threading.Thread(target=process.stat, args=("/m",), daemon=True) for _ in range(count)]
        for caller in callers:
            caller.start()
        while mount.connection.num_waiting < count:
            time.sleep(0.01)
        started, kib = time.perf_counter(), (_resident() - before) / count
        filesystem.go.set()
        for caller in callers:
            caller.join()
        answered = time.perf_counter()
    return {"callers": count, "started": started - start, "kib": kib, "answered": answered - started}


def _resident() -> float:
    """KiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return float(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
