"""Background requests: those that nobody waits for. At most ``max_background`` of them lie before the daemon at a time.

``num_background`` counts all, ``active_background`` those that have left ``bg_queue``. Who would add one that is not forced
while there are ``max_background`` sleeps on ``fc->blocked_waitq``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .request import Args, Request, State
from .task import Task

if TYPE_CHECKING:
    from .connection import Connection


class Background:
    """What ``bg_queue`` and its limits are to one connection. ``congestion_threshold``: readahead holds back beyond it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bg_queue: deque[Request] = deque()
        self.owed: deque[Request] = deque()  # forced ones for which even the reserve of the pool had no slot
        self.max_background = 12
        self.congestion_threshold = 9
        self.num_background = 0
        self.active_background = 0

    @property
    def blocked(self) -> bool:
        return self.num_background >= self.max_background

    @property
    def congested(self) -> bool:
        return self.num_background >= self.congestion_threshold

    def set_limits(self, max_background: int, congestion_threshold: int) -> None:
        """As INIT or fusectl sets them; what waited for the old ones looks again."""
        self.max_background = max_background
        self.congestion_threshold = congestion_threshold
        self.flush(None)
        self.connection.blocked_waitq.wake_all()

    def send(self, task: Task | None, args: Args) -> None:
        """Queue a forced one: RELEASE, INIT. Where even the reserve of the pool is used up it follows as soon as it can."""
        fc = self.connection
        fc.num_waiting += 1
        if fc.unused_list.room(force=True):
            self.queue(task, fc.unused_list.take(task, args))
        else:
            req = fc.unused_list.prepare(args)
            req.background = True
            self.owed.append(req)
            fc.timeouts.start(req)

    def send_owed(self) -> None:
        """A slot is free for the first of those that came while there was none."""
        req = self.owed.popleft()
        self.connection.unused_list.admit(None, req)
        self.queue(None, req)

    def queue(self, task: Task | None, req: Request) -> None:
        """Take a request that nobody is going to wait for."""
        req.background = True
        req.caller = None
        if not req.created:
            req.created = self.connection.clock()
        req.move(State.BACKGROUND)
        self.num_background += 1
        self.bg_queue.append(req)
        self.connection.timeouts.start(req)
        self.flush(task)

    def flush(self, task: Task | None) -> None:
        """Let requests through to ``pending``, as many as may lie there."""
        fc = self.connection
        while self.bg_queue and (self.active_background < self.max_background or not fc.connected):
            req = self.bg_queue.popleft()
            self.active_background += 1
            fc.queue_pending(task, req)
            if fc.connected:
                fc.wake_reader(task)

    def ended(self, task: Task | None, args: Args, error: int, answered: int) -> None:
        """One has its answer or its error: tell who cares, and let the next one through."""
        self.num_background -= 1
        self.active_background -= 1
        if not self.blocked:
            self.connection.blocked_waitq.wake_one()
        if args.end is not None:
            args.end(error, answered)
        self.flush(task)

    def drain(self) -> list[Request]:
        """Part of an abort: what had not been let through."""
        ending = [*self.bg_queue, *self.owed]
        for req in ending:
            self.remove(req)
        return ending

    def remove(self, req: Request) -> None:
        """One that ends before it was let through: as if it had been, since its end takes one away."""
        if req.state is State.BACKGROUND:
            self.bg_queue.remove(req)
        else:
            self.owed.remove(req)
            self.connection.unused_list.admit(None, req)
            self.num_background += 1
        self.active_background += 1
