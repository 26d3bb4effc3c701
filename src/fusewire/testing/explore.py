"""The explorer: a scenario (:mod:`.run`) under every schedule up to so many preemptions, or under many by chance; each can be
had again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..inspect.events import EventStream
from ..kernel.queue import Task
from .run import Nondeterministic, Run, Scenario, Scene, Stuck, departures_of, letters_of, schedule_text
from .schedule import Choose, Endless, at_random, pct
from .search import Probe, Probing, Search
from .stuck import STEP_SECONDS, Blocked, watched


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
    search = Search(preemptions, hashing)
    probing = Probing(scenario, probes, limit)
    look = probing.look if probes else None
    findings: list[Finding] = []
    cut = False  # a run ended before its time, and nobody knows what comes behind
    while len(findings) < stop_at and (max_schedules is None or search.schedules < max_schedules):
        way = search.next()
        if way is None:
            break
        run = Run(scenario, limit)
        try:
            for pid in way[:-1]:
                run.go(pid, check=False)
            for pid in way[-1:]:
                run.go(pid)
            search.go_on(run, look)
        except Nondeterministic:
            raise
        except (Exception, Blocked) as error:
            findings.append(Finding(error, schedule_text(scenario, limit, run.choices)))
            cut = cut or not run.ended
        finally:
            search.steps += len(run.choices)
            search.checked += run.checked
            run.driver.close()
        findings += [Finding(error, schedule_text(scenario, limit, way)) for error, way in probing.found]
        probing.found.clear()
        progress(search.schedules, len(search.gone))
    states = max(len(search.gone), len(probing.states))
    complete = search.done and not cut and len(findings) < stop_at
    steps = search.steps + probing.steps
    seconds = time.monotonic() - began
    return Report(tuple(findings), search.schedules, states, steps, search.checked, seconds, complete)


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
        run = Run(scenario, limit)
        try:
            _go_by(run, choose)
        except (Exception, Blocked) as error:
            findings.append(Finding(error, schedule_text(scenario, limit, run.choices)))
            if len(findings) >= stop_at:
                break
        finally:
            steps += len(run.choices)
            run.driver.close()
        progress(number, 0)
    return Report(tuple(findings), number, 0, steps, steps, time.monotonic() - began, False)


def _go_by(run: Run, choose: Choose) -> None:
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
    departures = dict(departures_of(schedule))
    run = Run(scenario, limit, events)
    begun(run.scene)

    def choose(ready: list[Task]) -> Task:
        pid = departures.get(len(run.choices), run.default())
        task = run.driver.ready.get(pid)
        if task is None:
            raise Nondeterministic(
                f"{letters_of(pid)} cannot go on at step {len(run.choices)}: not a schedule of this scenario"
            )
        return task

    try:
        _go_by(run, choose)
    except BaseException:
        run.driver.close()
        raise
    return run.scene


__all__ = [
    "Endless", "Finding", "Nondeterministic", "Probe", "Report", "Scenario", "Scene", "Stuck", "explore", "replay",
    "sample",
]  # fmt: skip
