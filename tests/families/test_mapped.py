"""Mapped files: which faults ask the daemon, what it is told of stores, and what a program gets when it answers ill."""

from __future__ import annotations

import errno
import mmap
import os
import signal
from collections.abc import Callable

import pytest
from conftest import in_thread, wait_until
from mocked import BOTH, DIRECT, errno_of, open_file

from fusewire import FOpenFlag, InitFlag, Kernel, Process
from fusewire.kernel.vfs import BusError, SegmentationFault
from fusewire.testing import MockDaemon, attr, written
from fusewire.testing.mock import Asked
from fusewire.wire.flags import PAGE_SIZE, WriteFlag

CACHED = FOpenFlag(0)
READ, PRIVATE, SHARED = mmap.PROT_READ, mmap.MAP_PRIVATE, mmap.MAP_SHARED
PAGE = b"p" * PAGE_SIZE


def opened(
    daemon: MockDaemon, process: Process, flags: int = os.O_RDWR, *, size: int = 4 * PAGE_SIZE, how: int = CACHED
) -> int:
    """A descriptor of a file of which a daemon has pages full of ``p``."""
    return open_file(daemon, process, flags, how=how, size=size)


def contents(size: int) -> Callable[[Asked], bytes]:
    """What the daemon has of a file of ``size`` bytes."""
    return lambda asked: b"p" * max(0, min(asked.size, size - asked.offset))


# -- faults --------------------------------------------------------------------------------------------------------------


@BOTH
def test_mapping_asks_nothing_and_a_fault_for_its_page(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), 4 * PAGE_SIZE)
    assert "READ" not in mock_daemon.names
    mock_daemon.expect.read(2, fh=7, offset=PAGE_SIZE, size=PAGE_SIZE, read_flags=0).reply(PAGE)
    assert mapping[PAGE_SIZE : PAGE_SIZE + 10] == b"p" * 10


@BOTH
def test_a_page_that_read_brought_is_there(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process)
    mapping = fuse_process.mmap(fd, PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0).reply(PAGE)
    assert fuse_process.pread(fd, 5, 0) == mapping[:5] == b"ppppp"


@BOTH
def test_two_processes_fault_once(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), PAGE_SIZE)
    child = fuse_process.fork()
    mock_daemon.expect.read(2, offset=0).reply(PAGE)
    assert mapping[0] == child.load(mapping.address)[0] == ord("p")


@BOTH
def test_the_page_of_the_end_is_filled_up_with_zeros(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process, size=10), PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(contents(10))
    assert mapping[:] == b"p" * 10 + bytes(PAGE_SIZE - 10)


@BOTH
def test_a_daemon_that_answers_less_has_a_shorter_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process, size=2 * PAGE_SIZE)
    mapping = fuse_process.mmap(fd, 2 * PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0).reply(b"short")
    assert mapping[:7] == b"short\0\0"
    with pytest.raises(BusError):
        mapping[PAGE_SIZE]


@BOTH
def test_behind_the_end_is_sigbus_and_not_asked_for(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process, size=10), 2 * PAGE_SIZE)
    with pytest.raises(BusError):
        mapping[PAGE_SIZE]
    assert "READ" not in mock_daemon.names


@BOTH
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOENT])
def test_a_daemons_error_is_sigbus_and_the_next_fault_asks_again(
    mock_daemon: MockDaemon, fuse_process: Process, number: int
) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), PAGE_SIZE)
    mock_daemon.expect.read(2).error(number)
    with pytest.raises(BusError):
        mapping[0]
    mock_daemon.expect.read(2).reply(PAGE)
    assert mapping[0] == ord("p")


@BOTH
def test_for_a_system_call_it_is_efault(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process)
    mapping = fuse_process.mmap(fd, PAGE_SIZE)
    mock_daemon.expect.read(2).error(errno.EIO)
    reading, writing = fuse_process.pipe()
    assert errno_of(fuse_process.write, writing, mapping.memory(0, 4)) == errno.EFAULT
    assert fuse_process.poll([(reading, 1)], 0) == []


@BOTH
def test_a_daemon_that_dies_is_sigbus_for_what_is_not_there_yet(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), 2 * PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0).reply(PAGE)
    mock_daemon.expect.read(2, offset=PAGE_SIZE).die()
    assert mapping[0] == ord("p")
    with pytest.raises(BusError):
        mapping[PAGE_SIZE]
    assert mapping[0] == ord("p")


