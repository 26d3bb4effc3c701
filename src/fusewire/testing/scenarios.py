"""Scenarios for the explorer: small worlds in which everything may happen in any order. None waits for time, and none has
its order forced.

``queue``: callers and workers of a bare request queue, a signal, a kill, an abort. ``locked``: a caller that leaves while its
answer is copied, and another that gets its memory. ``rm``: one unlink. ``unlink``: Scenario 1 of ``kernel.txt``, a daemon that
unlinks a file of its own mount; ``unlink_link``: the same by another name, so that they meet at the file's own semaphore.
``pool``: a daemon that asks its own mount while the only request of the pool is in use. ``kamikaze``: Scenario 2, an answer
that is written from the page that it is to fill.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import signal
import stat
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from ..drive import Kernel
from ..kernel.queue import DETACH, Args, Connection, Device, Policy, State, Task
from ..kernel.vfs import ProgramTask, UserMemory
from ..kernel.vfs.syscalls import load, store, sys_exit, sys_read, sys_statfs, sys_unlink, sys_write
from ..wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, PAGE_SIZE, Opcode
from ..wire.layouts import (
    ATTR_OUT,
    ENTRY_OUT,
    IN_HEADER,
    INIT_OUT,
    OPEN_OUT,
    OUT_HEADER,
    Attr,
    AttrOut,
    EntryOut,
    InHeader,
    InitOut,
    OpenOut,
    OutHeader,
)
from ..wire.table import LATEST
from .invariants import QueueInvariants
from .run import Scenario, Scene, Stuck
from .schedule import Scheduled

FOREVER = 1 << 40  # seconds
MAP_FIXED = 0x10  # mmap(2)
READ_BUFFER = 8192  # bytes
SIZE = 8  # bytes of an answer


# -- a bare queue ------------------------------------------------------------------------------------------------------


class QueueScene(Scene):
    """``callers`` ask and ``workers`` answer, on one connection. Who of them is ``back`` got an answer, or an errno."""

    def __init__(self, driver: Scheduled, policy: Policy, pool: int) -> None:
        self.fc = Connection(1, policy, pool, clock=driver.now, call_at=driver.call_at)
        self.device = Device(self.fc)
        self.fc.initialize(LATEST, 4096)
        self.callers: list[Task] = []
        self.workers: list[Task] = []
        self.back: set[int] = set()  # by their pids
        self.memory: list[bytearray] = []  # that was freed, and will be used again
        self.begun = 0  # of the callers
        self._pid = 0
        self.invariants = QueueInvariants(self.fc)
        super().__init__(driver, self.fc, self.back, self.memory)

    def task(self, name: str) -> Task:
        self._pid += 1
        task = Task(self._pid, name, self.driver.wake)
        task.events = self.driver.events
        self.driver.tasks.append(task)
        return task

    async def call(self, task: Task) -> None:
        """A program: one request, with memory of its own for the answer; memory that is the next one's once it has left.
        An answer arrives whole or not at all."""
        out = self.memory.pop() if self.memory else bytearray(SIZE)
        self.begun += 1
        try:
            await self.fc.call(task, Args(Opcode.GETATTR, task.pid, (), out))
            if bytes(out) != _answer_for(task.pid):
                raise AssertionError(f"{task!r} got garbage: {bytes(out)!r}")
        except OSError:
            pass
        self.back.add(task.pid)
        out[:] = bytes(SIZE)  # what is in it is nobody's any more
        if self.begun < len(self.callers):
            self.memory.append(out)
        task.exited = True

    async def work(self, task: Task) -> None:
        """A worker of a daemon: reads and answers, until it is killed or the connection is gone."""
        while not task.dying:
            try:
                await self._serve_one(task)
            except OSError:
                task.deliver_signals()  # back in user mode
                if not self.fc.connected:
                    break
        task.exited = True
        self.fc.reader_gone(task)
        if all(worker.exited for worker in self.workers):
            self.device.release(task)

    async def _serve_one(self, task: Task) -> None:
        """What it leaves behind would be part of the state: so it is a function of its own."""
        buffer = memoryview(bytearray(READ_BUFFER))
        await self.device.read(task, buffer)
        header = IN_HEADER.unpack(buffer)
        if header.opcode != Opcode.INTERRUPT and not task.dying:
            await self.device.write(task, (_reply(header, _answer_for(header.nodeid)),))

    def check(self) -> None:
        self.invariants.check()

    def end(self) -> None:
        """Everyone came back, but for those whose request a worker had read that was killed: only a signal or an abort ends
        that wait."""
        under_way = [req for req in self.fc.unused_list.in_use if req.state is not State.ORPHANED and not req.detached]
        if any(req.caller is not None and req.caller.sleep is not None for req in under_way):
            raise Stuck(self.driver.graph().deadlocks())
        if under_way:
            raise AssertionError(f"{under_way[0]!r} was never given back")
        orphaned = {req.caller for req in self.fc.unused_list.in_use}
        missing = [task for task in self.callers if task.pid not in self.back and task not in orphaned]
        if missing:
            raise AssertionError(f"{missing[0]!r} never came back")


def queue(
    driver: Scheduled,
    *,
    policy: Policy = DETACH,
    callers: int = 2,
    workers: int = 2,
    signals: int = 1,
    kills: int = 1,
    aborts: int = 1,
    pool: int = 16,
) -> QueueScene:
    """So many callers and workers; a SIGUSR1 to the first caller, a SIGKILL to the first worker, an abort."""
    scene = QueueScene(driver, policy, pool)
    scene.callers += [scene.task("caller") for _ in range(callers)]
    scene.workers += [scene.task("worker") for _ in range(workers)]
    for task in scene.callers:
        driver.begin(task, scene.call(task))
    for task in scene.workers:
        driver.begin(task, scene.work(task))
    scene.columns = _columns(scene.callers, scene.workers)
    for target in scene.callers[:signals]:
        target.handlers[signal.SIGUSR1] = _nothing
        driver.begin(scene.task("signal"), _once(functools.partial(target.kill, signal.SIGUSR1)))
    for target in scene.workers[:kills]:
        driver.begin(scene.task("kill"), _once(functools.partial(target.kill, signal.SIGKILL)))
    for _ in range(aborts):
        task = scene.task("abort")
        driver.begin(task, _once(functools.partial(scene.fc.abort, task)))
    return scene


def locked(driver: Scheduled, *, policy: Policy = DETACH) -> QueueScene:
    """What ``req->locked`` is for: a caller leaves while its answer is copied, and its memory is the next caller's."""
    return queue(driver, policy=policy, kills=0, aborts=0)


