"""``fusewire demo``: what it draws, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from fusewire.cli import main


def fusewire(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fusewire", *args], capture_output=True, text=True, timeout=90)


def columns(text: str) -> tuple[list[str], list[str]]:
    """The steps of the last diagram in ``text``, by column."""
    rows = [(row[4:40].strip(), row[43:].strip()) for row in text.splitlines() if row.startswith(" |  ")]
    return [left for left, _ in rows if left], [right for _, right in rows if right]


def test_demo_draws_the_unlink_on_our_half() -> None:
    shown = fusewire("demo")
    assert shown.returncode == 0, shown.stderr
    ours = shown.stdout.split("== The same unlink")[1]
    left, right = columns(ours)
    assert left[0] == '"rm /mnt/fuse/file"'
    assert left.index("[queue req on fc->pending]") < left.index("[wake up fc->waitq]")
    assert "[perform unlink]" in right


@pytest.mark.real
def test_demo_draws_the_real_rm_on_linux() -> None:
    shown = fusewire("demo").stdout
    assert re.search(r"\[queue UNLINK req on (fc->pending\])?|its UNLINK req has been read", shown)
    assert shown.index("UNLINK") < shown.index("[perform unlink]") < shown.index("The same unlink")
    assert f"{tempfile.gettempdir()}/fusewire-" not in Path("/proc/mounts").read_text()


def test_demo_deadlock_names_the_cycle_and_shows_how_it_ends() -> None:
    shown = fusewire("demo", "deadlock", "--on", "here")
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout
    assert 'waits on inode semaphore for "/", which only rm:' in text
    assert "waits on req->waitq, which only daemon:2 could end." in text
    assert "which only it itself could end." in text
    assert text.rstrip().endswith("Nobody waits any more.")
    assert text.index("*DEADLOCK*") < text.index("[interrupted by signal]") < text.index("[semaphore acquired]")


@pytest.mark.parametrize("args", [["demo", "nonsense"], ["nonsense"], ["demo", "--nonsense"]])
def test_wrong_arguments_are_one_clear_error(args: list[str]) -> None:
    failed = fusewire(*args)
    assert failed.returncode == 2
    assert "Error: " in failed.stderr
    assert "Traceback" not in failed.stderr


def test_version_is_shown() -> None:
    assert re.fullmatch(r"fusewire, version \d+\.\d+\.\d+\n", fusewire("--version").stdout)


def test_without_root_one_line_says_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    shown = CliRunner().invoke(main, ["demo", "kamikaze"])
    assert shown.exit_code == 0
    assert "needs root" in shown.output.rstrip().splitlines()[-1]
    assert shown.output.count("Left out: the same on Linux.") == 1


def test_linux_alone_without_root_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    failed = CliRunner().invoke(main, ["demo", "deadlock", "--on", "linux"])
    assert failed.exit_code == 1
    assert "needs root" in failed.output
