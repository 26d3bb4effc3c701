"""The search of the explorer: which ways are still to be gone, which states have been reached, and what is probed in each."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from .run import Nondeterministic, Run, Scenario, Scene
from .schedule import Endless

Probe = Callable[[Scene], None]


class Search:
    """Which ways are still to be gone. What costs fewer preemptions comes first, so each task goes on from each state once: the
    first time cost the fewest."""

    def __init__(self, preemptions: int, hashing: bool) -> None:
        self.hashing = hashing
        self.gone: dict[int, int] = {}  # by state: who has gone on from it, as bits
        self.schedules = self.steps = self.checked = 0
        # By the preemptions that they cost: the choices up to a state, that state, and who is to go on from it.
        self._left: list[list[tuple[array[int], int, int]]] = [[] for _ in range(preemptions + 1)]
        self._left[0].append((array("I"), 0, 0))
        self._used = 0

    @property
    def done(self) -> bool:
        return not any(self._left)

    def next(self) -> Sequence[int] | None:
        """The choices with which the next run is to begin; None when there is none left."""
        for used, left in enumerate(self._left):
            self._used = used
            while left:
                way, state, pid = left.pop()
                if not pid or self._first(state, pid):
                    self.schedules += 1
                    return way + array("I", (pid,)) if pid else way
        return None

    def _first(self, state: int, pid: int) -> bool:
        """Whether that task goes on from that state for the first time."""
        if not self.hashing:
            return True
        gone = self.gone.get(state, 0)
        self.gone[state] = gone | 1 << pid
        return not gone >> pid & 1

    def go_on(self, run: Run, look: Callable[[Run], None] | None) -> None:
        """By default to the end, or to a state that was reached before; and remember all other ways that could be gone."""
        used, most = self._used, len(self._left) - 1
        ready = run.driver.ready
        been: set[int] = set()
        while True:
            if look is not None:
                look(run)
            if not run.go_on():
                return
            default = run.default()
            if len(ready) > 1:
                preempting = run.current in ready
                if not preempting or used < most:
                    state = run.state() if self.hashing else 0
                    gone = self.gone.get(state, 0)
                    left, way = self._left[used + preempting], array("I", run.choices)
                    left += [(way, state, pid) for pid in sorted(ready) if pid != default and not gone >> pid & 1]
                    if not self._first(state, default):
                        if state in been:
                            raise Endless(f"it comes back to the same state again and again: {run.places()}")
                        return
                    if self.hashing:
                        been.add(state)
            run.go(default)


class Probing:
    """Tries the probes once in each state."""

    def __init__(self, scenario: Scenario, probes: Sequence[Probe], limit: int) -> None:
        self.scenario = scenario
        self.probes = probes
        self.limit = limit
        self.states: set[int] = set()
        self.found: list[tuple[Exception, list[int]]] = []  # and by which choices
        self.steps = 0

    def look(self, run: Run) -> None:
        state = run.state()
        if state in self.states:
            return
        self.states.add(state)
        for probe in self.probes:
            again = Run(self.scenario, self.limit)
            try:
                for pid in run.choices:
                    again.go(pid, check=False)
                probe(again.scene)
            except Nondeterministic:
                raise
            except Exception as error:
                self.found.append((error, list(run.choices)))
            finally:
                self.steps += len(again.choices)
                again.driver.close()
