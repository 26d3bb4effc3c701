"""From one file to another: sendfile, splice, pipes and FIFOs, and advice on what will be read."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from .suite import behaviour
from .world import World, fails


@contextlib.contextmanager
def pipe(w: World) -> Iterator[tuple[int, int]]:
    ends = w.os.pipe()
    try:
        yield ends
    finally:
        for fd in ends:
            w.os.close(fd)


@behaviour()
def sendfile_moves_from_the_offset_that_it_is_given(w: World) -> None:
    target = w.make("g", b"old contents")
    with w.open(w.make("f", b"0123456789"), os.O_RDONLY) as source, w.open(target, os.O_RDWR) as fd:
        assert w.os.sendfile(fd, source, 2, 5) == 5
        assert w.os.lseek(source, 0, os.SEEK_CUR) == 0
        assert w.os.lseek(fd, 0, os.SEEK_CUR) == 5
    assert w.contents(target) == b"23456ontents"


@behaviour()
def sendfile_without_an_offset_moves_on_in_the_source(w: World) -> None:
    target = w.make("g")
    with w.open(w.make("f", b"0123456789"), os.O_RDONLY) as source, w.open(target, os.O_WRONLY) as fd:
        w.os.lseek(source, 6, os.SEEK_SET)
        assert w.os.sendfile(fd, source, None, 100) == 4
        assert w.os.sendfile(fd, source, None, 100) == 0
        assert w.os.lseek(source, 0, os.SEEK_CUR) == 10
    assert w.contents(target) == b"6789"


@behaviour()
def sendfile_to_a_file_that_appends_is_EINVAL(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDONLY) as source, w.open(w.make("g"), os.O_WRONLY | os.O_APPEND) as fd:
        fails(errno.EINVAL, w.os.sendfile, fd, source, 0, 4)


@behaviour()
def sendfile_wants_one_to_read_and_one_to_write(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDONLY) as reads, w.open(w.make("g"), os.O_WRONLY) as writes:
        fails(errno.EBADF, w.os.sendfile, reads, reads, 0, 4)
        fails(errno.EBADF, w.os.sendfile, writes, writes, 0, 4)


@behaviour()
def splice_moves_through_a_pipe(w: World) -> None:
    target = w.make("g", b"old contents")
    with (
        pipe(w) as (out, into),
        w.open(w.make("f", b"0123456789"), os.O_RDONLY) as source,
        w.open(target, os.O_RDWR) as fd,
    ):
        assert w.os.splice(source, into, 6, 3) == 6
        assert w.os.splice(source, into, 2) == 2
        assert w.os.lseek(source, 0, os.SEEK_CUR) == 2
        assert w.os.splice(out, fd, 6, None, 4) == 6
        assert w.os.splice(out, fd, 100) == 2
        assert w.os.lseek(fd, 0, os.SEEK_CUR) == 2
    assert w.contents(target) == b"01d 345678ts"


@behaviour()
def splice_at_the_end_of_a_file_moves_nothing(w: World) -> None:
    with pipe(w) as (_, into), w.open(w.make("f", b"data"), os.O_RDONLY) as source:
        assert w.os.splice(source, into, 10, 4) == 0


@behaviour()
def splice_wants_a_pipe_and_no_offset_in_it(w: World) -> None:
    with pipe(w) as (out, into), w.open(w.make("f", b"data"), os.O_RDWR) as fd:
        with w.open(w.make("g"), os.O_RDWR) as other:
            fails(errno.EINVAL, w.os.splice, fd, other, 4)
        fails(errno.ESPIPE, w.os.splice, fd, into, 4, 0, 0)
        fails(errno.ESPIPE, w.os.splice, out, fd, 4, 0, 0)
        fails(errno.EINVAL, w.os.splice, out, into, 4)
        fails(errno.EBADF, w.os.splice, into, fd, 4)


@behaviour()
def splice_into_a_file_that_appends_is_EINVAL(w: World) -> None:
    with pipe(w) as (out, into), w.open(w.make("f"), os.O_WRONLY | os.O_APPEND) as fd:
        w.os.write(into, b"data")
        fails(errno.EINVAL, w.os.splice, out, fd, 4)
        assert w.os.read(out, 4) == b"data"


@behaviour("special files")
def what_is_written_into_a_fifo_is_read_from_it_and_its_size_stays_0(w: World) -> None:
    path = w / "fifo"
    w.os.mkfifo(path)
    with w.open(path, os.O_RDWR) as fd:
        assert w.os.write(fd, b"through") == 7
        assert w.os.read(fd, 100) == b"through"
    assert w.os.stat(path).st_size == 0


@behaviour("special files")
def a_fifo_that_nobody_reads_is_ENXIO_for_who_does_not_wait(w: World) -> None:
    w.os.mkfifo(w / "fifo")
    fails(errno.ENXIO, w.os.open, w / "fifo", os.O_WRONLY | os.O_NONBLOCK)


@behaviour()
def advice_on_reading_changes_nothing_that_is_read(w: World) -> None:
    data = bytes(range(256)) * 64
    with w.open(w.make("f", data), os.O_RDWR) as fd:
        for advice in range(os.POSIX_FADV_NORMAL, os.POSIX_FADV_NOREUSE + 1):
            w.os.posix_fadvise(fd, 0, 0, advice)
            w.os.pwrite(fd, data[advice * 100 :][:100], advice * 100)
            assert w.os.pread(fd, len(data), 0) == data


@behaviour()
def advice_that_is_none_is_EINVAL_and_any_on_a_pipe_ESPIPE(w: World) -> None:
    with w.open(w.make("f"), os.O_RDWR) as fd, pipe(w) as (out, _):
        fails(errno.EINVAL, w.os.posix_fadvise, fd, 0, 0, 99)
        fails(errno.ESPIPE, w.os.posix_fadvise, out, 0, 0, os.POSIX_FADV_NORMAL)
