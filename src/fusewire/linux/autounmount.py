"""Auto-unmount: a small watcher, in a session of its own, that unmounts when the daemon dies, however it dies.

It holds a pipe and never the descriptor of /dev/fuse: the pipe's other end is the daemon's life. It looks for the mount by
what tells it from all others, and not by its path: a directory above it may have got another name, or a newer mount be there.
"""

from __future__ import annotations

import os
import subprocess
import sys

from . import mounts
from .options import MountError

_SCRIPT = """
import os, sys
from fusewire.linux import mounts
identity = sys.argv[2]  # the path, before it, is for whoever reads ps
while True:
    try:
        if not os.read(0, 1):
            break
    except InterruptedError:
        continue
path = mounts.find(identity)
if path is not None:
    try:
        mounts.unmount(path, lazy=True)
    except mounts.MountError as error:
        sys.exit(str(error))
"""


class AutoUnmount:
    """Starts the watcher of the mount that is at ``path`` now. It ends when this process does, or by :meth:`close`. Raises
    :class:`MountError` when it cannot be started."""

    def __init__(self, path: str) -> None:
        reading, self._writing = os.pipe()
        # An empty entry (python -c, a prompt) is our working directory, and not the watcher's.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SCRIPT, os.path.abspath(path), mounts.identity(path)],
                stdin=reading,
                stdout=subprocess.DEVNULL,  # it outlives us: whoever reads our output would wait for it
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self.in_child()
            raise MountError(
                error.errno,
                f"{path} was not mounted: the watcher that is to unmount it cannot be started:"
                f" {sys.executable or 'sys.executable'}: {error.strerror}",
            ) from None
        finally:
            os.close(reading)

    def close(self) -> None:
        """The daemon ends in good order; the watcher finds nothing to do."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
            self._process.wait(timeout=30)

    def in_child(self) -> None:
        """Our end of the pipe, and no more. After a fork: the child's copy must not keep the watcher waiting."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
