"""Pipes, and what is behind FIFOs: who waits for whom, how much fits, and how they end."""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import errno_of, wait_until

from fusewire import Buried, Deadlock, Kernel, Process
from fusewire.filesystems import MemoryFS
from fusewire.kernel.vfs.syscalls import sys_read
from fusewire.testing import Scheduled

CAPACITY = 1 << 16
PAGE = 4096


@pytest.fixture(params=["inline", "threads"])
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    with Kernel(request.param) as kernel:
        yield kernel.process()


def test_what_a_file_does_not_take_out_of_a_pipe_stays_there(process: Process) -> None:
    class Full(MemoryFS):
        def write(self, *args: Any) -> Any:
            raise OSError(errno.ENOSPC, "full")

    process.kernel.mount(Full({"f": b""}), "/")
    out, into = process.pipe()
    process.write(into, b"0123456789")
    fd = process.open("/f", os.O_WRONLY)
    assert errno_of(lambda: process.splice(out, fd, 6)) == errno.ENOSPC
    assert process.read(out, 100) == b"0123456789"


def test_one_pipe_runs_into_another(process: Process) -> None:
    out, into = process.pipe()
    other_out, other_into = process.pipe()
    process.write(into, b"0123456789")
    assert process.splice(out, other_into, 6) == 6
    assert process.read(other_out, 100) == b"012345"
    process.close(into)
    assert process.splice(out, other_into, 100) == 4
    assert process.splice(out, other_into, 100) == 0
    assert errno_of(lambda: process.splice(other_out, into, 1)) == errno.EBADF


def test_what_would_be_moved_to_or_from_behind_the_last_offset_is_refused(process: Process) -> None:
    process.kernel.mount(MemoryFS({"f": b"0123456789"}), "/")
    out, into = process.pipe()
    process.write(into, b"data")
    fd, last = process.open("/f", os.O_RDWR), (1 << 63) - 1
    assert errno_of(lambda: process.splice(out, fd, 4, None, last)) == errno.EINVAL
    assert errno_of(lambda: process.splice(fd, into, 4, last)) == errno.EINVAL
    assert errno_of(lambda: process.sendfile(fd, fd, last, 10)) == errno.EINVAL
    assert errno_of(lambda: process.sendfile(fd, fd, 0, -1)) == errno.EINVAL
    process.lseek(fd, last, os.SEEK_SET)
    assert errno_of(lambda: process.sendfile(fd, fd, 0, 10)) == errno.EINVAL
    assert process.fstat(fd).st_size == 10
    assert process.splice(out, fd, 0, flags=0x100) == 0


def test_who_splices_and_may_not_wait_is_told_so(process: Process) -> None:
    out, into = process.pipe()
    process.kernel.mount(MemoryFS({"f": bytes(2 * CAPACITY)}), "/")
    fd = process.open("/f", os.O_RDWR)
    nonblock = os.SPLICE_F_NONBLOCK if hasattr(os, "SPLICE_F_NONBLOCK") else 2
    assert errno_of(lambda: process.splice(out, fd, 1, flags=nonblock)) == errno.EAGAIN
    assert process.sendfile(into, fd, 0, 2 * CAPACITY) == CAPACITY
    process.set_blocking(into, False)
    assert not process.get_blocking(into)
    assert errno_of(lambda: process.sendfile(into, fd, 0, 1)) == errno.EAGAIN


class Caller(threading.Thread):
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.call()
        except BaseException as error:
            self.result = error

    def end(self) -> Any:
        self.join(20)
        assert not self.is_alive(), "it still waits"
        return self.result


def asleep(process: Process, what: str) -> None:
    """Until a thread of ``process`` waits for that."""
    wait_until(lambda: any(task.sleep is not None and what in task.sleep.what for task in process.program.tasks))


# -- what goes through ---------------------------------------------------------------------------------------------------


def test_what_is_written_at_one_end_is_read_at_the_other_in_order(process: Process) -> None:
    reading, writing = process.pipe()
    assert process.write(writing, b"first ") == 6
    assert process.write(writing, b"second") == 6
    assert process.read(reading, 3) == b"fir"
    assert process.read(reading, 100) == b"st second"


