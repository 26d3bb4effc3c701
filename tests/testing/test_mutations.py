"""Every fault that is planted in the request queue is found, by the property that the table says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_invariants
from faults import FAULTS, Fault, plant
from test_explore import PROBES

from fusewire.kernel.queue import LINUX
from fusewire.testing import explore, sample
from fusewire.testing.scenarios import locked, queue, unlink


def _searches() -> Iterator[Callable[[], Any]]:
    """The cheap ones first. Each returns its findings, or raises the first."""
    one = functools.partial(queue, signals=0, aborts=0)
    yield lambda: sample(queue, schedules=400).findings
    yield lambda: sample(functools.partial(one, workers=1), schedules=100).findings
    yield lambda: explore(functools.partial(one, callers=1), preemptions=1).findings
    yield lambda: sample(functools.partial(queue, policy=LINUX), schedules=200).findings
    yield lambda: sample(functools.partial(queue, pool=1), schedules=200).findings
    yield lambda: explore(functools.partial(unlink, signals=True), preemptions=0, probes=PROBES).findings
    yield lambda: explore(locked, preemptions=1).findings
    for seed in range(20):
        yield functools.partial(test_invariants.run, seed, "detach", abort=True, pool=1, workers=1)
    for policy in ("detach", "linux"):
        for seed in range(60):
            yield functools.partial(test_invariants.run, seed, policy)
        for seed in range(20):
            yield functools.partial(test_invariants.run, seed, policy, pool=1, workers=1)


def search() -> str:
    """What was found first; empty if nothing is."""
    for one in _searches():
        try:
            found = one()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if isinstance(found, tuple) and found:
            return f"{type(found[0].error).__name__}: {found[0].error}"
    return ""


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_a_fault_in_the_queue_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, fault)
    found = search()
    print(f"{fault.what}: {found}")
    assert fault.found_by in found, found or "nothing finds it"


def test_nothing_is_found_where_no_fault_is() -> None:
    assert search() == ""


def test_the_table_in_the_docs_has_each_of_them() -> None:
    table = (Path(__file__).parents[2] / "docs" / "explorer.md").read_text()
    assert [line.split(" | ")[0][2:] for line in table.splitlines() if line.startswith("| ")][1:] == [
        fault.what for fault in FAULTS
    ]
    assert len(FAULTS) >= 20
