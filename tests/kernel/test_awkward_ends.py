"""Daemons that lie, handlers that exit, processes that are killed at awkward moments: an error, and nothing lost."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import threading
from typing import Any

import pytest
from conftest import errno_of, in_thread, wait_until

import fusewire
from fusewire import Attributes, Entry, Kernel
from fusewire.filesystems import MemoryFS
from fusewire.kernel.queue import Device
from fusewire.kernel.vfs import DeviceFile
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import ENTRY_OUT, IN_HEADER, OPEN_OUT, OUT_HEADER, EntryOut, OpenOut, OutHeader

DRIVERS = pytest.mark.parametrize("driver", ["inline", "threads"])


class Lying(MemoryFS):
    """Answers one opcode with bytes of the test's own."""

    def lie(self, opcode: Opcode, body: bytes) -> None:
        honest = self.session.handle

        def handle(message: Any) -> Any:
            header = IN_HEADER.unpack(message)
            if header.opcode != opcode:
                return honest(message)
            return OUT_HEADER.pack(OutHeader(16 + len(body), 0, header.unique)), body

        self.session.handle = handle  # type: ignore[method-assign]


@DRIVERS
@pytest.mark.parametrize("body", [b"12345", bytes(24), b"\1" * 24 + b"n" * 8, bytes(4096)])
def test_a_directory_that_leads_nowhere_is_eio_and_no_endless_loop(driver: str, body: bytes) -> None:
    filesystem = Lying()
    with Kernel(driver) as kernel:
        kernel.mount(filesystem, "/")
        filesystem.lie(Opcode.READDIR, body)
        assert errno_of(lambda: kernel.process().listdir("/")) == errno.EIO


@pytest.mark.parametrize("opcode", [Opcode.CREATE, Opcode.MKDIR])
def test_node_0_for_something_made_is_eio_and_what_was_opened_is_released(opcode: Opcode) -> None:
    filesystem = Lying()
    with Kernel() as kernel:
        mount = kernel.mount(filesystem, "/")
        body = ENTRY_OUT.pack(EntryOut()) + (OPEN_OUT.pack(OpenOut(7)) if opcode is Opcode.CREATE else b"")
        filesystem.lie(opcode, body)
        process = kernel.process()
        call = (lambda: process.open("/f", os.O_CREAT)) if opcode is Opcode.CREATE else (lambda: process.mkdir("/f"))
        assert errno_of(call) == errno.EIO
        assert not mount.connection.unused_list.in_use


@pytest.mark.parametrize(
    "entry",
    [
        EntryOut(5, attr=EntryOut().attr),  # no type at all
        EntryOut(1),
        EntryOut(6, attr=EntryOut().attr._replace(mode=stat.S_IFREG, size=1 << 63)),
    ],
    ids=["no type", "the root", "a size beyond all"],
)
def test_an_entry_that_cannot_be_is_eio(entry: EntryOut) -> None:
    filesystem = Lying({"f": b""})
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        filesystem.lie(Opcode.LOOKUP, ENTRY_OUT.pack(entry))
        assert errno_of(lambda: kernel.process().stat("/f")) == errno.EIO


def test_an_open_whose_truncation_fails_is_released() -> None:
    calls: list[str] = []

    class Refusing(MemoryFS):
        settings = fusewire.Settings(refused=fusewire.InitFlag.ATOMIC_O_TRUNC)

        def open(self, ino: int, flags: int) -> Any:
            calls.append("open")
            return 5

        def setattr(self, ino: int, changes: Any, fh: int | None) -> Attributes:
            raise PermissionError

        def release(self, ino: int, fh: int, flags: int) -> None:
            calls.append("release")

    with Kernel() as kernel:
        kernel.mount(Refusing({"f": b"data"}), "/")
        assert errno_of(lambda: kernel.process().open("/f", os.O_WRONLY | os.O_TRUNC)) == errno.EACCES
        assert calls == ["open", "release"]


@DRIVERS
def test_an_idle_daemon_that_is_killed_ends_once_and_its_filesystem_is_told(driver: str) -> None:
    ended: list[int] = []

    class Told(MemoryFS):
        def destroy(self) -> None:
            ended.append(1)

    with Kernel(driver) as kernel:
        mount = kernel.mount(Told({"f": b""}), "/", workers=2)
        process = kernel.process()
        process.stat("/f")
        mount.daemon.kill(signal.SIGKILL)
        assert kernel.driver.settle(mount.workers, 20) == []
        assert ended == [1]
        assert errno_of(lambda: process.mkdir("/d")) == errno.ENOTCONN


def test_a_daemon_that_is_killed_in_its_handler_frees_the_caller_when_the_handler_returns() -> None:
    inside, let_go = threading.Event(), threading.Event()

    class Slow(MemoryFS):
        def statfs(self, ino: int) -> fusewire.StatFS:
            inside.set()
            let_go.wait(20)
            return super().statfs(ino)

    with Kernel("threads") as kernel:
        mount = kernel.mount(Slow(), "/")
        process = kernel.process()
        caller = threading.Thread(target=lambda: process.statvfs("/"), daemon=True)
        caller.start()
        assert inside.wait(20)
        mount.daemon.kill(signal.SIGKILL)
        let_go.set()
        caller.join(20)
        assert not caller.is_alive()
        assert kernel.driver.settle(mount.workers, 20) == []