@BOTH
@pytest.mark.mock_daemon(flags=InitFlag.ASYNC_READ, max_readahead=32 * PAGE_SIZE)
def test_a_daemon_that_allows_readahead_is_asked_for_what_is_around(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    size = 100 * PAGE_SIZE
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process, size=size), size)
    mock_daemon.expect.read(2, offset=34 * PAGE_SIZE, size=32 * PAGE_SIZE).reply(contents(size))
    for page in (50, 34, 57):
        assert mapping[page * PAGE_SIZE] == ord("p")
    mock_daemon.expect.read(2, offset=66 * PAGE_SIZE, size=32 * PAGE_SIZE).reply(contents(size))
    assert mapping[58 * PAGE_SIZE] == ord("p")  # the first of the last quarter


@BOTH
@pytest.mark.mock_daemon(flags=InitFlag.ASYNC_READ, max_readahead=32 * PAGE_SIZE)
def test_what_is_touched_at_random_is_asked_for_page_by_page(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    size = 100 * PAGE_SIZE
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process, size=size), size)
    mapping.madvise(mmap.MADV_RANDOM, 0, 60 * PAGE_SIZE)
    mock_daemon.expect.read(2, offset=50 * PAGE_SIZE, size=PAGE_SIZE).reply(PAGE)
    mock_daemon.expect.read(2, offset=64 * PAGE_SIZE, size=32 * PAGE_SIZE).reply(contents(size))
    assert mapping[50 * PAGE_SIZE] == mapping[80 * PAGE_SIZE] == ord("p")


@BOTH
@pytest.mark.mock_daemon(flags=InitFlag.ASYNC_READ, max_readahead=32 * PAGE_SIZE)
def test_an_error_of_what_is_read_ahead_is_asked_about_once_more(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), 4 * PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0, size=4 * PAGE_SIZE).error(errno.EIO)
    mock_daemon.expect.read(2, offset=PAGE_SIZE, size=PAGE_SIZE).reply(PAGE)
    assert mapping[PAGE_SIZE] == ord("p")


# -- stores --------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_store_is_a_write_of_its_page_from_the_cache_and_msync_waits_for_it(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), 4 * PAGE_SIZE)
    mock_daemon.expect.read(2).reply(PAGE)
    mapping[PAGE_SIZE + 3] = ord("!")
    with mock_daemon.in_order():
        stored = mock_daemon.expect.write(2, fh=7, offset=PAGE_SIZE, size=PAGE_SIZE).reply(written(PAGE_SIZE))
        mock_daemon.expect.fsync(2, fh=7)
    mapping.flush()
    assert stored.wait().write_flags == WriteFlag.CACHE
    assert stored.wait().data == b"ppp!" + PAGE[4:]
    assert (stored.wait().uid, stored.wait().pid, stored.wait().lock_owner) == (0, 0, 0)


@BOTH
def test_what_is_written_stops_at_the_end_of_the_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process, size=10), PAGE_SIZE)
    mock_daemon.expect.read(2).reply(contents(10))
    mapping[5:20] = b"x" * 15
    mock_daemon.expect.write(2, offset=0, size=10, data=b"pppppxxxxx").reply(written(10))
    mapping.close()


@BOTH
def test_pages_side_by_side_are_one_write(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), 4 * PAGE_SIZE)
    mock_daemon.expect.read(2).times(3).reply(PAGE)
    for page in (0, 1, 3):
        mapping[page * PAGE_SIZE] = ord("!")
    mock_daemon.expect.write(2, offset=0, size=2 * PAGE_SIZE).reply(written(2 * PAGE_SIZE))
    mock_daemon.expect.write(2, offset=3 * PAGE_SIZE, size=PAGE_SIZE).reply(written(PAGE_SIZE))
    mapping.close()


@BOTH
def test_a_write_that_fails_is_told_by_msync_and_once(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), PAGE_SIZE)
    mock_daemon.expect.read(2).reply(PAGE)
    mapping[0] = 1
    mock_daemon.expect.write(2).error(errno.ENOSPC)
    assert errno_of(mapping.flush) == errno.ENOSPC
    mock_daemon.expect.fsync(2)
    mapping.flush()


@BOTH
def test_a_private_store_is_nobodys_business(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process, os.O_RDONLY)
    mapping = fuse_process.mmap(fd, PAGE_SIZE, flags=PRIVATE)
    mock_daemon.expect.read(2, offset=0).reply(PAGE)
    mapping[0] = ord("!")
    assert mapping[:2] == b"!p"
    assert fuse_process.pread(fd, 2, 0) == b"pp"
    mapping.flush()
    mapping.close()
    assert "WRITE" not in mock_daemon.names
    assert "FSYNC" not in mock_daemon.names


