"""Linux's own events of a FUSE mount, from tracefs: who queued which request, when it ended, who slept meanwhile.

An instance of our own is used, so nobody else's tracing is disturbed. Times are CLOCK_MONOTONIC, as our own events'.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..inspect.events import Event, Kind

ROOT = Path("/sys/kernel/tracing")
_LINE = re.compile(r"^\s*(?P<comm>.+)-(?P<pid>\d+)\s+\[\d+\]\s+\S+\s+(?P<time>\d+\.\d+): (?P<name>\w+)(?P<rest>.*)$")
_SWITCH = re.compile(r"prev_pid=(\d+) prev_prio=\d+ prev_state=(\S+)")
_SEND = re.compile(r"connection (\d+) req (\d+) opcode \d+ \(FUSE_(\w+)\)")
_END = re.compile(r"connection (\d+) req (\d+) len \d+ error (-?\d+)")


def available() -> bool:
    """Whether tracefs is here and has FUSE's tracepoints; mounts it where it is not and we may."""
    events = ROOT / "events/fuse/fuse_request_send"
    with contextlib.suppress(OSError):
        if ROOT.is_dir() and not events.exists() and not os.path.ismount(ROOT):
            ctypes.CDLL(None).mount(b"tracefs", os.fsencode(ROOT), b"tracefs", ctypes.c_ulong(0), None)
        return events.exists()
    return False


class Recording:
    """A recording in progress. ``pids`` (and the children they make) are the tasks whose events are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def events(self, connection: int, calls: Iterable[str]) -> list[Event]:
        """What was recorded: the system calls ``calls``, and the requests of ``connection``, in the words of the diagram."""
        return _with_requests(_events(self._lines(), connection, frozenset(calls)))

    def last_asleep(self) -> dict[int, int]:
        """By thread: when it last went to sleep, or ended, in nanoseconds."""
        last: dict[int, int] = {}
        for line in self._lines():
            match = _LINE.match(line)
            if match is None or match["name"] != "sched_switch":
                continue
            switch = _SWITCH.search(match["rest"])
            if switch and switch[2][0] != "R":
                last[int(switch[1])] = _nanoseconds(match["time"])
        return last

    def _lines(self) -> list[str]:
        """The name of a task may have any bytes in it, but for the newline."""
        return (self._path / "trace").read_text(errors="backslashreplace").split("\n")


@contextlib.contextmanager
def record(pids: Iterable[int], calls: Iterable[str]) -> Iterator[Recording]:
    """Record the system calls ``calls`` of ``pids`` and their children, their sleeps, and FUSE's requests."""
    _sweep()
    path = ROOT / "instances" / f"fusewire-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir()
    in_use = os.open(path / "tracing_on", os.O_RDONLY)  # so that nobody else can remove it
    try:
        (path / "trace_clock").write_text("mono")
        (path / "options/event-fork").write_text("1")
        (path / "set_event_pid").write_text(" ".join(map(str, pids)))
        chosen = ["fuse/fuse_request_send", "fuse/fuse_request_end", "sched/sched_switch"]
        chosen += [f"syscalls/sys_{side}_{call}" for call in calls for side in ("enter", "exit")]
        for event in chosen:
            (path / "events" / event / "enable").write_text("1")
        yield Recording(path)
    finally:
        os.close(in_use)
        path.rmdir()


def _sweep() -> None:
    """Remove what is left of recordings that were killed."""
    for path in (ROOT / "instances").glob("fusewire-*"):
        pid = path.name.split("-")[1]
        if not os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(OSError):
                path.rmdir()


def _nanoseconds(seconds: str) -> int:
    """The trace has microseconds."""
    return int(seconds.replace(".", "")) * 1000


def _with_requests(events: Iterable[Event]) -> list[Event]:
    """Leave out the system calls that had nothing to do with FUSE: those with no request inside."""
    kept: list[Event] = []
    entered: dict[int, Event] = {}
    for event in events:
        if event.kind is Kind.ENTER:
            entered[event.pid] = event
            continue
        opened = entered.pop(event.pid, None)
        if event.kind is Kind.LEAVE and opened is not None:
            continue
        if opened is not None:
            kept.append(opened)
        kept.append(event)
    return kept


def _events(lines: Iterable[str], connection: int, calls: frozenset[str]) -> Iterator[Event]:
    inside: set[int] = set()  # the tasks whose request is under way
    slept: set[int] = set()
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        pid, comm, name, rest = int(match["pid"]), match["comm"].strip(), match["name"], match["rest"]
        time = _nanoseconds(match["time"])
        if pid in slept:  # it runs again, or it would have no event
            slept.discard(pid)
            yield Event(time, pid, comm, Kind.STEP, "woken up")
        if name == "sched_switch":
            switch = _SWITCH.search(rest)
            if switch and int(switch[1]) in inside and switch[2][0] in "SDK":
                slept.add(pid)
                yield Event(time, pid, comm, Kind.STEP, "sleep on req->waitq")
        elif name == "fuse_request_send":
            sent = _SEND.search(rest)
            if sent and int(sent[1]) == connection:
                inside.add(pid)
                yield Event(time, pid, comm, Kind.STEP, f"queue {sent[3]} req on fc->pending", int(sent[2]))
        elif name == "fuse_request_end":
            ended = _END.search(rest)
            if ended and int(ended[1]) == connection:
                yield Event(time, pid, comm, Kind.STEP, "end req, wake up req->waitq", int(ended[2]))
        elif name.startswith("sys_"):
            call = name.removeprefix("sys_")
            if call in calls:
                leave = "->" in rest
                if leave:
                    inside.discard(pid)
                yield Event(time, pid, comm, Kind.LEAVE if leave else Kind.ENTER, f"sys_{call}")
