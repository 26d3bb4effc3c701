"""The twelve invariants of a request queue, after every step of runs whose order is left to chance."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fusewire import Kernel
from fusewire.filesystems import MemoryFS
from fusewire.kernel.queue import POLICIES
from fusewire.kernel.vfs import ProgramTask
from fusewire.kernel.vfs import syscalls as sc
from fusewire.testing import Invariants, Scheduled, Witness, at_random, pct

Script = Callable[[ProgramTask], Awaitable[None]]


class World:
    """A mount of a memory filesystem, programs on it, and whatever happens to them, in the order that ``choose`` says."""

    def __init__(self, choose: Any, policy: str = "detach", *, workers: int = 2, pool: int = 16) -> None:
        self.driver = Scheduled(choose)
        self.kernel = Kernel(self.driver, policy=policy, trace=True, pool=pool, reserve=2)
        filesystem = MemoryFS({"d/f": b"x" * 9000, "g": b"y"})
        self.mount = self.kernel.mount(filesystem, "/", workers=workers)
        self.watch = Invariants(self.mount, Witness(filesystem.session))
        self.driver.on_step.append(self.watch.after_step)
        self.programs: list[ProgramTask] = []
        self.mortal = False  # a worker is killed: what it had read may be waited for in vain
        if pool == 1:
            while not self.mount.connection.initialized:
                self.driver.step()
            self.mount.control.max_background = 1

    def program(self, script: Script) -> ProgramTask:
        """A program that runs ``script`` and exits."""
        process = self.kernel.process()
        task = process._main

        async def main() -> None:
            try:
                await script(task)
            except OSError:
                pass
            await sc.sys_exit(task)

        self.driver.begin(task, main())
        self.programs.append(task)
        return task

    def happen(self, what: Callable[[], None]) -> None:
        """At some moment, ``what``."""

        async def once() -> None:
            what()

        self.driver.begin(self.kernel.process("chance")._main, once())

    def go(self) -> None:
        self.driver.go()
        self.watch.at_rest()
        waiting = [task for task in self.programs if not task.exited]
        assert self.mortal or not waiting, (
            f"{waiting[0]!r} waits for ever: {self.driver.graph().waits[repr(waiting[0])]}"
        )


def busy(rng: random.Random) -> Script:
    """A program that opens, reads, writes, makes and removes at random."""

    async def script(task: ProgramTask) -> None:
        fds: list[int] = []
        for _ in range(rng.randrange(1, 6)):
            name = rng.choice([b"/d/f", b"/g", b"/new", b"/d/new"])
            try:
                match rng.randrange(7):
                    case 0:
                        await sc.sys_stat(task, name)
                    case 1:
                        fds.append(
                            await sc.sys_open(task, name, rng.choice([os.O_RDWR, os.O_RDWR | os.O_CREAT]), 0o644)
                        )
                    case 2 if fds:
                        await sc.sys_read(task, fds[-1], memoryview(bytearray(9000)))
                    case 3 if fds:
                        await sc.sys_write(task, fds[-1], (b"z" * 5000,))
                    case 4 if fds:
                        await sc.sys_close(task, fds.pop())
                    case 5:
                        await sc.sys_unlink(task, name)
                    case _:
                        await sc.sys_getdents(task, await sc.sys_open(task, b"/d", os.O_RDONLY | os.O_DIRECTORY, 0))
            except FileNotFoundError:
                continue

    return script


def run(seed: int, policy: str, *, abort: bool = False, **kwargs: Any) -> World:
    """Up to three programs, signals, and one of: an abort, a worker that is killed, a resend, nothing more."""
    rng = random.Random(seed)
    world = World((pct if seed % 3 == 0 else at_random)(seed), policy, **kwargs)
    programs = [world.program(busy(rng)) for _ in range(rng.randrange(1, 4))]
    for task in programs:
        task.handlers[signal.SIGUSR1] = lambda number: None
        for _ in range(rng.randrange(3)):
            number = rng.choice([signal.SIGUSR1, signal.SIGKILL])
            world.happen(lambda task=task, number=number: task.kill(number))  # type: ignore[misc]
    match 0 if abort else rng.randrange(6):
        case 0:
            world.happen(world.mount.control.abort)
        case 1:
            world.mortal = True
            world.happen(lambda: world.mount.workers[0].kill(signal.SIGKILL))
        case 2:
            fc = world.mount.connection
            world.happen(lambda: fc.resend(None) if fc.initialized else None)  # no INIT a second time
    world.go()
    return world


@pytest.mark.parametrize("policy", POLICIES)
def test_every_invariant_holds_after_every_step_of_runs_by_chance(policy: str) -> None:
    checked = 0
    for seed in range(150):
        try:
            checked += run(seed, policy).watch.checked
        except Exception as error:
            error.add_note(f"seed {seed}, policy {policy}")
            raise
    assert checked > 10_000


@pytest.mark.parametrize("policy", ["detach", "linux"])
def test_every_invariant_holds_with_a_pool_of_one(policy: str) -> None:
    for seed in range(100):
        run(seed, policy, pool=1, workers=1)


def test_the_same_seed_is_the_same_run() -> None:
    assert run(5, "detach").driver.steps == run(5, "detach").driver.steps
