"""What is to be called when a driver's clock says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Timers:
    """Functions by the time, in nanoseconds of the driver's clock, at which they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def add(self, when: int, function: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), function))

    @property
    def next(self) -> int | None:
        """When the first is due."""
        return self._heap[0][0] if self._heap else None

    def due(self) -> list[tuple[int, Callable[[], None]]]:
        """All that is set, in order."""
        return [(when, function) for when, _, function in sorted(self._heap)]

    def run(self, now: int) -> None:
        """Call what is due, in order."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
