"""Several programs on one cached file, under random schedules that switch at every point: whatever they do to each other,
nothing is lost, nothing stays locked or dirty, and nobody hangs."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cached import PATTERN, Recorded, World, WritingBack

from fusewire import Kernel
from fusewire.kernel.vfs import BusError, ProgramTask
from fusewire.kernel.vfs import syscalls as sc
from fusewire.testing import Scheduled, at_random
from fusewire.wire.flags import PAGE_SIZE

SIZE = 4 * PAGE_SIZE


async def program(task: ProgramTask, mine: int, seed: int) -> None:
    """Write one's own byte of every 4, by write(2) or through memory, amid reads, fsyncs and reopening."""
    rng = random.Random(seed)
    fd = await sc.sys_open(task, b"/f", os.O_RDWR, 0)
    addr = await sc.sys_mmap(task, 0, SIZE, 3, 1, fd)
    for _ in range(6):
        at = rng.randrange(SIZE // 4) * 4 + mine
        what = rng.choice(("write", "store", "read", "fsync", "reopen"))
        if what == "write":
            await sc.sys_write(task, fd, (bytes((200 + mine,)),), at)
            task.program.written.append(at)  # type: ignore[attr-defined]
        elif what == "store":
            await sc.store(task, addr + at, bytes((200 + mine,)))
            task.program.written.append(at)  # type: ignore[attr-defined]
        elif what == "read":
            memory = bytearray(2 * PAGE_SIZE)
            size = await sc.sys_read(task, fd, memoryview(memory), at)
            for place, byte in enumerate(memory[:size], at):
                assert byte in (PATTERN[place], 200 + place % 4)
        elif what == "fsync":
            await sc.sys_fsync(task, fd)
        else:
            await sc.sys_close(task, fd)
            fd = await sc.sys_open(task, b"/f", os.O_RDWR, 0)
    await sc.sys_munmap(task, addr, SIZE)
    await sc.sys_close(task, fd)


def run(
    filesystem: Recorded, seed: int, bodies: list[Callable[[ProgramTask, int], Awaitable[None]]], limit: int = 1000
) -> None:
    driver = Scheduled(at_random(seed))
    with Kernel(driver) as kernel:
        kernel.page_lru.limit, kernel.page_lru.dirty_limit = limit, max(1, limit // 5)
        w = World(filesystem, kernel)
        outcomes = []
        for number, body in enumerate(bodies):
            process = kernel.process(uid=0, gid=0)
            process.program.written = []  # type: ignore[attr-defined]
            coroutine: Any = body(process._main, number)
            outcomes.append((process, driver.begin(process._main, coroutine)))
        driver.go()
        for process, outcome in outcomes:
            assert outcome.done, driver.graph().waits
            if outcome.error is not None:
                raise outcome.error
            for at in process.program.written:  # type: ignore[attr-defined]
                assert w.contents()[at] == 200 + at % 4
        assert not kernel.page_lru.dirty
        assert all(page.owner is None and page.writeback is None for page in kernel.page_lru.pages)


@pytest.mark.parametrize("kind", [Recorded, WritingBack])
@pytest.mark.parametrize("limit", [1000, 2])
def test_whoever_writes_finds_it_in_the_file(kind: type[Recorded], limit: int) -> None:
    for seed in range(40):
        filesystem = kind({"f": PATTERN[:SIZE]})

        def body(task: ProgramTask, number: int, seed: int = seed) -> Awaitable[None]:
            return program(task, number, seed * 10 + number)

        run(filesystem, seed, [body, body, body], limit)


@pytest.mark.parametrize("kind", [Recorded, WritingBack])
def test_truncation_in_the_midst_of_all_that_hangs_nobody(kind: type[Recorded]) -> None:
    async def truncates(task: ProgramTask, number: int) -> None:
        fd = await sc.sys_open(task, b"/f", os.O_RDWR, 0)
        for size in (PAGE_SIZE + 7, SIZE, 0, SIZE):
            await sc.sys_ftruncate(task, fd, size)
        await sc.sys_close(task, fd)

    async def touches(task: ProgramTask, number: int) -> None:
        fd = await sc.sys_open(task, b"/f", os.O_RDWR, 0)
        addr = await sc.sys_mmap(task, 0, SIZE, 3, 1, fd)
        for at in (SIZE - 1, 5, PAGE_SIZE + 1):
            try:
                await sc.store(task, addr + at, b"x")
                await sc.load(task, addr + at, 1)
            except BusError:
                pass  # it was cut off
            await sc.sys_write(task, fd, (b"y" * 100,), at)
        await sc.sys_munmap(task, addr, SIZE)
        await sc.sys_close(task, fd)

    for seed in range(40):
        run(kind({"f": PATTERN[:SIZE]}), seed, [truncates, touches, touches])
