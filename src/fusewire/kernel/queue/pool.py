"""``fc->unused_list``: the pool of requests, and who sleeps while it is empty.

Rules. Ordinary requests have ``limit`` slots. Forced ones (FLUSH, RELEASE, INIT) may also take ``reserve`` more, so that a
file can be closed while the pool is empty; beyond that they wait in the order they came, and are never lost. A slot that is
given back goes to one waiter, forced ones first. A caller that left before its request ended gives no slot back: whoever
ends the request does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .request import Args, Request, State
from .task import Mode, Task
from .wait import WaitQueue

if TYPE_CHECKING:
    from .connection import Connection


_UNUSED = State.UNUSED


class RequestPool:
    """The slots of one connection. ``in_use`` are those taken, the oldest first."""

    def __init__(self, connection: Connection, limit: int, reserve: int) -> None:
        if limit < 1 or reserve < 0:
            raise ValueError(f"a pool has at least one slot and no negative reserve, not {limit} and {reserve}")
        self.connection = connection
        self.limit = limit
        self.reserve = reserve
        self.free: list[Request] = []
        self.in_use: dict[Request, None] = {}
        self.waitq = WaitQueue("fc->unused_list")
        self.reserve_waitq = WaitQueue("fc->unused_list")

    def room(self, force: bool) -> bool:
        """Whether a slot is free. Where the connection is gone nothing is waited for."""
        limit = self.limit + self.reserve if force else self.limit
        return len(self.in_use) < limit or not self.connection.connected

    async def wait(self, task: Task, req: Request, force: bool) -> None:
        """Sleep until there is room for ``req``, or its time has run out. Raises :class:`Interrupted`: an ordinary request for
        any signal."""
        queue = self.reserve_waitq if force else self.waitq
        mode = self.connection.policy.forced if force else Mode.INTERRUPTIBLE
        limited = self.connection.timeouts.limited
        await queue.wait_event(
            task, lambda: req.timed_out or self.room(force), mode, limited(req, self._holders), exclusive=True
        )

    def prepare(self, args: Args) -> Request:
        """A request that has no slot yet: :meth:`admit` it, or :meth:`dismiss` it."""
        req = self.free.pop() if self.free else Request()
        req.args = args
        req.created = self.connection.clock()
        return req

    def admit(self, task: Task | None, req: Request) -> None:
        """There is room for it."""
        self.in_use[req] = None
        if task is not None and task.events is not None:
            task.step("get request from fc->unused_list")

    def dismiss(self, req: Request) -> None:
        """It never had a slot, and needs none any more."""
        self.connection.timeouts.stop(req)
        req.reset()
        self.free.append(req)

    def take(self, task: Task | None, args: Args) -> Request:
        """A request out of the pool, where there is room."""
        req = self.free.pop() if self.free else Request()
        self.in_use[req] = None
        req.args = args
        if task is not None and task.events is not None:
            task.step("get request from fc->unused_list")
        return req

    def put(self, req: Request) -> None:
        """Back to the pool, whoever does it; one that waits for a slot has its turn."""
        del self.in_use[req]
        if not req.aborted:  # else its copier still looks at it
            req.move(_UNUSED)
            req.reset()
            self.free.append(req)
        if self.waitq.waiters or self.reserve_waitq.waiters or self.connection.background.owed:
            self.pass_on()

    def pass_on(self) -> None:
        """A slot is free: to whom?"""
        if not self.connection.connected:
            return  # everyone is awake
        if self.connection.background.owed and self.room(force=True):
            self.connection.background.send_owed()
        elif self.reserve_waitq.waiters:
            self.reserve_waitq.wake_one()
        elif self.room(force=False):
            self.waitq.wake_one()

    def wake_all(self) -> None:
        """The connection is gone."""
        self.reserve_waitq.wake_all()
        self.waitq.wake_all()

    def _holders(self) -> Iterable[Task]:
        """Who could give a slot back: any caller that has one, and for those that left, who could end their request."""
        for req in self.in_use:
            if req.caller is not None:
                yield req.caller
            else:
                yield from self.connection.answerers(req)
