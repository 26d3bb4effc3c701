"""Readers on a real mount: one that blocks is replaced; notifications never hang; async handlers run side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until

import fusewire
from fusewire import Attributes, Entry
from fusewire.filesystems import MemoryFS
from fusewire.linux import Control, Watchdog

pytestmark = pytest.mark.real


def client(script: str, *args: object) -> subprocess.Popen[str]:
    """Python code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def outcome(process: subprocess.Popen[str], seconds: float = 30) -> str:
    out, err = process.communicate(timeout=seconds)
    return out + err


class Blocking(MemoryFS):
    """READ of ``slow`` blocks until it is let go."""

    entry_timeout = attr_timeout = 0.0

    def __init__(self) -> None:
        super().__init__({"slow": b"slow", "fast": b"fast"})
        self.blocked = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.slow = self.lookup(1, b"slow").attributes.ino

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        if ino == self.slow:
            self.blocked.release()
            self.let_go.wait(30)
        return bytes(super().read(ino, fh, offset, size))


@pytest.fixture
def blocking(mountpoint: Path) -> Iterator[Blocking]:
    filesystem = Blocking()
    with fusewire.mount(filesystem, mountpoint) as mounted, Watchdog(mounted.number, 60) as watchdog:
        try:
            yield filesystem
        finally:
            filesystem.let_go.set()
    assert not watchdog.barked


def test_a_handler_that_blocks_blocks_nobody_else(blocking: Blocking, mountpoint: Path) -> None:
    waiting = [client("import sys; print(open(sys.argv[1]).read())", mountpoint / "slow") for _ in range(1)]
    assert blocking.blocked.acquire(timeout=20)
    assert outcome(client("import sys; print(open(sys.argv[1]).read())", mountpoint / "fast")) == "fast\n"
    blocking.let_go.set()
    assert [outcome(process) for process in waiting] == ["slow\n"]


def test_many_handlers_may_block_at_once(blocking: Blocking, mountpoint: Path) -> None:
    script = "import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT); print(os.read(fd, 4))"
    waiting = [client(script, mountpoint / "slow") for _ in range(4)]
    assert blocking.blocked.acquire(timeout=20)
    assert outcome(client("import sys; print(open(sys.argv[1]).read())", mountpoint / "fast")) == "fast\n"
    blocking.let_go.set()
    for process in waiting:
        outcome(process)


def test_a_handler_may_use_its_own_mount(mountpoint: Path) -> None:
    class Own(MemoryFS):
        def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
            return os.fsencode(",".join(sorted(os.listdir(mountpoint))))

    with fusewire.mount(Own({"a": b"abc", "b": b""}), mountpoint) as mounted, Watchdog(mounted.number, 60) as watchdog:
        shown = outcome(client("import os, sys; print(os.read(os.open(sys.argv[1], 0), 100))", mountpoint / "a"))
    assert shown == "b'a,b'\n"
    assert not watchdog.barked


def test_an_inval_entry_from_a_getattr_handler_does_not_hang_a_mkdir_that_is_unread(mountpoint: Path) -> None:
    class Invalidating(MemoryFS):
        entry_timeout = attr_timeout = 0.0

        def __init__(self) -> None:
            super().__init__({"watched": b""})
            self.watched = self.lookup(1, b"watched").attributes.ino
            self.inside = threading.Event()
            self.mkdir_is_queued = threading.Event()
            self.done: list[BaseException | None] = []

        def getattr(self, ino: int, fh: int | None) -> Attributes:
            if ino == self.watched and not self.inside.is_set():
                self.inside.set()
                self.mkdir_is_queued.wait(20)
                # The client of MKDIR now holds the lock of the root that this takes.
                self.done.append(self.session.notify.inval_entry(1, b"something else").exception(timeout=20))
            return super().getattr(ino, fh)

    filesystem = Invalidating()
    with fusewire.mount(filesystem, mountpoint) as mounted, Watchdog(mounted.number, 60) as watchdog:
        fd_user = client("import os, sys; os.fstat(os.open(sys.argv[1], 0)); print('seen')", mountpoint / "watched")
        assert filesystem.inside.wait(20)
        maker = client("import os, sys; os.mkdir(sys.argv[1]); print('made')", mountpoint / "new")
        control = Control(mounted.number)
        wait_until(lambda: control.waiting > 1 or maker.poll() is not None)
        filesystem.mkdir_is_queued.set()
        assert outcome(fd_user) == "seen\n"
        assert outcome(maker) == "made\n"
    assert isinstance(filesystem.done[0], FileNotFoundError | None)
    assert not watchdog.barked


