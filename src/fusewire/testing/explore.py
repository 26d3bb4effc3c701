"""The explorer: a scenario under every schedule up to so many preemptions, or under many by chance; each can be had again.

A scenario is a function that is given a :class:`Scheduled` driver, begins tasks on it and returns a :class:`Scene`. It is run
again from its beginning for each schedule, so it must be deterministic. A schedule is told by where it departs from the
default, which lets each task run until it cannot go on, then the one with the lowest number: ``"7b 31a"`` lets the second
task go on at step 7 and the first at step 31.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..inspect.graph import Deadlocked
from ..kernel.queue import Task
from .fingerprint import fingerprint
from .schedule import Choose, Endless, Scheduled, at_random, pct


class Scene:
    """What a scenario has set up. ``check`` raises when something is wrong after a step, ``end`` when nobody can go on;
    both may be replaced. ``roots`` is what the state consists of beside the tasks."""

    def __init__(self, driver: Scheduled, *roots: object) -> None:
        self.driver = driver
        self.roots = roots

    def check(self) -> None:
        """After each step."""

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

    error: Exception
    schedule: str


class Report(NamedTuple):
    """What an exploration has seen. ``complete``: every schedule within the bound was tried, or led to a known state."""

    findings: tuple[Finding, ...]
    schedules: int
    states: int
    steps: int
    seconds: float
    complete: bool

    def __str__(self) -> str:
        rate = self.steps / self.seconds if self.seconds else 0
        how = "complete" if self.complete else "not complete"
        return (
            f"{self.schedules} schedules, {self.states} distinct states, {self.steps} checked steps in"
            f" {self.seconds:.1f} s ({rate:.0f} a second), {how}; {len(self.findings)} findings"
        )


class _Run:
    """One run of a scenario, step by step."""

    def __init__(self, scenario: Scenario, limit: int) -> None:
        self.driver = Scheduled(limit=limit)
        self.scene = scenario(self.driver)
        self.current: Task | None = None
        self.choices: list[int] = []  # the pid of who went on, step by step
        self.departures: list[tuple[int, int]] = []  # steps at which it was not the default

    def default(self, ready: list[Task]) -> Task:
        return self.current if self.current in ready else ready[0]

    def ready(self) -> list[Task]:
        return sorted(self.driver.ready, key=lambda task: task.pid)

    def go(self, task: Task, ready: list[Task]) -> None:
        """One step of ``task``, then the check."""
        if task is not self.default(ready):
            self.departures.append((len(self.choices), task.pid))
        self.choices.append(task.pid)
        self.current = task
        self.driver.advance_task(task)
        if self.driver.failure is not None:
            raise self.driver.failure
        self.scene.check()

    def state(self) -> int:
        driver = self.driver
        return fingerprint(
            (*self.scene.roots, driver.now(), *((task, driver._coroutines.get(task)) for task in driver._coroutines))
        )

    def schedule(self) -> str:
        return " ".join(f"{step}{_letters(pid)}" for step, pid in self.departures)


def explore(
    scenario: Scenario,
    *,
    preemptions: int = 2,
    hashing: bool = True,
    stop_at: int = 1,
    max_schedules: int | None = None,
    limit: int = 10_000,
    probes: Sequence[Probe] = (),
    progress: Callable[[int, int], None] = lambda schedules, states: None,
) -> Report:
    """Run ``scenario`` under every schedule with at most ``preemptions``: places where a task that could go on does not.

    ``hashing``: a state that was reached before, with as many preemptions left, is not gone into again. ``probes`` are tried
    in every distinct state, each in a run of its own that goes no further: they raise when something is not possible from
    there. ``limit``: the most steps of a run. Stops after ``stop_at`` findings. Raises :class:`Nondeterministic`.
    """
    began = time.monotonic()
    probing = _Probing(scenario, probes, limit)
    known: dict[tuple[int, int], int] = {}
    findings: list[Finding] = []
    schedules = steps = 0
    left: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while left and len(findings) < stop_at and (max_schedules is None or schedules < max_schedules):
        prefix, used = left.pop()
        run = _Run(scenario, limit)
        schedules += 1
        try:
            _follow(run, prefix)
            for choices, cost in _branches(run, used, preemptions, known, hashing, probing.look if probes else None):
                left.append((choices, cost))
        except Nondeterministic:
            raise
        except Exception as error:
            findings.append(Finding(error, run.schedule()))
        finally:
            steps += len(run.choices)
            run.driver.close()
        progress(schedules, len(known))
    steps += probing.steps
    complete = not left and len(findings) < stop_at
    states = max(len(known), len(probing.states))
    return Report(tuple(findings), schedules, states, steps, time.monotonic() - began, complete)


class _Probing:
    """Tries the probes once in each state."""

    def __init__(self, scenario: Scenario, probes: Sequence[Probe], limit: int) -> None:
        self.scenario = scenario
        self.probes = probes
        self.limit = limit
        self.states: set[int] = set()
        self.steps = 0

    def look(self, run: _Run) -> None:
        state = run.state()
        if state in self.states:
            return
        self.states.add(state)
        for probe in self.probes:
            again = _Run(self.scenario, self.limit)
            try:
                _follow(again, tuple(run.choices))
                probe(again.scene)
            finally:
                self.steps += len(again.choices)
                again.driver.close()


def _follow(run: _Run, prefix: tuple[int, ...]) -> None:
    for pid in prefix:
        ready = run.ready()
        task = next((task for task in ready if task.pid == pid), None)
        if task is None:
            raise Nondeterministic(
                f"task {pid} was to go on at step {len(run.choices)}, and cannot: something but the schedule decides"
            )
        run.go(task, ready)


def _branches(
    run: _Run,
    used: int,
    preemptions: int,
    known: dict[tuple[int, int], int],
    hashing: bool,
    look: Callable[[_Run], None] | None,
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Go on by default to the end, and tell of all other ways that could be gone from here."""
    while True:
        if look is not None:
            look(run)
        ready = run.ready()
        if not ready:
            if not run.driver.step():
                run.scene.end()
                return
            continue
        default = run.default(ready)
        preempting = run.current in ready
        if len(ready) > 1 and (not preempting or used < preemptions):
            if hashing:
                state = run.state(), run.current.pid if preempting and run.current else 0
                if known.get(state, preemptions + 1) <= used:
                    return
                known[state] = used
            for other in ready:
                if other is not default:
                    yield (*run.choices, other.pid), used + preempting
        run.go(default, ready)


