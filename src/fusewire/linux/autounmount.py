"""Auto-unmount: a small watcher, in a session of its own, that unmounts when the daemon dies, however it dies.

It holds a socket and never the descriptor of /dev/fuse: the socket's other end is the daemon's life. It looks for the mount
by what tells it from all others, and not by its path: a directory above it may have got another name, or a newer mount be
there. It is there before the mount, or a daemon that is killed just after mount(2) would leave it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import subprocess
import sys
import weakref

from . import mounts
from .forking import handing_over, in_child
from .options import MountError

# A shell waits: that takes a tenth of the memory. A line says which mount it is, another that there is nothing to do; the end
# of both, that there is. Whoever ends a service sends his signals to us, too.
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
PATIENCE = 10.0  # seconds that a watcher has to end
log = logging.getLogger("fusewire")


class AutoUnmount:
    """Starts the watcher of what this process is about to mount at ``path``; :meth:`mounted` says which mount it became. The
    watcher acts when this process ends, or by :meth:`close`. Raises :class:`MountError` when it cannot be started."""

    def __init__(self, path: str) -> None:
        self._identity = ""
        package: list[str] = [os.path.abspath(where) for where in sys.modules[__name__.partition(".")[0]].__path__]
        python = [_python(path, package), "-s", "-S", "-P", "-c", _UNMOUNT, os.path.abspath(path), *package]
        with handing_over:
            ours, theirs = socket.socketpair()
            self._ours = _above_standard(ours)
            _alive.add(self)
        try:
            self._process = subprocess.Popen(
                [SHELL, "-c", _WAIT, "fusewire watcher", *python],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,  # it outlives us: whoever reads our output would wait for it
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._ours.close()
            raise _not_started(path, error.errno, f"{SHELL}: {error.strerror}") from None
        finally:
            theirs.close()

    def mounted(self, identity: str) -> None:
        """It is the mount of this :func:`mounts.identity`."""
        self._identity = identity
        if not self._say(f"{identity}\n"):
            log.warning("the watcher that is to unmount when this program dies has ended itself (is it killed?)")

    def close(self) -> None:
        """The daemon ends. In good order there is nothing left for the watcher to do; else it unmounts. Any number of threads
        may call this."""
        if not self._identity:
            self._say("\n\n")
        elif not mounts.points_of(mounts.number_of(self._identity)):
            self._say("\n")
        self._ours.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            log.warning("the watcher, process %d, does not end", self._process.pid)

    def _say(self, text: str) -> bool:
        """Whether it still listens."""
        try:
            self._ours.send(text.encode(), socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True


def _python(path: str, package: list[str]) -> str:
    """The program that is to unmount. Raises :class:`MountError` where there is none, or none that is still there when what is
    at ``path`` is dead."""
    program = os.path.abspath(sys.executable or "")
    is_python = os.path.basename(program).startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
    if not is_python or not os.access(program, os.X_OK):  # of a program that embeds one it is that program
        raise _not_started(path, errno.ENOENT, f"sys.executable is {sys.executable!r}, and no Python")
    below = os.path.realpath(os.path.dirname(path)) + f"/{os.path.basename(path)}/"
    for needed in (program, os.path.realpath(program), os.__file__, *package):
        if needed.startswith(below):
            raise _not_started(path, errno.EBUSY, f"it takes {needed}, which will be beneath the mount")
    return program


def _not_started(path: str, number: int | None, why: str) -> MountError:
    return MountError(number, f"the watcher that is to unmount {path} cannot be started: {why}")


def _above_standard(ours: socket.socket) -> socket.socket:
    """Where 0 to 2 are closed, it could get such a number; and what is written there in an emergency would go to it."""
    with ours:
        return socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 3))


_alive: weakref.WeakSet[AutoUnmount] = weakref.WeakSet()


@in_child
def _let_go() -> None:
    for one in _alive:
        one._ours.close()


# -- the watcher, once it is needed --------------------------------------------------------------------------------------


def unmount(path: str, identity: str) -> None:
    """The daemon is dead, or may not unmount: take away what it had mounted, at ``path`` or wherever it is by now, in all
    places. What is not known for certain to be the daemon's stays, unless it is dead."""
    known = bool(identity) and mounts.find(identity) is not None
    if identity:
        points = mounts.points_of(mounts.number_of(identity))
    else:  # it died before it could say what it had mounted
        points = [path] if mounts.mount_at(path) is not None else []
    for point in points:
        if known or _is_dead(point):
            with contextlib.suppress(MountError):
                mounts.unmount(point, lazy=True)


def _is_dead(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False