def test_async_handlers_of_one_mount_run_side_by_side(mountpoint: Path) -> None:
    import asyncio

    class Slow(MemoryFS):
        entry_timeout = attr_timeout = 0.0
        running = most = 0

        async def statfs(self, ino: int) -> fusewire.StatFS:  # type: ignore[override]
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.2)
            self.running -= 1
            return super().statfs(ino)

    filesystem = Slow()
    with fusewire.mount(filesystem, mountpoint) as mounted, Watchdog(mounted.number, 60):
        clients = [client("import os, sys; print(os.statvfs(sys.argv[1]).f_bsize)", mountpoint) for _ in range(4)]
        assert [outcome(process) for process in clients] == ["4096\n"] * 4
    assert filesystem.most > 1


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_an_interrupted_caller_ends_its_handler_and_gets_eintr(mountpoint: Path, kind: str) -> None:
    import asyncio

    class Patient(MemoryFS):
        began = threading.Event()
        cancelled = threading.Event()

        if kind == "async":

            async def statfs(self, ino: int) -> fusewire.StatFS:  # type: ignore[override]
                self.began.set()
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
                return super().statfs(ino)
        else:

            def statfs(self, ino: int) -> fusewire.StatFS:
                self.began.set()
                if fusewire.current_request().wait_interrupted(30):
                    self.cancelled.set()
                    raise InterruptedError
                return super().statfs(ino)

    script = """
import os, signal, sys
def handler(*_): raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, handler)
try:
    os.statvfs(sys.argv[1])
except BaseException as error:
    print(type(error).__name__)
"""
    filesystem = Patient()
    with fusewire.mount(filesystem, mountpoint) as mounted, Watchdog(mounted.number, 60) as watchdog:
        caller = client(script, mountpoint)
        assert filesystem.began.wait(20)
        os.kill(caller.pid, 10)
        assert filesystem.cancelled.wait(20)
        assert outcome(caller) == "KeyboardInterrupt\n"
    assert not watchdog.barked


