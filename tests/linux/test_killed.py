"""kill -9 of the daemon under load: nobody hangs, no mount is left, the next mount at the same place works."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_until

from fusewire.linux import Watchdog, connection_number, mounts

pytestmark = pytest.mark.real

WATCHED = """
import sys, fusewire
from fusewire.filesystems import MemoryFS
mounted = fusewire.Mounted(MemoryFS(), sys.argv[1])
print("mounted", flush=True)
mounted.wait()
"""
LOAD = """
import os, sys
for n in range(10**9):
    try:
        with open("f", "w") as file: file.write("x" * 10_000)
        os.listdir("."), os.stat("f"), os.unlink("f")
    except OSError:
        if n > 10: sys.exit(7)
"""


def kill_under_load(path: Path) -> None:
    daemon = subprocess.Popen([sys.executable, "-c", WATCHED, str(path)], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == b"mounted\n"  # and watched
    with Watchdog(connection_number(str(path)), 60) as watchdog:
        clients = [subprocess.Popen([sys.executable, "-c", LOAD], cwd=path) for _ in range(2)]
        try:
            time.sleep(0.15)
            daemon.send_signal(signal.SIGKILL)
            daemon.wait(timeout=20)
            assert [client.wait(timeout=30) for client in clients] == [7, 7]
            wait_until(lambda: mounts.mount_at(str(path)) is None)  # its watcher
        finally:
            daemon.kill()
            daemon.communicate(timeout=20)
            for client in clients:
                client.kill()
                client.wait(timeout=30)
            if mounts.mount_at(str(path)) is not None:
                mounts.unmount_at_any_price(str(path))
    assert not watchdog.barked


def test_a_killed_daemon_leaves_nothing_hanging_5_times(mountpoint: Path) -> None:
    for _ in range(5):
        kill_under_load(mountpoint)


@pytest.mark.slow
def test_a_killed_daemon_leaves_nothing_hanging_100_times(mountpoint: Path) -> None:
    for _ in range(100):
        kill_under_load(mountpoint)