def sample(
    scenario: Scenario, *, schedules: int, seed: int = 0, stop_at: int = 1, limit: int = 10_000,
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
        except Exception as error:
            findings.append(Finding(error, run.schedule()))
            if len(findings) >= stop_at:
                break
        finally:
            steps += len(run.choices)
            run.driver.close()
        progress(number, 0)
    return Report(tuple(findings), number, 0, steps, time.monotonic() - began, False)


def _go_by(run: _Run, choose: Choose) -> None:
    while True:
        ready = run.ready()
        if ready:
            run.go(choose(ready), ready)
        elif not run.driver.step():
            run.scene.end()
            return


def replay(scenario: Scenario, schedule: str, *, limit: int = 10_000) -> Scene:
    """Run ``scenario`` once, under ``schedule``; raises what went wrong in it. ValueError for a text that is no schedule."""
    departures = dict(_parsed(schedule))
    run = _Run(scenario, limit)

    def choose(ready: list[Task]) -> Task:
        pid = departures.get(len(run.choices))
        if pid is None:
            return run.default(ready)
        task = next((task for task in ready if task.pid == pid), None)
        if task is None:
            raise Nondeterministic(
                f"{_letters(pid)} cannot go on at step {len(run.choices)}: not a schedule of this scenario"
            )
        return task

    _go_by(run, choose)
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
