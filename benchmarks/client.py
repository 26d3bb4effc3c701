"""The program that uses the filesystems, a process of its own: it takes orders as lines of JSON, and answers each with one.

``python -m benchmarks.client`` works on mounts; with ``inline`` or ``threads``, and caches ``off`` or ``on``, on our own
kernel's half: with our memory filesystem in process, or with the program that the rest of the command line is; with ``bare``,
on none at all.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .workloads import MEASURES, prepare


def serve(program: Any) -> None:
    """Until there are no more orders."""
    for line in sys.stdin:
        serial, order = json.loads(line)
        try:
            answer = _obey(program, **order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps([serial, answer]), flush=True)


def _obey(program: Any, do: str, place: str = "", seconds: float = 0.0, measures: list[str] | None = None) -> Any:
    if do == "prepare":
        prepare(program, place, measures or [])
        return {}
    return MEASURES[do](program, place, seconds)


def main() -> None:
    if len(sys.argv) == 1:
        return serve(os)
    from fusewire import Kernel

    from .bare import Bare
    from .ours import daemon

    driver, caches, *command = sys.argv[1:]
    if driver == "bare":
        with Bare(command) as bare:
            return serve(bare)
    with Kernel(driver) as kernel:
        if command:
            kernel.mount_command(command, "/mnt")
        else:
            kernel.mount(daemon("memory", "", caches == "on"), "/mnt")
        return serve(kernel.process("client"))


if __name__ == "__main__":
    main()
