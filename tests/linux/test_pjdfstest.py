"""pjdfstest, the POSIX suite, as root on our mounts. ``$PJDFSTEST`` is its folder, built: autoreconf -ifs, configure, make."""

from __future__ import annotations

import os
import re
import subprocess
import warnings
from pathlib import Path

import pytest
from conftest import RealMount, need

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_pjdfstest_finds_nothing_wrong(any_mount: RealMount) -> None:
    suite = os.environ.get("PJDFSTEST")
    if not suite:
        warnings.warn("PJDFSTEST is unset: the pjdfstest suite did NOT run", stacklevel=1)
        pytest.skip("PJDFSTEST is unset: set it to the folder of a built pjdfstest")
    assert (Path(suite) / "pjdfstest").exists(), f"{suite} has no program pjdfstest: build it there"
    need("prove")
    (any_mount.path / "work").mkdir()
    done = subprocess.run(
        ["prove", "-r", str(Path(suite) / "tests")],
        cwd=any_mount.path / "work", capture_output=True, text=True, timeout=1700,
    )  # fmt: skip
    summary = re.search(r"Files=\d+, Tests=(\d+)", done.stdout)
    assert summary is not None, done.stdout[-2000:] + done.stderr[-2000:]
    print(summary[0])
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(summary[1]) > 8000
