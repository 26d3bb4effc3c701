"""What mounting calls in, and what becomes of it: fusermount3, the watcher that unmounts, systemd."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import errno_of

from fusewire import MountError, MountOptions
from fusewire.linux import fusermount
from fusewire.linux.autounmount import AutoUnmount
from fusewire.linux.privileges import sd_notify


def test_what_fusermount_says_of_a_name_that_is_no_text_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text("#!/bin/sh\nprintf 'fusermount3: bad \\377 name\\n' >&2\nexit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = os.fsdecode(b"/tmp/\xff")
    with pytest.raises(MountError, match="bad \udcff name"):
        fusermount.mount(path, MountOptions())
    assert errno_of(fusermount.unmount, path, lazy=False) == errno.EPERM


def test_the_watcher_finds_what_a_program_at_a_prompt_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the working directory is the empty entry of sys.path, and the watcher has another."""
    started: dict[str, Any] = {}
    start = subprocess.Popen

    def noted(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        started.update(kwargs["env"])
        return start(*args, **kwargs)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(subprocess, "Popen", noted)
    AutoUnmount(str(tmp_path)).close()
    assert started["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path)


def test_a_service_manager_that_is_not_there_stops_no_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not sd_notify("READY=1")