@BOTH
def test_what_was_stored_privately_is_lost_by_dontneed_and_read_from_the_cache(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), PAGE_SIZE, flags=PRIVATE)
    mock_daemon.expect.read(2).reply(PAGE)
    mapping[0] = ord("!")
    mapping.madvise(mmap.MADV_DONTNEED)
    assert mapping[0] == ord("p")
    assert errno_of(mapping.madvise, 99) == errno.EINVAL
    assert errno_of(fuse_process.madvise, mapping.address, 0, 99) == errno.EINVAL
    assert errno_of(fuse_process.madvise, mapping.address - PAGE_SIZE, PAGE_SIZE, mmap.MADV_NORMAL) == errno.ENOMEM


@BOTH
def test_write_and_memory_are_one(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process)
    mapping = fuse_process.mmap(fd, PAGE_SIZE)
    mock_daemon.expect.read(2).reply(PAGE)
    mock_daemon.expect.write(2, offset=2, data=b"file").reply(written(4))
    assert mapping[0] == ord("p")
    fuse_process.pwrite(fd, b"file", 2)
    assert mapping[:7] == b"ppfilep"


# -- how long the file is open -------------------------------------------------------------------------------------------


@BOTH
def test_the_mapping_holds_the_file_open_and_munmap_releases_it(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process)
    mapping = fuse_process.mmap(fd, 4 * PAGE_SIZE)
    mock_daemon.expect.flush(2, fh=7)
    fuse_process.close(fd)
    mock_daemon.expect.read(2, fh=7).reply(PAGE)
    assert mapping[0] == ord("p")
    assert "RELEASE" not in mock_daemon.names
    mock_daemon.expect.release(2, fh=7)
    mapping.close()


@BOTH
def test_what_is_dirty_goes_before_the_release(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process)
    mapping = fuse_process.mmap(fd, PAGE_SIZE)
    fuse_process.close(fd)
    mock_daemon.expect.read(2).reply(PAGE)
    mapping[0] = ord("!")
    with mock_daemon.in_order():
        mock_daemon.expect.write(2, fh=7).reply(written(PAGE_SIZE))
        mock_daemon.expect.release(2, fh=7)
    fuse_process.exit()


# -- what is not allowed -------------------------------------------------------------------------------------------------


