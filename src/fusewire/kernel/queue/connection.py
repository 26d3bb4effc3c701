"""``fc`` of ``kernel.txt``: one filesystem's queue of requests, and what callers and readers do with it.

Names are the diagram's: ``unused_list`` (the pool), ``pending``, ``waitq``, :meth:`request_send`, :meth:`request_wait`,
:meth:`request_wait_answer`. What FUSE grew since stands beside them: background requests, forgets, interrupts, abort.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...wire.errno import Errno
from ...wire.table import LATEST, Dialect
from .policy import DETACH, Policy
from .request import Args, Request, RequestList, State
from .task import Interrupted, Mode, Sleep, Task, traced
from .wait import Waiter, WaitQueue

if TYPE_CHECKING:
    from .device import Device

_UNUSED, _PENDING, _FINISHED = State.UNUSED, State.PENDING, State.FINISHED


class Connection:
    """One mount's queue. ``number`` is what fusectl would call it; ``pool`` how many requests may be in use at once."""

    def __init__(self, number: int, policy: Policy = DETACH, pool: int = 16_384) -> None:
        self.number = number
        self.policy = policy
        self.pool = pool
        self.unused_list: list[Request] = []
        self.unused_waitq = WaitQueue("fc->unused_list")
        self.in_use: dict[Request, None] = {}
        self.pending = RequestList("queue req on fc->pending", "remove req from fc->pending")
        self.waitq = WaitQueue("fc->waitq")
        self._idle = Sleep(self.waitq.name, Mode.INTERRUPTIBLE, _nobody, idle=True)
        self.interrupts: dict[int, Request] = {}
        self.forgets: deque[tuple[int, int]] = deque()
        self.forget_batch = 16
        self.bg_queue: deque[Request] = deque()
        self.max_background = 12
        self.congestion_threshold = 9
        self.num_background = 0
        self.active_background = 0
        self.blocked_waitq = WaitQueue("fc->blocked_waitq")
        self.devices: list[Device] = []
        self.readers: dict[Task, None] = {}
        self.lock_waiters: dict[Waiter, None] = {}
        self.reqctr = 0
        self.num_waiting = 0
        self.initialized = False
        self.connected = True
        self.refused = False  # INIT failed: every caller gets ECONNREFUSED
        self.no_interrupt = False
        self.dialect: Dialect = LATEST
        self.max_write = 4096

    # -- the caller's side ----------------------------------------------------------------------------------------

    async def call(self, task: Task, args: Args) -> int:
        """Ask, and wait for the answer: returns the length of its body in bytes, which is then in ``args.out``.

        Raises the OSError that the daemon answered; :class:`Interrupted`; ENOTCONN once the connection is gone,
        ECONNABORTED when it goes while the request is under way.
        """
        req = self._get_now(task, args) or await self.get_request(task, args)
        try:
            if task.points or task.events is not None:
                await self.request_send(task, req)
            else:  # the same, with nobody there to stop it or to be told
                self._queue_pending(task, req)
                self.waitq.wake_one()
                await self.request_wait_answer(task, req)
            if req.error:
                raise OSError(req.error, f"{args.opcode.name} answered {Errno(req.error).name}")
            return req.answered
        finally:
            if not req.detached:
                self.put_request(task, req)

    async def get_request(self, task: Task, args: Args, *, background: bool = False) -> Request:
        """Take a request from the pool; sleep while INIT is unanswered, while too much is in the background, or while the
        pool is empty. Forced requests wait for none of these."""
        self.num_waiting += 1
        try:
            if not args.force and (self._blocked(background) or self._full()):
                await self._admission(task, background)
            if self.refused and not args.force:
                raise OSError(int(Errno.ECONNREFUSED), "the daemon refused INIT")
            if not self.connected:
                raise OSError(int(Errno.ENOTCONN), "the daemon is gone, or its connection was aborted")
        except BaseException:
            self.num_waiting -= 1
            raise
        return self._take(task, args, background)

    def _get_now(self, task: Task, args: Args) -> Request | None:
        """What :meth:`get_request` does where nothing holds it back; else None."""
        if not self.initialized or self.refused or not self.connected or len(self.in_use) >= self.pool:
            return None
        self.num_waiting += 1
        return self._take(task, args, False)

    def _take(self, task: Task | None, args: Args, background: bool) -> Request:
        req = self.unused_list.pop() if self.unused_list else self._new_request()
        self.in_use[req] = None
        req.args = args
        req.background = background
        req.caller = None if background else task
        if task is not None and task.events is not None:
            task.step("get request from fc->unused_list")
        return req

    def _blocked(self, background: bool) -> bool:
        return self.connected and (not self.initialized or (background and self.num_background >= self.max_background))

    def _full(self) -> bool:
        return self.connected and len(self.in_use) >= self.pool

    def _new_request(self) -> Request:
        req = Request()
        req.asleep = Sleep(req.waitq.name, lambda: self._answer_mode(req), lambda: self.answerers(req))
        return req

    async def _admission(self, task: Task, background: bool) -> None:
        while self._blocked(background) or self._full():
            if self._blocked(background):
                await self.blocked_waitq.wait_event(
                    task, lambda: not self._blocked(background), Mode.KILLABLE, self.serving, exclusive=True
                )
            else:
                await self.unused_waitq.wait_event(
                    task, lambda: not self._full(), Mode.INTERRUPTIBLE, self._holders, exclusive=True
                )

    def put_request(self, task: Task, req: Request) -> None:
        """Give it back to the pool; one that waits for a slot is woken."""
        self.recycle(req)
        if task.events is not None:
            task.step("add request to fc->unused_list", 0)

    def recycle(self, req: Request) -> None:
        """Back to the pool, whoever does it: the caller, or for one that has left whoever ends the request."""
        del self.in_use[req]
        if not req.aborted:  # else its copier still looks at it
            req.move(_UNUSED)
            req.reset()
            self.unused_list.append(req)
        self.num_waiting -= 1
        if self.unused_waitq.waiters:
            self.unused_waitq.wake_one()

    @traced()
    async def request_send(self, task: Task, req: Request) -> None:
        """Queue the request, wake a reader, sleep until it is answered."""
        self._queue_pending(task, req)
        if task.points:
            await task.point("queued")
        self.waitq.wake_up(task)
        if task.points:
            await task.point("woke a reader")
        await self.request_wait_answer(task, req)

    def _queue_pending(self, task: Task | None, req: Request) -> None:
        if not self.connected:
            req.error = int(Errno.ENOTCONN)
            req.move(_FINISHED)
            return
        self.reqctr += 2
        req.unique = self.reqctr
        self.pending.add(task, req, _PENDING)

    @traced()
    async def request_wait_answer(self, task: Task, req: Request) -> None:
        """Sleep on ``req->waitq`` until the answer is in; what a signal does meanwhile is the policy's."""
        while req.state is not _FINISHED:
            if self.policy.interrupt and not self.no_interrupt and not req.interrupted:
                try:
                    await req.waitq.wait_event(task, req.is_finished, Mode.INTERRUPTIBLE, lambda: self.answerers(req))
                except Interrupted:
                    req.interrupted = True
                    self.queue_interrupt(req)
                continue
            try:
                await req.waitq.wait_asleep(task, req.is_finished, req.asleep)
            except Interrupted:
                await self._leave(task, req)
                raise

    def _answer_mode(self, req: Request) -> Mode:
        """Which signals end the wait for its answer, as things stand now."""
        assert req.args is not None
        if req.args.force:
            return self.policy.forced
        unread = req.state is _PENDING or (req.device is not None and req.device.unread(req))
        return self.policy.unread if unread else self.policy.answer

    async def _leave(self, task: Task, req: Request) -> None:
        """The caller goes before the answer came. A copy that is under way is waited for: it writes to our memory."""
        await req.unlocked.wait_event(task, lambda: not req.locked, Mode.UNINTERRUPTIBLE, lambda: self.answerers(req))
        args = req.args
        assert args is not None
        if req.finished:
            return
        if req.state is _PENDING and not args.force:
            self.pending.remove(task, req)
            req.move(_FINISHED)
        elif req.state in (State.READING, State.WRITING):
            req.give_up()
            req.move(_FINISHED)
        elif req.state is State.PROCESSING and req.device is not None and not args.force and req.device.take_back(req):
            req.device.processing.remove(task, req)
            req.move(_FINISHED)
        else:
            req.detached = True
            req.caller = None

    # -- without waiting ------------------------------------------------------------------------------------------

    async def request_send_background(self, task: Task, args: Args) -> None:
        """Queue a request that nobody waits for; ``args.end`` is called when it ends. Blocks while there are too many."""
        self._queue_background(task, await self.get_request(task, args, background=True))

    def send_forced(self, task: Task | None, args: Args) -> None:
        """Queue a request that nobody waits for and that nothing holds back: RELEASE, INIT."""
        self.num_waiting += 1
        self._queue_background(task, self._take(task, args, True))

    def _queue_background(self, task: Task | None, req: Request) -> None:
        req.move(State.BACKGROUND)
        self.num_background += 1
        self.bg_queue.append(req)
        self.flush_bg_queue(task)

    def flush_bg_queue(self, task: Task | None) -> None:
        """Let background requests through to ``pending``, up to ``max_background`` at a time."""
        while self.bg_queue and (self.active_background < self.max_background or not self.connected):
            req = self.bg_queue.popleft()
            self.active_background += 1
            self._queue_pending(task, req)
            if req.finished:
                self._background_ended(task, req)
            else:
                self._wake_reader(task)

    def queue_forget(self, task: Task | None, nodeid: int, nlookup: int) -> None:
        """Tell the daemon that ``nlookup`` references to ``nodeid`` are gone. Needs no request and no answer."""
        if self.connected:
            self.forgets.append((nodeid, nlookup))
            if task is not None:
                task.step(f"queue forget of node {nodeid}")
            self._wake_reader(task)

    def _wake_reader(self, task: Task | None) -> None:
        if task is not None:
            self.waitq.wake_up(task)
        else:
            self.waitq.wake_one()

    def queue_interrupt(self, req: Request) -> None:
        """Have the daemon told, unless it has not read the request yet (then :meth:`Device.read` comes back to it)."""
        if req.state in (State.PROCESSING, State.ORPHANED) and not self.no_interrupt:
            self.interrupts.setdefault(req.unique, req)
            self.waitq.wake_one()

    # -- the reader's side ----------------------------------------------------------------------------------------

    @property
    def request_pending(self) -> bool:
        """Whether there is something to read."""
        return bool(self.pending.requests or self.interrupts or self.forgets)

    def forgets_first(self) -> bool:
        """Forgets and requests take turns, so that neither starves: up to 16 reads of forgets, then 8 of requests."""
        if not self.pending.requests:
            return True
        self.forget_batch -= 1
        if self.forget_batch <= -8:
            self.forget_batch = 16
        return self.forget_batch >= 0

    @traced()
    async def request_wait(self, task: Task) -> None:
        """Sleep on ``fc->waitq`` until there is something to read, or the connection is gone."""
        self.readers[task] = None
        await self.waitq.wait_asleep(task, self._to_read, self._idle, exclusive=True)

    def _to_read(self) -> bool:
        return bool(self.pending.requests or self.interrupts or self.forgets or not self.connected)

    # -- the end --------------------------------------------------------------------------------------------------

    def finish(self, task: Task | None, req: Request, error: int = 0, answered: int = 0) -> None:
        """The request ends, once: with the answer, with an error of ours, or with nothing due. Wakes who waits for it."""
        req.move(_FINISHED)
        req.error = error
        req.answered = answered
        if self.interrupts:
            self.interrupts.pop(req.unique, None)
        if req.background:
            self._background_ended(task, req)
        elif req.detached:
            self.recycle(req)
        elif task is not None and task.events is not None:
            req.waitq.wake_up(task, all=True)
        else:
            req.waitq.wake_all()

    def _background_ended(self, task: Task | None, req: Request) -> None:
        args = req.args
        assert args is not None
        self.num_background -= 1
        self.active_background -= 1
        error, answered = req.error, req.answered
        self.recycle(req)
        self.blocked_waitq.wake_one()
        if args.end is not None:
            args.end(error, answered)
        self.flush_bg_queue(task)

    def initialize(self, dialect: Dialect, max_write: int) -> None:
        """INIT was answered: callers may come in."""
        self.dialect = dialect
        self.max_write = max_write
        self.initialized = True
        self.blocked_waitq.wake_all()

    def refuse(self) -> None:
        """INIT failed: whoever waits or comes gets ECONNREFUSED."""
        self.refused = True
        self.initialized = True
        self.blocked_waitq.wake_all()

    def abort(self, task: Task) -> None:
        """End it: every request with ECONNABORTED, every reader with ENODEV, every wait for a semaphore with ENOTCONN.

        No step of the daemon is needed. A page that is being copied is finished by its copier. Idempotent.
        """
        if not self.connected:
            return
        task.step(f"abort connection {self.number}")
        self.connected = False
        ending = list(self.bg_queue)
        self.bg_queue.clear()
        self.active_background += len(ending)
        ending += self.pending.drain()
        for device in self.devices:
            ending += device.disconnect()
        self.interrupts.clear()
        self.forgets.clear()
        for req in ending:
            self.finish(None, req, int(Errno.ECONNABORTED))
        self.waitq.wake_all()
        self.blocked_waitq.wake_all()
        self.unused_waitq.wake_all()
        for waiter in list(self.lock_waiters):
            waiter.task.wake()

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
        if req.state in (_PENDING, State.BACKGROUND):
            return self.serving()
        if req.reader is None or req.reader.exited:
            return ()
        return (req.reader,)

    def _holders(self) -> Iterable[Task]:
        for req in self.in_use:
            if req.caller is not None:
                yield req.caller
            else:
                yield from self.answerers(req)


def _nobody() -> Iterable[Task]:
    return ()