def test_its_descriptors_are_not_inherited_and_have_no_offsets(process: Process) -> None:
    reading, writing = process.pipe()
    assert not process.get_inheritable(reading)
    assert errno_of(lambda: process.lseek(reading, 0, os.SEEK_CUR)) == errno.ESPIPE
    assert errno_of(lambda: process.pread(reading, 1, 0)) == errno.ESPIPE
    assert errno_of(lambda: process.pwrite(writing, b"x", 0)) == errno.ESPIPE
    assert errno_of(lambda: process.posix_fallocate(writing, 0, 1)) == errno.ESPIPE
    assert errno_of(lambda: process.fsync(writing)) == errno.EINVAL
    assert errno_of(lambda: process.ftruncate(writing, 0)) == errno.EINVAL
    assert errno_of(lambda: process.mmap(reading, 1, 1)) == errno.ENODEV


def test_each_end_does_its_own_thing_only(process: Process) -> None:
    reading, writing = process.pipe()
    assert errno_of(lambda: process.read(writing, 1)) == errno.EBADF
    assert errno_of(lambda: process.write(reading, b"x")) == errno.EBADF


def test_two_pipes_are_two_files_and_both_ends_of_one_are_the_same(process: Process) -> None:
    numbers = [process.fstat(fd).st_ino for fd in (*process.pipe(), *process.pipe())]
    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]


def test_a_pipe_belongs_to_who_made_it_and_its_attributes_can_be_changed(process: Process) -> None:
    owner = process.kernel.process(uid=1000, gid=1001)
    before = time.time_ns()
    reading, writing = owner.pipe()
    made = owner.fstat(reading)
    assert (made.st_ino, made.st_uid, made.st_gid) == (1, 1000, 1001)  # each kernel counts for itself
    assert all(before <= when <= time.time_ns() for when in (made.st_atime_ns, made.st_mtime_ns, made.st_ctime_ns))
    owner.fchmod(reading, 0o640)
    owner.utime(reading, ns=(5, 7))
    changed = owner.fstat(writing)
    assert (changed.st_mode & 0o7777, changed.st_atime_ns, changed.st_mtime_ns) == (0o640, 5, 7)
    assert errno_of(lambda: owner.fchown(reading, 0, 0)) == errno.EPERM
    assert owner.listxattr(reading) == []


def test_a_fifo_is_not_opened_with_o_direct(process: Process) -> None:
    process.kernel.mount(MemoryFS(), "/")
    process.mkfifo("/p")
    assert errno_of(lambda: process.open("/p", os.O_RDWR | os.O_DIRECT)) == errno.EINVAL
    assert errno_of(lambda: process.open("/p", os.O_WRONLY | os.O_NONBLOCK)) == errno.ENXIO  # no reader was left behind


def test_it_holds_64_kib(process: Process) -> None:
    reading, writing = process.pipe2(os.O_NONBLOCK)
    assert process.write(writing, bytes(CAPACITY + 1)) == CAPACITY
    assert errno_of(lambda: process.write(writing, b"x")) == errno.EAGAIN
    assert len(process.read(reading, 2 * CAPACITY)) == CAPACITY


def test_it_holds_sixteen_buffers_and_what_does_not_fit_into_the_last_one_takes_another(process: Process) -> None:
    _, writing = process.pipe2(os.O_NONBLOCK)
    for _ in range(16):
        assert process.write(writing, bytes(3000)) == 3000
    assert errno_of(lambda: process.write(writing, bytes(3000))) == errno.EAGAIN


