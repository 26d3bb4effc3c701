"""INIT in all its forms: what a daemon may answer, what is agreed on then, and who waits meanwhile."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

import pytest

from fusewire import Kernel, Session
from fusewire.drive import Mount
from fusewire.filesystems import MemoryFS
from fusewire.kernel.vfs import ProgramTask
from fusewire.kernel.vfs.syscalls import sys_exit, sys_read, sys_stat, sys_write
from fusewire.testing import Scheduled
from fusewire.transport.readloop import Next, after_read
from fusewire.wire.flags import InitFlag, Opcode
from fusewire.wire.layouts import IN_HEADER, INIT_IN, INIT_OUT, OUT_HEADER, InitOut, OutHeader


class Daemon:
    """Answers INIT with what it is told, and everything else by a session. ``asked`` are the requests that it read."""

    def __init__(self, body: bytes | None, error: int = 0, minor: int | None = None) -> None:
        self.body = body
        self.error = error
        self.minor = minor
        self.asked: list[Opcode] = []
        self.session = Session(MemoryFS({"f": b"data", "d/g": b""}))

    async def serve(self, task: ProgramTask, fd: int, mount: Mount) -> None:
        buffer = memoryview(bytearray(self.session.buffer_size))
        while not task.dying:
            try:
                size = await sys_read(task, fd, buffer)
                answer = self._answer(buffer[:size])
                if answer is not None:
                    await sys_write(task, fd, answer)
            except OSError as error:
                if after_read(error) is not Next.AGAIN:
                    break
        await sys_exit(task)

    def _answer(self, message: memoryview) -> Any:
        header = IN_HEADER.unpack(message)
        self.asked.append(Opcode(header.opcode))
        if header.opcode != Opcode.INIT:
            return self.session.handle(message)
        if self.minor is not None:  # a session that believes to have met an older kernel
            asked = INIT_IN.unpack(message[IN_HEADER.size :])._replace(minor=self.minor)
            return self.session.handle(message[: IN_HEADER.size].tobytes() + INIT_IN.pack(asked))
        if self.body is None and not self.error:
            return None
        body = self.body or b""
        return (OUT_HEADER.pack(OutHeader(16 + len(body), -self.error, header.unique)) + body,)


def init_out(**fields: Any) -> bytes:
    return INIT_OUT.pack(InitOut(7, 46, max_write=65536)._replace(**fields))


@pytest.mark.parametrize("minor", range(12, 47))
def test_a_daemon_of_each_minor_from_12_on_serves_everything(minor: int) -> None:
    daemon = Daemon(None, minor=minor)
    with Kernel() as kernel:
        mount = kernel.mount_with(daemon.serve, "/")
        assert mount.connection.dialect.minor == minor
        process = kernel.process()
        assert sorted(process.listdir("/")) == ["d", "f"]
        fd = process.open("/new", os.O_CREAT | os.O_RDWR, 0o640)
        assert process.write(fd, b"x" * 5000) == 5000
        assert process.pread(fd, 100, 4950) == b"x" * 50
        assert process.fstat(fd).st_mode & 0o777 == 0o640
        process.close(fd)
        process.mkdir("/e", 0o700)
        process.mknod("/n", 0o100600)
        process.rename("/new", "/e/new")
        process.setxattr("/f", "user.a", b"1")
        assert process.getxattr("/f", "user.a") == b"1"
        process.utime("/f", ns=(1, 2))
        assert process.stat("/f").st_mtime_ns == 2
        assert process.statvfs("/").f_namemax == 255
        process.unlink("/e/new")
        process.rmdir("/e")
        kernel.drop_caches()
    forgets = Opcode.FORGET if minor < 16 else Opcode.BATCH_FORGET
    assert forgets in daemon.asked


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", errno.EPROTO),
        (b"", errno.ENOSYS),
        (init_out(major=8), 0),
        (init_out(major=6), 0),
        (init_out(major=0), 0),
        (b"\7\0\0\0", 0),
        (b"", 0),
    ],
    ids=["an error", "ENOSYS", "a newer major", "an older major", "no major", "four bytes", "no body"],
)
def test_what_cannot_be_agreed_on_is_ECONNREFUSED_for_whoever_asks_then(body: bytes, error: int) -> None:
    daemon = Daemon(body, error)
    with Kernel() as kernel:
        mount = kernel.mount_with(daemon.serve, "/")
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                kernel.process().stat("/f")
        assert daemon.asked == [Opcode.INIT]
        assert mount.connection.connected  # as on Linux: refused, not aborted


@pytest.mark.parametrize("size", [8, 24, 64])
def test_an_answer_of_an_older_length_leaves_the_rest_at_its_defaults(size: int) -> None:
    daemon = Daemon(init_out(minor=22 if size == 24 else 46, max_background=40, congestion_threshold=30)[:size])
    with Kernel() as kernel:
        mount = kernel.mount_with(daemon.serve, "/")
        background = mount.connection.background
        assert mount.connection.initialized
        assert not mount.connection.refused
        assert background.max_background == (12 if size == 8 else 40)
        assert background.congestion_threshold == (9 if size == 8 else 30)


@pytest.mark.parametrize(
    ("fields", "max_write", "max_read"),
    [
        ({"max_write": 0}, 4096, 131_072),
        ({"max_write": 100}, 4096, 131_072),
        ({"max_write": 1 << 20}, 131_072, 131_072),
        ({"max_write": 1 << 20, "flags": int(InitFlag.MAX_PAGES), "max_pages": 64}, 262_144, 262_144),
        ({"max_write": 1 << 30, "flags": int(InitFlag.MAX_PAGES), "max_pages": 65535}, 1 << 20, 1 << 20),
        ({"max_write": 1 << 20, "flags": int(InitFlag.MAX_PAGES), "max_pages": 0}, 4096, 4096),
    ],
)
def test_the_largest_write_and_read_follow_from_max_write_and_max_pages(
    fields: dict[str, int], max_write: int, max_read: int
) -> None:
    daemon = Daemon(init_out(**fields))
    with Kernel() as kernel:
        mount = kernel.mount_with(daemon.serve, "/")
        assert mount.sb.max_write == max_write
        assert mount.sb.max_read == max_read


def test_a_flag_that_was_not_offered_is_not_granted() -> None:
    daemon = Daemon(init_out(flags=0xFFFFFFFF, flags2=0xFFFFFFFF))
    with Kernel() as kernel:
        mount = kernel.mount_with(daemon.serve, "/")
        assert not mount.sb.flags & InitFlag.PASSTHROUGH
        assert mount.sb.flags & InitFlag.ATOMIC_O_TRUNC


def test_a_time_limit_that_the_daemon_asks_for_is_one_for_each_request() -> None:
    daemon = Daemon(
        init_out(flags=int(InitFlag.INIT_EXT), flags2=int(InitFlag.REQUEST_TIMEOUT) >> 32, request_timeout=7)
    )
    silent = Daemon(None)
    with Kernel() as kernel:
        mount = kernel.mount_with(daemon.serve, "/")
        daemon.session = silent.session
        daemon._answer = lambda message: None  # type: ignore[method-assign]
        with pytest.raises(TimeoutError):
            kernel.process().stat("/f")
        assert mount.connection.connected


class Waiting:
    """A mount whose INIT nobody answers, and a caller that waits for that."""

    def __init__(self) -> None:
        self.driver = Scheduled()
        self.kernel = Kernel(self.driver)
        self.daemon = Daemon(None)
        self.mount = self.kernel.mount_with(self.daemon.serve, "/")
        self.caller = self.kernel.process()._main
        self.outcome = self.driver.begin(self.caller, sys_stat(self.caller, b"/f"))
        self.driver.go()
        assert self.daemon.asked == [Opcode.INIT]
        assert not self.outcome.done


def test_whoever_comes_before_INIT_is_answered_waits_and_nothing_of_it_is_readable() -> None:
    waiting = Waiting()
    assert not waiting.mount.connection.pending
    (req,) = waiting.mount.connection.unused_list.in_use
    assert req.args is not None
    assert req.args.opcode is Opcode.INIT


def test_the_wait_for_INIT_ends_by_a_fatal_signal_and_by_an_abort() -> None:
    waiting = Waiting()
    waiting.caller.kill(signal.SIGKILL)
    waiting.driver.go()
    assert waiting.outcome.error is not None
    assert waiting.outcome.error.errno == errno.EINTR  # type: ignore[attr-defined]
    waiting = Waiting()
    waiting.mount.control.abort()
    waiting.driver.go()
    assert isinstance(waiting.outcome.error, OSError)
    assert waiting.outcome.error.errno == errno.ENOTCONN


def test_an_INIT_that_is_not_answered_in_time_is_refused() -> None:
    driver = Scheduled()
    kernel = Kernel(driver, request_timeout=3)
    kernel.mount_with(Daemon(None).serve, "/")
    caller = kernel.process()._main
    outcome = driver.begin(caller, sys_stat(caller, b"/f"))
    driver.go()
    assert isinstance(outcome.error, ConnectionRefusedError)


@pytest.mark.parametrize(("mine", "daemons", "limit"), [(2, 7, 2), (9, 7, 7), (0, 7, 7), (2, 0, 2)])
def test_of_the_users_and_the_daemons_time_limit_the_shorter_one_holds(mine: float, daemons: int, limit: int) -> None:
    flags2 = int(InitFlag.REQUEST_TIMEOUT) >> 32
    body = init_out(flags=int(InitFlag.INIT_EXT), flags2=flags2, request_timeout=daemons)
    with Kernel(request_timeout=mine) as kernel:
        mount = kernel.mount_with(Daemon(body).serve, "/")
        assert mount.connection.timeouts.limit == limit * 1_000_000_000
