"""For those who test filesystems, and for the proofs of this one: a driver that tries interleavings, invariants, lies; a
daemon that does what a test says, and the pytest plugin (``plugin``).

``Scheduled`` runs a kernel's half step by step in an order of one's choice; ``Invariants`` says after each step whether all
that must hold does; ``Liar`` answers a kernel's half with mutated messages.
"""

from .explore import Finding, Report, explore, replay, sample
from .invariants import INVARIANTS, Broken, Invariants, Witness
from .liar import Liar
from .mock import MockDaemon, attr, created, direntplus, dirents, entry, opened, written
from .run import Nondeterministic, Scene, Stuck
from .schedule import Endless, Outcome, Outside, Scheduled, at_random, pct
from .stuck import Blocked

__all__ = [
    "INVARIANTS",
    "Blocked",
    "Broken",
    "Endless",
    "Finding",
    "Invariants",
    "Liar",
    "MockDaemon",
    "Nondeterministic",
    "Outcome",
    "Outside",
    "Report",
    "Scene",
    "Scheduled",
    "Stuck",
    "Witness",
    "at_random",
    "attr",
    "created",
    "direntplus",
    "dirents",
    "entry",
    "explore",
    "opened",
    "pct",
    "replay",
    "sample",
    "written",
]