def test_a_process_that_exits_while_another_of_its_threads_reads_leaves_nobody_waiting() -> None:
    inside, let_go = threading.Event(), threading.Event()

    class Slow(MemoryFS):
        def read(self, ino: int, fh: int, offset: int, size: int) -> Any:
            inside.set()
            let_go.wait(20)
            return super().read(ino, fh, offset, size)

    with Kernel("threads") as kernel:
        kernel.mount(Slow({"f": b"data"}), "/", workers=2)
        process = kernel.process()
        fd = process.open("/f", os.O_RDONLY)
        reader, outcome = in_thread(lambda: process.read(fd, 4))
        assert inside.wait(20)
        process.exit()
        reader.join(20)
        assert not reader.is_alive()
        assert isinstance(outcome[0], InterruptedError)
        let_go.set()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_handler_that_exits_frees_its_caller(kind: str) -> None:
    class Exiting(MemoryFS):
        if kind == "plain":

            def statfs(self, ino: int) -> fusewire.StatFS:
                raise SystemExit(3)
        else:

            async def statfs(self, ino: int) -> fusewire.StatFS:  # type: ignore[override]
                raise SystemExit(3)

    with Kernel("threads") as kernel:
        kernel.mount(Exiting(), "/")
        number = errno_of(lambda: kernel.process().statvfs("/"))
        assert number == (errno.ECONNABORTED if kind == "plain" else errno.EIO)


def test_inline_a_handlers_exit_reaches_whoever_made_the_call() -> None:
    class Exiting(MemoryFS):
        def statfs(self, ino: int) -> fusewire.StatFS:
            raise SystemExit(3)

    with Kernel() as kernel:
        kernel.mount(Exiting(), "/")
        with pytest.raises(SystemExit):
            kernel.process().statvfs("/")


def test_async_handlers_are_answered_inside_a_running_event_loop() -> None:
    import asyncio

    class Later(MemoryFS):
        async def statfs(self, ino: int) -> fusewire.StatFS:  # type: ignore[override]
            await asyncio.sleep(0)
            return fusewire.StatFS(blocks=5)

    async def inside() -> int:
        with Kernel() as kernel:
            kernel.mount(Later(), "/")
            return kernel.process().statvfs("/").f_blocks

    assert asyncio.run(inside()) == 5


@DRIVERS
def test_a_signal_that_is_handled_runs_its_handler_at_once_and_disturbs_no_later_call(driver: str) -> None:
    seen: list[int] = []
    with Kernel(driver) as kernel:
        kernel.mount(MemoryFS({"f": b""}), "/")
        process = kernel.process()
        process.signal(signal.SIGUSR1, seen.append)
        process.kill(signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
        process.stat("/f")
        assert process.alive


def test_a_negative_offset_is_einval() -> None:
    with Kernel() as kernel:
        kernel.mount(MemoryFS({"f": b""}), "/")
        process = kernel.process()
        fd = process.open("/f", os.O_RDWR)
        assert errno_of(lambda: process.pread(fd, 1, -1)) == errno.EINVAL
        assert errno_of(lambda: process.pwrite(fd, b"x", -1)) == errno.EINVAL


def test_a_mount_inside_another_needs_a_directory_there() -> None:
    with Kernel() as kernel:
        kernel.mount(MemoryFS({"file": b""}), "/mnt")
        for path, number in (("/mnt/deeper", errno.ENOENT), ("/mnt/file", errno.ENOTDIR)):
            assert errno_of(lambda: kernel.mount(MemoryFS(), path)) == number
        assert len(kernel.mounts) == 1


def test_ended_processes_are_forgotten() -> None:
    with Kernel() as kernel:
        kernel.mount(MemoryFS({"f": b""}), "/")
        before = len(kernel.driver.tasks)
        for _ in range(50):
            process = kernel.process()
            process.stat("/f")
            process.exit()
        assert len(kernel.driver.tasks) == before


def test_what_a_late_answer_granted_goes_back() -> None:
    inside, let_go = threading.Event(), threading.Event()

    class Slow(MemoryFS):
        def lookup(self, parent: int, name: bytes) -> Entry:
            entry = super().lookup(parent, name)
            inside.set()
            let_go.wait(20)
            return entry

    filesystem = Slow({"f": b""})
    node = filesystem.nodes[2]
    with Kernel("threads") as kernel:
        mount = kernel.mount(filesystem, "/")
        process = kernel.process()
        caller, outcome = in_thread(lambda: errno_of(lambda: process.stat("/f")))
        assert inside.wait(20)
        process.kill(signal.SIGINT)
        caller.join(20)
        assert outcome == [errno.EINTR]
        let_go.set()
        wait_until(lambda: node.nlookup == 0)
        wait_until(lambda: not mount.connection.unused_list.in_use)


def test_a_device_that_is_not_mounted_polls_as_an_error_and_goes_with_its_program() -> None:
    with Kernel() as kernel:
        process = kernel.process()
        fd = process.program.files.install(DeviceFile(Device()))
        assert process.poll([(fd, select.POLLIN)], 1000) == [(fd, select.POLLERR)]
        process.exit()
        assert not process.alive


def test_a_read_of_dev_fuse_that_may_not_wait_is_EAGAIN() -> None:
    with Kernel() as kernel:
        daemon = kernel.mount(MemoryFS(), "/").daemon
        (fd,) = daemon.program.files.table
        daemon.set_blocking(fd, False)
        assert not daemon.get_blocking(fd)
        assert errno_of(lambda: daemon.read(fd, 1 << 21)) == errno.EAGAIN
        assert errno_of(lambda: daemon.setfl(fd, os.O_DIRECT)) == errno.EINVAL
