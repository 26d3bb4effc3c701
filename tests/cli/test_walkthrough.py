"""What docs/kernel-walkthrough.md shows is what the commands in it print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fusewire.cli import main

WALKTHROUGH = Path(__file__).parents[2] / "docs" / "kernel-walkthrough.md"
BLOCKS = re.findall(r"```\n\$ (fusewire [^\n]*)\n(.*?)\n```", WALKTHROUGH.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_a_command_of_the_walkthrough_prints_what_is_shown(command: str, shown: str) -> None:
    printed = CliRunner().invoke(main, shlex.split(command)[1:]).output
    assert "\n".join(line.rstrip() for line in printed.rstrip().splitlines()) == shown


def test_each_part_of_the_text_has_its_command() -> None:
    assert [command.split()[2] for command, _ in BLOCKS] == [
        "rm", "deadlock", "unlink_link", "kamikaze", "locked", "pool",
    ]  # fmt: skip
