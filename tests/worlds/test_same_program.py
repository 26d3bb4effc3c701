"""The same program in three worlds: random system calls, of several processes, on our kernel half with the memory filesystem,
on Linux with the same filesystem mounted, and in a plain directory.

Every result, every errno and the tree at the end are the same; docs/testing.md says what is not compared, and why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import machine
import pytest
from children import Nursery
from compare import Different, Worlds
from conftest import real_mount
from kernel_half import KINDS
from vocabulary import FURNITURE, Step, steps

from fusewire.filesystems import MemoryFS

SERVE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fusewire, kernel_half
options = fusewire.MountOptions(allow_other=True, default_permissions=True, nodev=False)
fusewire.run(kernel_half.KINDS["@kind@"](), sys.argv[1], options)
"""


@contextlib.contextmanager
def worlds(path: Path, kind: str, *, mounted: bool = False) -> Iterator[Worlds]:
    """Two of them, or three. Each has processes of its own."""
    plain, mountpoint = path / "plain", path / "mnt"
    plain.mkdir()
    mountpoint.mkdir()
    with contextlib.ExitStack() as stack:
        nurseries = {}
        if mounted:
            stack.enter_context(real_mount(mountpoint, SERVE.replace("@kind@", kind), 3600))
            nurseries["Linux"] = stack.enter_context(Nursery()), mountpoint
        nurseries["directory"] = stack.enter_context(Nursery()), plain
        yield Worlds(kind, nurseries)


@pytest.mark.parametrize("kind", KINDS)
def test_random_programs_do_the_same_as_on_a_plain_directory(tmp_path: Path, kind: str) -> None:
    with worlds(tmp_path, kind) as two:
        for seed in range(4):
            two.check(steps(seed, 300))
        machine.run(two, programs=6, length=50)


@pytest.mark.real
def test_3000_steps_do_the_same_in_three_worlds(tmp_path: Path) -> None:
    with worlds(tmp_path, "uncached", mounted=True) as three:
        done = machine.run(three, programs=20, length=80)
        while done < 3000:
            done += len(program := steps(done, 300))
            three.check(program)


@pytest.mark.real
@pytest.mark.slow
def test_100_000_steps_do_the_same_in_three_worlds(tmp_path: Path) -> None:
    with worlds(tmp_path, "uncached", mounted=True) as three:
        done = machine.run(three, programs=500, length=100)
        while done < 100_000:
            done += len(program := steps(done, 1000))
            three.check(program)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cached", "auto inval", "writing back"])
def test_what_is_cached_does_not_show_in_any_of_the_three_worlds(tmp_path: Path, kind: str) -> None:
    with worlds(tmp_path, kind, mounted=True) as three:
        for seed in range(10_000, 10_010):
            three.check(steps(seed, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_more_random_programs(tmp_path: Path, seed: int) -> None:
    with worlds(tmp_path, list(KINDS)[seed % len(KINDS)]) as two:
        two.check(steps(seed, 1000))


class Greedy(MemoryFS):
    """Wrong: what is made belongs to root."""

    entry_timeout = attr_timeout = 0.0

    def _adopt(self, node, parent, mode, umask):  # type: ignore[no-untyped-def]
        super()._adopt(node, parent, mode, umask)
        node.uid = 0


@pytest.mark.real
def test_a_filesystem_that_is_wrong_is_found_with_a_program_of_few_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "greedy", Greedy)
    with worlds(tmp_path, "greedy") as two:
        with pytest.raises(Different) as by_seed:
            two.check(steps(1, 1000))
        with pytest.raises(Different) as by_machine:
            machine.run(two, programs=1000, length=50)
    for found in (by_seed, by_machine):
        assert len(found.value.program) <= 3  # become another user, and make something; what is there tells


def test_what_a_program_begins_with_can_be_done(tmp_path: Path) -> None:
    with worlds(tmp_path, "cached") as two, two.program() as program:
        for step in FURNITURE:
            assert program.step(step) is None or step.call == "write"
        assert program.step(Step(2, "read", (0, 10))) == b""  # at the end of what was written
        assert len(program.step(Step(1, "pread", (0, 70_000, 0)))) == 5000
