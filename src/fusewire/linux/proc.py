"""What Linux tells of a task in /proc: its state, what it sleeps in, the system call and the kernel functions it is in.

Reading it touches no mount: not the command line (which lies in the task's memory), no path, no descriptor.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_FRAME = re.compile(r"^\[<[^>]*>\] (\w+)", re.MULTILINE)  # without the compiler's suffixes: .isra.0


class Seen(NamedTuple):
    """One task at one moment.

    ``state`` as ps has it: R runs, S sleeps and a signal ends it, D sleeps and no signal ends it, or (``killable``) a fatal
    one only; Z is dead. ``stack``: the kernel functions it is in, the innermost first; empty in user mode, or without the
    permission to see it. ``wchan``: the one that it sleeps in. ``switches``: how often it has slept or was put off.
    """

    pid: int
    tid: int
    comm: str
    state: str
    wchan: str
    stack: tuple[str, ...]
    switches: int

    @property
    def name(self) -> str:
        return f"{self.comm}:{self.tid}"

    @property
    def where(self) -> str:
        return f"{self.state} in {self.wchan}"

    @property
    def asleep(self) -> bool:
        return self.state in "SD"


def see(pid: int, tid: int = 0) -> Seen | None:
    """The thread ``tid`` of process ``pid`` (0: its first); None when it is gone. A zombie is gone but for its status."""
    task = Path(f"/proc/{pid}/task/{tid or pid}")
    try:
        comm, state = _stat(_read(task / "stat"))
        stack = _FRAME.findall(_text(task / "stack"))
        wchan = _text(task / "wchan")
        status = _read(task / "status")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if state in "ZX":
        return None
    switches = sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))
    return Seen(pid, tid or pid, comm, state, "" if wchan == "0" else wchan, tuple(stack), switches)


def threads(pid: int) -> list[Seen]:
    """All threads of process ``pid`` that live."""
    try:
        tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [seen for tid in tids if (seen := see(pid, tid)) is not None]


def _stat(text: str) -> tuple[str, str]:
    """A name may have blanks and parentheses in it."""
    comm, _, rest = text.partition(" (")[2].rpartition(") ")
    return comm, rest[0]


def _text(path: Path) -> str:
    try:
        return _read(path)
    except PermissionError:
        return ""


def _read(path: Path) -> str:
    """The name of a task may be any bytes."""
    return path.read_text(errors="backslashreplace")
