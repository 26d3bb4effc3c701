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
import subprocess
import sys
import threading
import weakref

from . import mounts
from .options import MountError

# A shell waits: that takes a tenth of the memory. A line says which mount it is, another that there is nothing to do; the end
# of the pipe, that there is. Whoever ends a service sends his signals to us, too.
_WAIT = """
trap '' INT TERM HUP
read -r identity
read -r over && exit
exec "$@" "$identity"
"""
# It imports this room and no other.
_UNMOUNT = """
import sys, types
fusewire = sys.modules["fusewire"] = types.ModuleType("fusewire")
_, path, *fusewire.__path__, identity = sys.argv
from fusewire.linux.autounmount import unmount
unmount(path, identity)
"""
SHELL = "/bin/sh"
log = logging.getLogger("fusewire")


def can_watch() -> bool:
    """Whether there is what a watcher takes: a shell, and a Python. ``sys.executable`` of a program that embeds one is none."""
    name = os.path.basename(sys.executable or "")
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False) and os.access(SHELL, os.X_OK)


class AutoUnmount:
    """Starts the watcher of what this process is about to mount at ``path``; :meth:`mounted` says which mount it became. The
    watcher acts when this process ends, or by :meth:`close`. Raises :class:`MountError` when it cannot be started."""

    def __init__(self, path: str) -> None:
        if not can_watch():
            raise self._not_started(
                path, errno.ENOENT, f"it takes {SHELL} and a Python, and sys.executable is {sys.executable!r}"
            )
        self._identity = ""
        self._closing = threading.Lock()  # several threads may wait for the end
        reading, self._writing = os.pipe()
        package = [os.path.abspath(where) for where in sys.modules[__name__.partition(".")[0]].__path__]
        python = [os.path.abspath(sys.executable), "-s", "-S", "-P"]
        try:
            self._process = subprocess.Popen(
                [SHELL, "-c", _WAIT, "fusewire watcher", *python, "-c", _UNMOUNT, os.path.abspath(path), *package],
                stdin=reading,
                stdout=subprocess.DEVNULL,  # it outlives us: whoever reads our output would wait for it
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._let_go()
            raise self._not_started(path, error.errno, f"{SHELL}: {error.strerror}") from None
        finally:
            os.close(reading)
        _alive.add(self)

    @staticmethod
    def _not_started(path: str, number: int | None, why: str) -> MountError:
        return MountError(
            number,
            f"{path} was not mounted: the watcher that is to unmount it cannot be started: {why} (noauto_unmount goes without)",
        )

    def mounted(self, identity: str) -> None:
        """It is the mount of this :func:`mounts.identity`."""
        self._identity = identity
        try:
            os.write(self._writing, identity.encode() + b"\n")
        except BrokenPipeError:
            log.warning("the watcher that is to unmount when this program dies has ended itself (is it killed?)")

    def close(self) -> None:
        """The daemon ends. In good order, there is nothing left for the watcher to do; else it unmounts."""
        with self._closing:
            if self._writing < 0:
                return
            if self._identity and not mounts.points_of(int(self._identity.partition(":")[0])):
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._writing, b"\n")
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


def unmount(path: str, identity: str) -> None:
    """The daemon is dead: unmount what it had mounted, at ``path`` or wherever it is by now, in all places."""
    where = mounts.find(identity) if identity else _left_at(path)
    number = None if where is None else mounts.mount_at(where)
    if number is None:
        return
    for point in mounts.points_of(number):
        with contextlib.suppress(MountError):
            mounts.unmount(point, lazy=True)


def _left_at(path: str) -> str | None:
    """It died before it could say what it had mounted: that is what is dead there now."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOTCONN and mounts.mount_at(path) is not None:
            return path
    return None
