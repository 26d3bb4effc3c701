"""Open flags, reading, writing, descriptors."""

from __future__ import annotations

import errno
import os

from .suite import behaviour
from .world import World, fails

RW = os.O_RDWR | os.O_CREAT


@behaviour()
def a_new_file_is_empty_and_has_the_mode_asked_for_less_the_umask(w: World) -> None:
    with w.open(w / "f", RW | os.O_EXCL, 0o666) as fd:
        assert w.os.fstat(fd).st_size == 0
        assert w.os.read(fd, 10) == b""
    assert w.mode(w / "f") == 0o644


@behaviour()
def what_is_written_is_read_back(w: World) -> None:
    data = bytes(range(256)) * 300
    assert w.contents(w.make("f", data)) == data


@behaviour()
def a_large_file_is_read_back(w: World) -> None:
    data = os.urandom(3 << 20)
    path = w / "f"
    with w.open(path, RW) as fd:
        view = memoryview(data)
        while view:
            view = view[w.os.write(fd, view) :]
    assert w.contents(path) == data


@behaviour()
def opening_what_is_not_there_is_ENOENT(w: World) -> None:
    fails(errno.ENOENT, w.os.open, w / "f", os.O_RDONLY)
    assert not w.exists(w / "f")


@behaviour()
def O_EXCL_refuses_what_is_there(w: World) -> None:
    path = w.make("f", b"data")
    fails(errno.EEXIST, w.os.open, path, RW | os.O_EXCL)
    assert w.contents(path) == b"data"


@behaviour("symlinks")
def O_EXCL_refuses_a_link_that_leads_nowhere(w: World) -> None:
    w.os.symlink("nowhere", w / "l")
    fails(errno.EEXIST, w.os.open, w / "l", RW | os.O_EXCL)
    assert not w.exists(w / "nowhere")


@behaviour("symlinks")
def O_CREAT_makes_what_a_link_leads_to(w: World) -> None:
    w.os.symlink("target", w / "l")
    with w.open(w / "l", RW) as fd:
        w.os.write(fd, b"data")
    assert w.contents(w / "target") == b"data"


@behaviour()
def O_CREAT_opens_what_is_there_and_leaves_its_mode(w: World) -> None:
    path = w.make("f", b"data", 0o600)
    with w.open(path, RW, 0o777) as fd:
        assert w.os.read(fd, 10) == b"data"
    assert w.mode(path) == 0o600


@behaviour()
def O_TRUNC_empties_a_file(w: World) -> None:
    path = w.make("f", b"data")
    with w.open(path, os.O_WRONLY | os.O_TRUNC) as fd:
        assert w.os.fstat(fd).st_size == 0
    assert w.contents(path) == b""


@behaviour()
def O_APPEND_writes_at_the_end_wherever_the_descriptor_stands(w: World) -> None:
    path = w.make("f", b"0123")
    with w.open(path, os.O_RDWR | os.O_APPEND) as fd:
        w.os.lseek(fd, 1, os.SEEK_SET)
        w.os.write(fd, b"45")
        assert w.os.lseek(fd, 0, os.SEEK_CUR) == 6
    assert w.contents(path) == b"012345"


@behaviour()
def two_descriptors_that_append_do_not_overwrite_each_other(w: World) -> None:
    path = w.make("f")
    with w.open(path, os.O_WRONLY | os.O_APPEND) as one, w.open(path, os.O_WRONLY | os.O_APPEND) as two:
        for fd, data in ((one, b"a"), (two, b"b"), (one, b"c"), (two, b"d")):
            w.os.write(fd, data)
    assert w.contents(path) == b"abcd"


@behaviour()
def pwrite_on_a_descriptor_that_appends_appends_as_it_does_on_Linux(w: World) -> None:
    path = w.make("f", b"0123")
    with w.open(path, os.O_WRONLY | os.O_APPEND) as fd:
        w.os.pwrite(fd, b"45", 0)
    assert w.contents(path) == b"012345"


@behaviour()
def O_DIRECTORY_refuses_a_file(w: World) -> None:
    fails(errno.ENOTDIR, w.os.open, w.make("f"), os.O_RDONLY | os.O_DIRECTORY)


