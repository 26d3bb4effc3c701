"""The explorer: a scenario under every schedule up to so many preemptions, or under many by chance; each can be had again.

A scenario is a function that is given a :class:`Scheduled` driver, begins tasks on it and returns a :class:`Scene`. It is run
again from its beginning for each schedule, so it must be deterministic. A schedule is told by where it departs from the
default, which lets each task run until it cannot go on, then the one with the lowest number: ``"7b 31a"`` lets the second
task go on at step 7 and the first at step 31.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ..inspect.events import EventStream
from ..inspect.graph import Deadlocked
from ..kernel.queue import Task
from .fingerprint import fingerprint
from .schedule import Choose, Endless, Scheduled, at_random, pct, place
from .stuck import STEP_SECONDS, Blocked, look_at, watched


class Scene:
    """What a scenario has set up. ``check`` raises when something is wrong with a state, ``end`` when nobody can go on;
    both may be replaced. ``roots`` is what the state consists of beside the tasks; ``columns`` are the sides of a diagram: by
    their titles, the numbers of their tasks."""

    columns: Mapping[str, Iterable[int]] = MappingProxyType({})

    def __init__(self, driver: Scheduled, *roots: object) -> None:
        self.driver = driver
        self.roots = roots

    def check(self) -> None:
        """After each step that was not made before."""

    def end(self) -> None:
        """When nobody can go on. Raises :class:`Stuck` when someone waits for ever."""
        found = self.driver.graph().deadlocks()
        if found:
            raise Stuck(found)


Scenario = Callable[[Scheduled], Scene]
Probe = Callable[[Scene], None]


class Stuck(AssertionError):
    """Tasks wait that nobody will wake: ``found`` has the cycles."""

    def __init__(self, found: list[Deadlocked]) -> None:
        super().__init__("\n".join(one.words() for one in found))
        self.found = found


class Nondeterministic(RuntimeError):
    """A scenario did something else when it was run again."""


class Finding(NamedTuple):
    """What went wrong, and under which schedule."""

    error: Exception | Blocked
    schedule: str


class Report(NamedTuple):
    """What an exploration has seen. ``complete``: every schedule within the bound was tried, or led to a known state.
    ``checked``: the steps that led to where no run had been, and were looked at; the others repeat how one gets there."""

    findings: tuple[Finding, ...]
    schedules: int
    states: int
    steps: int
    checked: int
    seconds: float
    complete: bool

    def __str__(self) -> str:
        rate = self.steps / self.seconds if self.seconds else 0
        how = "complete" if self.complete else "not complete"
        return (
            f"{self.schedules} schedules, {self.states} distinct states, {self.steps} steps"
            f" ({self.checked} of them new, and checked) in {self.seconds:.1f} s ({rate:.0f} a second), {how};"
            f" {len(self.findings)} findings"
        )


class _Run:
    """One run of a scenario, step by step. Tasks are their pids."""

    def __init__(self, scenario: Scenario, limit: int, events: EventStream | None = None) -> None:
        self.driver = Scheduled(limit=limit, events=events)
        self.choices: list[int] = []  # who went on, step by step
        self.checked = 0
        self.ended = False
        look_at(self)
        self.scene = scenario(self.driver)

    @property
    def current(self) -> int:
        """Who went on last; 0 when nobody has."""
        return self.choices[-1] if self.choices else 0

    def default(self) -> int:
        current = self.current
        return current if current in self.driver.ready else min(self.driver.ready)

    def go(self, pid: int, *, check: bool = True) -> None:
        """One step of the task ``pid``, then the check: but for a step that another run has made."""
        driver = self.driver
        task = driver.ready.get(pid)
        if task is None:
            while not driver.ready and driver.step():  # time passes
                pass
            task = driver.ready.get(pid)
        if task is None:
            raise Nondeterministic(
                f"task {pid} was to go on at step {len(self.choices)}, and cannot: something but the schedule decides"
            )
        self.choices.append(pid)
        driver.advance_task(task)
        if driver.failure is not None:
            raise driver.failure
        if check:
            self.checked += 1
            self.scene.check()

    def go_on(self) -> bool:
        """False at the end, when nobody can go on."""
        while not self.driver.ready:
            if not self.driver.step():
                self.ended = True
                self.scene.end()
                return False
        return True

    def places(self) -> str:
        """Where those are that could go on."""
        ready, coroutines = self.driver.ready, self.driver._coroutines
        return "; ".join(f"{ready[pid]!r} at {place(coroutines[ready[pid]])}" for pid in sorted(ready))

    def so_far(self) -> str:
        """All its steps, as a schedule."""
        return " ".join(f"{step}{_letters(pid)}" for step, pid in enumerate(self.choices))

    def state(self) -> int:
        driver = self.driver
        under_way = driver._values, driver._errors, driver._timers.due()
        return fingerprint(
            (*self.scene.roots, driver.now(), *under_way, *driver._coroutines, *driver._coroutines.values())
        )


def _schedule(scenario: Scenario, limit: int, choices: Sequence[int]) -> str:
    """The text of a run that went so: where it departs from the default. The last step, which is what was found, is not made
    again: it may be one that does not come to its end."""
    run = _Run(scenario, limit)
    words = []
    try:
        for step, pid in enumerate(choices):
            if run.driver.ready and pid != run.default():
                words.append(f"{step}{_letters(pid)}")
            if step + 1 < len(choices):
                run.go(pid)
    finally:
        run.driver.close()
    return " ".join(words)


@watched
def explore(
    scenario: Scenario,
    *,
    preemptions: int = 2,
    hashing: bool = True,
    stop_at: int = 1,
    max_schedules: int | None = None,
    limit: int = 10_000,
    probes: Sequence[Probe] = (),
    step_seconds: float | None = STEP_SECONDS,
    progress: Callable[[int, int], None] = lambda schedules, states: None,
) -> Report:
    """Run ``scenario`` under every schedule with at most ``preemptions``: places where a task that could go on does not.

    ``hashing``: a state that was reached before, with as many preemptions left, is not gone into again. ``probes`` are tried
    in every distinct state, each in a run of its own that goes no further: they raise when something is not possible from
    there. ``limit``: the most steps of a run; ``step_seconds``: how long one may take, None for ever. Stops after ``stop_at``
    findings. Raises :class:`Nondeterministic`, and :class:`Blocked` where no scene comes to be, or a thread is left behind.
    """
    began = time.monotonic()
    search = _Search(scenario, preemptions, hashing, limit)
    probing = _Probing(scenario, probes, limit)
    look = probing.look if probes else None
    findings: list[Finding] = []
    cut = False  # a run ended before its time, and nobody knows what comes behind
    while len(findings) < stop_at and (max_schedules is None or search.schedules < max_schedules):
        way = search.next()
        if way is None:
            break
        run = _Run(scenario, limit)
        try:
            for pid in way[:-1]:
                run.go(pid, check=False)
            for pid in way[-1:]:
                run.go(pid)
            search.go_on(run, look)
        except Nondeterministic:
            raise
        except (Exception, Blocked) as error:
            findings.append(Finding(error, _schedule(scenario, limit, run.choices)))
            cut = cut or not run.ended
        finally:
            search.steps += len(run.choices)
            search.checked += run.checked
            run.driver.close()
        findings += [Finding(error, _schedule(scenario, limit, way)) for error, way in probing.found]
        probing.found.clear()
        progress(search.schedules, len(search.gone))
    states = max(len(search.gone), len(probing.states))
    complete = search.done and not cut and len(findings) < stop_at
    steps = search.steps + probing.steps
    seconds = time.monotonic() - began
    return Report(tuple(findings), search.schedules, states, steps, search.checked, seconds, complete)


class _Search:
    """Which ways are still to be gone. What costs fewer preemptions comes first, so each task goes on from each state once: the
    first time cost the fewest."""

    def __init__(self, scenario: Scenario, preemptions: int, hashing: bool, limit: int) -> None:
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

    def go_on(self, run: _Run, look: Callable[[_Run], None] | None) -> None:
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


class _Probing:
    """Tries the probes once in each state."""

    def __init__(self, scenario: Scenario, probes: Sequence[Probe], limit: int) -> None:
        self.scenario = scenario
        self.probes = probes
        self.limit = limit
        self.states: set[int] = set()
        self.found: list[tuple[Exception, list[int]]] = []  # and by which choices
        self.steps = 0

    def look(self, run: _Run) -> None:
        state = run.state()
        if state in self.states:
            return
        self.states.add(state)
        for probe in self.probes:
            again = _Run(self.scenario, self.limit)
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


@watched
def sample(
    scenario: Scenario, *, schedules: int, seed: int = 0, stop_at: int = 1, limit: int = 10_000,
    step_seconds: float | None = STEP_SECONDS,
    progress: Callable[[int, int], None] = lambda schedules, states: None,
) -> Report:  # fmt: skip
    """Run ``scenario`` under so many schedules by chance: every other one by probabilistic concurrency testing."""
    began = time.monotonic()
    findings: list[Finding] = []
    steps = number = 0
    for number in range(1, schedules + 1):
        choose = (pct if number % 2 else at_random)(seed + number)
        run = _Run(scenario, limit)
        try:
            _go_by(run, choose)
        except (Exception, Blocked) as error:
            findings.append(Finding(error, _schedule(scenario, limit, run.choices)))
            if len(findings) >= stop_at:
                break
        finally:
            steps += len(run.choices)
            run.driver.close()
        progress(number, 0)
    return Report(tuple(findings), number, 0, steps, steps, time.monotonic() - began, False)


def _go_by(run: _Run, choose: Choose) -> None:
    ready = run.driver.ready
    while run.go_on():
        run.go(choose([ready[pid] for pid in sorted(ready)]).pid)


@watched
def replay(
    scenario: Scenario,
    schedule: str = "",
    *,
    limit: int = 10_000,
    step_seconds: float | None = STEP_SECONDS,
    events: EventStream | None = None,
    begun: Callable[[Scene], None] = lambda scene: None,
) -> Scene:
    """Run ``scenario`` once, under ``schedule``; raises what went wrong in it. ValueError for a text that is no schedule.
    What is done is recorded in ``events``; ``begun`` is called with the scene before its first step."""
    departures = dict(_parsed(schedule))
    run = _Run(scenario, limit, events)
    begun(run.scene)

    def choose(ready: list[Task]) -> Task:
        pid = departures.get(len(run.choices), run.default())
        task = run.driver.ready.get(pid)
        if task is None:
            raise Nondeterministic(
                f"{_letters(pid)} cannot go on at step {len(run.choices)}: not a schedule of this scenario"
            )
        return task

    try:
        _go_by(run, choose)
    except BaseException:
        run.driver.close()
        raise
    return run.scene


def _parsed(schedule: str) -> Iterator[tuple[int, int]]:
    for word in schedule.split():
        digits = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        letters = word[len(digits) :]
        if not digits.isdigit() or not letters:
            raise ValueError(f"{word!r} is no part of a schedule: a step and a task, as in 7b")
        number = 0
        for letter in letters:
            number = number * 26 + ord(letter) - ord("a") + 1
        yield int(digits), number


def _letters(pid: int) -> str:
    """1 is a, 26 is z, 27 is aa."""
    letters = ""
    while pid:
        pid, rest = divmod(pid - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


__all__ = [
    "Endless", "Finding", "Nondeterministic", "Probe", "Report", "Scenario", "Scene", "Stuck", "explore", "replay",
    "sample",
]  # fmt: skip
