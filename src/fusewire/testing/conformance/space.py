"""Sizes: holes, truncation, allocation, seeking data and holes, statvfs."""

from __future__ import annotations

import errno
import os

from .suite import behaviour
from .world import World, fails

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


@behaviour()
def a_hole_reads_as_zeros(w: World) -> None:
    path = w / "f"
    with w.open(path, os.O_RDWR | os.O_CREAT) as fd:
        w.os.pwrite(fd, b"end", 100_000)
        assert w.os.pread(fd, 10, 50_000) == bytes(10)
    assert w.contents(path) == bytes(100_000) + b"end"


@behaviour()
def writing_behind_the_end_fills_the_gap_with_zeros(w: World) -> None:
    path = w.make("f", b"data")
    with w.open(path, os.O_WRONLY) as fd:
        w.os.lseek(fd, 8, os.SEEK_SET)
        w.os.write(fd, b"x")
    assert w.contents(path) == b"data\0\0\0\0x"


@behaviour()
def a_sparse_file_can_be_larger_than_four_gigabytes(w: World) -> None:
    path = w / "f"
    with w.open(path, os.O_RDWR | os.O_CREAT) as fd:
        w.os.pwrite(fd, b"far", 5 << 30)
        assert w.os.fstat(fd).st_size == (5 << 30) + 3
        assert w.os.pread(fd, 5, (5 << 30) - 1) == b"\0far"


@behaviour()
def truncate_cuts_and_stretches(w: World) -> None:
    path = w.make("f", b"0123456789")
    w.os.truncate(path, 4)
    assert w.contents(path) == b"0123"
    w.os.truncate(path, 6)
    assert w.contents(path) == b"0123\0\0"


@behaviour()
def what_was_cut_off_does_not_come_back(w: World) -> None:
    path = w.make("f", b"x" * 10_000)
    w.os.truncate(path, 5)
    w.os.truncate(path, 10_000)
    assert w.contents(path) == b"x" * 5 + bytes(9995)


@behaviour()
def ftruncate_leaves_the_offset_alone(w: World) -> None:
    path = w.make("f", b"0123456789")
    with w.open(path, os.O_RDWR) as fd:
        w.os.lseek(fd, 8, os.SEEK_SET)
        w.os.ftruncate(fd, 2)
        assert w.os.lseek(fd, 0, os.SEEK_CUR) == 8
        w.os.write(fd, b"x")
    assert w.contents(path) == b"01\0\0\0\0\0\0x"


@behaviour()
def truncating_to_a_negative_size_is_EINVAL(w: World) -> None:
    path = w.make("f", b"data")
    fails(errno.EINVAL, w.os.truncate, path, -1)
    assert w.contents(path) == b"data"


@behaviour()
def truncating_a_directory_is_EISDIR(w: World) -> None:
    fails(errno.EISDIR, w.os.truncate, w.mkdir("d"), 0)


@behaviour()
def truncating_what_is_not_there_is_ENOENT(w: World) -> None:
    fails(errno.ENOENT, w.os.truncate, w / "f", 0)
    assert not w.exists(w / "f")


@behaviour("fallocate")
def allocating_grows_a_file_with_zeros(w: World) -> None:
    path = w.make("f", b"data")
    with w.open(path, os.O_RDWR) as fd:
        w.os.fallocate(fd, 0, 2, 10_000)
    assert w.contents(path) == b"data" + bytes(9998)


@behaviour("fallocate")
def allocating_inside_a_file_changes_nothing(w: World) -> None:
    path = w.make("f", b"0123456789")
    with w.open(path, os.O_RDWR) as fd:
        w.os.posix_fallocate(fd, 0, 5)
    assert w.contents(path) == b"0123456789"


@behaviour("fallocate")
def KEEP_SIZE_allocates_behind_the_end_and_leaves_the_size(w: World) -> None:
    path = w.make("f", b"data")
    with w.open(path, os.O_RDWR) as fd:
        w.os.fallocate(fd, KEEP_SIZE, 0, 100_000)
    assert w.contents(path) == b"data"


@behaviour("fallocate")
def allocating_nothing_or_at_a_negative_offset_is_EINVAL(w: World) -> None:
    with w.open(w.make("f"), os.O_RDWR) as fd:
        fails(errno.EINVAL, w.os.fallocate, fd, 0, 0, 0)
        fails(errno.EINVAL, w.os.fallocate, fd, 0, -1, 5)


@behaviour("fallocate")
def allocating_through_a_descriptor_for_reading_is_EBADF(w: World) -> None:
    with w.open(w.make("f"), os.O_RDONLY) as fd:
        fails(errno.EBADF, w.os.fallocate, fd, 0, 0, 10)


@behaviour("punch hole")
def a_punched_hole_reads_as_zeros_and_the_size_stays(w: World) -> None:
    path = w.make("f", b"x" * 20_000)
    with w.open(path, os.O_RDWR) as fd:
        w.os.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 3, 15_000)
    assert w.contents(path) == b"xxx" + bytes(15_000) + b"x" * 4997


@behaviour("punch hole")
def punching_a_hole_without_KEEP_SIZE_is_refused(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDWR) as fd:
        fails((errno.EOPNOTSUPP, errno.EINVAL), w.os.fallocate, fd, PUNCH_HOLE, 0, 4)


@behaviour()
def SEEK_DATA_and_SEEK_HOLE_find_what_is_there(w: World) -> None:
    with w.open(w.make("f", b"x" * 5000), os.O_RDWR) as fd:
        assert w.os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert w.os.lseek(fd, 4999, os.SEEK_DATA) == 4999
        assert w.os.lseek(fd, 0, os.SEEK_HOLE) == 5000


@behaviour()
def SEEK_DATA_and_SEEK_HOLE_behind_the_end_are_ENXIO(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDWR) as fd:
        fails(errno.ENXIO, w.os.lseek, fd, 4, os.SEEK_DATA)
        fails(errno.ENXIO, w.os.lseek, fd, 4, os.SEEK_HOLE)


@behaviour()
def copy_file_range_copies_between_files(w: World) -> None:
    target = w.make("g", b"old")
    with w.open(w.make("f", b"0123456789"), os.O_RDONLY) as source, w.open(target, os.O_RDWR) as fd:
        assert w.os.copy_file_range(source, fd, 5, 2, 1) == 5
        assert w.os.copy_file_range(source, fd, 5, 10, 0) == 0
    assert w.contents(target) == b"o23456"


@behaviour()
def copy_file_range_onto_itself_is_EINVAL(w: World) -> None:
    with w.open(w.make("f", b"0123456789"), os.O_RDWR) as fd:
        fails(errno.EINVAL, w.os.copy_file_range, fd, fd, 5, 0, 2)


@behaviour()
def statvfs_has_sizes_that_make_sense(w: World) -> None:
    st = w.os.statvfs(w.base)
    assert st.f_bsize > 0
    assert st.f_blocks >= st.f_bfree >= st.f_bavail >= 0
    assert st.f_namemax >= 1
    with w.open(w.base, os.O_RDONLY) as fd:
        assert w.os.fstatvfs(fd).f_bsize == st.f_bsize


@behaviour()
def an_empty_file_has_no_blocks_and_a_full_one_has_some(w: World) -> None:
    assert w.os.stat(w.make("empty")).st_blocks == 0
    with w.open(w.make("full", b"x" * 100_000), os.O_RDWR) as fd:
        w.os.fsync(fd)
        assert w.os.fstat(fd).st_blocks > 0
