"""File locks that the kernel keeps itself, for a daemon that did not ask for them: as fs/locks.c has them.

Byte ranges belong to a descriptor table (POSIX) or to an open file description (OFD), flocks to an open file description.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...wire.errno import Errno
from ...wire.layouts import FileLock
from ..queue import Mode, Task, WaitQueue

if TYPE_CHECKING:
    from .files import File
    from .inode import Inode
    from .program import ProgramTask

F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2  # of the protocol, and of Linux
OFFSET_MAX = (1 << 63) - 1


class Held(NamedTuple):
    """A byte range; ``end`` is inclusive. ``task`` took it: it may end a wait for it."""

    start: int
    end: int
    type: int
    owner: object
    task: ProgramTask

    def excludes(self, type: int, owner: object) -> bool:
        return self.owner is not owner and F_WRLCK in (self.type, type)


class FileLockContext:
    """The locks of one inode. ``posix`` is sorted by start; the ranges of one owner do not overlap."""

    def __init__(self, inode: Inode) -> None:
        self.posix: list[Held] = []
        self.flocks: dict[File, tuple[int, ProgramTask]] = {}
        self.waitq = WaitQueue(f"lock of node {inode.nodeid}")
        self.waiting: dict[object, object] = {}  # owners that wait, and for whom

    # -- byte ranges ------------------------------------------------------------------------------------------------

    def conflict(self, start: int, end: int, type: int, owner: object) -> Held | None:
        """What is in the way."""
        for held in self.posix:
            if held.start <= end and held.end >= start and held.excludes(type, owner):
                return held
        return None

    async def set_posix(self, task: ProgramTask, lock: FileLock, owner: object, wait: bool) -> None:
        """Lock or unlock. Raises EAGAIN, EDEADLK where waiting would close a circle, EINTR."""
        while lock.type != F_UNLCK:
            held = self.conflict(lock.start, lock.end, lock.type, owner)
            if held is None:
                break
            if not wait:
                raise BlockingIOError(int(Errno.EAGAIN), "another process has locked it")
            self._check_circle(owner, held.owner)
            self.waiting[owner] = held.owner
            try:
                await self._sleep(task, held)
            finally:
                del self.waiting[owner]
        self._replace(Held(lock.start, lock.end, lock.type, owner, task))

    async def _sleep(self, task: ProgramTask, held: Held) -> None:
        def free() -> bool:
            return held not in self.posix

        await self.waitq.wait_event(task, free, Mode.INTERRUPTIBLE, lambda: threads_of(held.task))

    def _check_circle(self, owner: object, holder: object) -> None:
        seen: set[int] = set()
        following: object | None = holder
        while following is not None and id(following) not in seen:
            if following is owner:
                raise OSError(int(Errno.EDEADLK), "waiting for this lock would close a circle")
            seen.add(id(following))
            following = self.waiting.get(following)

    def _replace(self, new: Held) -> None:
        kept: list[Held] = []
        for held in self.posix:
            if held.owner is not new.owner:
                kept.append(held)
            elif held.type == new.type and held.start <= new.end + 1 and held.end >= new.start - 1:
                new = new._replace(start=min(held.start, new.start), end=max(held.end, new.end))
            else:
                if held.start < new.start:
                    kept.append(held._replace(end=min(held.end, new.start - 1)))
                if held.end > new.end:
                    kept.append(held._replace(start=max(held.start, new.end + 1)))
        if new.type != F_UNLCK:
            kept.append(new)
        self.posix = sorted(kept, key=lambda held: held.start)
        self.waitq.wake_all()

    def release_posix(self, owner: object) -> None:
        """A descriptor of the file was closed: POSIX has its owner lose all its locks on it."""
        kept = [held for held in self.posix if held.owner is not owner]
        if len(kept) != len(self.posix):
            self.posix = kept
            self.waitq.wake_all()

    # -- whole files ------------------------------------------------------------------------------------------------

    async def set_flock(self, task: ProgramTask, file: File, type: int, wait: bool) -> None:
        """flock(2): a lock is converted by giving it up first. Raises EAGAIN, EINTR."""
        had = self.flocks.get(file)
        if had is not None and had[0] == type:
            return
        if had is not None:
            del self.flocks[file]
            self.waitq.wake_all()
        if type == F_UNLCK:
            return
        while (holder := self._flock_holder(file, type)) is not None:
            if not wait:
                raise BlockingIOError(int(Errno.EAGAIN), "another open file has locked it")
            held = self.flocks[holder]
            await self.waitq.wait_event(
                task, lambda: self.flocks.get(holder) is not held, Mode.INTERRUPTIBLE, lambda: threads_of(held[1])
            )
        self.flocks[file] = (type, task)

    def _flock_holder(self, file: File, type: int) -> File | None:
        for other, (held, _) in self.flocks.items():
            if other is not file and F_WRLCK in (held, type):
                return other
        return None

    def release_file(self, file: File) -> None:
        """The open file description is gone, and its locks with it."""
        self.release_posix(file)
        if self.flocks.pop(file, None) is not None:
            self.waitq.wake_all()


def threads_of(task: ProgramTask) -> list[Task]:
    """Any thread of the program that holds a lock may give it up."""
    return [thread for thread in task.program.tasks if not thread.exited]
