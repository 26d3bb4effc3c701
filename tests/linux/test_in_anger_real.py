"""Signals, kills and aborts against busy processes on a real mount, served by our daemon's half: nothing hangs, and nothing
is left over."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until

import fusewire
from fusewire.filesystems import MemoryFS
from fusewire.linux import Control, Watchdog, mounts

pytestmark = pytest.mark.real

# Makes, locks, uses and removes files until it is killed, or its mount is gone. Tells when it has begun.
BUSY = """
import errno, fcntl, os, random, signal, sys
signal.signal(signal.SIGINT, lambda number, frame: None)
name, rng = sys.argv[1] + "/" + sys.argv[2], random.Random(int(sys.argv[3]))
begun = False
while True:
    fd = -1
    try:
        fd = os.open(name, os.O_CREAT | os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        os.write(fd, b"x" * rng.randrange(20_000))
        if not begun:
            begun = bool(os.write(1, b"."))
        os.pread(fd, 20_000, 0)
        os.listdir(sys.argv[1])
        os.rename(name, name + str(rng.randrange(3)))
        os.close(fd)
        fd = -1
        os.unlink(name)
    except (FileNotFoundError, InterruptedError):
        pass
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV):
            sys.exit(0)
        print(error, file=sys.stderr)
        sys.exit(1)
    finally:
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass
"""


class Uncached(MemoryFS):
    entry_timeout = attr_timeout = 0.0


class Anger:
    """A real mount with so many busy processes; each blow is a signal, a kill or an abort."""

    def __init__(self, path: Path, seed: int, programs: int = 4) -> None:
        self.path = path
        self.rng = random.Random(seed)
        self.programs = programs
        self.running: list[subprocess.Popen[bytes]] = []
        self._mount()

    def _mount(self) -> None:
        """Served by threads of this very process, so that what they leave can be seen; used by others only."""
        self.filesystem = Uncached()
        self.mounted = fusewire.mounting.Mounted(self.filesystem, self.path)
        self.watchdog = Watchdog(self.mounted.number, 120)

    def blow(self) -> None:
        while len(self.running) < self.programs:
            self._start()
        process = self.rng.choice(self.running)
        match self.rng.randrange(10):
            case 0:
                self._abort()
            case 1 | 2 | 3:
                process.kill()
                self._join(process, -signal.SIGKILL)
            case _:
                process.send_signal(signal.SIGINT)

    def _start(self) -> None:
        seed = self.rng.randrange(1 << 30)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BUSY, str(self.path), str(seed % 3), str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.running.append(process)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 30)
        assert ready, "it does not come to its work"
        assert process.stdout.read(1) == b".", "it ended before it came to its work"

    def _join(self, process: subprocess.Popen[bytes], status: int) -> None:
        """It ends, however deep in the kernel it was; by ``status``, or because its mount is gone."""
        said = process.communicate(timeout=30)[1]
        assert process.returncode in (status, 0), said
        self.running.remove(process)

    def _abort(self) -> None:
        Control(self.mounted.number).abort()
        for process in list(self.running):
            self._join(process, 0)
        self._unmount()
        self._mount()

    def _unmount(self) -> None:
        """Nobody is in a handler or waits for one, and no descriptor of the device is left."""
        self.mounted.unmount()
        assert self.mounted.wait(30)
        self.watchdog.stop()
        assert not self.watchdog.barked
        assert self.mounted.session.destroyed
        assert not self.mounted.session.in_flight
        assert mounts.mount_at(str(self.path)) is None

    def end(self) -> None:
        for process in list(self.running):
            process.kill()
            self._join(process, -signal.SIGKILL)
        wait_until(lambda: Control(self.mounted.number).waiting == 0)
        subprocess.run(["find", str(self.path), "-mindepth", "1", "-delete"], check=True, timeout=30)
        wait_until(lambda: list(self.filesystem.nodes) == [1])  # every reference and every open file was given back
        self._unmount()

    def give_up(self) -> None:
        """After a failure: no mount and no process is left all the same."""
        for process in self.running:
            process.kill()
        with contextlib.suppress(OSError):
            Control(self.mounted.number).abort()
        for process in self.running:
            process.communicate(timeout=30)
        self.mounted.unmount()
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.watchdog.stop()


def descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{fd}")


def strike(path: Path, seed: int, blows: int) -> None:
    threads, open_before = threading.active_count(), len(list(descriptors()))
    anger = Anger(path, seed)
    try:
        for _ in range(blows):
            anger.blow()
        anger.end()
    except BaseException:
        anger.give_up()
        raise
    wait_until(lambda: threading.active_count() <= threads)
    assert "/dev/fuse" not in descriptors()
    assert len(list(descriptors())) <= open_before


def test_three_hundred_blows_leave_nothing_hung_and_nothing_over(mountpoint: Path) -> None:
    strike(mountpoint, 1, 300)


@pytest.mark.slow
def test_ten_thousand_blows_leave_nothing_hung_and_nothing_over(mountpoint: Path) -> None:
    for seed in range(20):
        strike(mountpoint, seed, 500)
