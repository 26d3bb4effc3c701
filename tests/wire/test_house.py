"""The arrows of the house: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "fusewire"
FORBIDDEN = {
    "wire": {"kernel", "daemon", "transport", "drive", "linux", "inspect", "cli", "filesystems", "testing", "compat"},
    "inspect": {"kernel", "daemon", "transport", "drive", "linux", "cli", "filesystems", "testing", "compat"},
    "kernel": {"daemon", "transport", "drive", "linux", "cli", "filesystems", "testing", "compat"},
    "daemon": {"kernel", "drive", "transport", "linux", "cli", "filesystems", "testing", "compat"},
    "transport": {"drive", "cli", "filesystems", "testing", "compat"},
    "filesystems": {"kernel", "drive", "wire", "transport", "cli", "testing", "compat"},
}


def rooms_imported(path: Path) -> set[str]:
    """Which rooms of ours a module imports when it is loaded."""
    found = set()
    package = path.relative_to(SRC).parts[:-1]
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ("fusewire", *package)[: len(package) + 2 - node.level]
            target = (*base, *(node.module or "").split("."))[1:]
            if target and target[0]:
                found.add(target[0])
    return found


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for path in (SRC / room).rglob("*.py"):
        assert not rooms_imported(path) & FORBIDDEN[room], path


def test_every_room_says_what_it_is_for() -> None:
    for init in SRC.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), init