@behaviour("symlinks")
def O_NOFOLLOW_refuses_a_link(w: World) -> None:
    w.make("f")
    w.os.symlink("f", w / "l")
    fails(errno.ELOOP, w.os.open, w / "l", os.O_RDONLY | os.O_NOFOLLOW)


@behaviour()
def a_directory_cannot_be_opened_for_writing(w: World) -> None:
    fails(errno.EISDIR, w.os.open, w.mkdir("d"), os.O_WRONLY)
    fails(errno.EISDIR, w.os.open, w / "d", os.O_RDWR | os.O_CREAT)


@behaviour()
def reading_a_directory_as_a_file_is_EISDIR(w: World) -> None:
    with w.open(w.mkdir("d"), os.O_RDONLY) as fd:
        fails(errno.EISDIR, w.os.read, fd, 10)


@behaviour()
def a_descriptor_for_reading_cannot_write(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDONLY) as fd:
        fails(errno.EBADF, w.os.write, fd, b"x")
        fails((errno.EBADF, errno.EINVAL), w.os.ftruncate, fd, 0)


@behaviour()
def a_descriptor_for_writing_cannot_read(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_WRONLY) as fd:
        fails(errno.EBADF, w.os.read, fd, 1)


@behaviour()
def a_closed_descriptor_is_EBADF(w: World) -> None:
    fd = w.os.open(w.make("f"), os.O_RDWR)
    w.os.close(fd)
    fails(errno.EBADF, w.os.read, fd, 1)
    fails(errno.EBADF, w.os.write, fd, b"x")
    fails(errno.EBADF, w.os.fstat, fd)
    fails(errno.EBADF, w.os.close, fd)


@behaviour()
def O_PATH_opens_for_stat_and_not_for_reading(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_PATH) as fd:
        assert w.os.fstat(fd).st_size == 4
        fails(errno.EBADF, w.os.read, fd, 1)


@behaviour()
def pread_and_pwrite_leave_the_offset_alone(w: World) -> None:
    with w.open(w.make("f", b"0123456789"), os.O_RDWR) as fd:
        w.os.lseek(fd, 3, os.SEEK_SET)
        assert w.os.pread(fd, 2, 7) == b"78"
        assert w.os.pwrite(fd, b"xx", 0) == 2
        assert w.os.lseek(fd, 0, os.SEEK_CUR) == 3
        assert w.os.read(fd, 2) == b"34"


@behaviour()
def reading_behind_the_end_gives_nothing(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDONLY) as fd:
        assert w.os.pread(fd, 10, 4) == b""
        assert w.os.pread(fd, 10, 1 << 40) == b""
        assert w.os.pread(fd, 10, 2) == b"ta"


@behaviour()
def writing_nothing_changes_nothing(w: World) -> None:
    path = w.make("f", b"data")
    with w.open(path, os.O_WRONLY) as fd:
        assert w.os.pwrite(fd, b"", 100) == 0
    assert w.os.stat(path).st_size == 4


@behaviour()
def negative_offsets_are_EINVAL(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDWR) as fd:
        fails(errno.EINVAL, w.os.pread, fd, 1, -1)
        fails(errno.EINVAL, w.os.pwrite, fd, b"x", -1)
        fails(errno.EINVAL, w.os.lseek, fd, -1, os.SEEK_SET)


@behaviour()
def seeking_is_from_the_start_the_place_and_the_end(w: World) -> None:
    with w.open(w.make("f", b"0123456789"), os.O_RDONLY) as fd:
        assert w.os.lseek(fd, 4, os.SEEK_SET) == 4
        assert w.os.lseek(fd, 2, os.SEEK_CUR) == 6
        assert w.os.lseek(fd, -3, os.SEEK_END) == 7
        assert w.os.read(fd, 10) == b"789"
        assert w.os.lseek(fd, 100, os.SEEK_END) == 110
        assert w.os.read(fd, 1) == b""


