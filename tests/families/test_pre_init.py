"""INIT: what is offered, what is granted, and what happens before and without an answer."""

from __future__ import annotations

import errno
import threading

import pytest
from conftest import wait_until
from mocked import BOTH, errno_of, open_file

from fusewire import InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, entry, written
from fusewire.wire.layouts import InitOut

unmounted = pytest.mark.mock_daemon(mounted=False)


@BOTH
@unmounted
def test_the_newest_minor_is_offered_with_flags_in_both_words(mock_daemon: MockDaemon) -> None:
    init = mock_daemon.expect.init(0, major=7, minor=46).reply(InitOut(7, 46))
    mock_daemon.mount_now()
    asked = init.wait()
    assert asked.unique == 2
    assert asked.flags & InitFlag.INIT_EXT
    assert asked.flags2 & InitFlag.HAS_RESEND >> 32


@BOTH
@unmounted
@pytest.mark.parametrize("number", [errno.EPERM, errno.EPROTO, errno.ENOSYS])
def test_an_error_refuses_every_caller(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    mock_daemon.expect.init().error(number)
    mock_daemon.mount_now()
    assert errno_of(fuse_process.stat, "/f") == errno.ECONNREFUSED
    assert errno_of(fuse_process.statvfs, "/") == errno.ECONNREFUSED


@BOTH
@unmounted
@pytest.mark.parametrize("major", [6, 8])
def test_another_major_version_refuses_every_caller(mock_daemon: MockDaemon, fuse_process: Process, major: int) -> None:
    mock_daemon.expect.init().reply(InitOut(major, 46))
    mock_daemon.mount_now()
    assert errno_of(fuse_process.stat, "/f") == errno.ECONNREFUSED


@BOTH
@unmounted
@pytest.mark.parametrize("minor", [9, 12, 22, 31])
def test_an_older_minor_is_spoken(mock_daemon: MockDaemon, fuse_process: Process, minor: int) -> None:
    mock_daemon.expect.init().reply(InitOut(7, minor))
    mock_daemon.mount_now()
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, size=8, valid=60))
    assert fuse_process.stat("/f").st_size == 8


@BOTH
@unmounted
def test_before_7_9_every_struct_is_shorter(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.init().reply(InitOut(7, 8))
    mock_daemon.mount_now()
    fd = open_file(mock_daemon, fuse_process, size=8)
    mock_daemon.expect.read(2, fh=7, offset=2, size=4).reply(b"text")
    mock_daemon.expect.write(2, fh=7, offset=1, data=b"x").reply(written(1))
    assert fuse_process.pread(fd, 4, 2) == b"text"
    assert fuse_process.pwrite(fd, b"x", 1) == 1
    assert len(mock_daemon.came("read")[0].raw) == 40 + 24


@BOTH
@pytest.mark.mock_daemon(max_write=10)
def test_a_page_is_the_least_that_is_written_at_once(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2, size=4096).reply(written(4096))
    assert fuse_process.pwrite(fd, bytes(4096), 0) == 4096


@BOTH
@pytest.mark.mock_daemon(flags=InitFlag.WRITEBACK_CACHE | InitFlag.PASSTHROUGH | InitFlag.POSIX_LOCKS)
def test_what_was_not_offered_is_not_granted(mock_daemon: MockDaemon) -> None:
    asked = mock_daemon.came("init")[0]
    offered = InitFlag(asked.flags | asked.flags2 << 32)
    assert mock_daemon.mount.sb.flags & ~offered == 0
    assert mock_daemon.mount.sb.flags & InitFlag.POSIX_LOCKS


@pytest.mark.fuse_kernel(driver="threads")
@unmounted
def test_callers_wait_until_init_is_answered(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    init = mock_daemon.expect.init().hold()
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=60))
    mock_daemon.mount_now()
    found: list[int] = []
    caller = threading.Thread(target=lambda: found.append(fuse_kernel.process().stat("/f").st_ino))
    caller.start()
    asked = init.wait()
    assert mock_daemon.names == ["INIT"]
    asked.reply(InitOut(7, 46))
    caller.join(20)
    assert found == [2]


@pytest.mark.fuse_kernel(driver="threads", policy="linux")
@unmounted
def test_a_caller_that_waits_for_init_can_be_killed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.init().never()
    mock_daemon.mount_now()
    found: list[int | None] = []
    caller = threading.Thread(target=lambda: found.append(errno_of(fuse_process.stat, "/f")))
    caller.start()
    wait_until(lambda: mock_daemon.connection.blocked_waitq.waiters)
    fuse_process.kill(9)
    caller.join(20)
    assert found == [errno.EINTR]


@BOTH
@unmounted
def test_a_daemon_that_dies_before_its_answer_leaves_nobody_waiting(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mock_daemon.expect.init().die()
    mock_daemon.mount_now()
    assert errno_of(fuse_process.stat, "/f") in (errno.ENOTCONN, errno.ECONNREFUSED)
