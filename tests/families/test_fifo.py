"""FIFOs and sockets: names of the daemon's, whose contents are not its business."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat

import pytest
from conftest import in_thread, wait_until
from mocked import BOTH, FIFO, absent, errno_of, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, attr, entry

THREADS = pytest.mark.parametrize("fuse_kernel", ["threads"], indirect=True)
NOTHING_MORE = ["INIT", "LOOKUP"]


@BOTH
def test_mkfifo_is_mknod(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"p")
    mock_daemon.expect.mknod(1, b"p", mode=stat.S_IFIFO | 0o600, rdev=0).reply(entry(2, FIFO))
    fuse_process.mkfifo("/p", 0o600)


@BOTH
@pytest.mark.parametrize("kind", [stat.S_IFSOCK, stat.S_IFCHR])
def test_opening_a_socket_or_a_device_does_not_ask_the_daemon(
    mock_daemon: MockDaemon, fuse_process: Process, kind: int
) -> None:
    there(mock_daemon, b"p", 2, kind | 0o666)
    assert errno_of(fuse_process.open, "/p", os.O_RDWR | os.O_NONBLOCK) == errno.ENXIO
    assert mock_daemon.names == NOTHING_MORE


@BOTH
def test_what_goes_through_it_never_reaches_the_daemon(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    reading = fuse_process.open("/p", os.O_RDONLY | os.O_NONBLOCK)
    writing = fuse_process.open("/p", os.O_WRONLY)
    assert fuse_process.write(writing, b"through the kernel") == 18
    assert fuse_process.read(reading, 100) == b"through the kernel"
    assert dict(fuse_process.poll([(writing, select.POLLOUT)], 0)) == {writing: select.POLLOUT}
    for fd in (reading, writing):
        fuse_process.close(fd)
    mock_daemon.settle()
    assert mock_daemon.names == NOTHING_MORE  # no OPEN, no POLL, and neither FLUSH nor RELEASE


@BOTH
def test_its_attributes_are_the_daemons_and_carry_no_handle(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO, uid=7, attr_valid=0)
    fd = fuse_process.open("/p", os.O_RDWR)
    mock_daemon.expect.getattr(2, getattr_flags=0).reply(attr(2, FIFO, uid=8))
    found = fuse_process.fstat(fd)
    assert stat.S_ISFIFO(found.st_mode)
    assert found.st_uid == 8


@BOTH
def test_it_is_opened_by_the_permissions_of_the_daemons_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    assert errno_of(fuse_process.open, "/p", os.O_DIRECTORY) == errno.ENOTDIR
    assert errno_of(fuse_process.open, "/p", os.O_CREAT | os.O_EXCL | os.O_RDWR) == errno.EEXIST
    assert errno_of(fuse_process.open, "/p", os.O_ACCMODE) == errno.EINVAL
    assert fuse_process.open("/p", os.O_CREAT | os.O_TRUNC | os.O_RDWR) == 0


# -- without waiting -----------------------------------------------------------------------------------------------------


@BOTH
def test_a_writer_that_does_not_wait_needs_a_reader(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    assert errno_of(fuse_process.open, "/p", os.O_WRONLY | os.O_NONBLOCK) == errno.ENXIO
    fuse_process.open("/p", os.O_RDONLY | os.O_NONBLOCK)
    assert fuse_process.open("/p", os.O_WRONLY | os.O_NONBLOCK) == 1


@BOTH
def test_a_reader_that_does_not_wait_finds_the_end_until_a_writer_comes(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    reading = fuse_process.open("/p", os.O_RDONLY | os.O_NONBLOCK)
    assert fuse_process.read(reading, 1) == b""
    assert fuse_process.poll([(reading, select.POLLIN)], 0) == []  # and no POLLHUP before the first writer
    writing = fuse_process.open("/p", os.O_WRONLY)
    assert errno_of(fuse_process.read, reading, 1) == errno.EAGAIN
    fuse_process.close(writing)
    assert fuse_process.poll([(reading, select.POLLIN)], 0) == [(reading, select.POLLHUP)]


@BOTH
def test_who_opens_both_sides_waits_for_nobody(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    fd = fuse_process.open("/p", os.O_RDWR)
    fuse_process.write(fd, b"to myself")
    assert fuse_process.read(fd, 100) == b"to myself"


@BOTH
def test_two_names_of_one_fifo_are_one_pipe(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    there(mock_daemon, b"q", 2, FIFO)
    reading = fuse_process.open("/p", os.O_RDONLY | os.O_NONBLOCK)
    fuse_process.write(fuse_process.open("/q", os.O_WRONLY), b"one")
    assert fuse_process.read(reading, 10) == b"one"


@BOTH
def test_what_was_not_read_is_gone_with_the_last_that_had_it_open(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    fd = fuse_process.open("/p", os.O_RDWR)
    fuse_process.write(fd, b"lost")
    fuse_process.close(fd)
    assert fuse_process.read(fuse_process.open("/p", os.O_RDONLY | os.O_NONBLOCK), 10) == b""


@BOTH
def test_it_goes_on_when_its_name_is_removed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    fd = fuse_process.open("/p", os.O_RDWR)
    mock_daemon.expect.unlink(1, b"p")
    fuse_process.unlink("/p")
    fuse_process.write(fd, b"still")
    assert fuse_process.read(fd, 10) == b"still"
    assert mock_daemon.came("forget") == []
    fuse_process.close(fd)
    mock_daemon.settle()
    assert [one.nlookup for one in mock_daemon.came("forget")] == [1]


@BOTH
def test_it_is_open_on_a_mount_that_is_busy_then(
    mock_daemon: MockDaemon, fuse_process: Process, fuse_kernel: Kernel
) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    fd = fuse_process.open("/p", os.O_RDWR)
    assert errno_of(fuse_kernel.mounts[0].unmount) == errno.EBUSY
    fuse_kernel.mounts[0].remount(read_only=True)  # a FIFO that is open for writing does not hold that up
    fuse_process.write(fd, b"x")
    assert fuse_process.read(fd, 1) == b"x"


# -- waiting -------------------------------------------------------------------------------------------------------------


def waits(process: Process) -> list[str]:
    return [task.sleep.what for task in process.program.tasks if task.sleep is not None]


@THREADS
@pytest.mark.parametrize("first", [os.O_RDONLY, os.O_WRONLY])
def test_each_side_waits_for_the_other(mock_daemon: MockDaemon, fuse_kernel: Kernel, first: int) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    one, other = fuse_kernel.process("one"), fuse_kernel.process("other")
    thread, outcome = in_thread(lambda: one.open("/p", first))
    wait_until(lambda: waits(one) == [f'a {("writer", "reader")[first]} of FIFO "p"'])
    assert other.open("/p", 1 - first) == 0
    thread.join(20)
    assert outcome == [0]


@THREADS
def test_an_other_side_that_was_there_for_a_moment_is_enough(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    one, other = fuse_kernel.process("one"), fuse_kernel.process("other")
    thread, outcome = in_thread(lambda: one.open("/p", os.O_RDONLY))
    wait_until(lambda: waits(one))
    other.close(other.open("/p", os.O_WRONLY | os.O_NONBLOCK))
    thread.join(20)
    assert outcome == [0]
    assert one.read(0, 1) == b""


@THREADS
def test_a_signal_ends_the_wait_and_leaves_nothing_behind(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    one = fuse_kernel.process("one")
    one.signal(signal.SIGUSR1, lambda number: None)
    thread, outcome = in_thread(lambda: errno_of(one.open, "/p", os.O_RDONLY))
    wait_until(lambda: waits(one))
    one.kill(signal.SIGUSR1)
    thread.join(20)
    assert outcome == [errno.EINTR]
    assert errno_of(one.open, "/p", os.O_WRONLY | os.O_NONBLOCK) == errno.ENXIO
    fuse_kernel.mounts[0].unmount()


@THREADS
def test_who_waits_at_a_fifo_does_not_hold_up_the_daemon(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    there(mock_daemon, b"f", 3)
    one, other = fuse_kernel.process("one"), fuse_kernel.process("other")
    thread, _ = in_thread(lambda: one.open("/p", os.O_RDONLY))
    wait_until(lambda: waits(one))
    assert other.stat("/f").st_ino == 3
    mock_daemon.expect.unlink(1, b"p")
    other.unlink("/p")  # nothing of the directory is locked
    one.kill(signal.SIGKILL)
    thread.join(20)
    assert not one.alive


@BOTH
def test_it_has_attributes_like_any_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO, uid=7)
    found = fuse_process.stat("/p")
    assert stat.S_ISFIFO(found.st_mode)
    assert found.st_uid == 7


@BOTH
def test_it_is_removed_like_any_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    mock_daemon.expect.unlink(1, b"p")
    fuse_process.unlink("/p")
