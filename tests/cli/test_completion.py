"""What the shell completes, asked as bash asks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MAIN = "from fusewire.cli import main; main(prog_name='fusewire')"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["mount", ""], ["plain,memory", "plain,passthrough"]),
        (["mount", "pass"], ["plain,passthrough"]),
        (["mount", "passthrough", "/sr"], ["dir,/sr"]),
        (["mount", "memory", ""], ["dir,"]),
        (["mount", "-o", "ro,max"], ["plain,ro,max_read="]),
        (["mount", "--log", "/var"], ["file,/var"]),
        (["unmount", "/mn"], ["dir,/mn"]),
        (["sh", "mem"], ["plain,memory"]),
        (["explore", "unlink_"], ["plain,unlink_link"]),
    ],
)
def test_what_is_offered_after_what_was_typed(typed: list[str], offered: list[str]) -> None:
    environment = {
        **os.environ,
        "_FUSEWIRE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["fusewire", *typed]),
        "COMP_CWORD": str(len(typed)),
    }
    shown = subprocess.check_output([sys.executable, "-c", MAIN], env=environment, text=True, timeout=60)
    assert shown.splitlines() == offered
