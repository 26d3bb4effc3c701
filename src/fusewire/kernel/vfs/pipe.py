"""Pipes, with a name in some filesystem (FIFOs) or without: as fs/pipe.c has them.

What goes through one never reaches a daemon: a FIFO's inode is the filesystem's, what is behind it is the kernel's own. It
lives while somebody has it open, or waits to. A buffer is a page; there are :data:`PIPE_BUFFERS` of them.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE, FAttr, PollEvent
from ...wire.layouts import Attr, SetattrIn
from ..queue import Mode, Semaphore, Task, WaitQueue, traced
from .files import File, put_file
from .inode import Dentry, Inode
from .permission import setattr_prepare, without_set_id
from .program import ProgramTask
from .super import Super

if TYPE_CHECKING:
    from .program import Program

PIPE_BUFFERS = 16  # of a page each
FIONREAD = 0x541B
_INIT = 1  # the process that opens nothing
_NANO = 10**9


class Buffer:
    """``pipe_buffer``: what was written into one page, from ``start`` to ``end``, and not read yet."""

    __slots__ = ("end", "memory", "start")

    def __init__(self, data: memoryview) -> None:
        self.memory = bytearray(PAGE_SIZE)
        self.start = self.end = 0
        self.append(data)

    def append(self, data: memoryview) -> None:
        self.memory[self.end : self.end + len(data)] = data
        self.end += len(data)


class Pipe(Super):
    """``pipe_inode_info``: ``readers`` and ``writers`` are the open files of each side, ``opened`` how many there ever were
    of each, ``opening`` the tasks that are about to have one."""

    magic = 0x50495045
    device_number = 0

    def __init__(self, task: ProgramTask, inode: Inode | None = None) -> None:
        super().__init__()
        self.number = task.next_ino()
        self.buffers: deque[Buffer] = deque()
        self.readers = self.writers = 0
        self.opened = [0, 0]
        self.opening: list[ProgramTask] = []
        if inode is None:
            cred = task.cred
            now, nsec = divmod(time.time_ns(), _NANO)
            attr = Attr(
                self.number, atime=now, mtime=now, ctime=now, atimensec=nsec, mtimensec=nsec, ctimensec=nsec,
                mode=stat.S_IFIFO | 0o600, nlink=1, uid=cred.uid, gid=cred.gid, blksize=PAGE_SIZE,
            )  # fmt: skip
            inode = Inode(self, self.number, 0, attr, b"pipe")
        self.inode = inode
        self.root = inode.aliases[0] if inode.aliases else Dentry(b"", None, inode)
        self.rd_wait = WaitQueue(f"data in {self.name}")
        self.wr_wait = WaitQueue(f"room in {self.name}")
        self.mutex = Semaphore(f"the mutex of {self.name}")

    @property
    def name(self) -> str:
        """What people call it."""
        if self.inode.sb is self:
            return f"pipe:[{self.number}]"
        return f'FIFO "{self.root.name.decode("utf-8", "backslashreplace")}"'

    # -- attributes, of one without a name --------------------------------------------------------------------------------

    async def setattr(self, task: ProgramTask, dentry: Dentry, changes: SetattrIn, file: File | None = None) -> None:
        changes = setattr_prepare(task.cred, self.inode, changes)
        old, valid = self.inode.attr, changes.valid
        now, nsec = divmod(time.time_ns(), _NANO)
        new = old._replace(ctime=now, ctimensec=nsec)
        if valid & FAttr.MODE:
            new = new._replace(mode=changes.mode)
        elif valid & FAttr.KILL_SUIDGID:
            new = new._replace(mode=without_set_id(old.mode))
        if valid & FAttr.UID:
            new = new._replace(uid=changes.uid)
        if valid & FAttr.GID:
            new = new._replace(gid=changes.gid)
        if valid & FAttr.ATIME:
            new = new._replace(atime=changes.atime, atimensec=changes.atimensec)
        if valid & FAttr.MTIME:
            new = new._replace(mtime=changes.mtime, mtimensec=changes.mtimensec)
        self.inode.attr = new

    async def listxattr(self, task: ProgramTask, inode: Inode, size: int) -> bytes | int:
        return b"" if size else 0

    # -- open and release ---------------------------------------------------------------------------------------------

    def file(self, dentry: Dentry, flags: int) -> File:
        """One more open file of it. Who waited for the first of its side goes on."""
        file = File(dentry, self.inode, flags, opened=False)
        file.ops = self
        file.seekable = file.positioned = False
        first = (file.readable and not self.readers) or (file.writable and not self.writers)
        self.readers += file.readable
        self.writers += file.writable
        self.opened[0] += file.readable
        self.opened[1] += file.writable
        if first:
            self._wake()
        return file

    async def release(self, task: ProgramTask, file: File) -> None:
        self.readers -= file.readable
        self.writers -= file.writable
        self._wake()  # the end of the file; a broken pipe
        if not self.readers and not self.writers and self.inode.pipe is self:
            self.inode.pipe = None

    async def flush(self, task: ProgramTask, file: File) -> None:
        return

    async def wait_for_partner(self, task: ProgramTask, side: int) -> None:
        """Until somebody opens the other side (0: for reading, 1: for writing), even if it is closed again at once."""
        seen = self.opened[side]
        what = f"{('a reader', 'a writer')[side]} of {self.name}"
        self.opening.append(task)
        try:
            partners = WaitQueue(what)
            partners.waiters = self.rd_wait.waiters  # one queue, by the name of what is waited for
            await self._wait(partners, task, lambda: self.opened[side] != seen, lambda: self._could_open(task))
        finally:
            self.opening.remove(task)

    async def _wait(
        self, queue: WaitQueue, task: ProgramTask, condition: Callable[[], bool], enders: Callable[[], Iterable[Task]]
    ) -> None:
        """Every sleep on a pipe: without its mutex, which who is interrupted does not get back. Where threads may yet begin
        to call, one of them may end it."""
        locked = self.mutex.owner is task
        self.unlock(task)
        opaque, task.opaque = task.opaque, task.opaque or task.more_may_come
        try:
            await queue.wait_event(task, condition, Mode.INTERRUPTIBLE, enders)
        finally:
            task.opaque = opaque
        if locked:
            await self.lock(task)

    async def lock(self, task: ProgramTask) -> None:
        """``pipe_lock``: what is in it changes only under it, and so splice keeps all others away while the daemon answers."""
        await self.mutex.acquire(task, Mode.UNINTERRUPTIBLE)

    def unlock(self, task: ProgramTask) -> None:
        """Nothing, for one whose sleep was interrupted."""
        if self.mutex.owner is task:
            self.mutex.release(task)

    def _wake(self) -> None:
        self.rd_wait.wake_all()
        self.wr_wait.wake_all()

    # -- who could end a wait -----------------------------------------------------------------------------------------

    @staticmethod
    def _could_open(task: ProgramTask) -> Iterable[Task]:
        """Whoever there is; not who waits for work, which comes from one of the others."""
        return [
            other
            for other in task.everyone
            if other is not task
            and not other.exited
            and not (isinstance(other, ProgramTask) and other.program.tgid == _INIT)
            and (other.sleep is None or not other.sleep.idle)
        ]

    def _of_side(self, task: ProgramTask, has: Callable[[File], bool]) -> Iterable[Task]:
        """The threads of the programs that have it open so, and who is about to."""
        programs: dict[Program, bool] = {}
        found: list[Task] = []
        for other in task.everyone:
            if isinstance(other, ProgramTask) and not other.exited:
                if other.program not in programs:
                    files = other.program.files.table.values()
                    programs[other.program] = any(isinstance(f, File) and f.ops is self and has(f) for f in files)
                if programs[other.program] or other in self.opening:
                    found.append(other)
        return found

    # -- what is in it ------------------------------------------------------------------------------------------------

    @traced("pipe_read")
    async def read(self, task: ProgramTask, file: File, into: memoryview, offset: int) -> int:
        """What is there; nothing at the end, when no writer is left."""
        if not len(into):
            return 0
        await self.lock(task)
        try:
            if not await self.wait_for_data(task, bool(file.flags & os.O_NONBLOCK)):
                return 0
            data = self.peek(len(into))
            into[: len(data)] = data
            self.consume(len(data))
            return len(data)
        finally:
            self.unlock(task)

    def peek(self, most: int) -> memoryview:
        """What is first in it, and stays there."""
        data = bytearray()
        for buffer in self.buffers:
            if len(data) >= most:
                break
            data += memoryview(buffer.memory)[buffer.start : buffer.end]
        return memoryview(data)[:most]

    def consume(self, size: int) -> None:
        """What was first in it is there no longer."""
        was_full = self._full
        while size:
            buffer = self.buffers[0]
            part = min(buffer.end - buffer.start, size)
            buffer.start += part
            size -= part
            if buffer.start == buffer.end:
                self.buffers.popleft()
        if was_full and not self._full:
            self.wr_wait.wake_all()

    @traced("pipe_write")
    async def write(self, task: ProgramTask, file: File, data: memoryview, offset: int) -> tuple[int, int]:
        """All of it, unless a signal or O_NONBLOCK ends the wait for room. EPIPE and SIGPIPE without readers."""
        await self.lock(task)
        try:
            return await self.write_locked(task, data, bool(file.flags & os.O_NONBLOCK)), 0
        finally:
            self.unlock(task)

    async def write_locked(self, task: ProgramTask, data: memoryview, nonblock: bool) -> int:
        """As ``write``, by who has the mutex. It does not wait if there is room."""
        done = 0
        try:
            self._check_readers(task)
            done = self._merge(data)
            while done < len(data):
                self._check_readers(task)
                if not self._full:
                    done += self._add(data[done : done + PAGE_SIZE])
                else:
                    await self._wait_while_full(task, nonblock)
        except OSError:
            if not done:
                raise
        return done

    async def wait_for_data(self, task: ProgramTask, nonblock: bool) -> bool:
        """False at the end, when nothing is in it and no writer is left. Raises EAGAIN, :class:`Interrupted`."""
        while not self.buffers:
            if not self.writers:
                return False
            if nonblock:
                raise BlockingIOError(int(Errno.EAGAIN), f"nothing is in {self.name}")
            await self._wait(
                self.rd_wait,
                task,
                lambda: bool(self.buffers) or not self.writers,
                lambda: self._of_side(task, lambda one: one.writable),
            )
        return True

    async def wait_for_room(self, task: ProgramTask, nonblock: bool) -> int:
        """For how many bytes there is room, in whole pages. Raises EAGAIN, EPIPE, :class:`Interrupted`."""
        self._check_readers(task)
        while self._full:
            await self._wait_while_full(task, nonblock)
            self._check_readers(task)
        return self.room

    @property
    def room(self) -> int:
        """Bytes, in whole pages."""
        return (PIPE_BUFFERS - len(self.buffers)) * PAGE_SIZE

    async def _wait_while_full(self, task: ProgramTask, nonblock: bool) -> None:
        if nonblock:
            raise BlockingIOError(int(Errno.EAGAIN), f"{self.name} is full")
        await self._wait(
            self.wr_wait,
            task,
            lambda: not self._full or not self.readers,
            lambda: self._of_side(task, lambda one: one.readable),
        )

    def _check_readers(self, task: ProgramTask) -> None:
        if not self.readers:
            task.kill(signal.SIGPIPE)
            raise BrokenPipeError(int(Errno.EPIPE), f"Broken pipe: nobody reads {self.name}")

    @property
    def _full(self) -> bool:
        return len(self.buffers) >= PIPE_BUFFERS

    def _merge(self, data: memoryview) -> int:
        """What is more than whole pages goes into the last page that was written to, if there it has room."""
        size = len(data) % PAGE_SIZE
        if not size or not self.buffers or self.buffers[-1].end + size > PAGE_SIZE:
            return 0
        self.buffers[-1].append(data[:size])
        return size

    def _add(self, data: memoryview) -> int:
        if not self.buffers:
            self.rd_wait.wake_all()
        self.buffers.append(Buffer(data))
        return len(data)

    async def poll(self, task: ProgramTask, file: File, events: int, notify: bool) -> int:
        """``pipe_poll``. Before the first writer comes there is no POLLHUP."""
        found = PollEvent(0)
        if file.readable:
            if self.buffers:
                found |= PollEvent.IN | PollEvent.RDNORM
            if not self.writers and file.writers_seen != self.opened[1]:
                found |= PollEvent.HUP
        if file.writable:
            if not self._full:
                found |= PollEvent.OUT | PollEvent.WRNORM
            if not self.readers:
                found |= PollEvent.ERR
        return int(found)

    def poll_queues(self, file: File) -> tuple[WaitQueue, ...]:
        return self.rd_wait, self.wr_wait

    async def ioctl(self, task: ProgramTask, file: File, cmd: int, arg: int, memory: bytearray | None) -> int:
        if cmd != FIONREAD:
            return await super().ioctl(task, file, cmd, arg, memory)
        if memory is None or len(memory) < 4:
            raise OSError(int(Errno.EFAULT), "FIONREAD is about 4 bytes of memory")
        memory[:4] = sum(buffer.end - buffer.start for buffer in self.buffers).to_bytes(4, "little")
        return 0


@traced()
async def fifo_open(task: ProgramTask, dentry: Dentry, flags: int) -> File:
    """Open a FIFO: each side waits for the other, but for O_RDWR, and for O_NONBLOCK, which does not wait. Raises ENXIO for a
    writer who does not wait and finds no reader, EINTR, EINVAL for O_DIRECT."""
    inode = dentry.positive
    pipe = inode.pipe or Pipe(task, inode)
    nonblock = bool(flags & os.O_NONBLOCK)
    access = flags & os.O_ACCMODE
    if access == os.O_ACCMODE:
        raise OSError(int(Errno.EINVAL), "Invalid argument: neither for reading nor for writing")
    if access == os.O_WRONLY and nonblock and not pipe.readers:
        raise OSError(int(Errno.ENXIO), "No such device or address: nobody reads the FIFO")
    inode.pipe = pipe
    file = pipe.file(dentry, flags)
    try:
        if access == os.O_RDONLY and not pipe.writers:
            if nonblock:
                file.writers_seen = pipe.opened[1]
            else:
                await pipe.wait_for_partner(task, 1)
        elif access == os.O_WRONLY and not pipe.readers:
            await pipe.wait_for_partner(task, 0)
        if flags & os.O_DIRECT:
            raise OSError(int(Errno.EINVAL), "Invalid argument: O_DIRECT")
    except BaseException:
        await put_file(task, file)
        raise
    return file


def make_pipe(task: ProgramTask, flags: int) -> tuple[File, File]:
    """The two ends of a pipe without a name: for reading, and for writing."""
    pipe = Pipe(task)
    return pipe.file(pipe.root, os.O_RDONLY | flags), pipe.file(pipe.root, os.O_WRONLY | flags)
