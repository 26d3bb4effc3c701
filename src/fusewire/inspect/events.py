"""The one event type and the one stream that all of fusewire writes to and everything that shows something reads from."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """How ``kernel.txt`` writes a line: ``>enter()``, ``<leave()`` or ``[step]``."""

    ENTER = ">"
    LEAVE = "<"
    STEP = "["


class Event(NamedTuple):
    """One thing that one task did.

    ``time`` is in nanoseconds of a monotonic clock (the kernel half's own under its drivers, CLOCK_MONOTONIC on Linux);
    ``pid`` is the task's number, ``comm`` its name; ``unique`` the request it is about, 0 for none.
    """

    time: int
    pid: int
    comm: str
    kind: Kind
    text: str
    unique: int = 0

    @property
    def line(self) -> str:
        """The event as ``kernel.txt`` writes it, without its indentation."""
        match self.kind:
            case Kind.STEP:
                return f"[{self.text}]"
            case _:
                return f"{self.kind.value}{self.text}()"


class EventStream:
    """An append-only record of events; may be written by several threads.

    ``limit`` keeps the newest so many.
    """

    def __init__(self, limit: int | None = None, clock: Callable[[], int] = time.monotonic_ns):
        self._events: deque[Event] = deque(maxlen=limit)
        self._lock = threading.Lock()
        self._closed = False
        self.clock = clock

    def emit(self, pid: int, comm: str, kind: Kind, text: str, unique: int = 0) -> None:
        """Record that the task ``pid`` did ``text`` now."""
        with self._lock:  # the clock is read inside it, so that the order is the times' order
            if self._closed:
                return
            self._events.append(Event(self.clock(), pid, comm, kind, text, unique))

    def close(self) -> None:
        """Nothing more is recorded: what is torn down from now on is not what happened."""
        self._closed = True

    def clear(self) -> None:
        """Forget what is recorded so far."""
        with self._lock:
            self._events.clear()

    def __iter__(self) -> Iterator[Event]:
        with self._lock:
            return iter(list(self._events))

    def __len__(self) -> int:
        return len(self._events)