def _answer_for(node: int) -> bytes:
    return bytes([node]) * SIZE


def _columns(callers: Sequence[Task], workers: Sequence[Task]) -> dict[str, list[int]]:
    return {"program": [task.pid for task in callers], "FUSE filesystem daemon": [task.pid for task in workers]}


def _nothing(number: int) -> None:
    """A handler of a signal that does nothing."""


async def _once(what: Callable[[], Any]) -> None:
    what()


# -- files -------------------------------------------------------------------------------------------------------------


class Tree:
    """A daemon's filesystem that never changes: ``/file``, and ``/dir/link`` which is the same file. Names and attributes
    are valid for ever, so that a call on a known name asks nothing but what it is about."""

    MODES = {1: stat.S_IFDIR | 0o777, 2: stat.S_IFREG | 0o666, 3: stat.S_IFDIR | 0o777}  # noqa: RUF012
    NAMES = {(1, b"file"): 2, (1, b"dir"): 3, (3, b"link"): 2}  # noqa: RUF012
    SIZE = 4096  # bytes

    def answer(self, header: InHeader, body: bytes) -> bytes | None:
        """The whole answer; None where none is due."""
        match header.opcode:
            case Opcode.INIT:
                return _reply(header, INIT_OUT.pack(InitOut(KERNEL_VERSION, KERNEL_MINOR_VERSION, max_write=4096)))
            case Opcode.FORGET | Opcode.BATCH_FORGET | Opcode.INTERRUPT:
                return None
            case Opcode.LOOKUP:
                node = self.NAMES.get((header.nodeid, body.rstrip(b"\0")), 0)
                entry = EntryOut(node, 0, FOREVER, FOREVER, attr=self._attr(node) if node else Attr())
                return _reply(header, ENTRY_OUT.pack(entry))
            case Opcode.GETATTR:
                return _reply(header, ATTR_OUT.pack(AttrOut(FOREVER, attr=self._attr(header.nodeid))))
            case Opcode.OPEN | Opcode.OPENDIR:
                return _reply(header, OPEN_OUT.pack(OpenOut(1)))
            case Opcode.READ:
                return _reply(header, b"x" * self.SIZE)
        return _reply(header, b"")

    def _attr(self, node: int) -> Attr:
        return Attr(node, self.SIZE if node == 2 else 0, mode=self.MODES[node], nlink=2)


