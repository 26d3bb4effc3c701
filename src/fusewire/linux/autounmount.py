"""Auto-unmount: a small watcher, in a session of its own, that unmounts when the daemon dies, however it dies.

It holds a pipe and never the descriptor of /dev/fuse: the pipe's other end is the daemon's life. Before it unmounts it looks
whether the mount at that path is still the same, so that a newer one is left alone.
"""

from __future__ import annotations

import os
import subprocess
import sys

from . import mounts

_SCRIPT = """
import os, sys
from fusewire.linux import mounts
path, identity = sys.argv[1:]
while True:
    try:
        if not os.read(0, 1):
            break
    except InterruptedError:
        continue
if mounts.identity(path) == identity:
    try:
        mounts.unmount(path, lazy=True)
    except mounts.MountError as error:
        sys.exit(str(error))
"""


class AutoUnmount:
    """Starts the watcher of the mount that is at ``path`` now. It ends when this process does, or by :meth:`close`."""

    def __init__(self, path: str) -> None:
        reading, self._writing = os.pipe()
        # An empty entry (python -c, a prompt) is our working directory, and not the watcher's.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, os.path.abspath(path), mounts.identity(path)],
            stdin=reading,
            stdout=subprocess.DEVNULL,  # it outlives us: whoever reads our output would wait for it
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        os.close(reading)

    def close(self) -> None:
        """The daemon ends in good order; the watcher finds nothing to do."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
            self._process.wait(timeout=30)

    def in_child(self) -> None:
        """After a fork: the child's copy of the pipe must not keep the watcher waiting."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
