"""What docs/kernel-walkthrough.md shows is what the commands in it print."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fusewire.cli import main

WALKTHROUGH = Path(__file__).parents[2] / "docs" / "kernel-walkthrough.md"
BLOCKS = re.findall(r"```\n\$ (fusewire [^\n]*)\n(.*?)\n```", WALKTHROUGH.read_text(), flags=re.DOTALL)


HERE = [block for block in BLOCKS if "--on linux" not in block[0]]
ON_LINUX = [block for block in BLOCKS if block not in HERE]


@pytest.mark.parametrize(("command", "shown"), HERE, ids=[command for command, _ in HERE])
def test_a_command_of_the_walkthrough_prints_what_is_shown(command: str, shown: str) -> None:
    printed = CliRunner().invoke(main, shlex.split(command)[1:]).output
    assert "\n".join(line.rstrip() for line in printed.rstrip().splitlines()) == shown


def test_each_part_of_the_text_has_its_command() -> None:
    assert [command.split()[2] for command, _ in HERE] == [
        "rm", "deadlock", "unlink_link", "kamikaze", "locked", "pool",
    ]  # fmt: skip


# -- on Linux ----------------------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """By their titles, without the kernel's release; the first of those that have the same."""
    parts = re.split(r"^== (.*)\n", re.sub(r"Linux \d\S*", "Linux", text), flags=re.MULTILINE)[1:]
    return dict(reversed(list(zip(parts[::2], parts[1::2], strict=True))))


def told(section: str) -> tuple[list[str], list[str], list[str]]:
    """Each column of its diagram by itself, since what two processors do at a time has no order; and its other lines. Numbers
    of processes, which are others each time, are numbered as they come."""
    left, right, words = [], [], []
    for line in section.rstrip().splitlines():
        if line.startswith(" |"):
            left.append(line[4:40].strip())
            right.append(line[43:].strip())
        else:
            words.append(line.rstrip())
    numbers: dict[str, str] = {}
    numbered = re.sub(r"(?<=\w:)\d+", lambda m: numbers.setdefault(m[0], f"<{len(numbers)}>"), "\n".join(words))
    return [cell for cell in left if cell], [cell for cell in right if cell], numbered.splitlines()


@pytest.mark.real
@pytest.mark.parametrize(("command", "shown"), ON_LINUX, ids=[command for command, _ in ON_LINUX])
def test_on_linux_a_command_shows_what_the_walkthrough_shows(command: str, shown: str) -> None:
    printed = sections(CliRunner().invoke(main, shlex.split(command)[1:]).output)
    release = re.search(r"Linux (\d+\.\d+)", shown)
    assert release is not None
    same_kernel = os.uname().release.startswith(release[1] + ".")
    for title, section in sections(shown).items():
        if same_kernel:
            assert told(printed[title]) == told(section)
        else:  # another Linux has other functions
            assert title in printed


def test_scenarios_1_and_2_are_shown_on_linux_too() -> None:
    assert [command.split()[2] for command, _ in ON_LINUX] == ["deadlock", "kamikaze"]