def _reply(header: InHeader, body: bytes) -> bytes:
    return OUT_HEADER.pack(OutHeader(OUT_HEADER.size + len(body), 0, header.unique)) + body


Handler = Callable[[ProgramTask, InHeader], Awaitable[bool | None]]


class FileScene(Scene):
    """A :class:`Tree` mounted at ``/`` and served by ``workers`` tasks; ``handler`` is what a worker does with a request
    before it answers it."""

    def __init__(self, driver: Scheduled, policy: str, workers: int, handler: Handler, **kernel: Any) -> None:
        self.kernel = Kernel(driver, policy=policy, trace=False if driver.events is None else driver.events, **kernel)
        self.tree = Tree()
        self.handler: Handler | None = None
        self.mount = self.kernel.mount_with(self._serve, "/", workers=workers)
        self.fc = self.mount.connection
        self.workers: list[ProgramTask] = list(self.mount.workers)
        self.callers: list[ProgramTask] = []
        known = self.kernel.process("known")
        for name in ("/file", "/dir/link"):  # cached, so that what follows is the text's order
            known.stat(name)
        driver.go()
        self.handler = handler
        self.invariants = QueueInvariants(self.fc)
        super().__init__(driver, self.fc, self.mount.sb.inodes)

    def check(self) -> None:
        self.invariants.check()

    def program(self, comm: str, script: Callable[[ProgramTask], Coroutine[Any, Any, Any]]) -> ProgramTask:
        """A program that does ``script`` and exits."""
        task = self.kernel.process(comm)._main

        async def main() -> None:
            try:
                await script(task)
            except OSError:
                pass
            await sys_exit(task)

        self.driver.begin(task, main())
        self.callers.append(task)
        self.columns = _columns(self.callers, self.workers)
        return task

    def happens(self, name: str, what: Callable[[], Any]) -> None:
        """At some moment, ``what``."""
        self.driver.begin(self.kernel.process(name)._main, _once(what))

    async def _handle(self, task: ProgramTask, header: InHeader) -> bool | None:
        """Whether the handler has answered. What it fails with is its own; the request is answered all the same, unless the
        daemon was killed."""
        try:
            return None if self.handler is None else await self.handler(task, header)
        except OSError:
            if task.dying:
                raise
            task.deliver_signals()  # back in user mode
            return None

    async def _serve(self, task: ProgramTask, fd: int, mount: Any) -> None:
        buffer = memoryview(bytearray(READ_BUFFER))
        while not task.dying:
            try:
                size = await sys_read(task, fd, buffer)
                header = IN_HEADER.unpack(buffer)
                if await self._handle(task, header):
                    continue
                answer = self.tree.answer(header, bytes(buffer[IN_HEADER.size : size]))
                if answer is not None:
                    await sys_write(task, fd, (answer,))
            except OSError:
                task.deliver_signals()  # back in user mode
                if not mount.connection.connected:
                    break
        await sys_exit(task)


async def _unlink_again(task: ProgramTask, header: InHeader, path: bytes) -> None:
    if header.opcode == Opcode.UNLINK:
        await sys_unlink(task, path)


def rm(driver: Scheduled, *, policy: str = "detach") -> FileScene:
    """One unlink, as ``kernel.txt`` begins: nothing goes wrong."""

    async def nothing(task: ProgramTask, header: InHeader) -> None:
        task.step(f"perform {Opcode(header.opcode).name.lower()}", header.unique)

    scene = FileScene(driver, policy, 1, nothing)
    scene.program("rm", functools.partial(sys_unlink, path=b"/file"))
    return scene


