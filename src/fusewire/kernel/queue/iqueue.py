"""What readers find: ``fc->pending``, interrupts and forgets, and who sleeps on ``fc->waitq`` while there is nothing.

Rules. Interrupts come first. Forgets and requests take turns. A request that a reader has taken is its device's, until it is
answered, sent again, or orphaned by the reader's death.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...wire.flags import UNIQUE_RESEND
from .request import Request, RequestList, State
from .task import Mode, Sleep, Task, traced
from .wait import WaitQueue

if TYPE_CHECKING:
    from .device import Device


class InputQueue:
    """The readers' side of a :class:`Connection`."""

    def __init__(self) -> None:
        self.pending = RequestList("key", "queue req on fc->pending", "remove req from fc->pending")
        self.waitq = WaitQueue("fc->waitq")
        self.idle = Sleep(self.waitq.name, Mode.INTERRUPTIBLE, lambda: (), idle=True)
        self.interrupts: dict[int, Request] = {}
        self.forgets: deque[tuple[int, int]] = deque()
        self.forget_batch = 16
        self.devices: list[Device] = []
        self.readers: dict[Task, None] = {}
        self.reqctr = 0
        self.connected = True
        self.no_interrupt = False

    def queue_forget(self, task: Task | None, nodeid: int, nlookup: int) -> None:
        """Tell the daemon that ``nlookup`` references to ``nodeid`` are gone. Needs no request and no answer."""
        if self.connected:
            self.forgets.append((nodeid, nlookup))
            if task is not None:
                task.step(f"queue forget of node {nodeid}")
            self.wake_reader(task)

    def wake_reader(self, task: Task | None) -> None:
        if task is not None:
            self.waitq.wake_up(task)
        else:
            self.waitq.wake_one()

    def queue_interrupt(self, req: Request) -> None:
        """Have the daemon told, unless it has not read the request yet (then :meth:`Device.read` comes back to it)."""
        if req.state in (State.PROCESSING, State.ORPHANED) and not self.no_interrupt:
            self.interrupts.setdefault(req.unique, req)
            self.waitq.wake_one()

    @property
    def request_pending(self) -> bool:
        """Whether there is something to read."""
        return bool(self.pending.requests or self.interrupts or self.forgets)

    def to_read(self) -> bool:
        """What readers wait for: that, or the end."""
        return bool(self.pending.requests or self.interrupts or self.forgets or not self.connected)

    def forgets_first(self) -> bool:
        """Forgets and requests take turns, so that neither starves: up to 16 reads of forgets, then 8 of requests."""
        if not self.pending.requests:
            return True
        self.forget_batch -= 1
        if self.forget_batch >= 0:
            return True
        if self.forget_batch <= -8:
            self.forget_batch = 16  # this is the eighth request
        return False

    @traced()
    async def request_wait(self, task: Task) -> None:
        """Sleep on ``fc->waitq`` until there is something to read, or the connection is gone."""
        self.readers[task] = None
        await self.waitq.wait_asleep(task, self.to_read, self.idle, True)

    def resend(self, task: Task | None) -> None:
        """NOTIFY_RESEND (7.40): what was read and not answered is to be read again, first, under a number that says so."""
        again: dict[int, Request] = {}
        for device in self.devices:
            for req in device.processing.drain():
                self.interrupts.pop(req.unique, None)
                req.move(State.PENDING)
                req.reader = req.device = None
                req.unique |= UNIQUE_RESEND
                again[req.key] = req
        if again:
            self.pending.requests = dict(sorted(again.items())) | self.pending.requests
            self.waitq.wake_all()

    # -- who waits for whom ---------------------------------------------------------------------------------------

    def serving(self) -> list[Task]:
        """The tasks that read this connection and still live."""
        return [task for task in self.readers if not task.exited]

    def reader_gone(self, task: Task) -> None:
        """A task that read here ends: what it had read and not answered is orphaned, unless another answers it."""
        self.readers.pop(task, None)
        for device in self.devices:
            for req in device.processing:
                if req.reader is task and req.state is State.PROCESSING:
                    req.move(State.ORPHANED)

    def answerers(self, req: Request) -> Iterable[Task]:
        """Who could end the wait for this answer: any reader while it is unread, then the one who read it."""
        if req.state in (State.PENDING, State.BACKGROUND, State.UNUSED):
            return self.serving()
        if req.reader is None or req.reader.exited:
            return ()
        return (req.reader,)
