"""What fusectl shows and does, and what Linux does not show: every request, by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ...wire.errno import Errno
from .request import Args, Request, State
from .task import Task

if TYPE_CHECKING:
    from .connection import Connection

LARGEST = 65_535  # of max_background and congestion_threshold


class RequestInfo(NamedTuple):
    """One request. ``unique`` is 0 before it is queued; ``age`` in seconds since it was asked for; ``caller`` who waits for it
    (None: nobody, or nobody any more); ``servers`` who could answer it (empty: no one is left)."""

    unique: int
    opcode: str
    nodeid: int
    state: str
    age: float
    caller: str | None
    servers: tuple[str, ...]

    def __str__(self) -> str:
        whom = self.caller or "nobody"
        servers = " or ".join(self.servers) or "no one"
        return (
            f"{self.unique} {self.opcode} node {self.nodeid}: {self.state}, {self.age:.3f} s,"
            f" for {whom}, {servers} can answer"
        )


class Control:
    """The files of /sys/fs/fuse/connections/N for a connection of ours. ``task`` is who acts, ``locked`` what it holds
    meanwhile: the driver's."""

    def __init__(
        self, connection: Connection, task: Task, locked: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self.connection = connection
        self.task = task
        self.locked = locked

    @property
    def number(self) -> int:
        return self.connection.number

    @property
    def waiting(self) -> int:
        """How many requests wait: for a slot, to be read, or to be answered. No forgets, no interrupts."""
        return self.connection.num_waiting

    @property
    def max_background(self) -> int:
        """How many background requests lie before the daemon at a time. Set to 1 to 65535; else EINVAL."""
        return self.connection.background.max_background

    @max_background.setter
    def max_background(self, value: int) -> None:
        background = self.connection.background
        with self.locked():
            background.set_limits(_checked("max_background", value), background.congestion_threshold)

    @property
    def congestion_threshold(self) -> int:
        """At how many background requests readahead holds back. Set to 1 to 65535; else EINVAL."""
        return self.connection.background.congestion_threshold

    @congestion_threshold.setter
    def congestion_threshold(self, value: int) -> None:
        background = self.connection.background
        with self.locked():
            background.set_limits(background.max_background, _checked("congestion_threshold", value))

    def abort(self) -> None:
        """End the connection: callers get ECONNABORTED or ENOTCONN, readers ENODEV, or ECONNABORTED where they asked for
        that in INIT (ABORT_ERROR)."""
        with self.locked():
            self.connection.abort(self.task, with_error=True)

    def requests(self) -> list[RequestInfo]:
        """Every request that is under way, or waits for a slot, the oldest first."""
        with self.locked():
            requests = sorted(self.connection.under_way(), key=attrgetter("created"))
            return [self._info(req, req.args) for req in requests if req.args is not None]

    def _info(self, req: Request, args: Args) -> RequestInfo:
        fc = self.connection
        return RequestInfo(
            req.unique,
            args.opcode.name,
            args.nodeid,
            _whereabouts(req),
            (fc.clock() - req.created) / 1e9,
            repr(req.caller) if req.caller is not None else None,
            tuple(dict.fromkeys(map(self._shown, fc.answerers(req)))),
        )

    def _shown(self, task: Task) -> str:
        """A reader; of the tasks that carry messages for a daemon in another process, that one."""
        pid = next((device.pid for device in self.connection.devices if device.pid is not None), task.pid)
        return f"{task.comm}:{pid}"


def _whereabouts(req: Request) -> str:
    if req.state is State.UNUSED:
        sleep = req.caller.sleep if req.caller is not None else None
        return f"waits on {sleep.what if sleep is not None else 'fc->unused_list'}"
    unread = req.state is State.PROCESSING and req.device is not None and req.device.unread(req)
    state = State.PENDING if unread else req.state
    return str(state.value)


def _checked(name: str, value: int) -> int:
    if not 1 <= value <= LARGEST:
        raise OSError(int(Errno.EINVAL), f"{name} is 1 to {LARGEST}, not {value}")
    return value
