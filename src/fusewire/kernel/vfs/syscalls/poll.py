"""poll(2) and ioctl(2). As fs/select.c and fs/ioctl.c have them."""

from __future__ import annotations

from collections.abc import Callable

from ....wire.errno import Errno
from ....wire.flags import PollEvent
from ...queue import Mode, WaitQueue
from ...queue.wait import Waiter
from ..files import DeviceFile, File
from ..program import ProgramTask
from .base import fdget, syscall, use

CallAt = Callable[[int, Callable[[], None]], None]
ALWAYS = PollEvent.ERR | PollEvent.HUP
MILLISECOND = 1_000_000
FIBMAP, FIONREAD = 1, 0x541B


@syscall
async def sys_poll(
    task: ProgramTask, fds: list[tuple[int, int]], timeout: int | None, now: Callable[[], int], call_at: CallAt
) -> list[tuple[int, int]]:
    """Which events are there, of those asked for each descriptor. ``timeout`` in milliseconds; None waits for ever.

    ``now`` and ``call_at`` are the driver's clock.
    """
    for fd, _ in fds:
        file = task.program.files.table.get(fd)
        if isinstance(file, File):
            use(task, file)
    end = None if timeout is None or timeout < 0 else now() + timeout * MILLISECOND
    waiting = _Poll(task, fds, timeout != 0)
    try:
        while True:
            found = await waiting.look()
            if found or (end is not None and now() >= end):
                return found
            await waiting.sleep(end, call_at)
    finally:
        waiting.done()


class _Entry(Waiter):
    """``poll_table_entry``: a call of poll on one of the queues that it looks at."""

    __slots__ = ("queue",)

    def __init__(self, task: ProgramTask, queue: WaitQueue) -> None:
        super().__init__(task, exclusive=False)
        self.queue = queue
        queue.waiters.append(self)


class _Poll:
    """One call: what it looks at, and where it is put down to be woken."""

    def __init__(self, task: ProgramTask, fds: list[tuple[int, int]], blocks: bool) -> None:
        self.task = task
        self.fds = fds
        self.blocks = blocks
        self.timed = False  # one timer a call, however often it wakes for nothing
        self.rung = False
        self.entries: list[_Entry] = []

    async def look(self) -> list[tuple[int, int]]:
        """What is there. Whoever waits is put down before the daemon is asked, so that no wake-up is lost."""
        self.done()
        found: list[tuple[int, int]] = []
        for fd, events in self.fds:
            there = await self._events(fd, events | ALWAYS, self.blocks and not found)
            if there:
                found.append((fd, there))
        return found

    async def _events(self, fd: int, events: int, notify: bool) -> int:
        file = self.task.program.files.table.get(fd)
        if file is None or (isinstance(file, File) and file.is_path):
            return int(PollEvent.NVAL)
        if isinstance(file, DeviceFile):
            if notify and file.device.attached:
                self.entries.append(_Entry(self.task, file.device.connection.waitq))
            return int(file.device.poll()) & events
        if notify:
            self.entries += [_Entry(self.task, queue) for queue in file.ops.poll_queues(file)]
        return await file.ops.poll(self.task, file, events, notify) & events

    async def sleep(self, end: int | None, call_at: CallAt) -> None:
        """Until something woke us, or the time is up."""
        if end is not None and not self.timed:
            self.timed = True
            call_at(end, self._ring)
        await WaitQueue("events").wait_event(
            self.task,
            lambda: self.rung or any(entry.woken for entry in self.entries),
            Mode.INTERRUPTIBLE,
            lambda: None,  # an event comes from wherever the daemon has it from
        )

    def _ring(self) -> None:
        self.rung = True
        self.task.wake()

    def done(self) -> None:
        """Wait for nothing."""
        for entry in self.entries:
            if not entry.woken:
                entry.queue.waiters.remove(entry)
        self.entries.clear()


def _file_ioctl(task: ProgramTask, file: File, cmd: int) -> int | None:
    """``file_ioctl``: what of a regular file is answered here, whatever filesystem it is on. Raises EPERM."""
    if cmd == FIBMAP:
        if not task.cred.capable:
            raise OSError(int(Errno.EPERM), "Operation not permitted")
        return 0  # the daemon is asked where a block device is beneath it, which is never the case here
    if cmd == FIONREAD:
        return max(-(1 << 31), min(file.inode.attr.size - file.pos, (1 << 31) - 1))
    return None


@syscall
async def sys_ioctl(task: ProgramTask, fd: int, cmd: int, arg: int, memory: bytearray | None) -> int:
    """``memory`` is what ``arg`` points to, and may be written to. Raises ENOTTY, EBADF."""
    file = fdget(task, fd)
    answer = _file_ioctl(task, file, cmd) if file.inode.is_reg else None
    if answer is not None:
        if memory is None or len(memory) < 4:
            raise OSError(int(Errno.EFAULT), f"ioctl {cmd:#x} is about 4 bytes of memory")
        memory[:4] = answer.to_bytes(4, "little", signed=True)
        return 0
    return await file.ops.ioctl(task, file, cmd, arg, memory)
