"""What mounting calls in, and what becomes of it: fusermount3, the watcher that unmounts, systemd."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from conftest import errno_of

from fusewire import MountError, MountOptions
from fusewire.linux import fusermount
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


def test_a_service_manager_that_is_not_there_stops_no_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not sd_notify("READY=1")