@BOTH
def test_a_file_that_was_opened_for_reading_is_not_mapped_for_writing(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = opened(mock_daemon, fuse_process, os.O_RDONLY)
    assert errno_of(fuse_process.mmap, fd, PAGE_SIZE) == errno.EACCES
    mapping = fuse_process.mmap(fd, PAGE_SIZE, READ)
    with pytest.raises(SegmentationFault):
        mapping[0] = 1
    assert errno_of(fuse_process.mprotect, mapping.address, PAGE_SIZE, mmap.PROT_WRITE) == errno.EACCES
    assert "READ" not in mock_daemon.names


@BOTH
def test_a_file_that_was_opened_for_writing_alone_is_not_mapped(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    assert errno_of(fuse_process.mmap, opened(mock_daemon, fuse_process, os.O_WRONLY), PAGE_SIZE) == errno.EACCES


@BOTH
def test_a_direct_file_is_mapped_privately_alone(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process, how=DIRECT)
    assert errno_of(fuse_process.mmap, fd, PAGE_SIZE) == errno.ENODEV
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(PAGE)
    assert fuse_process.mmap(fd, PAGE_SIZE, flags=PRIVATE)[0] == ord("p")


@BOTH
@pytest.mark.mock_daemon(flags=InitFlag.DIRECT_IO_ALLOW_MMAP)
def test_a_daemon_may_allow_that_a_direct_file_is_mapped_and_reads_past_the_cache_are_preceded_by_writeback(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = opened(mock_daemon, fuse_process, how=DIRECT)
    mapping = fuse_process.mmap(fd, PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(PAGE)
    mapping[0] = ord("!")
    with mock_daemon.in_order():
        mock_daemon.expect.write(2, offset=0, write_flags=WriteFlag.CACHE).reply(written(PAGE_SIZE))
        mock_daemon.expect.read(2, offset=0, size=2).reply(b"!p")
    assert fuse_process.pread(fd, 2, 0) == b"!p"


@BOTH
@pytest.mark.mock_daemon(flags=InitFlag.DIRECT_IO_ALLOW_MMAP)
def test_a_write_past_the_cache_takes_the_mapped_page_out(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process, how=DIRECT)
    mapping = fuse_process.mmap(fd, PAGE_SIZE)
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(PAGE)
    assert mapping[0] == ord("p")
    mock_daemon.expect.write(2, offset=0, data=b"new").reply(written(3))
    fuse_process.pwrite(fd, b"new", 0)
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(b"new" + PAGE[3:])
    assert mapping[:4] == b"newp"


# -- invalidation --------------------------------------------------------------------------------------------------------


@BOTH
def test_an_invalidated_page_is_read_anew_and_the_others_stay(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), 4 * PAGE_SIZE)
    mock_daemon.expect.read(2).times(2).reply(PAGE)
    assert mapping[0] == mapping[PAGE_SIZE] == ord("p")
    mock_daemon.notify.inval_inode(2, off=PAGE_SIZE, len=PAGE_SIZE)
    mock_daemon.default.getattr(2).reply(attr(2, size=4 * PAGE_SIZE))
    mock_daemon.expect.read(2, offset=PAGE_SIZE).reply(b"n" * PAGE_SIZE)
    assert mapping[PAGE_SIZE] == ord("n")
    assert mapping[0] == ord("p")


@BOTH
def test_what_is_stored_in_the_cache_shows_in_memory(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), 4 * PAGE_SIZE)
    mock_daemon.notify.store(2, b"s" * PAGE_SIZE, offset=PAGE_SIZE)
    assert mapping[PAGE_SIZE] == ord("s")
    assert "READ" not in mock_daemon.names


@pytest.mark.fuse_kernel(driver="threads")
@pytest.mark.mock_daemon(workers=2)
def test_an_invalidation_of_a_dirty_page_has_it_written_first(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), PAGE_SIZE)
    mock_daemon.expect.read(2).reply(PAGE)
    mapping[0] = ord("!")
    mock_daemon.expect.write(2, data=b"!" + PAGE[1:]).reply(written(PAGE_SIZE))
    mock_daemon.notify.inval_inode(2, off=0, len=0)
    mock_daemon.default.getattr(2).reply(attr(2, size=4 * PAGE_SIZE))
    mock_daemon.expect.read(2).reply(b"!" + PAGE[1:])
    assert mapping[0] == ord("!")


@BOTH
def test_a_truncation_takes_pages_away_from_who_has_them_mapped(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = opened(mock_daemon, fuse_process)
    mapping = fuse_process.mmap(fd, 2 * PAGE_SIZE)
    mock_daemon.expect.read(2).times(2).reply(PAGE)
    assert mapping[0] == mapping[PAGE_SIZE] == ord("p")
    mock_daemon.expect.setattr(2, size=100).reply(attr(2, size=100, valid=60))
    fuse_process.ftruncate(fd, 100)
    mock_daemon.expect.read(2, offset=0).reply(contents(100))  # a size that changed makes all of it be read anew
    assert mapping[98:102] == b"pp\0\0"
    with pytest.raises(BusError):
        mapping[PAGE_SIZE]


# -- signals -------------------------------------------------------------------------------------------------------------


@pytest.mark.fuse_kernel(driver="threads")
def test_a_signal_ends_a_fault_and_the_answer_is_dropped(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fuse_process.signal(signal.SIGUSR1, lambda number: None)
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), PAGE_SIZE)
    held = mock_daemon.expect.read(2).hold()
    thread, outcome = in_thread(lambda: fuse_process.load(mapping.address))
    asked = held.wait()
    fuse_process.kill(signal.SIGUSR1)
    thread.join(20)
    assert isinstance(outcome[0], InterruptedError)
    asked.reply(PAGE)
    mock_daemon.expect.read(2).reply(b"n" * PAGE_SIZE)
    assert mapping[0] == ord("n")


@pytest.mark.fuse_kernel(driver="threads", policy="linux")
def test_on_linux_a_fault_that_the_daemon_has_read_outlives_the_signal(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fuse_process.signal(signal.SIGUSR1, lambda number: None)
    mapping = fuse_process.mmap(opened(mock_daemon, fuse_process), PAGE_SIZE)
    held = mock_daemon.expect.read(2).hold()
    told = mock_daemon.expect.interrupt()
    thread, outcome = in_thread(lambda: fuse_process.load(mapping.address))
    asked = held.wait()
    wait_until(lambda: any(task.sleep is not None for task in fuse_process.program.tasks))
    fuse_process.kill(signal.SIGUSR1)
    told.wait()
    assert not outcome
    asked.reply(PAGE)
    thread.join(20)
    assert outcome == [b"p"]
