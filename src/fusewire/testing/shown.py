"""The last requests of a kernel's half as the two-column diagram, for the report of a failed test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..inspect import Diagram, Event, Kind

if TYPE_CHECKING:
    from ..drive import Kernel

CALLS = 3  # system calls shown
LINES = 240  # events at most
WIDTH = 45  # characters a column


def last_requests(kernel: Kernel, calls: int = CALLS, limit: int = LINES) -> str:
    """What happened in the last ``calls`` system calls, at most ``limit`` events of it; empty where nothing was recorded."""
    if kernel.events is None:
        return ""
    events = list(kernel.events)
    daemons = {mount.daemon.comm for mount in [*kernel.mounts, *kernel.detached]}
    serving = {event.pid for event in events if event.comm in daemons}
    others = {event.pid for event in events} - serving
    if not others:
        return ""
    start = max(_start(events, others, calls), len(events) - limit)
    diagram = Diagram({"the program": others, "the FUSE daemon": serving}, WIDTH)
    drawn = diagram.render(_open_calls(events[:start]) + events[start:])
    return drawn if not start else f"(what came before is left out)\n{drawn}"


def _start(events: list[Event], programs: set[int], calls: int) -> int:
    """Where the last so many outermost calls of programs begin."""
    depth: dict[int, int] = {}
    begins = []
    for place, event in enumerate(events):
        if event.pid not in programs or event.kind is Kind.STEP:
            continue
        now = depth.get(event.pid, 0)
        if event.kind is Kind.ENTER and not now:
            begins.append(place)
        depth[event.pid] = max(0, now + (1 if event.kind is Kind.ENTER else -1))
    return begins[-calls] if len(begins) >= calls else 0


def _open_calls(events: list[Event]) -> list[Event]:
    """The calls that each task is still in."""
    stacks: dict[int, list[Event]] = {}
    for event in events:
        stack = stacks.setdefault(event.pid, [])
        if event.kind is Kind.ENTER:
            stack.append(event)
        elif event.kind is Kind.LEAVE and stack:
            stack.pop()
    return [event for stack in stacks.values() for event in stack]
