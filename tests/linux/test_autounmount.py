"""The watcher: whatever ends a program that mounts, its mount goes; other mounts stay."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MEMORY, real_mount, wait_until
from programs import guarded, nothing_is_left, program

import fusewire
from fusewire import MountError, MountOptions
from fusewire.filesystems import MemoryFS
from fusewire.linux import autounmount, mounts
from fusewire.linux.autounmount import AutoUnmount, can_watch

pytestmark = [pytest.mark.real, pytest.mark.usefixtures(nothing_is_left.__name__)]

MOUNTED = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
with fusewire.mount(MemoryFS(), M):
    print("mounted", flush=True)
    time.sleep(60)
"""


def watcher_of(pid: int) -> int:
    """The one child of a program that mounts."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGSEGV, signal.SIGKILL])
def test_a_signal_that_ends_the_program_leaves_no_mount(mountpoint: Path, number: signal.Signals) -> None:
    daemon = program(MOUNTED, mountpoint)
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        daemon.send_signal(number)
        assert daemon.wait(timeout=20) == -number
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)


def test_a_signal_to_a_whole_service_leaves_no_mount(mountpoint: Path) -> None:
    """As systemd sends it, to all of a control group: the watcher outlives it."""
    daemon = program(MOUNTED, mountpoint)
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        ignored = Path(f"/proc/{watcher_of(daemon.pid)}/status")
        wait_until(lambda: int(ignored.read_text().partition("SigIgn:")[2].split()[0], 16) & 1 << (signal.SIGTERM - 1))
        os.kill(watcher_of(daemon.pid), signal.SIGTERM)
        daemon.terminate()
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)


def test_a_program_that_dies_just_after_mount_2_leaves_no_mount(mountpoint: Path) -> None:
    """Before it can tell its watcher what it has mounted."""
    source = """
    from fusewire.linux import autounmount, mounts
    from fusewire.linux.autounmount import AutoUnmount
    watcher = AutoUnmount(M)
    fd = mounts.mount(M)
    print("mounted", flush=True)
    time.sleep(60)
    """
    daemon = program(source, mountpoint)
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        daemon.kill()
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)


def test_a_watcher_that_was_told_nothing_leaves_a_mount_that_lives(mountpoint: Path) -> None:
    watcher = AutoUnmount(str(mountpoint))
    with real_mount(mountpoint, MEMORY) as mounted:
        watcher.close()
        assert mounted.sh("echo here > f; cat f") == "here\n"


def test_what_moved_with_its_parent_is_found(tmp_path: Path) -> None:
    (tmp_path / "before" / "mnt").mkdir(parents=True)
    daemon = program(MOUNTED, tmp_path / "before" / "mnt")
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        (tmp_path / "before").rename(tmp_path / "after")
        daemon.kill()
        wait_until(lambda: mounts.mount_at(str(tmp_path / "after" / "mnt")) is None)


def test_bind_mounts_go_too(mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    daemon = program(MOUNTED, mountpoint)
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        subprocess.run(["mount", "--bind", mountpoint, tmp_path / "bound"], check=True, timeout=20)
        daemon.kill()
        wait_until(lambda: mounts.mount_at(str(tmp_path / "bound")) is mounts.mount_at(str(mountpoint)) is None)


def test_a_watcher_that_was_asked_for_and_cannot_be_started_fails_the_mount(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(why: str) -> None:
        with pytest.raises(MountError, match=f"the watcher that is to unmount it cannot be started: {why}"):
            fusewire.Mounted(MemoryFS(), mountpoint, MountOptions(auto_unmount=True))

    def no_more(*args: object, **kwargs: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    mount("it takes /bin/sh and a Python, and sys.executable is '/usr/bin/uwsgi'")
    monkeypatch.undo()
    monkeypatch.setattr(autounmount, "SHELL", "/nonexistent")
    mount("it takes /nonexistent")
    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "Popen", no_more)
    mount("/bin/sh: Resource temporarily unavailable")
    assert mounts.mount_at(str(mountpoint)) is None


@pytest.mark.parametrize("executable", [None, "", "/usr/bin/uwsgi"])
def test_a_program_that_embeds_python_is_not_started_again_to_watch(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    assert can_watch()
    monkeypatch.setattr(sys, "executable", executable)
    assert not can_watch()
    with fusewire.mount(MemoryFS(), mountpoint) as mounted:
        assert mounted._watcher is None


def test_a_watcher_that_was_killed_does_not_end_the_mount(mountpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    watcher = AutoUnmount(str(mountpoint))
    os.kill(watcher._process.pid, signal.SIGKILL)
    watcher._process.wait(timeout=20)
    watcher.mounted("1:2:3")
    assert "the watcher that is to unmount when this program dies has ended itself" in caplog.text
    watcher.close()


def test_the_watcher_imports_only_the_room_that_unmounts(tmp_path: Path) -> None:
    source = autounmount._UNMOUNT + "print(*sys.modules)"
    command = [sys.executable, "-S", "-c", source, tmp_path, *fusewire.__path__, ""]
    imported = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20).stdout
    assert b"fusewire.linux.mounts" in imported.split()
    assert not {b"fusewire.daemon", b"fusewire.mounting", b"asyncio"} & set(imported.split())
