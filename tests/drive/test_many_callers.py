"""10,000 callers at once, on threads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_callers_are_in_flight_together_and_all_answered_in_little_memory(count: int) -> None:
    command = [sys.executable, "-m", "benchmarks.callers", str(count)]
    numbers = json.loads(subprocess.check_output(command, cwd=ROOT, timeout=300))
    assert numbers["callers"] == count
    assert numbers["kib"] < 100  # a thread's own stack is most of it
