"""FUSE passthrough (protocol 7.40): reads and writes that the kernel does itself, on the file behind ours.

Rules. The kernel refuses to mix cached and passthrough opens of one inode (EIO), and wants the same backing id for all of
them. So it is decided for each inode when it is opened first, and holds until it is open nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable

from ...daemon import FOpenFlag, Opened, Session
from .caller import Identity
from .nodes import Node, open_at

log = logging.getLogger("fusewire.passthrough")

# With these no file will do better than the first: no permission, an old kernel, not /dev/fuse. Others concern one file.
_FOR_GOOD = (errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS)


class Backing:
    """Counts the open files of each inode, and holds a backing id for those that have one."""

    def __init__(self, session: Session, identity: Identity, granted: bool) -> None:
        self._identity = identity
        self._lock = threading.Lock()
        self._told = False
        self._open: Callable[[int], int] | None = getattr(session, "backing_open", None)
        self._close: Callable[[int], None] | None = getattr(session, "backing_close", None)
        if not granted:
            self._use_ordinary("the kernel does not offer it")
        elif self._open is None:
            self._use_ordinary("this transport cannot")

    def attach(self, node: Node, fh: int) -> Opened:
        """``fh`` is one more open file of ``node``: the answer to its OPEN."""
        with self._lock:
            if not node.opens:
                node.backing_id = self._register(node)
            node.opens += 1
            if node.backing_id:
                return Opened(fh, FOpenFlag.PASSTHROUGH, node.backing_id)
            return Opened(fh)

    def detach(self, node: Node) -> None:
        """One open file of ``node`` is released."""
        with self._lock:
            node.opens -= 1
            if node.opens or not node.backing_id:
                return
            backing_id, node.backing_id = node.backing_id, 0
        if self._close is not None:
            with contextlib.suppress(OSError):  # the connection is gone, and the id with it
                self._close(backing_id)

    def _register(self, node: Node) -> int:
        """A backing id, or 0."""
        if self._open is None:
            return 0
        try:
            backing_id = self._ask(self._open, node)
        except OSError as error:
            if error.errno in _FOR_GOOD:
                self._use_ordinary(str(error))
            else:
                log.debug("one file by ordinary reads and writes: %s", error)
            return 0
        if not self._told:
            self._told = True
            log.debug("reads and writes by FUSE passthrough")
        return backing_id

    def _ask(self, backing_open: Callable[[int], int], node: Node) -> int:
        """Never with the descriptor of an open file: the id would hold its flock beyond its release.

        The kernel writes with the capabilities of the thread that registers. FSETID is left away: with it no write, whoever
        makes it, would clear a set-user-ID bit.
        """
        with self._identity.without_fsetid():
            try:
                return backing_open(node.fd)
            except OSError as error:
                if error.errno != errno.EBADF:  # kernels before 6.16 take no O_PATH descriptor
                    raise
            fd = open_at(node.path, os.O_RDONLY)
            try:
                return backing_open(fd)
            finally:
                os.close(fd)

    def _use_ordinary(self, why: str) -> None:
        self._open = None
        log.debug("ordinary reads and writes, no FUSE passthrough: %s", why)