def test_two_mounts_in_one_process_are_served_side_by_side(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        path.mkdir()
    with (
        fusewire.mount(MemoryFS({"f": b"1"}), paths[0]) as one,
        fusewire.mount(MemoryFS({"f": b"2"}), paths[1]) as two,
        Watchdog(one.number, 60),
        Watchdog(two.number, 60),
    ):
        assert subprocess.check_output(["cat", *(path / "f" for path in paths)], timeout=20) == b"12"


def test_one_filesystem_is_mounted_once_at_a_time_and_again_after_that(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        path.mkdir()
    filesystem = MemoryFS({"f": b"1"})
    for path, other in (paths, paths[::-1]):
        with fusewire.mount(filesystem, path) as mounted, Watchdog(mounted.number, 60):
            with pytest.raises(RuntimeError, match="this MemoryFS is mounted already"):
                fusewire.Mounted(filesystem, other)
            assert subprocess.check_output(["cat", path / "f"], timeout=20) == b"1"


def test_a_child_of_the_mounting_process_does_not_keep_a_dead_daemons_mount_alive(mountpoint: Path) -> None:
    program = """
import os, sys, time, fusewire
from fusewire.filesystems import MemoryFS
mounted = fusewire.Mounted(MemoryFS(), sys.argv[1])
if os.fork() == 0:
    time.sleep(60)
print("mounted", flush=True)
mounted.wait()
"""
    daemon = client(program, mountpoint)
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        daemon.kill()
        wait_until(lambda: "not connected" in subprocess.run(
            ["stat", str(mountpoint)], capture_output=True, text=True, timeout=20
        ).stderr)  # fmt: skip
        for child in children:
            os.kill(int(child), 9)
    finally:
        subprocess.run(["umount", str(mountpoint)], timeout=20)
        daemon.kill()
        daemon.communicate(timeout=20)


def test_the_monitor_rests_while_nothing_is_asked_and_wakes_when_something_blocks(
    blocking: Blocking, mountpoint: Path
) -> None:
    from fusewire.mounting import _alive

    readers = next(mounted.readers for mounted in _alive if mounted.path == str(mountpoint))
    wait_until(lambda: readers._monitor_rests)
    process = client("import sys; print(open(sys.argv[1]).read())", mountpoint / "slow")
    assert blocking.blocked.acquire(timeout=20)
    since = time.monotonic()
    assert outcome(client("import sys; print(open(sys.argv[1]).read())", mountpoint / "fast")) == "fast\n"
    assert time.monotonic() - since < 20
    blocking.let_go.set()
    assert outcome(process) == "slow\n"


def test_what_a_dropped_answer_granted_is_taken_back() -> None:
    forgotten: list[tuple[int, int]] = []
    released: list[int] = []

    class Counting(MemoryFS):
        def forget(self, ino: int, nlookup: int) -> None:
            forgotten.append((ino, nlookup))

        def release(self, ino: int, fh: int, flags: int) -> None:
            released.append(ino)

    from fusewire.wire import codec
    from fusewire.wire.flags import Opcode
    from fusewire.wire.layouts import CreateIn, InitIn

    session = fusewire.Session(Counting({"f": b""}))
    session.handle(codec.encode_request(Opcode.INIT, codec.Message((InitIn(7, 45),)), unique=2))
    lookup = codec.encode_request(Opcode.LOOKUP, codec.Message(names=(b"f",)), unique=4, nodeid=1)
    session.undelivered(lookup, session.handle(lookup))  # type: ignore[arg-type]
    assert forgotten == [(2, 1)]
    create = codec.encode_request(
        Opcode.CREATE, codec.Message((CreateIn(2, 0o100644),), (b"g",)), unique=6, nodeid=1, pid=os.getpid()
    )
    session.undelivered(create, session.handle(create))  # type: ignore[arg-type]
    assert (forgotten[1:], released) == ([(3, 1)], [3])
    assert isinstance(Counting({"x": b""}).lookup(1, b"x"), Entry)


def test_an_async_handler_that_is_interrupted_before_it_began_is_answered() -> None:
    from fusewire.transport.eventloop import EventLoop
    from fusewire.wire import codec
    from fusewire.wire.flags import Opcode
    from fusewire.wire.layouts import InitIn

    class Later(MemoryFS):
        async def statfs(self, ino: int) -> fusewire.StatFS:  # type: ignore[override]
            return super().statfs(ino)

    session = fusewire.Session(Later())
    session.handle(codec.encode_request(Opcode.INIT, codec.Message((InitIn(7, 45),)), unique=2))
    later = session.handle(codec.encode_request(Opcode.STATFS, unique=4, nodeid=1))
    session.in_flight[4].interrupt()
    loop, answers = EventLoop(), []
    answered = threading.Event()
    loop.start(later, lambda answer: (answers.append(answer), answered.set()))  # type: ignore[arg-type, func-returns-value]
    assert answered.wait(20)
    loop.close()
    assert codec.decode_out_header(answers[0][0]).error == -4
    assert not session.in_flight


def test_an_async_forget_is_refused_at_once() -> None:
    class Wrong(MemoryFS):
        async def forget(self, ino: int, nlookup: int) -> None:  # type: ignore[override]
            return

    with pytest.raises(TypeError, match="forget is async"):
        fusewire.Session(Wrong())


def test_a_view_of_numbers_is_read_as_its_bytes_and_one_with_gaps_is_eio(mountpoint: Path) -> None:
    from array import array

    class Views(MemoryFS):
        def read(self, ino: int, fh: int, offset: int, size: int) -> object:  # type: ignore[override]
            return memoryview(array("I", [1, 2])) if ino == 2 else memoryview(b"abcdef")[::2]

    filesystem = Views({"numbers": bytes(8), "gaps": bytes(3)})
    with fusewire.mount(filesystem, mountpoint) as mounted, Watchdog(mounted.number, 60) as watchdog:
        read = subprocess.run(["cat", mountpoint / "numbers"], capture_output=True, timeout=20)
        assert read.stdout == b"\1\0\0\0\2\0\0\0"
        assert b"Input/output" in subprocess.run(["cat", mountpoint / "gaps"], capture_output=True, timeout=20).stderr
        assert subprocess.run(["ls", mountpoint], capture_output=True, timeout=20).returncode == 0
    assert not watchdog.barked


def test_a_descriptor_that_someone_made_non_blocking_serves_on(mountpoint: Path) -> None:
    with fusewire.mount(MemoryFS({"f": b"data"}), mountpoint) as mounted, Watchdog(mounted.number, 60) as watchdog:
        os.set_blocking(mounted.channel.fd, False)  # type: ignore[union-attr]
        for _ in range(3):
            assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"
        assert mounted.alive
    assert not watchdog.barked


def test_a_notification_that_was_given_up_stops_no_later_one() -> None:
    from fusewire.transport.notifier import NotifierThread

    began, let_go = threading.Event(), threading.Event()

    def write(message: tuple[bytes]) -> None:
        began.set()
        let_go.wait(20)

    notifier = NotifierThread(write)
    first, second, third = notifier.send(b"1"), notifier.send(b"2"), notifier.send(b"3")
    assert began.wait(20)
    second.cancel()
    let_go.set()
    assert third.result(timeout=20) is None
    assert first.done()
    notifier.close()
