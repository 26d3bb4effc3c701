"""The README's code is what it says: it is run as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def blocks(tmp_path: Path) -> list[str]:
    """The README's programs; the first is there as hello.py."""
    found = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "hello.py").write_text(found[0])
    return found


def run(cwd: Path, *command: str) -> str:
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_filesystem_is_driven_with_no_mount(tmp_path: Path, blocks: list[str]) -> None:
    (tmp_path / "drive.py").write_text(blocks[1])
    assert run(tmp_path, "drive.py") == "['hello'] 12\n"


def test_the_filesystem_is_unit_tested_in_eight_lines(tmp_path: Path, blocks: list[str]) -> None:
    assert len([line for line in blocks[2].splitlines() if line]) <= 8
    (tmp_path / "test_hello.py").write_text(blocks[2])
    assert "1 passed" in run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_hello.py")
    (tmp_path / "test_hello.py").write_text(blocks[2].replace("hello, wire", "hello, world"))
    with pytest.raises(subprocess.CalledProcessError):
        run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_hello.py")
