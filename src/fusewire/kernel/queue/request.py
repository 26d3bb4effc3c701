"""A request: what is asked, where the answer goes, and in which of its states it is.

The table below is the whole life of a request; :meth:`Request.move` refuses any step that is not in it.

```
UNUSED ─► PENDING ─► READING ─► PROCESSING ─► WRITING ─► FINISHED ─► UNUSED
   │         ▲          │          │    ▲         ▲
   └► BACKGROUND        │          └► ORPHANED ───┘     (its reader died)
                        ▼
     any of them ─► FINISHED                            (interrupt, abort, no answer due)
```
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING

from ...wire.codec import IN_HEADER_SIZE
from ...wire.flags import Opcode
from ...wire.layouts import IN_HEADER
from .task import Sleep, Task
from .wait import WaitQueue

if TYPE_CHECKING:
    from .device import Device


class State(enum.Enum):
    UNUSED = "on fc->unused_list"
    BACKGROUND = "on fc->bg_queue"
    PENDING = "on fc->pending"
    READING = "being copied to the daemon"
    PROCESSING = "on fc->processing"
    WRITING = "being copied from the daemon"
    ORPHANED = "read by a reader that died"
    FINISHED = "finished"

    __hash__ = object.__hash__  # they are hashed at every step, and Enum's own hash is not cheap


_pack_header = IN_HEADER.pack_fields
_S = State
_FINISHED = State.FINISHED  # a member of an Enum costs more to look up than a name of the module
MOVES: dict[State, frozenset[State]] = {
    _S.UNUSED: frozenset({_S.PENDING, _S.BACKGROUND, _S.FINISHED}),
    _S.BACKGROUND: frozenset({_S.PENDING, _S.FINISHED}),
    _S.PENDING: frozenset({_S.READING, _S.FINISHED}),
    _S.READING: frozenset({_S.PROCESSING, _S.ORPHANED, _S.FINISHED}),
    _S.PROCESSING: frozenset({_S.WRITING, _S.ORPHANED, _S.PENDING, _S.FINISHED}),
    _S.WRITING: frozenset({_S.FINISHED}),
    _S.ORPHANED: frozenset({_S.WRITING, _S.PENDING, _S.FINISHED}),
    _S.FINISHED: frozenset({_S.UNUSED}),
}


class Args:
    """What the filesystem half hands over: one request, and the caller's memory for its answer.

    ``body``: the buffers after the header; ``length``: of both, in bytes. ``out``: the memory that the answer's body is
    copied into; its length is the most that is taken (bytes), and ``argvar`` allows less. ``force``: a fatal signal does
    not give it up; ``noreply``: no answer is due. ``late``: called with an answer that came after the caller left, to give
    back what it granted. ``end``: called with the errno (0 or negative) when a background request ends.
    """

    __slots__ = (
        "argvar", "body", "end", "force", "gid", "late", "length", "nodeid", "noreply", "opcode", "out", "pid", "uid",
    )  # fmt: skip

    def __init__(
        self,
        opcode: Opcode,
        nodeid: int,
        body: tuple[bytes | memoryview, ...] = (),
        out: bytearray | memoryview | None = None,
        *,
        argvar: bool = False,
        force: bool = False,
        noreply: bool = False,
        late: Callable[[bytes], None] | None = None,
        end: Callable[[int, int], None] | None = None,
        creds: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        self.opcode = opcode
        self.nodeid = nodeid
        self.body = body
        self.length = IN_HEADER_SIZE + (len(body[0]) if len(body) == 1 else sum(map(len, body)))
        self.out = out
        self.argvar = argvar
        self.force = force
        self.noreply = noreply
        self.late = late
        self.end = end
        self.uid, self.gid, self.pid = creds

    def left_behind(self) -> Args:
        """The same, to be sent although the caller has gone, and its memory with it."""
        creds = self.uid, self.gid, self.pid
        return Args(self.opcode, self.nodeid, self.body, force=self.force, late=self.late, creds=creds)


class Request:
    """``req`` of ``kernel.txt``. Lives on ``fc->unused_list`` between uses.

    ``caller`` is who waits for the answer (None once it left, and for background requests); ``reader`` the task that read
    it; ``locked`` is set while a page is copied and nothing may take the caller's memory away; ``aborted`` tells a copier
    to stop; ``error`` is 0 or a positive errno, ``answered`` the length of the answer's body in bytes; ``created`` when it
    was asked for, in nanoseconds (0: not yet known); ``key`` its place in the order in which all came.
    """

    __slots__ = (
        "aborted", "answered", "args", "asleep", "background", "caller", "created", "detached", "device", "error",
        "interrupted", "key", "locked", "reader", "state", "timed_out", "unique", "unlocked", "waitq",
    )  # fmt: skip

    def __init__(self) -> None:
        self.asleep: Sleep | None = None  # its caller's, made once
        self.state = State.UNUSED
        self.waitq = WaitQueue("req->waitq")
        self.unlocked = WaitQueue("req->locked")
        self.reset()

    def reset(self) -> None:
        """As fresh from the pool."""
        self.args: Args | None = None
        self.unique = 0
        self.key = 0
        self.created = 0
        self.timed_out = False
        self.caller: Task | None = None
        self.reader: Task | None = None
        self.device: Device | None = None
        self.background = False
        self.detached = False
        self.interrupted = False
        self.aborted = False
        self.locked = False
        self.error = 0
        self.answered = 0

    def __repr__(self) -> str:
        opcode = self.args.opcode.name if self.args is not None else "request"
        return f"{opcode} {self.unique} ({self.state.value})"

    def move(self, state: State) -> None:
        """Go to ``state``; a step that the table does not have is a bug of ours."""
        if state not in MOVES[self.state]:
            raise AssertionError(f"{self!r} cannot go to {state.name}")
        self.state = state

    def give_up(self) -> bool:
        """Take it from its copier, who will find out at the next page; False while a page is being copied: then the
        copier itself ends the request after that page."""
        assert self.device is not None
        self.aborted = True
        if self.locked:
            return False
        del self.device.io[self]
        return True

    @property
    def finished(self) -> bool:
        return self.state is State.FINISHED

    def over(self) -> bool:
        """What its caller waits for: the end, or that its time has run out."""
        return self.state is _FINISHED or self.timed_out

    @property
    def length(self) -> int:
        """Header and body, in bytes."""
        args = self.args
        assert args is not None
        return args.length

    def message(self) -> tuple[bytes | memoryview, ...]:
        """Header and body, as the daemon reads them."""
        args = self.args
        assert args is not None
        header = _pack_header(args.length, args.opcode, self.unique, args.nodeid, args.uid, args.gid, args.pid, 0, 0)
        return (header, *args.body)


class RequestList:
    """``fc->pending``, ``fc->processing``: requests by their ``key``, or by their ``unique`` where answers look for that.

    Whoever adds or removes says so in the words of ``kernel.txt``.
    """

    __slots__ = ("_added", "_removed", "by", "requests")

    def __init__(self, by: str, added: str, removed: str) -> None:
        self.requests: dict[int, Request] = {}
        self.by = attrgetter(by)
        self._added = added
        self._removed = removed

    def add(self, task: Task | None, req: Request, state: State) -> None:
        req.move(state)
        self.requests[self.by(req)] = req
        if task is not None and task.events is not None:
            task.step(self._added, req.unique)

    def first(self) -> Request:
        return next(iter(self.requests.values()))

    def remove(self, task: Task, req: Request) -> None:
        del self.requests[self.by(req)]
        if task.events is not None:
            task.step(self._removed, req.unique)

    def discard(self, req: Request) -> None:
        """Take out what nobody works on."""
        del self.requests[self.by(req)]

    def drain(self) -> list[Request]:
        """Take all out."""
        requests = list(self.requests.values())
        self.requests.clear()
        return requests

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self.requests.values()))
