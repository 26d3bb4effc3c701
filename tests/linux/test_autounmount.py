"""The watcher: whatever ends a program that mounts, its mount goes; other mounts stay."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MEMORY, real_mount, wait_until
from programs import guarded, nothing_is_left, program, said_by, serving

import fusewire
from fusewire import MountError, MountOptions
from fusewire.filesystems import MemoryFS
from fusewire.linux import autounmount, mounts
from fusewire.linux.autounmount import AutoUnmount

pytestmark = [pytest.mark.real, pytest.mark.usefixtures(nothing_is_left.__name__)]

MOUNTED = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
with fusewire.mount(MemoryFS(), M):
    print("mounted", flush=True)
    time.sleep(60)
"""


def watcher_of(path: Path) -> int:
    """It has the mountpoint on its command line."""
    (pid,) = (
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if {str(path).encode(), b"fusewire watcher"} <= set(entry.read_bytes().split(b"\0"))
    )
    return pid


def children_of(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in lists for child in children.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGSEGV, signal.SIGKILL])
def test_a_signal_that_ends_the_program_leaves_no_mount(mountpoint: Path, number: signal.Signals) -> None:
    with serving(MOUNTED, mountpoint) as daemon:
        daemon.send_signal(number)
        assert daemon.wait(timeout=20) == -number
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)


def test_a_signal_to_a_whole_service_leaves_no_mount(mountpoint: Path) -> None:
    """As systemd sends it, to all of a control group: the watcher outlives it."""
    with serving(MOUNTED, mountpoint) as daemon:
        ignored = Path(f"/proc/{watcher_of(mountpoint)}/status")
        wait_until(lambda: int(ignored.read_text().partition("SigIgn:")[2].split()[0], 16) & 1 << (signal.SIGTERM - 1))
        os.kill(watcher_of(mountpoint), signal.SIGTERM)
        daemon.terminate()
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)


def test_a_program_that_dies_just_after_mount_2_leaves_no_mount(mountpoint: Path) -> None:
    """Before it can tell its watcher what it has mounted."""
    source = """
    from fusewire.linux import mounts
    from fusewire.linux.autounmount import AutoUnmount
    watcher = AutoUnmount(M)
    fd = mounts.mount(M)
    print("mounted", flush=True)
    time.sleep(60)
    """
    with serving(source, mountpoint) as daemon:
        daemon.kill()
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)


def test_a_watcher_that_was_told_nothing_leaves_a_mount_that_lives(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        autounmount.unmount(str(mountpoint), "")
        assert mounts.mount_at(str(mountpoint)) is not None
        assert mounted.sh("echo here > f; cat f") == "here\n"


def test_what_moved_with_its_parent_is_found(tmp_path: Path) -> None:
    (tmp_path / "before" / "mnt").mkdir(parents=True)
    with serving(MOUNTED, tmp_path / "before" / "mnt") as daemon:
        (tmp_path / "before").rename(tmp_path / "after")
        daemon.kill()
        wait_until(lambda: mounts.mount_at(str(tmp_path / "after" / "mnt")) is None)


@pytest.mark.parametrize("alone", [False, True])
def test_bind_mounts_go_too(mountpoint: Path, tmp_path: Path, alone: bool) -> None:
    (tmp_path / "bound").mkdir()
    with serving(MOUNTED, mountpoint) as daemon:
        subprocess.run(["mount", "--bind", mountpoint, tmp_path / "bound"], check=True, timeout=20)
        if alone:
            mounts.unmount(str(mountpoint))
        daemon.kill()
        wait_until(lambda: mounts.mount_at(str(tmp_path / "bound")) is mounts.mount_at(str(mountpoint)) is None)


def without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")


def without_a_python_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python3")


def without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autounmount, "SHELL", "/nonexistent")


def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*args: object, **kwargs: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_more)


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (without_python, "sys.executable is '/usr/bin/uwsgi', and no Python"),
        (without_a_python_that_is_there, "sys.executable is '/nonexistent/python3', and no Python"),
        (without_a_shell, "/nonexistent: No such file"),
        (without_processes, "/bin/sh: Resource temporarily unavailable"),
    ],
)
def test_a_watcher_that_cannot_be_started_fails_the_mount_where_it_was_asked_for(
    mountpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: Callable[[pytest.MonkeyPatch], None],
    why: str,
) -> None:
    missing(monkeypatch)
    for asked in MountOptions(auto_unmount=True), MountOptions(user="nobody"):
        with pytest.raises(MountError, match=f"cannot be started: {why}"):
            fusewire.Mounted(MemoryFS(), mountpoint, asked)
        assert mounts.mount_at(str(mountpoint)) is None
    assert "dead mount" not in caplog.text
    with fusewire.mount(MemoryFS(), mountpoint):
        assert "should this program be killed, a dead mount remains" in caplog.text


def test_a_python_that_the_mount_will_cover_is_refused_for_a_watcher(mountpoint: Path) -> None:
    (mountpoint / "bin").mkdir()
    source = f"""
    sys.executable = "{mountpoint}/bin/python3"
    os.symlink("{sys.executable}", sys.executable)
    try: fusewire.Mounted(MemoryFS(), M, fusewire.MountOptions(auto_unmount=True))
    except fusewire.MountError as error: print(error)
    """
    said = said_by(source, mountpoint)
    assert f"it takes {mountpoint}/bin/python3, which will be beneath the mount" in said


def test_nothing_is_left_of_a_mount_that_someone_else_unmounted(mountpoint: Path) -> None:
    mounted = fusewire.Mounted(MemoryFS(), mountpoint)
    watcher = mounted._watcher
    assert watcher is not None
    mounts.unmount(str(mountpoint))
    wait_until(lambda: watcher._process.returncode == 0)  # nobody waits for the mount


def test_a_child_does_not_keep_the_watcher_waiting(mountpoint: Path) -> None:
    source = """
    with fusewire.mount(MemoryFS(), M):
        if not os.fork():
            time.sleep(60)
            os._exit(0)
        print("mounted", flush=True)
        time.sleep(60)
    """
    with serving(source, mountpoint) as daemon:
        child = next(pid for pid in children_of(daemon.pid) if pid != watcher_of(mountpoint))
        try:
            daemon.kill()
            wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_signal_for_a_child_is_not_the_mounts(mountpoint: Path) -> None:
    source = """
    import signal
    class FS(MemoryFS):
        def init(self, granted):
            super().init(granted)
            if not os.fork():
                while True: time.sleep(1)
    fusewire.run(FS(), M)
    """
    daemon = program(source, mountpoint)
    with guarded(daemon):
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is not None)
        wait_until(lambda: len(children_of(daemon.pid)) == 2)
        child = next(pid for pid in children_of(daemon.pid) if pid != watcher_of(mountpoint))
        os.kill(child, signal.SIGTERM)
        (mountpoint / "f").touch()
        time.sleep(0.3)
        assert (mountpoint / "f").exists()
        os.kill(child, signal.SIGKILL)
        daemon.terminate()
        assert daemon.wait(timeout=20) == 0


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
