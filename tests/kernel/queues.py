"""A request queue for tests of it: no files, no paths."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fusewire.kernel.queue import Args, Connection, Device, Task
from fusewire.testing import Scheduled
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import IN_HEADER, OUT_HEADER, InHeader, OutHeader
from fusewire.wire.table import LATEST


class Queue:
    """A connection with one device, INIT behind it, and tasks to use it."""

    def __init__(self, **kwargs: Any) -> None:
        self.driver = Scheduled()
        self.fc = Connection(1, clock=self.driver.now, call_at=self.driver.call_at, **kwargs)
        self.device = Device(self.fc)
        self.fc.initialize(LATEST, 4096)
        self._pid = 0

    def task(self, name: str = "caller") -> Task:
        self._pid += 1
        task = Task(self._pid, name, self.driver.wake)
        self.driver.tasks.append(task)
        return task

    def begin(self, coroutine: Callable[[Task], Coroutine[Any, Any, Any]], name: str = "caller") -> Any:
        """A task of its own begins this; returns its outcome."""
        task = self.task(name)
        outcome = self.driver.begin(task, coroutine(task))
        self.driver.go()
        return outcome

    def ask(self, opcode: Opcode = Opcode.UNLINK, **kwargs: Any) -> Any:
        return self.begin(lambda task: self.fc.call(task, Args(opcode, 1, (b"name\0",), **kwargs)))

    def read(self, device: Device | None = None, size: int = 8192, **kwargs: Any) -> InHeader:
        buffer = memoryview(bytearray(size))
        task = self.task("daemon")
        self.driver.run(task, (device or self.device).read(task, buffer, **kwargs))
        self.driver.go()
        return IN_HEADER.unpack(buffer)

    def answer(self, unique: int, error: int = 0, body: bytes = b"", device: Device | None = None) -> None:
        task = self.task("daemon")
        message = OUT_HEADER.pack(OutHeader(16 + len(body), -error, unique)) + body
        try:
            self.driver.run(task, (device or self.device).write(task, (message,)))
        finally:
            self.driver.go()

    def settle(self) -> None:
        """Let everyone go on who can, at this very moment: no time passes."""
        while self.driver.ready:
            self.driver.step()
