"""Time limits, for each request by itself: ETIMEDOUT for who waits for it, and everything else goes on.

A request's time begins when it is asked for: the waits for INIT, for room in the background and for a slot are part of it.

(Linux knows only one end for a request that takes too long: of the whole connection.) A request that the daemon has not
read is withdrawn; for one that it has, the caller leaves as it does for a signal, and a late answer is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ...wire.errno import Errno
from .request import Request, State
from .task import Task

if TYPE_CHECKING:
    from .connection import Connection

CallAt = Callable[[int, Callable[[], None]], None]


class Timeouts:
    """``limit`` in nanoseconds, 0 for none; ``call_at`` is the driver's: it calls a function when its clock says so."""

    def __init__(self, connection: Connection, clock: Callable[[], int], call_at: CallAt | None) -> None:
        self.connection = connection
        self.clock = clock
        self.limit = 0
        self.call_at = call_at
        self.deadlines: dict[Request, int] = {}  # in the order they run out
        self._due = 0  # when the clock is to ring next

    def set_limit(self, seconds: float) -> None:
        """For the requests that come from now on, and no longer for those that are there. Raises ValueError for less than
        nothing, or where no clock rings."""
        if seconds < 0:
            raise ValueError(f"a request cannot have {seconds} seconds")
        if seconds and self.call_at is None:
            raise ValueError("this connection has no timer")
        self.limit = int(seconds * 1e9)
        if self.limit and self.deadlines:
            latest = self.clock() + self.limit
            self.deadlines = {req: min(when, latest) for req, when in self.deadlines.items()}
            self._arm(next(iter(self.deadlines.values())))

    def start(self, req: Request) -> None:
        """The clock of ``req`` starts, unless it runs already, or there is none."""
        if self.limit and req not in self.deadlines:
            when = self.deadlines[req] = self.clock() + self.limit
            if not self._due:
                self._arm(when)

    def stop(self, req: Request) -> None:
        """It ended, or nobody waits for it any more."""
        self.deadlines.pop(req, None)

    def limited(self, req: Request, enders: Callable[[], Iterable[Task]]) -> Callable[[], Iterable[Task] | None]:
        """Who could end a wait that is for ``req``: its time does, where it has a limit."""
        return lambda: None if req in self.deadlines else enders()

    def _arm(self, when: int) -> None:
        assert self.call_at is not None
        if not self._due or when < self._due:
            self._due = when
            self.call_at(when, self._ring)

    def _ring(self) -> None:
        now = self.clock()
        if not self._due or now < self._due:
            return  # set when the limit was another
        while self.deadlines:
            req, when = next(iter(self.deadlines.items()))
            if when > now:
                self._due = 0
                self._arm(when)
                return
            del self.deadlines[req]
            self._expire(req)  # which may make room for one whose clock starts
        self._due = 0

    def _expire(self, req: Request) -> None:
        fc = self.connection
        if not req.background:
            req.timed_out = True
            req.waitq.wake_all()  # the caller goes by itself
            fc.wake_entering(req)
            return
        if req.state in (State.UNUSED, State.BACKGROUND):
            fc.background.remove(req)
        elif req.state is State.PENDING:
            fc.pending.discard(req)
        else:
            fc.abandon(req, int(Errno.ETIMEDOUT))
            return
        fc.finish(None, req, int(Errno.ETIMEDOUT))
