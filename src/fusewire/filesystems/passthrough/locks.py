"""Locks, held on the host, so that its own processes and ours keep out of each other's way.

POSIX locks belong to a process, and all of ours are one process to the host. So each owner that the kernel names gets an
open file description of its own on the inode, with open-file-description locks (fcntl(2), F_OFD_SETLK): those conflict with
each other, and with the POSIX locks of the host's processes. What an owner holds goes when its description is closed, at
FLUSH. flock(2) belongs to the open file, and each open file has its own descriptor here anyway.

Whoever waits is a coroutine, and takes no thread: any number of them leaves room for the request that unlocks. They try
again when something is unlocked through us, and now and then, because the host's processes unlock without telling. An
interrupt cancels the coroutine. The host does not look for deadlocks among such locks: F_SETLKW does not fail with EDEADLK.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from ...daemon import Lock
from ..waiting import Waiters
from .descriptors import Descriptor
from .nodes import Node, open_at

OFFSET_MAX = (1 << 63) - 1  # "to the end of the file", as the kernel says it
_FLOCK = struct.Struct("@hhqqi0q")  # struct flock: l_type, l_whence, l_start, l_len, l_pid
_FLOCK_OPERATION = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1  # seconds between two tries


class Locks:
    """The locks of one filesystem."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters = Waiters()
        self._over = False

    # -- POSIX locks --------------------------------------------------------------------------------------------------

    def get(self, node: Node, lock: Lock) -> Lock | None:
        """F_GETLK: a lock in the way of ``lock``."""
        with self._lock:
            known = node.lock_files.get(lock.owner)
            fd = known[0] if known is not None else _open_for_locks(node)
            try:
                raw = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _pack(lock))
            finally:
                if known is None:
                    os.close(fd)
            kind, _, start, length, pid = _FLOCK.unpack(raw)
            if kind == fcntl.F_UNLCK:
                return None
            end = OFFSET_MAX if length == 0 else start + length - 1
            return Lock(start, end, kind, pid if pid > 0 else _holder(node, kind, start, end))

    async def set(self, node: Node, lock: Lock, wait: bool) -> None:
        """F_SETLK and F_SETLKW. Raises BlockingIOError where a lock is in the way and it may not wait."""
        if lock.type == fcntl.F_UNLCK:
            self._unlock(node, lock)
        else:
            await self._acquire(lambda: self._try(node, lock), wait)

    def _try(self, node: Node, lock: Lock) -> None:
        # Under the lock from opening to locking: a close of the file elsewhere in its process takes the description away.
        with self._lock:
            known = node.lock_files.get(lock.owner)
            fd = known[0] if known is not None else _open_for_locks(node)
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _pack(lock))
            except OSError:
                if known is None:
                    os.close(fd)
                raise
            node.lock_files[lock.owner] = (fd, lock.pid)

    def _unlock(self, node: Node, lock: Lock) -> None:
        if lock.start == 0 and lock.end >= OFFSET_MAX:
            self.release(node, lock.owner)
            return
        with self._lock:
            known = node.lock_files.get(lock.owner)
            if known is not None:
                fcntl.fcntl(known[0], fcntl.F_OFD_SETLK, _pack(lock))
        self.wake()

    def release(self, node: Node, owner: int) -> None:
        """A process closed the file: all its POSIX locks on it are gone."""
        with self._lock:
            known = node.lock_files.pop(owner, None)
        if known is not None:
            os.close(known[0])
            self.wake()

    # -- flock --------------------------------------------------------------------------------------------------------

    async def flock(self, file: Descriptor, kind: int, wait: bool) -> None:
        """flock(2). Raises BlockingIOError where a lock is in the way and it may not wait."""
        operation = _FLOCK_OPERATION[kind]
        await self._acquire(lambda: fcntl.flock(file.fd, operation | fcntl.LOCK_NB), wait)
        if operation != fcntl.LOCK_EX:
            self.wake()  # unlocked, or made less of a lock

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def _acquire(self, attempt: Callable[[], None], wait: bool) -> None:
        try:
            attempt()
        except OSError as error:
            if not wait or error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return
        with self._waiters.joined() as changed:
            await self._try_again_and_again(attempt, changed)

    async def _try_again_and_again(self, attempt: Callable[[], None], changed: asyncio.Event) -> None:
        pause = _FIRST_PAUSE
        while not self._over:
            changed.clear()  # before the attempt: what is unlocked after it wakes us
            try:
                return attempt()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise OSError(errno.ENOTCONN, "the filesystem is unmounted")

    def wake(self) -> None:
        """Something may be unlocked: whoever waits tries again. From any thread."""
        self._waiters.wake()

    def close(self) -> None:
        """The mount is gone: nobody waits any longer."""
        self._over = True
        self.wake()


def _pack(lock: Lock) -> bytes:
    length = 0 if lock.end >= OFFSET_MAX else lock.end - lock.start + 1
    return _FLOCK.pack(lock.type, os.SEEK_SET, lock.start, length, 0)


def _open_for_locks(node: Node) -> int:
    """The host wants a descriptor open for writing to lock for writing; that the caller's is, the kernel has checked."""
    try:
        return open_at(node.path, os.O_RDWR)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.ETXTBSY):
            raise
        return open_at(node.path, os.O_RDONLY)


def _holder(node: Node, kind: int, start: int, end: int) -> int:
    """The process that holds a lock of ours: the host shows the locks of a description in its fdinfo, but no process."""
    word = "READ" if kind == fcntl.F_RDLCK else "WRITE"
    span = [str(start), "EOF" if end == OFFSET_MAX else str(end)]
    for fd, pid in node.lock_files.values():
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
            fields = line.split()
            if fields[0] == "lock:" and word in fields and fields[-2:] == span:
                return pid
    return 0