def test_small_writes_share_a_buffer(process: Process) -> None:
    _, writing = process.pipe2(os.O_NONBLOCK)
    for _ in range(CAPACITY // 64):
        assert process.write(writing, bytes(64)) == 64
    assert errno_of(lambda: process.write(writing, bytes(64))) == errno.EAGAIN


def test_a_thread_that_closes_what_another_reads_does_not_end_the_read() -> None:
    with Kernel("threads") as kernel:
        process = kernel.process()
        out, into = process.pipe()
        reading = process.fork()
        process.close(out)
        reader = Caller(lambda: reading.read(out, 10))
        asleep(reading, "data in pipe")
        reading.close(out)
        assert process.write(into, b"hello") == 5
        assert reader.end() == b"hello"


def test_there_is_room_again_only_when_a_whole_buffer_was_read(process: Process) -> None:
    reading, writing = process.pipe2(os.O_NONBLOCK)
    process.write(writing, bytes(CAPACITY))
    process.read(reading, PAGE - 1)
    assert errno_of(lambda: process.write(writing, b"x")) == errno.EAGAIN
    process.read(reading, 1)
    assert process.write(writing, bytes(PAGE + 1)) == PAGE


def test_a_write_of_no_more_than_pipe_buf_is_written_whole_or_not_at_all(process: Process) -> None:
    reading, writing = process.pipe2(os.O_NONBLOCK)
    process.write(writing, bytes(CAPACITY - 100))
    assert errno_of(lambda: process.write(writing, bytes(select.PIPE_BUF))) == errno.EAGAIN
    assert process.write(writing, bytes(100)) == 100
    process.read(reading, PAGE)
    assert process.write(writing, bytes(select.PIPE_BUF)) == select.PIPE_BUF


def test_how_much_is_in_it_is_what_fionread_says(process: Process) -> None:
    reading, writing = process.pipe()
    process.write(writing, b"12345")
    process.read(reading, 2)
    assert process.ioctl(reading, 0x541B, bytes(4)) == b"\3\0\0\0"


# -- ends ----------------------------------------------------------------------------------------------------------------


def test_without_writers_a_reader_gets_what_is_left_and_then_the_end(process: Process) -> None:
    reading, writing = process.pipe()
    process.write(writing, b"last words")
    process.close(writing)
    assert process.read(reading, 100) == b"last words"
    assert process.read(reading, 100) == b""


def test_a_writer_lives_as_long_as_any_descriptor_of_it(process: Process) -> None:
    reading, writing = process.pipe2(os.O_NONBLOCK)
    child = process.fork()
    process.close(writing)
    assert errno_of(lambda: process.read(reading, 1)) == errno.EAGAIN
    child.exit()
    assert process.read(reading, 1) == b""


def test_without_readers_a_writer_that_ignores_sigpipe_gets_epipe_and_lives(process: Process) -> None:
    reading, writing = process.pipe()
    process.close(reading)
    with pytest.raises(BrokenPipeError):
        process.write(writing, b"x")
    assert process.alive


def test_without_readers_a_writer_dies_of_sigpipe(process: Process) -> None:
    process.signal(signal.SIGPIPE, signal.SIG_DFL)
    reading, writing = process.pipe()
    process.close(reading)
    with pytest.raises(BrokenPipeError):
        process.write(writing, b"x")
    assert not process.alive


def test_a_handler_of_sigpipe_is_called(process: Process) -> None:
    got: list[int] = []
    process.signal(signal.SIGPIPE, got.append)
    reading, writing = process.pipe()
    process.close(reading)
    with pytest.raises(BrokenPipeError):
        process.write(writing, b"x")
    assert got == [signal.SIGPIPE]


def test_what_is_ignored_stays_so_after_exec_and_what_is_handled_does_not(process: Process) -> None:
    process.signal(signal.SIGUSR1, signal.SIG_IGN)
    process.signal(signal.SIGUSR2, lambda number: None)
    process.exec("other")
    process.kill(signal.SIGUSR1)
    assert process.alive
    process.kill(signal.SIGUSR2)
    assert not process.alive


# -- poll ----------------------------------------------------------------------------------------------------------------


def events(process: Process, fd: int, asked: int = select.POLLIN | select.POLLOUT) -> int:
    return dict(process.poll([(fd, asked)], 0)).get(fd, 0)


def test_poll_tells_what_each_end_can_do(process: Process) -> None:
    reading, writing = process.pipe2(os.O_NONBLOCK)
    assert (events(process, reading), events(process, writing)) == (0, select.POLLOUT)
    process.write(writing, bytes(CAPACITY))
    assert (events(process, reading), events(process, writing)) == (select.POLLIN, 0)
    process.close(writing)
    assert events(process, reading) == select.POLLIN | select.POLLHUP


def test_poll_tells_a_writer_that_nobody_reads(process: Process) -> None:
    reading, writing = process.pipe()
    process.close(reading)
    assert events(process, writing) == select.POLLOUT | select.POLLERR


def test_who_polls_is_woken_by_what_comes_and_by_the_end() -> None:
    with Kernel("threads") as kernel:
        process = kernel.process()
        reading, writing = process.pipe()
        for end in (lambda: process.write(writing, b"x"), lambda: process.close(writing)):
            poller = Caller(lambda: process.poll([(reading, select.POLLIN)]))
            asleep(process, "events")
            end()
            assert poller.end()
            if poller.result == [(reading, select.POLLIN)]:
                process.read(reading, 1)
        assert poller.result == [(reading, select.POLLHUP)]


# -- waiting -------------------------------------------------------------------------------------------------------------


def test_a_reader_waits_for_data_and_a_writer_for_room() -> None:
    with Kernel("threads") as kernel:
        process = kernel.process()
        reading, writing = process.pipe()
        reader = Caller(lambda: process.read(reading, 10))
        asleep(process, "data in pipe")
        process.write(writing, b"there")
        assert reader.end() == b"there"
        writer = Caller(lambda: process.write(writing, bytes(3 * CAPACITY)))
        asleep(process, "room in pipe")
        left = 3 * CAPACITY
        while left:
            left -= len(process.read(reading, CAPACITY))
        assert writer.end() == 3 * CAPACITY


def test_on_threads_one_that_has_not_called_yet_may_write_what_a_reader_waits_for() -> None:
    with Kernel("threads") as kernel:
        process = kernel.process()
        reading, writing = process.pipe()
        writer = Caller(lambda: (asleep(process, "data in pipe"), process.write(writing, b"hello")))
        assert process.read(reading, 10) == b"hello"
        assert writer.end() == (None, 5)


def test_a_signal_ends_the_wait_and_what_was_written_by_then_is_told() -> None:
    with Kernel("threads") as kernel:
        process = kernel.process()
        process.signal(signal.SIGUSR1, lambda number: None)
        reading, writing = process.pipe()
        reader = Caller(lambda: process.read(reading, 10))
        asleep(process, "data in pipe")
        process.kill(signal.SIGUSR1)
        assert isinstance(reader.end(), InterruptedError)
        writer = Caller(lambda: process.write(writing, bytes(2 * CAPACITY)))
        asleep(process, "room in pipe")
        process.kill(signal.SIGUSR1)
        assert writer.end() == CAPACITY


def test_a_writer_that_waits_for_room_is_told_when_the_last_reader_goes() -> None:
    with Kernel("threads") as kernel:
        process = kernel.process()
        reading, writing = process.pipe()
        process.write(writing, bytes(CAPACITY))
        writer = Caller(lambda: process.write(writing, b"x"))
        asleep(process, "room in pipe")
        process.close(reading)
        assert isinstance(writer.end(), BrokenPipeError)


def test_a_reader_waits_for_a_splice_out_of_the_pipe_and_gets_what_the_file_did_not_take() -> None:
    class Full(MemoryFS):
        def write(self, *args: Any) -> Any:
            writing.set()
            asleep(reader, "the mutex of pipe")
            raise OSError(errno.ENOSPC, "full")

    with Kernel("threads") as kernel:
        writing = threading.Event()
        kernel.mount(Full({"f": b""}), "/")
        process = kernel.process()
        out, into = process.pipe()
        process.write(into, b"0123456789")
        reader = process.fork()
        reader.close(into)
        process.close(into)
        fd = process.open("/f", os.O_WRONLY)
        splice = Caller(lambda: process.splice(out, fd, 6))
        assert writing.wait(20)
        assert reader.read(out, 100) == b"0123456789"
        assert splice.end().errno == errno.ENOSPC


def test_nobody_takes_the_room_that_a_splice_into_the_pipe_has_found() -> None:
    class Slow(MemoryFS):
        def read(self, *args: Any) -> Any:
            reading.set()
            asleep(writer, "the mutex of pipe")
            return super().read(*args)

    with Kernel("threads") as kernel:
        reading = threading.Event()
        kernel.mount(Slow({"f": b"x" * 100}), "/")
        process = kernel.process()
        out, into = process.pipe()
        writer = process.fork()
        fd = process.open("/f", os.O_RDONLY)
        splice = Caller(lambda: process.splice(fd, into, 100, flags=2))
        assert reading.wait(20)
        written = Caller(lambda: writer.write(into, bytes(CAPACITY - PAGE)))
        assert (splice.end(), written.end()) == (100, CAPACITY - PAGE)
        assert process.read(out, 100) == b"x" * 100


# -- who waits for whom --------------------------------------------------------------------------------------------------


def fifos(kernel: Kernel, *names: str) -> None:
    kernel.mount(MemoryFS(), "/")
    for name in names:
        kernel.process().mkfifo(f"/{name}")


def test_a_reader_that_holds_the_only_writing_end_waits_for_itself() -> None:
    with Kernel() as kernel:
        process = kernel.process("cat")
        reading, writing = process.pipe()
        with pytest.raises(Deadlock, match=r"cat:2, in sys_read, waits on data in pipe:\[\d+\], which only it itself"):
            process.read(reading, 1)
        process.write(writing, b"x")
        assert process.read(reading, 1) == b"x"


def test_a_fifo_whose_other_side_nobody_is_left_to_open_is_a_deadlock() -> None:
    with Kernel() as kernel:
        kernel.mount(MemoryFS(), "/")
        process = kernel.process("cat")
        process.mkfifo("/p")
        for flags, side in ((os.O_RDONLY, "writer"), (os.O_WRONLY, "reader")):
            with pytest.raises(Deadlock) as caught:
                process.open("/p", flags)
            assert (
                f'cat:3, in sys_open, waits on a {side} of FIFO "p", which no task is left to end.'
                in caught.value.words
            )
        assert process.program.files.table == {}
        assert (
            errno_of(lambda: process.open("/p", os.O_WRONLY | os.O_NONBLOCK)) == errno.ENXIO
        )  # no reader was left behind


def test_inline_says_that_another_program_could_help_but_has_no_thread() -> None:
    with Kernel() as kernel:
        fifos(kernel, "p")
        reader, writer = kernel.process("reader"), kernel.process("writer")
        with pytest.raises(Buried, match=r"or writer:\d+ could end\.\nThis one thread") as caught:
            reader.open("/p", os.O_RDONLY)
        assert "Kernel(driver='threads')" in str(caught.value)
        assert writer.open("/p", os.O_RDWR) == 0  # and all goes on


def test_two_programs_that_open_two_fifos_in_opposite_orders_are_drawn_waiting_for_each_other() -> None:
    with Kernel("threads") as kernel:
        fifos(kernel, "p", "q")
        one, other = kernel.process("one"), kernel.process("other")
        first = Caller(lambda: one.open("/p", os.O_RDONLY))
        asleep(one, 'a writer of FIFO "p"')
        second = Caller(lambda: other.open("/q", os.O_RDONLY))
        asleep(other, 'a writer of FIFO "q"')
        waits = kernel.graph().waits
        names = [f"{process.comm}:{process.pid}" for process in (one, other)]
        assert [names[1 - at] in waits[name].enders for at, name in enumerate(names)] == [True, True]
        assert all(waits[name].opaque for name in names)  # a third program may yet be started
        helper = kernel.process("helper")
        helper.open("/p", os.O_WRONLY)
        helper.open("/q", os.O_WRONLY)
        assert (first.end(), second.end()) == (0, 0)


def test_two_programs_that_each_read_before_they_write_are_a_deadlock_where_no_thread_can_come_to_help() -> None:
    driver = Scheduled()
    with Kernel(driver) as kernel:
        parent = kernel.process("sh")
        to_other, from_one = parent.pipe()
        to_one, from_other = parent.pipe()
        one, other = parent.fork(), parent.fork()
        parent.exit()
        for process, reading, theirs in ((one, to_one, (to_other, from_other)), (other, to_other, (to_one, from_one))):
            for fd in theirs:
                process.close(fd)
            driver.begin(process._main, sys_read(process._main, reading, memoryview(bytearray(10))))
        while driver.step():
            pass
        (found,) = kernel.graph().deadlocks()
        assert [wait.what.split(":")[0] for wait in found.waits] == ["data in pipe"] * 2
        assert set(found.tasks) == {f"sh:{one.pid}", f"sh:{other.pid}"}
        one._main.kill(signal.SIGINT)
        other._main.kill(signal.SIGINT)
        while driver.step():
            pass


def test_the_end_of_the_last_program_with_a_writing_end_ends_the_wait() -> None:
    with Kernel("threads") as kernel:
        parent = kernel.process("sh")
        reading, writing = parent.pipe()
        child = parent.fork()
        parent.close(writing)
        reader = Caller(lambda: parent.read(reading, 1))
        asleep(parent, "data in pipe")
        child.kill(signal.SIGKILL)
        assert reader.end() == b""
