"""The wait-for graph of our kernel half: exact, since every sleeper says itself who could end its wait."""

from __future__ import annotations

from collections.abc import Iterable

from ...inspect.graph import WaitGraph, Waiting
from .task import Task


def wait_graph(tasks: Iterable[Task]) -> WaitGraph:
    """Who waits for whom among ``tasks``, now."""
    waits = []
    running = []
    for task in tasks:
        if task.exited:
            continue
        if task.hosts is not None:
            waits.append(Waiting(repr(task), f"a call of {task.hosts!r}", frozenset({repr(task.hosts)})))
            continue
        sleep = task.sleep
        if sleep is None:
            running.append(repr(task))
            continue
        enders = sleep.enders()
        waits.append(
            Waiting(
                repr(task),
                sleep.what,
                frozenset(repr(ender) for ender in enders or ()),
                opaque=enders is None or task.opaque,
                idle=sleep.idle,
                doing=task.doing,
            )
        )
    return WaitGraph(waits, running)


def can_go_on(task: Task) -> bool:
    """Whether ``task`` runs, or a chain of enders leads from it to one that does. Cheaper than the whole graph."""
    seen = {task}
    frontier = [task]
    while frontier:
        one = frontier.pop()
        if one.exited:
            continue
        if one.opaque:
            return True
        enders: Iterable[Task] | None
        if one.hosts is not None:
            enders = (one.hosts,)
        elif one.sleep is None:
            return True
        else:
            enders = one.sleep.enders()
            if enders is None:
                return True
        for ender in enders:
            if ender not in seen:
                seen.add(ender)
                frontier.append(ender)
    return False
