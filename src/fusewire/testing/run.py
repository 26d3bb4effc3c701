"""One run of a scenario, step by step, and the text by which it can be had again.

A scenario is a function that is given a :class:`Scheduled` driver, begins tasks on it and returns a :class:`Scene`. It is run
again from its beginning for each schedule, so it must be deterministic. A schedule is told by where it departs from the
default, which lets each task run until it cannot go on, then the one with the lowest number: ``"7b 31a"`` lets the second
task go on at step 7 and the first at step 31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from ..inspect.events import EventStream
from ..inspect.graph import Deadlocked
from .fingerprint import fingerprint
from .schedule import Scheduled, place
from .stuck import look_at


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


class Stuck(AssertionError):
    """Tasks wait that nobody will wake: ``found`` has the cycles."""

    def __init__(self, found: list[Deadlocked]) -> None:
        super().__init__("\n".join(one.words() for one in found))
        self.found = found


class Nondeterministic(RuntimeError):
    """A scenario did something else when it was run again."""


class Run:
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
        return " ".join(f"{step}{letters_of(pid)}" for step, pid in enumerate(self.choices))

    def state(self) -> int:
        driver = self.driver
        under_way = driver._values, driver._errors, driver._timers.due()
        return fingerprint(
            (*self.scene.roots, driver.now(), *under_way, *driver._coroutines, *driver._coroutines.values())
        )


# -- its text ---------------------------------------------------------------------------------------------------------


def schedule_text(scenario: Scenario, limit: int, choices: Sequence[int]) -> str:
    """The text of a run that went so: where it departs from the default. The last step, which is what was found, is not made
    again: it may be one that does not come to its end."""
    run = Run(scenario, limit)
    words = []
    try:
        for step, pid in enumerate(choices):
            if run.driver.ready and pid != run.default():
                words.append(f"{step}{letters_of(pid)}")
            if step + 1 < len(choices):
                run.go(pid)
    finally:
        run.driver.close()
    return " ".join(words)


def departures_of(schedule: str) -> Iterator[tuple[int, int]]:
    for word in schedule.split():
        digits = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        letters = word[len(digits) :]
        if not digits.isdigit() or not letters:
            raise ValueError(f"{word!r} is no part of a schedule: a step and a task, as in 7b")
        number = 0
        for letter in letters:
            number = number * 26 + ord(letter) - ord("a") + 1
        yield int(digits), number


def letters_of(pid: int) -> str:
    """1 is a, 26 is z, 27 is aa."""
    letters = ""
    while pid:
        pid, rest = divmod(pid - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
