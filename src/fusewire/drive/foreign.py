"""A program in another process that takes ``/dev/fd/N`` for its mountpoint: libfuse 3 and go-fuse do.

What it inherits is not /dev/fuse but one end of a SOCK_SEQPACKET socket, on which it does its reads and writes all the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .carrier import Carrier, DaemonError
from .link import Link

if TYPE_CHECKING:
    from .driver import Driver

PATIENCE = 5.0  # seconds that a daemon may take to end
MOUNTPOINT = (
    "mountpoint",
    "mount point",
    "/dev/fd",
    "fusermount",
    "/dev/fuse",
    "failed to mount",
    "fuse: device not found",
)


class ForeignDaemon(Carrier):
    """One program that was started for one mount."""

    _said = ""  # its last words, once it was stopped

    def __init__(self, command: Sequence[str | os.PathLike[str]], driver: Driver) -> None:
        words = [os.fsdecode(word) for word in command]
        if not any("{fd}" in word for word in words):
            raise ValueError("the command has no {fd}: the place of the mountpoint among its arguments")
        link = Link.pair()
        assert link.theirs is not None
        path = f"/dev/fd/{link.theirs.fileno()}"
        self.command = [word.replace("{fd}", path) for word in words]
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        try:
            self.process = subprocess.Popen(
                self.command, pass_fds=[link.theirs.fileno()], stdin=subprocess.DEVNULL, stderr=self.stderr
            )
        except OSError as error:
            link.close()
            self.stderr.close()
            raise DaemonError(error.errno, f"{words[0]} cannot be started: {error.strerror}") from None
        super().__init__(link, driver, words[0], self.process.pid)

    def check_settled(self) -> None:
        """INIT was answered by a process that is not the one we started: a child of it, or it is in the background, and
        the one we started is about to end. Raises :class:`DaemonError` for that."""
        link = self.link
        if link.sender not in (0, self.process.pid):
            try:
                self.process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                return
            raise self.why_ended()

    def last_words(self) -> str:
        """What it printed on standard error, its end."""
        if self.stderr.closed:
            return self._said
        size = os.fstat(self.stderr.fileno()).st_size
        return os.pread(self.stderr.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()

    def why_ended(self) -> DaemonError:
        """The error for a daemon that ended before it had answered INIT."""
        try:
            status = self.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return self.error(errno.EIO, "closed its socket before it had answered INIT, and lives on")
        words = self.last_words()
        if status and any(word in words for word in MOUNTPOINT):
            why = (
                "does not take /dev/fd/N as a mountpoint: libfuse 3 and go-fuse programs do, those of libfuse 2 and those"
                " that look at the mountpoint themselves do not; for these there is Linux's own mount"
            )
        else:
            why = _status(status)
        return self.error(errno.EIO, why)

    def how_it_ended(self) -> str:
        status = self.process.poll()
        return self._with_words(_status(status) if status is not None else "closed its socket")

    def error(self, number: int, why: str) -> DaemonError:
        return super().error(number, self._with_words(why))

    def _with_words(self, why: str) -> str:
        words = self.last_words()
        return f"{why}; it said: {words}" if words else why

    def stop(self) -> None:
        """End it: by the end of its socket, then by SIGTERM, then by SIGKILL. One that never was up has nothing to save."""
        super().stop()
        fc = self.device.connection
        patience = PATIENCE if fc.initialized and not fc.refused else 0.5
        for end, seconds in ((None, 0.5), (signal.SIGTERM, patience), (signal.SIGKILL, PATIENCE)):
            if end is not None:
                self.process.send_signal(end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=seconds)
                break
        self._said = self.last_words()
        self.stderr.close()


def _status(status: int) -> str:
    """How a process ended, in words."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        return "ended; how is not known, since SIGCHLD is ignored here"
    if status == 0:
        return "ended with status 0: it went into the background, or takes no /dev/fd/N; have it stay in the foreground (-f)"
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
