"""Auto-unmount: a small watcher, in a session of its own, that unmounts when the daemon dies, however it dies.

It holds a pipe and never the descriptor of /dev/fuse: the pipe's other end is the daemon's life. It looks for the mount by
what tells it from all others, and not by its path: a directory above it may have got another name, or a newer mount be there.
It is there before the mount, or a daemon that is killed just after mount(2) would leave it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import weakref

from . import mounts
from .options import MountError

# It imports this room and no other: that takes a quarter of the memory, and a tenth of the time.
_SCRIPT = """
import sys, types
fusewire = sys.modules["fusewire"] = types.ModuleType("fusewire")
_, path, *fusewire.__path__ = sys.argv
from fusewire.linux.autounmount import watch
watch(path)
"""
log = logging.getLogger("fusewire")


def can_watch() -> bool:
    """Whether ``sys.executable`` is a Python that a watcher can be started with: not so in a program that embeds one."""
    name = os.path.basename(sys.executable or "")
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


class AutoUnmount:
    """Starts the watcher of what this process is about to mount at ``path``; :meth:`mounted` says which mount it became. The
    watcher acts when this process ends, or by :meth:`close`. Raises :class:`MountError` when it cannot be started."""

    def __init__(self, path: str) -> None:
        self._identity = ""
        reading, self._writing = os.pipe()
        package = [os.path.abspath(where) for where in sys.modules[__name__.partition(".")[0]].__path__]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-c", _SCRIPT, os.path.abspath(path), *package],
                stdin=reading,
                stdout=subprocess.DEVNULL,  # it outlives us: whoever reads our output would wait for it
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._let_go()
            raise MountError(
                error.errno,
                f"{path} was not mounted: the watcher that is to unmount it cannot be started:"
                f" {sys.executable or 'sys.executable'}: {error.strerror}",
            ) from None
        finally:
            os.close(reading)
        _alive.add(self)

    def mounted(self, identity: str) -> None:
        """It is the mount of this :func:`mounts.identity`."""
        self._identity = identity
        try:
            os.write(self._writing, identity.encode())
        except BrokenPipeError:
            log.warning("the watcher that is to unmount when this program dies has ended itself (is it killed?)")

    def close(self) -> None:
        """The daemon ends. In good order, there is nothing left for the watcher to do; else it unmounts."""
        if self._writing >= 0:
            if self._identity and mounts.find(self._identity) is None:
                with contextlib.suppress(PermissionError):  # we have become another user since
                    self._process.kill()  # it may not even have started yet
            self._let_go()
            self._process.wait(timeout=30)

    def _let_go(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


_alive: weakref.WeakSet[AutoUnmount] = weakref.WeakSet()


def _after_fork() -> None:
    """A child's copy of the pipe must not keep the watcher waiting."""
    for one in _alive:
        one._let_go()


os.register_at_fork(after_in_child=_after_fork)


# -- the watcher -----------------------------------------------------------------------------------------------------


def watch(path: str) -> None:
    """Wait for the daemon's end, and unmount what it has mounted, at ``path`` or wherever it is by then: in all places."""
    for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(wanted, signal.SIG_IGN)  # whoever ends a service sends them to us, too
    identity = sys.stdin.read()
    where = mounts.find(identity) if identity else _left_at(path)
    number = None if where is None else mounts.mount_at(where)
    if number is None:
        return
    for point in mounts.points_of(number):
        with contextlib.suppress(MountError):
            mounts.unmount(point, lazy=True)


def _left_at(path: str) -> str | None:
    """The daemon died before it could say what it had mounted: that is what is dead there now."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOTCONN and mounts.mount_at(path) is not None:
            return path
    return None
