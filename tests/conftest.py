"""What tests share: kernels of ours, real mounts under a watchdog, and the rule that nothing is skipped silently."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusewire.linux import Watchdog, connection_number, mounts

pytest_plugins = ["fusewire.testing.plugin"]  # installed, it comes by itself; from a source tree it does not

CAN_MOUNT = os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)
NO_SKIPS = bool(os.environ.get("FUSEWIRE_NO_SKIPS")) and CAN_MOUNT


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real") and not CAN_MOUNT:
        pytest.skip("a real mount needs root and /dev/fuse")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped and NO_SKIPS and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped on CI, where it must run: {report.longrepr}"


class RealMount:
    """A filesystem mounted by a daemon in a process of its own. ``sh`` runs a command in the mount."""

    def __init__(self, path: Path, daemon: subprocess.Popen[str]) -> None:
        self.path = path
        self.daemon = daemon

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A program, with the mount as its working directory."""
        return subprocess.run(command, cwd=self.path, check=check, timeout=timeout, capture_output=True, text=True)

    def sh(self, script: str, **kwargs: float) -> str:
        """A shell script; returns its output."""
        return self.run("sh", "-euc", script, **kwargs).stdout  # type: ignore[arg-type]


@contextlib.contextmanager
def real_mount(path: Path, program: str, seconds: float = 60) -> Iterator[RealMount]:
    """Run ``program`` (Python source that mounts at ``sys.argv[1]`` and serves) under a watchdog, until the block ends."""
    daemon = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: daemon.poll() is not None or mounts.mount_at(str(path)) is not None)
        if daemon.poll() is not None:
            assert daemon.stderr is not None
            raise RuntimeError(f"the daemon ended: {daemon.stderr.read()}")
        with Watchdog(connection_number(str(path)), seconds) as watchdog:
            yield RealMount(path, daemon)
        assert not watchdog.barked, "the mount hung: the watchdog had to abort it"
    finally:
        if mounts.mount_at(str(path)) is not None:
            mounts.unmount_at_any_price(str(path))
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(timeout=10)
            raise
        if daemon.stderr is not None:
            daemon.stderr.close()


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Look again and again until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} seconds")
        time.sleep(0.005)


def stop_process(pid: int) -> None:
    """SIGSTOP, until no thread of it runs any more: one may be on its way out of a read."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    wait_until(lambda: {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()} == {"T"})


def need(*programs: str) -> None:
    """Skip the test where one of them is not installed (tools/system-packages)."""
    missing = [program for program in programs if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def errno_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> int | None:
    """The errno that a call ends with."""
    with pytest.raises(OSError) as caught:
        call(*args, **kwargs)
    return caught.value.errno


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Begin ``call`` on a thread of its own. What it returns, or raises, is all that the list will have in it."""
    outcome: list[Any] = []

    def body() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread, outcome


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """An empty directory to mount on."""
    path = tmp_path / "mnt"
    path.mkdir()
    return path


MEMORY = """
import sys, fusewire
from fusewire.filesystems import MemoryFS
fusewire.run(MemoryFS(), sys.argv[1])
"""


@pytest.fixture
def memory_mount(mountpoint: Path) -> Iterator[RealMount]:
    """The memory filesystem on a real mount."""
    with real_mount(mountpoint, MEMORY) as mounted:
        yield mounted


PASSTHROUGH = """
import sys, tempfile, fusewire
from fusewire.filesystems import PassthroughFS
source = sys.argv[1] + ".source"
fusewire.run(PassthroughFS(source), sys.argv[1], fusewire.MountOptions(allow_other=True, default_permissions=True))
"""
MEMORY_FOR_ALL = """
import sys, fusewire
from fusewire.filesystems import MemoryFS
fusewire.run(MemoryFS(), sys.argv[1], fusewire.MountOptions(allow_other=True, default_permissions=True))
"""


@pytest.fixture(params=["memory", "passthrough"])
def any_mount(request: pytest.FixtureRequest, mountpoint: Path) -> Iterator[RealMount]:
    """Each of the filesystems that claim to be complete, on a real mount."""
    mountpoint.with_name("mnt.source").mkdir()
    program = MEMORY_FOR_ALL if request.param == "memory" else PASSTHROUGH
    seconds = 1800 if request.node.get_closest_marker("slow") else 180
    with real_mount(mountpoint, program, seconds) as mounted:
        yield mounted
