"""Programs that mount, for the tests of how mounts begin and end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusewire import MountError
from fusewire.linux import mounts


@pytest.fixture
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """What a test that fails leaves mounted is ended, so that no later one waits for it."""
    yield
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split(" ")[4]
        if target.startswith(f"{tmp_path}/"):
            with contextlib.suppress(MountError):
                mounts.unmount_at_any_price(target)


def program(source: str, path: Path, **kwargs: object) -> subprocess.Popen[str]:
    """A program that knows its mountpoint as M."""
    head = "import os, sys, threading, time, fusewire\nfrom fusewire.filesystems import MemoryFS\nM = sys.argv[1]\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(source), str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs,  # type: ignore[call-overload]
    )  # fmt: skip


@contextlib.contextmanager
def guarded(daemon: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever becomes of it, it ends. Killed, it closes its device, and who waits for that is free."""
    try:
        yield
    finally:
        daemon.kill()
        daemon.communicate(timeout=20)


@contextlib.contextmanager
def serving(source: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that has mounted, and said so."""
    daemon = program(source, path)
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        yield daemon


def said_by(source: str, path: Path) -> str:
    """What a program that ends by itself prints."""
    daemon = program(source, path)
    with guarded(daemon):
        said, _ = daemon.communicate(timeout=20)
    return said
