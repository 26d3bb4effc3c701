"""The rounds: every system does every operation for a moment, in an order that changes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from .systems import Broken, Refused, Running, System
from .workloads import OPERATIONS

Key = tuple[str, str, str]  # operation, caches, placement

IN_PROCESS = ("stat", "open-read", "create", "unlink", "readdir-100k", "read-1m", "write-1m")
IN_PROCESS_CACHED = ("stat-cached", "open-read", "create", "unlink", "read-1m", "write-1m")
FOREIGN = ("stat", "read-128k")
BARE = ("stat",)
SAME_ON_LINUX = ("memory", "fusewire")  # what runs in process, mounted
BACKED = ("read-4k", "big-read-4k", "big-random-4k", "read-1m", "write-4k", "write-1m")
# Where client and daemon run. A wake-up across processors costs more than a small request, and where the scheduler leaves a
# daemon is a matter of luck that lasts: on one CPU is what compares the programs.
PLACEMENTS = {"one": "on one CPU", "two": "on two CPUs", "free": "free to move"}


@dataclass
class Results:
    """Microseconds per operation: one number a round, None where a system failed."""

    micros: dict[tuple[System, Key], list[float | None]] = field(default_factory=dict)

    def add(self, round_: int, system: System, key: Key, value: float) -> None:
        times = self.micros.setdefault((system, key), [])
        times += [None] * (round_ - len(times)) + [value]

    def has(self, system: System, key: Key) -> bool:
        return (system, key) in self.micros

    def measured(self) -> list[Key]:
        """All that was measured, each once."""
        return list(dict.fromkeys(key for _, key in self.micros))

    def median(self, system: System, key: Key) -> float:
        """Over the rounds."""
        return median(value for value in self.micros[system, key] if value is not None)

    def ratio(self, ours: System, peer: System, key: Key) -> float | None:
        """The median of ours/peer within a round."""
        mine, theirs = self.micros[ours, key], self.micros[peer, key]
        pairs = [(a, b) for a, b in zip(mine, theirs, strict=False) if a is not None and b is not None]
        return median(a / b for a, b in pairs) if pairs else None


def wanted_of(system: System, caches: str, operations: list[str]) -> list[str]:
    """Which of ``operations`` the system is asked for."""
    in_process = IN_PROCESS if caches == "off" else IN_PROCESS_CACHED
    limits = {"in process": in_process, "foreign": FOREIGN, "backed": BACKED}.get(system.family)
    if system.name == "bare":
        limits = BARE
    if limits is not None:
        return [name for name in operations if name in limits]
    compares = {"libraries"}
    if system.family == "plain":
        compares.add("backing")
    if (system.family, system.name) == SAME_ON_LINUX:
        compares.add("kernels")
    return [name for name in operations if OPERATIONS[name].compares in compares]


def measures_of(system: System, caches: str, operations: list[str]) -> list[str]:
    """The measures that those come from, each once, in order."""
    found = (getattr(OPERATIONS[name], caches) for name in wanted_of(system, caches, operations))
    return list(dict.fromkeys(name for name in found if name))


def run(
    running: list[Running],
    operations: list[str],
    rounds: int,
    seconds: float,
    placements: list[str],
    say: Callable[[str], None],
) -> Results:
    """What a system fails at is left out from there on, or the system when it hangs; ``say`` is told."""
    results = Results()
    alive = list(running)
    cpus = sorted(os.sched_getaffinity(0))
    order = random.Random(0)
    for round_ in range(rounds):
        steps = list(
            dict.fromkeys(
                (measure, caches, placement)
                for caches in ("off", "on")
                for one in running
                if one.caches == caches
                for measure in measures_of(one.system, caches, operations)
                for placement in placements
            )
        )
        for measure, caches, placement in steps:
            turn = [
                one for one in alive if one.caches == caches and measure in measures_of(one.system, caches, operations)
            ]
            # Not by turns: what ran just before decides where the scheduler has left the client.
            order.shuffle(turn)
            # Whoever is first finds the processor cold, and does it once more at the end: what it took first is not counted.
            for counts, one in [(False, one) for one in turn[:1]] + [(True, one) for one in turn[1:] + turn[:1]]:
                if one not in alive or measure in one.refused:
                    continue
                try:
                    if placement != "free":
                        one.pin(cpus[-1:], cpus[-1:] if placement == "one" else cpus[:1])
                    times = one.client.ask(do=measure, place=one.place, seconds=seconds)
                except Refused as error:
                    say(f"{one.system}, caches {caches}: LEFT OUT from here on: {error}")
                    one.refused.add(measure)
                    continue
                except Broken as error:
                    say(f"{one.system}, caches {caches}: LEFT OUT from here on: {error}")
                    one.abort()
                    alive.remove(one)
                    continue
                finally:
                    if placement != "free":
                        one.pin(cpus, cpus)
                for operation, value in times.items():
                    if counts and operation in operations:
                        results.add(round_, one.system, (operation, caches, placement), value)
    return results
