"""A hang as events for the diagram: what the daemons tell, and the kernel functions that each task is seen to sleep in.

When a task went to sleep is Linux's word where tracefs is there; otherwise it is when we looked.
"""

from __future__ import annotations

import re
import time

from ...inspect.events import Event, Kind
from ...linux.proc import Seen
from .hang import Hang, Look

_LEFT_OUT = re.compile(
    r"__(?!get_user_pages)|do_syscall|entry_SYSCALL|asm_|handle_mm_fault|do_fault|gup_|iov_iter|vfs_(read|write)$"
    r"|el0|invoke_syscall|do_el0"
)
_CALL = re.compile(r"^(__(x64|arm64)_sys|ksys)_")


def functions(task: Seen) -> list[str]:
    """The functions that it is in, the outermost first, without those that say nothing."""
    named = [_CALL.sub("sys_", frame) for frame in reversed(task.stack)]
    return [name for name in named if not _LEFT_OUT.match(name)]


class Drawing:
    """What has happened to ``hang``, since it began or since it was last asked."""

    def __init__(self, hang: Hang) -> None:
        self.hang = hang
        self._inside: dict[int, list[str]] = {}
        self._last: dict[int, Seen] = {}
        self._told = self._blows = 0
        self._asleep: dict[int, int] = {}
        self._back: dict[int, int] = {}

    def since(self, look: Look) -> list[Event]:
        """Up to ``look``, the newest."""
        self._asleep = self.hang.trace.last_asleep() if self.hang.trace else {}
        told, self._told = self.hang.told[self._told :], len(self.hang.told)
        blows, self._blows = self.hang.blows[self._blows :], len(self.hang.blows)
        # Who tells something has left the kernel before.
        self._back = {event.pid: event.time - 1 for event in reversed(told)}
        events = list(told)
        for blow in blows:
            for task in blow.before.tasks:
                if task.tid in blow.whom:
                    events.append(Event(blow.time, task.tid, task.comm, Kind.STEP, blow.name.split(" to ")[0]))
        for tid in look.stuck.keys() | self._inside.keys():
            events += self._moved(tid, look.stuck.get(tid))
        return sorted(events, key=lambda event: event.time)

    def _moved(self, tid: int, task: Seen | None) -> list[Event]:
        """From where it was drawn to where it is now; None where it waits no longer."""
        before, inside = self._last.get(tid), self._inside.pop(tid, [])
        now = functions(task) if task else []
        if task and before and (task.stack, task.state) == (before.stack, before.state):
            self._inside[tid] = inside
            return []
        comm = task.comm if task else before.comm if before else ""
        asleep = self._asleep.get(tid, time.monotonic_ns())
        left = self._back.get(tid, asleep)
        kept = 0 if tid in self._back else _common(inside, now)
        events = [Event(left, tid, comm, Kind.LEAVE, name) for name in reversed(inside[kept:])]
        events += [Event(asleep, tid, comm, Kind.ENTER, name) for name in now[kept:]]
        if task:
            self._inside[tid], self._last[tid] = now, task
            events.append(Event(asleep, tid, comm, Kind.STEP, f"sleep in state {task.state}"))
        return events


def _common(one: list[str], other: list[str]) -> int:
    """How many functions they are both in."""
    return next(
        (n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