def unlink(
    driver: Scheduled, *, policy: str = "detach", workers: int = 1, path: bytes = b"/file", signals: bool = False
) -> FileScene:
    """Scenario 1: the daemon's handler of UNLINK unlinks ``path`` on its own mount. ``signals``: somebody interrupts the
    caller, and somebody kills the daemon, whenever they like."""
    scene = FileScene(driver, policy, workers, functools.partial(_unlink_again, path=path))
    rm = scene.program("rm", functools.partial(sys_unlink, path=b"/file"))
    if signals:
        rm.handlers[signal.SIGINT] = _nothing
        scene.happens("ctrl-c", functools.partial(rm.kill, signal.SIGINT))
        for worker in scene.workers:
            scene.happens("kill", functools.partial(worker.kill, signal.SIGKILL))
    return scene


def unlink_link(driver: Scheduled, **kwargs: Any) -> FileScene:
    """Scenario 1 at the semaphore of the file itself: the daemon unlinks another name of it, in another directory."""
    return unlink(driver, path=b"/dir/link", **kwargs)


def pool(driver: Scheduled, *, policy: str = "detach") -> FileScene:
    """The third deadlock: the pool has one request, and the daemon needs it to ask its own mount."""

    async def look(task: ProgramTask, header: InHeader) -> None:
        if header.opcode == Opcode.UNLINK:
            await sys_statfs(task, b"/")

    scene = FileScene(driver, policy, 1, look, pool=1)
    scene.program("rm", functools.partial(sys_unlink, path=b"/file"))
    return scene


class KamikazeScene(FileScene):
    """Scenario 2: thread 1 reads a byte of the mapped file, thread 2 answers that READ from the very page."""

    def __init__(self, driver: Scheduled, policy: str) -> None:
        super().__init__(driver, policy, 1, self._suicidal)
        self.magic = False
        self.process = self.mount.daemon
        fd = self.process.open("/file", os.O_RDONLY)
        # The page before it is for the answer's header.
        before = self.process.mmap(-1, 2 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.addr = before.address + PAGE_SIZE
        self.process.mmap(fd, PAGE_SIZE, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED | MAP_FIXED, address=self.addr)
        self.process.close(fd)
        assert self.magic, "FLUSH triggers the magic flag"
        self.thread = self.process._task()
        self.callers.append(self.thread)
        self.columns = {"Kamikaze filesystem thread 1": [self.thread.pid], "thread 2": [self.workers[0].pid]}
        driver.begin(self.thread, self._read_a_byte())

    async def _read_a_byte(self) -> None:
        with contextlib.suppress(OSError):
            await load(self.thread, self.addr, 1)

    async def _suicidal(self, task: ProgramTask, header: InHeader) -> bool:
        self.magic = self.magic or header.opcode == Opcode.FLUSH
        if header.opcode != Opcode.READ or not self.magic:
            return False
        start, size = self.addr - OUT_HEADER.size, OUT_HEADER.size + PAGE_SIZE
        await store(task, start, OUT_HEADER.pack(OutHeader(size, 0, header.unique)))
        try:
            await sys_write(task, 0, (UserMemory(task.program.mm, start, size),))
        except OSError:
            task.deliver_signals()  # back in user mode
        return True


def kamikaze(driver: Scheduled, *, policy: str = "detach", signals: bool = False) -> KamikazeScene:
    """Scenario 2 of ``kernel.txt``. ``signals``: somebody interrupts the daemon's page fault, whenever he likes."""
    scene = KamikazeScene(driver, policy)
    if signals:
        worker = scene.workers[0]
        worker.handlers[signal.SIGINT] = _nothing
        scene.happens("signal", functools.partial(worker.kill, signal.SIGINT))
    return scene


SCENARIOS: dict[str, Scenario] = {
    "queue": queue,
    "locked": locked,
    "rm": rm,
    "unlink": unlink,
    "unlink_link": unlink_link,
    "pool": pool,
    "kamikaze": kamikaze,
}
