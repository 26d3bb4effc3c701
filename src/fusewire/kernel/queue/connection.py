"""``fc`` of ``kernel.txt``: one filesystem's queue of requests, and what callers and readers do with it.

Names are the diagram's: ``unused_list`` (the pool), ``pending``, ``waitq``, :meth:`request_send`, :meth:`request_wait`,
:meth:`request_wait_answer`. What FUSE grew since stands beside them: forgets, interrupts, background requests, time limits.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Iterable

from ...wire.codec import IN_HEADER_SIZE
from ...wire.errno import Errno, error_name
from ...wire.flags import MIN_READ_BUFFER, Opcode
from ...wire.layouts import WRITE_IN
from ...wire.table import LATEST, Dialect
from .background import Background
from .iqueue import InputQueue
from .policy import DETACH, Policy
from .pool import RequestPool
from .request import Args, Request, State
from .task import Deadlock, Interrupted, Mode, Sleep, Task, traced
from .timeouts import CallAt, Timeouts
from .wait import Waiter, WaitQueue

# A member of an Enum costs more to look up than a name of the module.
_PENDING, _FINISHED = State.PENDING, State.FINISHED

Notify = Callable[[Task, int, bytes], Awaitable[None]]


@functools.cache
def _answered(opcode: Opcode, error: int) -> str:
    return f"{opcode.name} answered {error_name(error)}"


def _too_late(req: Request) -> OSError:
    return OSError(int(Errno.ETIMEDOUT), f"{req!r} was not answered in time")


async def _no_notifications(task: Task, code: int, body: bytes) -> None:
    raise OSError(int(Errno.EINVAL), f"notification {code} is not taken here")


class Connection(InputQueue):
    """One mount's queue. ``number`` is what fusectl would call it; ``pool`` how many requests may be in use at once, and
    ``reserve`` how many more of those that nothing may hold back. ``clock`` gives nanoseconds, ``call_at`` rings at one."""

    def __init__(
        self,
        number: int,
        policy: Policy = DETACH,
        pool: int = 16_384,
        reserve: int = 64,
        clock: Callable[[], int] = time.monotonic_ns,
        call_at: CallAt | None = None,
    ) -> None:
        super().__init__()
        self.number = number
        self.policy = policy
        self.clock = clock
        self.unused_list = RequestPool(self, pool, reserve)
        # Those that callers wait with: for INIT, for the background, for a slot.
        self.entering: dict[Request, None] = {}
        self.background = Background(self)
        self.blocked_waitq = WaitQueue("fc->blocked_waitq")
        self.timeouts = Timeouts(self, clock, call_at)
        self.lock_waiters: dict[Waiter, None] = {}
        self.num_waiting = 0
        self.initialized = False
        self.refused = False  # INIT failed: every caller gets ECONNREFUSED
        self.abort_error = False  # the daemon asked for ECONNABORTED on an abort (ABORT_ERROR)
        self.aborted_with_error = False
        self.dialect: Dialect = LATEST
        self.why_gone = "the daemon is gone, or its connection was aborted"
        self.least_buffer = MIN_READ_BUFFER  # bytes that a reader must have room for
        self.notify: Notify = _no_notifications  # the filesystem's, which sets it

    # -- the caller's side ----------------------------------------------------------------------------------------

    async def call(self, task: Task, args: Args) -> int:
        """Ask, and wait for the answer: returns the length of its body in bytes, which is then in ``args.out``.

        Raises the OSError that the daemon answered; :class:`Interrupted`; ENOTCONN once the connection is gone,
        ECONNABORTED when it goes while the request is under way, ETIMEDOUT when its time (from now on) has run out.
        """
        req = self._get_now(task, args) or await self.get_request(task, args)
        try:
            await self.request_send(task, req)
            if req.error:
                raise OSError(req.error, _answered(args.opcode, req.error) if self.connected else self.why_gone)
            return req.answered
        except GeneratorExit:  # whoever drives the task drops it: who ends the request gives it back
            req.detached = not req.finished
            raise
        finally:
            if not req.detached:
                self.put_request(task, req)

    async def get_request(self, task: Task, args: Args, *, background: bool = False) -> Request:
        """Take a request from the pool; sleep while INIT is unanswered, while too much is in the background, or while the
        pool is empty. Forced requests have a reserve, and wait for nothing else."""
        self.num_waiting += 1
        pool = self.unused_list
        req = pool.prepare(args)
        req.caller = task
        self.entering[req] = None
        self.timeouts.start(req)
        try:
            if not args.force:
                await self._admission(task, req, background)
            elif not pool.room(force=True):
                await self._forced_admission(task, req, args)
            if not self.connected:
                raise OSError(int(Errno.ENOTCONN), self.why_gone)
            if self.refused and not args.force:
                raise OSError(int(Errno.ECONNREFUSED), "the daemon refused INIT")
        except BaseException:
            self.num_waiting -= 1
            pool.dismiss(req)
            raise
        finally:
            del self.entering[req]
        pool.admit(task, req)
        return req

    def _get_now(self, task: Task, args: Args) -> Request | None:
        """What :meth:`get_request` does where nothing holds it back; else None."""
        pool = self.unused_list
        if not self.initialized or self.refused or not self.connected or len(pool.in_use) >= pool.limit:
            return None
        self.num_waiting += 1
        req = pool.take(task, args)
        req.caller = task
        return req

    async def _admission(self, task: Task, req: Request, background: bool) -> None:
        def blocked() -> bool:
            return self.connected and (not self.initialized or (background and self.background.blocked))

        pool = self.unused_list
        enders = self.timeouts.limited(req, self.serving)
        try:
            while blocked() or not pool.room(force=False):
                if req.timed_out:
                    raise _too_late(req)
                if blocked():
                    await self.blocked_waitq.wait_event(
                        task, lambda: req.timed_out or not blocked(), Mode.KILLABLE, enders, exclusive=True
                    )
                else:
                    await pool.wait(task, req, force=False)
                    if blocked():
                        pool.pass_on()  # the slot was for me, and I cannot use it now
        except OSError:
            if not blocked():  # what I was woken for goes to the next one
                self.blocked_waitq.wake_one()
                pool.pass_on()
            raise

    async def _forced_admission(self, task: Task, req: Request, args: Args) -> None:
        """Even the reserve is used up. Who is killed here, or has no time left, leaves the request behind: it is sent all the
        same."""
        pool = self.unused_list
        try:
            while not pool.room(force=True):
                if req.timed_out:
                    raise _too_late(req)
                await pool.wait(task, req, force=True)
        except OSError:
            self.background.send(None, args.left_behind())
            raise

    def wake_entering(self, req: Request) -> None:
        """The time of ``req`` has run out: its caller is to look, if it waits to come in."""
        if req in self.entering and req.caller is not None:
            for queue in (self.blocked_waitq, self.unused_list.waitq, self.unused_list.reserve_waitq):
                queue.wake_task(req.caller)

    def put_request(self, task: Task, req: Request) -> None:
        """Give it back to the pool; one that waits for a slot is woken."""
        self.num_waiting -= 1
        self.unused_list.put(req)
        if task.events is not None:
            task.step("add request to fc->unused_list", 0)

    def recycle(self, req: Request) -> None:
        """Back to the pool, whoever does it: the caller, or for one that has left whoever ends the request."""
        self.num_waiting -= 1
        self.unused_list.put(req)

    @traced()
    async def request_send(self, task: Task, req: Request) -> None:
        """Queue the request, wake a reader, sleep until it is answered."""
        if self.timeouts.limit:
            self.timeouts.start(req)
        self.queue_pending(task, req)
        if task.points:
            await task.point("queued")
        self.waitq.wake_up(task)
        if task.points:
            await task.point("woke a reader")
        await self.request_wait_answer(task, req)

    def queue_pending(self, task: Task | None, req: Request) -> None:
        """Where readers find it; where there are none any more it ends at once."""
        if not req.created:
            req.created = self.clock()
        if not self.connected:
            self.finish(None, req, int(Errno.ENOTCONN))
            return
        self.reqctr += 2
        req.key = req.unique = self.reqctr
        self.pending.add(task, req, _PENDING)

    @traced()
    async def request_wait_answer(self, task: Task, req: Request) -> None:
        """Sleep on ``req->waitq`` until the answer is in; what a signal does meanwhile is the policy's."""
        while req.state is not _FINISHED:
            try:
                await req.waitq.wait_asleep(task, req.over, req.asleep or self._answer_sleep(req))
            except Interrupted as why:
                if await self._interrupted(task, req, why):
                    raise
            if req.timed_out and req.state is not _FINISHED and await self._leave(task, req):
                raise _too_late(req)

    async def _interrupted(self, task: Task, req: Request, why: Interrupted) -> bool:
        """The wait for the answer was interrupted: whether the caller has left."""
        if self._tells(req):
            req.interrupted = True
            self.queue_interrupt(req)
        ended = isinstance(why, Deadlock) or task.signal_pending(self._leaving_mode(req))
        return ended and await self._leave(task, req)

    def _answer_sleep(self, req: Request) -> Sleep:
        """The caller's, made once for each request of the pool."""

        def answerers() -> Iterable[Task] | None:
            return None if req in self.timeouts.deadlines else self.answerers(req)

        req.asleep = Sleep(req.waitq.name, lambda: self._waking_mode(req), answerers)
        return req.asleep

    def _tells(self, req: Request) -> bool:
        """Whether a signal now is one that the daemon is to hear of."""
        return self.policy.interrupt and not self.no_interrupt and not req.interrupted

    def _waking_mode(self, req: Request) -> Mode:
        """Which signals wake the caller of ``req``, as things stand now: those that let it go, or that the daemon is told."""
        return Mode.INTERRUPTIBLE if self._tells(req) else self._leaving_mode(req)

    def _leaving_mode(self, req: Request) -> Mode:
        """Which signals let it go."""
        args = req.args
        assert args is not None
        if args.force:
            return self.policy.forced
        unread = req.state is State.PENDING or (req.device is not None and req.device.unread(req))
        return self.policy.unread if unread else self.policy.answer

    async def _leave(self, task: Task, req: Request) -> bool:
        """The caller goes before the answer came. A copy that is under way is waited for: it writes to our memory; False
        when the answer was complete then."""
        await req.unlocked.wait_event(task, lambda: not req.locked, Mode.UNINTERRUPTIBLE, lambda: self.answerers(req))
        args = req.args
        assert args is not None
        self.timeouts.stop(req)
        if req.finished:
            return False
        if args.force:  # stays, and has no memory of the caller's
            req.detached = True
            req.caller = None
        elif req.state is State.PENDING and self.policy.withdraw:
            self.pending.remove(task, req)
            req.move(State.FINISHED)
        elif req.state in (State.READING, State.WRITING):
            req.give_up()
            req.move(State.FINISHED)
        elif req.state is State.PROCESSING and req.device is not None and req.device.take_back(req):
            req.device.processing.remove(task, req)
            req.move(State.FINISHED)
        else:
            req.detached = True
            req.caller = None
        return True

    # -- without waiting ------------------------------------------------------------------------------------------

    async def request_send_background(self, task: Task, args: Args) -> None:
        """Queue a request that nobody waits for; ``args.end`` is called when it ends. Blocks while there are too many."""
        self.background.queue(task, await self.get_request(task, args, background=True))

    def send_forced(self, task: Task | None, args: Args) -> None:
        """Queue a request that nobody waits for and that nothing holds back: RELEASE, INIT."""
        self.background.send(task, args)

    def send_notify_reply(self, task: Task | None, args: Args, unique: int) -> None:
        """Queue NOTIFY_REPLY under the number that the daemon chose. No answer is due."""
        if not self.connected:
            raise OSError(int(Errno.ENOTCONN), self.why_gone)
        self.num_waiting += 1
        req = self.unused_list.take(task, args)
        req.detached = True
        req.created = self.clock()
        self.reqctr += 2
        req.unique, req.key = unique, self.reqctr
        self.pending.add(task, req, State.PENDING)
        self.wake_reader(task)

    def under_way(self) -> list[Request]:
        """Every request: those that have a slot, then those that wait for one."""
        return [*self.unused_list.in_use, *self.entering, *self.background.owed]

    # -- the end --------------------------------------------------------------------------------------------------

    def finish(self, task: Task | None, req: Request, error: int = 0, answered: int = 0) -> None:
        """The request ends, once: with the answer, with an error of ours, or with nothing due. Wakes who waits for it."""
        req.move(_FINISHED)
        req.error = error
        req.answered = answered
        if self.interrupts:
            self.interrupts.pop(req.unique, None)
        if self.timeouts.deadlines:
            self.timeouts.stop(req)
        if req.background:
            args = req.args
            assert args is not None
            self.recycle(req)
            self.background.ended(task, args, error, answered)
        elif req.detached:
            self.recycle(req)
        elif task is not None and task.events is not None:
            req.waitq.wake_up(task, all=True)
        else:
            req.waitq.wake_all()

    def abandon(self, req: Request, error: int) -> None:
        """A background request whose time has run out in the daemon's hands: it has ended for us, and its answer is late."""
        args = req.args
        assert args is not None
        req.background = False
        req.detached = req.timed_out = True
        self.background.ended(None, args, error, 0)

    def initialize(self, dialect: Dialect, max_write: int) -> None:
        """INIT was answered: callers may come in."""
        self.dialect = dialect
        self.least_buffer = max(MIN_READ_BUFFER, IN_HEADER_SIZE + WRITE_IN.size + max_write)
        self.initialized = True
        self.blocked_waitq.wake_all()

    def refuse(self) -> None:
        """INIT failed: whoever waits or comes gets ECONNREFUSED."""
        self.refused = True
        self.initialized = True
        self.blocked_waitq.wake_all()

    def abort(self, task: Task, *, with_error: bool = False) -> None:
        """End it: every request with ECONNABORTED, every reader with ENODEV, every wait for a semaphore with ENOTCONN.

        No step of the daemon is needed. A page that is being copied is finished by its copier. Idempotent. ``with_error``:
        readers get ECONNABORTED, if the daemon asked for that in INIT.
        """
        if not self.connected:
            return
        task.step(f"abort connection {self.number}")
        self.aborted_with_error = with_error and self.abort_error
        self.connected = False
        ending = self.background.drain()
        ending += self.pending.drain()
        for device in self.devices:
            ending += device.disconnect()
        self.forgets.clear()
        for req in ending:
            self.finish(None, req, int(Errno.ECONNABORTED))
        self.waitq.wake_all()
        self.blocked_waitq.wake_all()
        self.unused_list.wake_all()
        for waiter in list(self.lock_waiters):
            waiter.task.wake()
