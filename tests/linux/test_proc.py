"""What is read of tasks that call themselves what they like."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusewire.linux import proc, tracefs


@pytest.fixture
def comm() -> Iterator[Path]:
    """Our own name, given back afterwards."""
    path = Path(f"/proc/{os.getpid()}/comm")
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def test_a_task_is_seen_whatever_bytes_its_name_has(comm: Path) -> None:
    comm.write_bytes(b"\xff) R\v")
    seen = proc.see(os.getpid())
    assert seen is not None
    assert seen.comm == "\\xff) R\v"
    assert seen.state in "RS"


def test_a_trace_is_read_whatever_bytes_the_names_in_it_have(tmp_path: Path) -> None:
    line = b"%b-77 [001] d..2. 12.000005: sched_switch: prev_comm=%b prev_pid=77 prev_prio=120 prev_state=S ==> next_comm=x\n"
    name = b"\xff\x1ca"
    (tmp_path / "trace").write_bytes(b"# tracer: nop\n" + line % (name, name))
    assert list(tracefs.Recording(tmp_path).last_asleep()) == [77]
