"""Scenario 2 of kernel.txt, the tricky deadlock: a daemon answers READ from the very page that the READ is to fill.

Both threads are one program. Its memory has a page of its own, and behind that the file: the answer's header stands at the end
of the first, its body is the second.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import in_thread

from fusewire import Deadlock, Kernel, Process, Session, Settings
from fusewire.drive import Mount
from fusewire.filesystems import MemoryFS
from fusewire.kernel.vfs import BusError, ProgramTask, UserMemory
from fusewire.kernel.vfs import syscalls as sc
from fusewire.testing import Scheduled, at_random
from fusewire.wire.flags import PAGE_SIZE, Opcode
from fusewire.wire.layouts import IN_HEADER, OUT_HEADER, OutHeader

MAP_PRIVATE_ANONYMOUS, MAP_SHARED_FIXED = 0x22, 0x11
CONTENTS = b"k" * PAGE_SIZE
CYCLE = (
    'daemon:2 waits on page 0 of "file", which only daemon:4 could end;\n'
    "daemon:4, in load, waits on req->waitq, which only daemon:2 could end."
)
# kernel.txt's two columns, from the fault on. What is left out there is left out here.
VICTIM = [
    ">do_page_fault()",
    "[find or create page]",
    "[lock page]",
    ">fuse_readpage()",
    "[queue READ request]",
    "[sleep on req->waitq]",
]
DAEMON = [
    ">sys_write()",
    ">fuse_dev_write()",
    "[look up req in fc->processing]",
    "[remove from fc->processing]",
    "[copy write buffer to req]",
    ">do_page_fault()",
    "[find or create page]",
    "[lock page]",
    '[sleep on page 0 of "file"]',
]


class NothingAhead(MemoryFS):
    """The kernel of ``kernel.txt`` does not read ahead: who touches a page asks for that page."""

    settings = Settings(max_readahead=0)


class Kamikaze:
    """An ordinary filesystem until FLUSH comes; then READ is answered from ``addr``, where the file itself is mapped."""

    def __init__(self, kernel: Kernel, *, workers: int = 1) -> None:
        self.session = Session(NothingAhead({"file": CONTENTS}))
        self.magic = False
        self.addr = 0
        self.failed: list[OSError] = []
        self.asked: list[str] = []
        self.mount = kernel.mount_with(self.serve, "/", workers=workers)
        self.process: Process = self.mount.daemon

    async def serve(self, task: ProgramTask, fd: int, mount: Mount) -> None:
        buffer = memoryview(bytearray(self.session.buffer_size))
        try:
            while True:
                size = await sc.sys_read(task, fd, buffer)
                await self.answer(task, fd, buffer[:size])
        except OSError as ended:
            if ended.errno not in (errno.ENODEV, errno.ECONNABORTED, errno.EINTR):
                raise
        await sc.sys_exit(task)

    async def answer(self, task: ProgramTask, fd: int, message: memoryview) -> None:
        header = IN_HEADER.unpack(message)
        self.asked.append(Opcode(header.opcode).name)
        self.magic = self.magic or header.opcode == Opcode.FLUSH
        if header.opcode == Opcode.READ and self.magic:
            await self.answer_with_the_page_itself(task, fd, header.unique)
            return
        answer: Any = self.session.handle(message)
        if answer is not None:
            await sc.sys_write(task, fd, answer)

    async def answer_with_the_page_itself(self, task: ProgramTask, fd: int, unique: int) -> None:
        length = OUT_HEADER.size + PAGE_SIZE
        start = self.addr - OUT_HEADER.size
        await sc.store(task, start, OUT_HEADER.pack(OutHeader(length, 0, unique)))
        try:
            await sc.sys_write(task, fd, (UserMemory(task.program.mm, start, length),))
        except OSError as failed:
            self.failed.append(failed)

    def prepare(self) -> None:
        """Open, map, close: as the scenario has it."""
        process = self.process
        fd = process.open("/file", os.O_RDONLY)
        header = process.mmap(-1, 2 * PAGE_SIZE, flags=MAP_PRIVATE_ANONYMOUS)
        self.addr = header.address + PAGE_SIZE
        process.mmap(fd, PAGE_SIZE, prot=1, flags=MAP_SHARED_FIXED, address=self.addr)
        process.close(fd)
        assert self.magic


@pytest.fixture(params=["detach", "linux"])
def deadlocked(request: pytest.FixtureRequest) -> Iterator[tuple[Kernel, Kamikaze, threading.Thread, list[object]]]:
    """Both threads sleep, each waiting for the other."""
    with Kernel("threads", on_deadlock="report", trace=True, policy=request.param) as kernel:
        kamikaze = Kamikaze(kernel)
        kamikaze.prepare()
        thread, outcome = in_thread(lambda: kamikaze.process.load(kamikaze.addr))
        assert kernel.wait_deadlock(timeout=20).words() == CYCLE
        yield kernel, kamikaze, thread, outcome


Deadlocked = tuple[Kernel, Kamikaze, threading.Thread, list[object]]


def signal_thread(kernel: Kernel, pid: int, number: int) -> None:
    """As tgkill(2)."""
    with kernel.driver.locked():
        next(task for task in kernel.driver.tasks if task.pid == pid).kill(number)


def test_both_columns_are_those_of_kernel_txt(deadlocked: Deadlocked) -> None:
    kernel = deadlocked[0]
    assert kernel.events is not None
    told = list(kernel.events)
    start = max(at for at, event in enumerate(told) if event.pid == 4 and event.text == "do_page_fault")
    for pid, column in ((4, VICTIM), (2, DAEMON)):
        lines = [event.line for event in told[start:] if event.pid == pid]
        assert [line for line in lines if line in column][-len(column) :] == column


def test_interrupting_the_page_fault_of_the_daemon_cures_it(deadlocked: Deadlocked) -> None:
    kernel, kamikaze, thread, outcome = deadlocked
    signal_thread(kernel, 2, signal.SIGTERM)
    thread.join(20)
    assert [failed.errno for failed in kamikaze.failed] == [errno.EINTR]
    assert isinstance(outcome[0], BusError)  # the answer could not be read: EIO, and so SIGBUS


def test_an_abort_frees_both(deadlocked: Deadlocked) -> None:
    kernel, kamikaze, thread, outcome = deadlocked
    kamikaze.mount.abort()
    thread.join(20)
    assert isinstance(outcome[0], BusError)
    assert kernel.driver.settle(kamikaze.mount.workers, timeout=20) == []


@pytest.mark.parametrize("deadlocked", ["detach"], indirect=True)
def test_interrupting_the_reader_hands_the_page_to_the_daemon_who_then_waits_for_itself(
    deadlocked: Deadlocked,
) -> None:
    kernel, kamikaze, thread, outcome = deadlocked
    kamikaze.process.signal(signal.SIGUSR1, lambda number: None)
    signal_thread(kernel, 4, signal.SIGUSR1)
    thread.join(20)
    assert isinstance(outcome[0], InterruptedError)
    assert kernel.wait_deadlock(timeout=20).words() == ("daemon:2 waits on req->waitq, which only it itself could end.")
    kamikaze.mount.abort()
    assert kernel.driver.settle(kamikaze.mount.workers, timeout=20) == []


@pytest.mark.parametrize("deadlocked", ["linux"], indirect=True)
def test_on_linux_killing_the_reader_frees_nobody(deadlocked: Deadlocked) -> None:
    kernel, kamikaze, thread, outcome = deadlocked
    signal_thread(kernel, 4, signal.SIGKILL)
    assert kernel.wait_deadlock(timeout=20).words() == CYCLE
    assert not outcome
    kamikaze.mount.abort()
    thread.join(20)


def test_inline_ends_the_readers_wait_with_the_deadlock() -> None:
    with Kernel() as kernel:
        kamikaze = Kamikaze(kernel)
        kamikaze.prepare()
        with pytest.raises(Deadlock) as caught:
            kamikaze.process.load(kamikaze.addr)
        assert caught.value.words == CYCLE.replace("daemon:4", "daemon:3")


def test_in_every_schedule_it_is_a_deadlock_and_an_interrupt_frees_both() -> None:
    for seed in range(20):
        driver = Scheduled(at_random(seed))
        with Kernel(driver) as kernel:
            kamikaze = Kamikaze(kernel)
            kamikaze.prepare()
            victim = kamikaze.process._task()
            outcome = driver.begin(victim, sc.load(victim, kamikaze.addr, 1))
            driver.go()
            words = [found.words() for found in driver.graph().deadlocks()]
            assert words == [CYCLE.replace("daemon:4, in load,", "daemon:3").replace("daemon:4", "daemon:3")]
            kamikaze.mount.workers[0].kill(signal.SIGTERM)
            driver.go()
            assert isinstance(outcome.error, BusError)
            assert [failed.errno for failed in kamikaze.failed] == [errno.EINTR]


def test_without_the_magic_the_same_mapping_is_read_and_released_when_unmapped() -> None:
    with Kernel() as kernel:
        kamikaze = Kamikaze(kernel)
        kamikaze.prepare()
        kamikaze.magic = False
        assert kamikaze.process.load(kamikaze.addr, 4) == b"kkkk"
        asked = kamikaze.asked
        assert "RELEASE" not in asked
        kamikaze.process.munmap(kamikaze.addr, PAGE_SIZE)
        assert asked[-1] == "RELEASE"


class FromMemory(Kamikaze):
    """A well-behaved daemon: requests are read into, and answers written from, memory that is first touched by that."""

    async def serve(self, task: ProgramTask, fd: int, mount: Mount) -> None:
        size = self.session.buffer_size
        try:
            while True:
                addr = await sc.sys_mmap(task, 0, size, 3, MAP_PRIVATE_ANONYMOUS)
                got = await sc.sys_read(task, fd, UserMemory(task.program.mm, addr, size))
                answer: Any = self.session.handle(await sc.load(task, addr, got))
                if answer is not None:
                    whole = b"".join(answer)
                    middle = len(whole) // 2
                    start = addr + PAGE_SIZE - middle % PAGE_SIZE  # the pieces end and begin within pages
                    await sc.store(task, start, whole)
                    pieces = (
                        UserMemory(task.program.mm, start, middle),
                        UserMemory(task.program.mm, start + middle, len(whole) - middle),
                    )
                    await sc.sys_write(task, fd, pieces)
                await sc.sys_munmap(task, addr, size)
        except OSError as ended:
            if ended.errno not in (errno.ENODEV, errno.ECONNABORTED, errno.EINTR):
                raise
        await sc.sys_exit(task)


@pytest.mark.parametrize("driver", ["inline", "threads", "scheduled"])
def test_a_daemon_may_read_and_write_through_memory_that_is_faulted_in(driver: str) -> None:
    with Kernel(Scheduled(at_random(1)) if driver == "scheduled" else driver) as kernel:
        FromMemory(kernel)
        process = kernel.process()
        fd = process.open("/file", os.O_RDONLY)
        assert process.pread(fd, 2 * PAGE_SIZE, 0) == CONTENTS
        process.close(fd)
        names = [f"/{number}" for number in range(20)]
        for name in names:
            process.close(process.open(name, os.O_CREAT | os.O_WRONLY))
            process.unlink(name)  # FORGETs are read so, too
        assert process.listdir("/") == ["file"]


def test_an_answer_from_memory_that_is_not_mapped_is_efault_and_the_caller_gets_eio() -> None:
    with Kernel() as kernel:
        kamikaze = Kamikaze(kernel)
        kamikaze.prepare()
        kamikaze.process.munmap(kamikaze.addr, PAGE_SIZE)  # what READ is answered from
        reader = kernel.process()
        fd = reader.open("/file", os.O_RDONLY | os.O_DIRECT)
        with pytest.raises(OSError, match="EIO") as caught:
            reader.pread(fd, PAGE_SIZE, 0)
        assert caught.value.errno == errno.EIO
        assert [failed.errno for failed in kamikaze.failed] == [errno.EFAULT]
