"""The two-column diagram of ``kernel.txt``, drawn from events and from nothing else.

Time runs down. Each column is one side; a task's calls are indented under one another. Where a column holds several tasks
each line of a task other than the one before is headed by its name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .events import Event, Kind


class Column(NamedTuple):
    """One side of the diagram: a title, and the tasks (by pid) whose events it shows."""

    title: str
    pids: frozenset[int]


class Diagram:
    """Renders events into columns of ``width`` characters, side by side."""

    def __init__(self, columns: Mapping[str, Iterable[int]], width: int = 35) -> None:
        self.columns = [Column(title, frozenset(pids)) for title, pids in columns.items()]
        self.width = width

    def render(self, events: Iterable[Event], since: int = 0) -> str:
        """The diagram as text, from time ``since`` (nanoseconds) on: it opens with the calls that each task is in then.

        Events of tasks that belong to no column are left out.
        """
        rows = self._row([column.title for column in self.columns])
        rows += self._row([""] * len(self.columns))
        self._last: dict[int, int] = {}
        open_: dict[int, list[Event]] = {}
        earlier = True
        for event in events:
            stack = open_.setdefault(event.pid, [])
            if earlier and event.time >= since:
                earlier = False
                rows += self._opening(open_)
            if not earlier:
                inside = sum(call.kind is Kind.ENTER for call in stack)
                rows += self._event(event, inside - (event.kind is Kind.LEAVE))
            _follow(stack, event)
        return "\n".join(rows)

    def _opening(self, open_: Mapping[int, list[Event]]) -> list[str]:
        """Where each task stands when the drawing starts."""
        rows = []
        for stack in open_.values():
            depth = 0
            for event in stack:
                rows += self._event(event, depth)
                depth += event.kind is Kind.ENTER
        return rows

    def _event(self, event: Event, depth: int) -> list[str]:
        rows = []
        for index, column in enumerate(self.columns):
            if event.pid not in column.pids:
                continue
            if len(column.pids) > 1 and self._last.get(index) != event.pid:
                rows += self._cell(index, f"-- {event.comm}:{event.pid}", 0)
            self._last[index] = event.pid
            rows += self._cell(index, event.line, depth)
        return rows

    def _cell(self, index: int, text: str, depth: int) -> list[str]:
        """One line of one column, folded as ``kernel.txt`` folds it."""
        indent = "  " * max(0, depth)
        lines = textwrap.wrap(
            text,
            self.width,
            initial_indent=indent,
            subsequent_indent=indent + " ",
            break_long_words=False,
        )
        rows = []
        for line in lines:
            cells = [""] * len(self.columns)
            cells[index] = line
            rows += self._row(cells)
        return rows

    def _row(self, cells: list[str]) -> list[str]:
        return ["".join(f" |  {cell:<{self.width}}" for cell in cells).rstrip()]


def _follow(stack: list[Event], event: Event) -> None:
    """Keep the calls that a task is in, and what it sleeps on there."""
    if event.kind is Kind.ENTER:
        stack.append(event)
        return
    while stack and stack[-1].kind is Kind.STEP:
        stack.pop()
    if event.kind is Kind.LEAVE:
        if stack:
            stack.pop()
    elif event.text.startswith("sleep on"):
        stack.append(event)