@behaviour()
def a_write_is_seen_at_once_through_another_descriptor(w: World) -> None:
    path = w.make("f", b"old")
    with w.open(path, os.O_RDWR) as one, w.open(path, os.O_RDWR) as two:
        assert w.os.pread(two, 3, 0) == b"old"
        w.os.pwrite(one, b"new!", 0)
        assert w.os.pread(two, 10, 0) == b"new!"
        assert w.os.fstat(two).st_size == 4


@behaviour()
def dup_shares_the_offset(w: World) -> None:
    with w.open(w.make("f", b"0123"), os.O_RDONLY) as fd:
        twin = w.os.dup(fd)
        assert w.os.read(fd, 2) == b"01"
        assert w.os.read(twin, 2) == b"23"
        w.os.close(twin)
        assert w.os.pread(fd, 1, 0) == b"0"


@behaviour()
def scattered_reads_and_gathered_writes_are_in_order(w: World) -> None:
    with w.open(w / "f", RW) as fd:
        assert w.os.writev(fd, [b"one", b"", b"two"]) == 6
        buffers = [bytearray(2), bytearray(10)]
        assert w.os.preadv(fd, buffers, 1) == 5
        assert buffers[0] + buffers[1][:3] == b"netwo"


@behaviour()
def an_unlinked_file_lives_while_it_is_open(w: World) -> None:
    path = w.make("f", b"data")
    with w.open(path, os.O_RDWR) as fd:
        w.os.unlink(path)
        assert not w.exists(path)
        assert w.os.read(fd, 10) == b"data"
        w.os.write(fd, b" and more")
        assert w.os.pread(fd, 100, 0) == b"data and more"
        assert w.os.fstat(fd).st_nlink == 0
        w.os.ftruncate(fd, 4)
        w.os.fchmod(fd, 0o600)
        assert w.os.fstat(fd).st_size == 4


@behaviour()
def a_name_can_be_used_again_while_the_old_file_is_open(w: World) -> None:
    path = w.make("f", b"old")
    with w.open(path, os.O_RDONLY) as fd:
        w.os.unlink(path)
        w.make("f", b"new")
        assert w.os.read(fd, 10) == b"old"
        assert w.contents(path) == b"new"


@behaviour("rename")
def a_file_that_is_renamed_over_lives_while_it_is_open(w: World) -> None:
    old, new = w.make("old", b"old"), w.make("new", b"new")
    with w.open(old, os.O_RDONLY) as fd:
        w.os.rename(new, old)
        assert w.os.read(fd, 10) == b"old"
        assert w.contents(old) == b"new"


@behaviour()
def fsync_and_fdatasync_succeed_on_files_and_fsync_on_directories(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDWR) as fd:
        w.os.fsync(fd)
        w.os.fdatasync(fd)
    with w.open(w.base, os.O_RDONLY) as fd:
        w.os.fsync(fd)


@behaviour("tmpfile")
def a_file_without_a_name_can_be_given_one(w: World) -> None:
    with w.open(w.base, os.O_TMPFILE | os.O_RDWR, 0o600) as fd:
        w.os.write(fd, b"data")
        assert w.os.listdir(w.base) == []
        assert w.os.fstat(fd).st_nlink == 0


@behaviour("tmpfile", "hardlinks", root=True)
def a_file_without_a_name_is_linked_by_its_descriptor(w: World) -> None:
    with w.open(w.base, os.O_TMPFILE | os.O_RDWR, 0o600) as fd:
        w.os.write(fd, b"data")
        w.os.link(fd, w / "f")
        assert w.os.fstat(fd).st_nlink == 1
    assert w.contents(w / "f") == b"data"


@behaviour()
def O_APPEND_can_be_set_and_cleared_on_an_open_file(w: World) -> None:
    path = w.make("f", b"0123")
    with w.open(path, os.O_RDWR) as fd:
        w.os.setfl(fd, w.os.getfl(fd) | os.O_APPEND)
        w.os.write(fd, b"4")
        w.os.setfl(fd, w.os.getfl(fd) & ~os.O_APPEND)
        w.os.pwrite(fd, b"x", 0)
    assert w.contents(path) == b"x1234"
