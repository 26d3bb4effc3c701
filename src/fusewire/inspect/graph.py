"""The one wait-for graph: who sleeps, on what, and who could end that sleep.

A request may be answered by *any* of several tasks, so a wait has a set of enders of which one is enough (an OR node); a
chain of waits is the AND. A task that runs, or one whose wait ends by something outside (a time, a person, another
machine), may always go on. Deadlocked is every task from which no such task can be reached through enders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Waiting(NamedTuple):
    """One task's wait. ``enders`` are the tasks of which one could end it.

    ``opaque``: something we cannot see may end it too. ``idle``: the task waits for work; nobody waits in vain for that.
    """

    task: str
    what: str
    enders: frozenset[str] = frozenset()
    opaque: bool = False
    idle: bool = False
    doing: str = ""  # the system call it is in

    def words(self) -> str:
        """Who waits on what, and who could end it."""
        doing = f", in {self.doing}," if self.doing else ""
        if self.opaque:
            whom = "which something else may end" + (f", or {_either(self.enders)}" if self.enders else "")
        elif self.task in self.enders and len(self.enders) == 1:
            whom = "which only it itself could end"
        elif self.enders:
            whom = f"which {_either(self.enders)} could end"
        else:
            whom = "which no task is left to end"
        return f"{self.task}{doing} waits on {self.what}, {whom}"


class Deadlocked(NamedTuple):
    """A set of tasks that wait for each other, in the order of the cycle (or of the chain, where nobody is left)."""

    waits: tuple[Waiting, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(wait.task for wait in self.waits)

    def words(self) -> str:
        """The cycle in words, a line a wait."""
        return ";\n".join(wait.words() for wait in self.waits) + "."


class WaitGraph:
    """All waits of one system at one moment, by task."""

    def __init__(self, waits: Iterable[Waiting], running: Iterable[str] = ()) -> None:
        self.waits: Mapping[str, Waiting] = {wait.task: wait for wait in waits}
        self.running = frozenset(running)

    def live(self) -> set[str]:
        """The tasks that can go on: they run, or a chain of enders leads from them to one that does."""
        waited_by: dict[str, list[str]] = {}
        live = set(self.running)
        for wait in self.waits.values():
            if wait.opaque:
                live.add(wait.task)
            for ender in wait.enders:
                waited_by.setdefault(ender, []).append(wait.task)
        frontier = list(live)
        while frontier:
            for task in waited_by.get(frontier.pop(), ()):
                if task not in live:
                    live.add(task)
                    frontier.append(task)
        return live

    def deadlocks(self) -> list[Deadlocked]:
        """The groups of tasks that nothing inside the system can free; the cycle of each group first."""
        live = self.live()
        stuck = {task: wait for task, wait in self.waits.items() if task not in live and not wait.idle}
        found: list[Deadlocked] = []
        seen: set[str] = set()
        for task in stuck:
            if task in seen:
                continue
            group = self._group(task, stuck)
            seen |= group
            found.append(Deadlocked(tuple(stuck[name] for name in _in_order(group, stuck))))
        return found

    @staticmethod
    def _group(start: str, stuck: Mapping[str, Waiting]) -> set[str]:
        """All stuck tasks that hang together with ``start``, in either direction."""
        group = {start}
        grown = True
        while grown:
            grown = False
            for task, wait in stuck.items():
                together = task in group or bool(group & wait.enders)
                new = ({task} | (wait.enders & stuck.keys())) - group if together else set()
                if new:
                    group |= new
                    grown = True
        return group


def _in_order(group: set[str], stuck: Mapping[str, Waiting]) -> list[str]:
    """The longest walk along enders: the cycle where there is one; whoever hangs off it comes after."""
    ordered = [task for task in stuck if task in group]
    best: list[str] = []
    for start in ordered:
        walk = [start]
        while True:
            nxt = next((e for e in sorted(stuck[walk[-1]].enders) if e in group and e not in walk), None)
            if nxt is None:
                break
            walk.append(nxt)
        if len(walk) > len(best):
            best = walk
    return best + [task for task in ordered if task not in best]


def _either(tasks: frozenset[str]) -> str:
    names = sorted(tasks)
    return f"only {names[0]}" if len(names) == 1 else "only " + ", ".join(names[:-1]) + f" or {names[-1]}"
