"""What another kernel half in user space is known to get wrong is right here."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from mocked import BOTH, DIR, DIRECT, absent, errno_of, forgotten, open_file, there

from fusewire import InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, attr, dirents, entry, opened, written
from fusewire.wire.flags import FAttr

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
MIB = 1 << 20


@BOTH
def test_the_error_of_fsync_reaches_the_caller(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.fsync(2).error(errno.EIO)
    assert errno_of(fuse_process.fsync, fd) == errno.EIO


@BOTH
def test_a_directory_is_made_durable_by_fsyncdir(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    mock_daemon.expect.fsyncdir(3, fh=4)
    fuse_process.fsync(fuse_process.open("/d", os.O_RDONLY))


@BOTH
def test_now_for_the_time_of_change_is_now_for_that_time(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    both = FAttr.ATIME | FAttr.MTIME | FAttr.ATIME_NOW | FAttr.MTIME_NOW
    mock_daemon.expect.setattr(2, valid=both).reply(attr(2))
    fuse_process.utime("/f")


@BOTH
@pytest.mark.parametrize("size", [8_176, 8_177, 65_536, MIB])
@pytest.mark.mock_daemon(flags=InitFlag.MAX_PAGES, max_pages=256, max_write=MIB)
def test_a_large_answer_arrives_whole(mock_daemon: MockDaemon, fuse_process: Process, size: int) -> None:
    data = os.urandom(size)
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2, size=size).reply(data)
    assert fuse_process.pread(fd, size, 0) == data


@BOTH
def test_a_server_that_dies_with_a_request_in_its_hands_is_an_error_for_its_caller(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").die()
    assert errno_of(fuse_process.stat, "/f") == errno.ECONNABORTED
    assert errno_of(fuse_process.stat, "/f") == errno.ENOTCONN


@pytest.mark.fuse_kernel(driver="threads")
def test_a_server_that_dies_frees_every_caller(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    held = mock_daemon.expect.statfs(1).times(5).never()
    found: list[int | None] = []
    processes = [fuse_kernel.process() for _ in range(5)]
    callers = [threading.Thread(target=lambda p=p: found.append(errno_of(p.statvfs, "/"))) for p in processes]
    for caller in callers:
        caller.start()
    held.wait(5)
    mock_daemon.kill()
    for caller in callers:
        caller.join(20)
    assert found == [errno.ECONNABORTED] * 5


@BOTH
@pytest.mark.mock_daemon(max_write=4096)
def test_a_write_of_whole_chunks_does_not_end_with_an_empty_one(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    for offset in (100, 4196):
        mock_daemon.expect.write(2, offset=offset, size=4096).reply(written(4096))
    assert fuse_process.pwrite(fd, bytes(8192), 100) == 8192


@BOTH
@pytest.mark.parametrize("name", [b"", b"a/b"])
def test_names_that_cannot_be_are_refused_in_a_listing(
    mock_daemon: MockDaemon, fuse_process: Process, name: bytes
) -> None:
    mock_daemon.default.getattr(1).reply(attr(1, DIR))
    mock_daemon.expect.opendir(1).reply(opened(1))
    mock_daemon.expect.readdir(1).reply(dirents((b"good", 2, 0o100000), (name, 3, 0o100000)))
    assert errno_of(fuse_process.listdir, "/") == errno.EIO


@BOTH
def test_references_are_given_back(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    there(mock_daemon)
    fuse_process.stat("/f")
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == {2: 1}


@BOTH
def test_a_daemon_may_look_at_the_file_it_serves(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    """Of another name than the one whose request it holds: no lock of the whole filesystem is in the way."""
    there(mock_daemon, b"other", 3)
    process = fuse_kernel.process()
    process.stat("/other")
    seen: list[int] = []
    fd = open_file(mock_daemon, process)
    mock_daemon.expect.read(2).do(lambda asked: seen.append(fuse_kernel.process().stat("/f").st_ino)).reply(b"x")
    assert process.pread(fd, 1, 0) == b"x"
    assert seen == [2]


@pytest.mark.fuse_kernel(driver="threads")
def test_two_reads_of_one_file_overlap(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    held = mock_daemon.expect.read(2).times(2).hold()
    found: list[bytes] = []
    callers = [threading.Thread(target=lambda: found.append(fuse_process.pread(fd, 4, 0))) for _ in range(2)]
    for caller in callers:
        caller.start()
    second = held.wait(2)
    held.wait(1).reply(b"text")
    second.reply(b"text")
    for caller in callers:
        caller.join(20)
    assert found == [b"text", b"text"]


@BOTH
@pytest.mark.mock_daemon(max_write=1 << 16)
def test_a_write_is_not_cut_into_pages(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    """BIG_WRITES was not asked for by this daemon; kernels of today do not need to be."""
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2, size=1 << 16).reply(written(1 << 16))
    assert fuse_process.pwrite(fd, bytes(1 << 16), 0) == 1 << 16


@BOTH
@pytest.mark.parametrize("answer", [entry(2, 0), entry(1, DIR), entry(2, size=1 << 63)])
def test_entries_are_checked(mock_daemon: MockDaemon, fuse_process: Process, answer: object) -> None:
    absent(mock_daemon, b"g")
    mock_daemon.expect.lookup(1, b"f").reply(answer)
    assert errno_of(fuse_process.stat, "/f") == errno.EIO
    assert errno_of(fuse_process.stat, "/g") == errno.ENOENT


def test_handles_of_the_same_file_are_apart(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.open(2).reply(opened(7, DIRECT))
    mock_daemon.expect.open(2).reply(opened(8, DIRECT))
    first, second = (fuse_process.open("/f", os.O_RDONLY) for _ in range(2))
    mock_daemon.expect.read(2, fh=8).reply(b"8")
    mock_daemon.expect.read(2, fh=7).reply(b"7")
    assert (fuse_process.pread(second, 1, 0), fuse_process.pread(first, 1, 0)) == (b"8", b"7")
