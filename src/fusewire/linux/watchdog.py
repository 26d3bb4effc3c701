"""A watchdog for a mount that may hang: a process of its own, which nothing that hangs here can stop.

It aborts the connection when its time is over, or when whoever started it dies without calling it off.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from . import fusectl

_SCRIPT = """
import os, select, sys
abort, seconds = sys.argv[1], float(sys.argv[2])
ready, _, _ = select.select([0], [], [], seconds)
if ready and os.read(0, 1):
    sys.exit(0)
try:
    with open(abort, "w") as file:
        file.write("1")
except OSError:
    sys.exit(0)
sys.exit(3)
"""


class Watchdog:
    """Aborts connection ``number`` after ``seconds``, unless :meth:`stop` came before. A context manager.

    ``barked`` is known after it: whether it had to. Raises RuntimeError where fusectl cannot be mounted.
    """

    def __init__(self, number: int, seconds: float = 30.0) -> None:
        if not fusectl.ensure_mounted():
            raise RuntimeError("fusectl is not mounted: a hung mount could not be ended")
        self.barked = False
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SCRIPT, str(fusectl.Control(number).path / "abort"), str(seconds)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def stop(self) -> None:
        """Call it off."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"x")
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self.barked = self._process.wait(timeout=10) == 3

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.stop()
