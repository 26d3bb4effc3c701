"""The benchmark runs, reports, and leaves nothing. How fast anything is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parent.parent.parent


def bench(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One short round, with all that it makes below ``tmp_path``."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--callers", "50", "--inodes", "2000", "--scratch",
         str(tmp_path), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_it_reports_our_memory_filesystem_and_leaves_no_mount(tmp_path: Path) -> None:
    target = tmp_path / "numbers.json"
    ran = bench(tmp_path, "--only", "stat", "--systems", "memory/fusewire", "--json", str(target))
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "memory, caches off, on one CPU" in ran.stdout
    assert "memory, caches off, free to move" in ran.stdout
    assert ran.stdout.count("stat (fstat of an open file)") == 2
    numbers = json.loads(target.read_text())
    assert [(row["system"], row["operation"], row["placement"]) for row in numbers] == [
        ("fusewire", "stat", "one"),
        ("fusewire", "stat", "free"),
    ]
    assert all(micros > 0 for row in numbers for micros in row["micros"])
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert list(tmp_path.iterdir()) == [target]


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    ran = bench(tmp_path, "--only", "stat,fly")
    assert ran.returncode != 0
    assert "no operation is called fly; there are stat," in ran.stderr


def test_our_kernel_half_is_compared_with_linuxs_and_takes_many_callers(tmp_path: Path) -> None:
    target = tmp_path / "numbers.json"
    systems = "memory/fusewire,in process/inline,foreign/inline,foreign/bare,C/passthrough_ll"
    ran = bench(tmp_path, "--only", "stat,read-128k", "--systems", systems, "--json", str(target))
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "with the memory filesystem in process" in ran.stdout
    assert "with libfuse's passthrough_ll -s" in ran.stdout
    assert "callers on threads: 50 with a request in flight" in ran.stdout
    assert "with 1,000 inodes cached" in ran.stdout
    assert "with 2,000" in ran.stdout
    foreign = [row for row in json.loads(target.read_text()) if row["family"] == "foreign"]
    assert [(row["system"], row["operation"]) for row in foreign if row["placement"] == "one"] == [
        ("inline", "stat"),
        ("bare", "stat"),
        ("inline", "read-128k"),
    ]
    assert all(micros > 0 for row in foreign for micros in row["micros"])


def test_fuse_passthrough_is_compared_with_the_very_file_behind_it(tmp_path: Path) -> None:
    ran = bench(tmp_path, "--only", "big-random-4k", "--systems", "backed,plain", "--cpus", "one")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "FUSE passthrough, against the plain file, on one CPU" in ran.stdout
    assert ran.stdout.count("at random in 256 MiB") == 1
