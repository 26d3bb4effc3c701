"""Signals, kills and aborts against busy processes on threads: nothing hangs, nothing is left over."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import pytest
from conftest import wait_until

from fusewire import Kernel, Process
from fusewire.drive import Mount
from fusewire.filesystems import MemoryFS
from fusewire.kernel.queue import State


class Uncached(MemoryFS):
    entry_timeout = attr_timeout = 0.0


def busy(process: Process, rng: random.Random, begun: threading.Event) -> None:
    """Make, use and remove files until the process is killed, or its mount is gone."""
    name = f"/m/{process.pid % 3}"
    while process.alive:
        try:
            fd = process.open(name, os.O_CREAT | os.O_RDWR)
            process.write(fd, b"x" * rng.randrange(20_000))
            begun.set()
            process.pread(fd, 20_000, 0)
            process.listdir("/m")
            process.rename(name, f"{name}{rng.randrange(3)}")
            process.close(fd)
            process.unlink(name)
        except ProcessLookupError:
            return
        except (ConnectionAbortedError, InterruptedError, FileNotFoundError):
            continue
        except OSError as error:
            if error.errno == 107:  # ENOTCONN: the mount is gone
                return


class Anger:
    """A kernel on threads with so many busy programs; each blow is a signal, a kill or an abort."""

    def __init__(self, kernel: Kernel, seed: int, programs: int = 4) -> None:
        self.kernel = kernel
        self.rng = random.Random(seed)
        self.programs = programs
        self.running: list[tuple[Process, threading.Thread]] = []
        self.mount = self._mount()

    def _mount(self) -> Mount:
        return self.kernel.mount(Uncached(), "/m", workers=2)

    def blow(self) -> None:
        while len(self.running) < self.programs:
            process = self.kernel.process()
            process.signal(signal.SIGINT, lambda number: None)
            begun = threading.Event()
            thread = threading.Thread(target=busy, args=(process, random.Random(self.rng.random()), begun))
            thread.start()
            assert begun.wait(30)
            self.running.append((process, thread))
        process, thread = self.rng.choice(self.running)
        match self.rng.randrange(10):
            case 0:
                self._abort()
            case 1 | 2 | 3:
                process.kill(signal.SIGKILL)
                self._join(process, thread)
                self.running.remove((process, thread))
            case _:
                process.kill(signal.SIGINT)

    def _abort(self) -> None:
        self.mount.abort()
        for process, thread in self.running:
            self._join(process, thread)
        self.running.clear()
        self._nothing_is_left()
        with contextlib.suppress(OSError):
            self.mount.unmount()
        self.mount = self._mount()

    @staticmethod
    def _join(process: Process, thread: threading.Thread) -> None:
        thread.join(30)
        assert not thread.is_alive(), f"{process!r} hangs: {process.kernel.graph().waits}"
        if process.alive:
            process.exit()

    def _nothing_is_left(self) -> None:
        fc = self.mount.connection
        wait_until(lambda: not fc.unused_list.in_use and fc.num_waiting == 0)
        assert not fc.pending
        assert not fc.interrupts
        assert not fc.lock_waiters
        assert all(req.state is State.UNUSED for req in fc.unused_list.free)

    def end(self) -> None:
        for process, thread in self.running:
            process.kill(signal.SIGKILL)
            self._join(process, thread)
        self.running.clear()
        self._nothing_is_left()
        assert not self.kernel.driver.deadlocks


def strike(policy: str, seed: int, blows: int) -> None:
    threads = threading.active_count()
    with Kernel("threads", policy=policy) as kernel:
        anger = Anger(kernel, seed)
        for _ in range(blows):
            anger.blow()
        anger.end()
    wait_until(lambda: threading.active_count() <= threads + 1)


@pytest.mark.parametrize("policy", ["detach", "linux"])
def test_a_hundred_and_fifty_blows_leave_nothing_hung_and_nothing_over(policy: str) -> None:
    strike(policy, 1, 150)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["detach", "linux", "freebsd", "gvisor"])
def test_ten_thousand_blows(policy: str) -> None:
    for seed in range(10):
        strike(policy, seed, 250)
