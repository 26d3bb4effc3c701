"""The same program in three worlds: random system calls, of several processes, on our kernel half with the memory filesystem,
on Linux with the same filesystem mounted, and in a plain directory.

Every result, every errno and the tree at the end are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Nursery
from compare import Worlds
from conftest import real_mount
from kernel_half import KINDS
from vocabulary import steps

SERVE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fusewire, kernel_half
options = fusewire.MountOptions(allow_other=True, default_permissions=True, nodev=False)
fusewire.run(kernel_half.KINDS["@kind@"](), sys.argv[1], options)
"""


@contextlib.contextmanager
def worlds(path: Path, kind: str, *, mounted: bool = False) -> Iterator[Worlds]:
    plain, mountpoint = path / "plain", path / "mnt"
    plain.mkdir()
    mountpoint.mkdir()
    with contextlib.ExitStack() as stack:
        nurseries = {}
        if mounted:
            stack.enter_context(real_mount(mountpoint, SERVE.replace("@kind@", kind), 3000))
            nurseries["Linux"] = stack.enter_context(Nursery()), mountpoint
        nurseries["directory"] = stack.enter_context(Nursery()), plain
        yield Worlds(kind, nurseries)


@pytest.mark.parametrize("kind", KINDS)
def test_random_programs_do_the_same_as_on_a_plain_directory(tmp_path: Path, kind: str) -> None:
    with worlds(tmp_path, kind) as two:
        for seed in range(5):
            two.check(list(steps(seed, 300)))


@pytest.mark.real
def test_random_programs_do_the_same_on_a_real_mount(tmp_path: Path) -> None:
    with worlds(tmp_path, "uncached", mounted=True) as three:
        for seed in range(10):
            three.check(list(steps(seed, 300)))
