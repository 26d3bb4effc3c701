"""Extended attributes and locks."""

from __future__ import annotations

import errno
import fcntl
import os

from .suite import behaviour
from .world import System, World, fails

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE
EX, SH, NB, UN = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB, fcntl.LOCK_UN
BUSY = (errno.EAGAIN, errno.EACCES)


@behaviour("xattr")
def an_extended_attribute_is_read_back(w: World) -> None:
    path = w.make("f")
    w.os.setxattr(path, "user.k", b"some \0 value")
    assert w.os.getxattr(path, "user.k") == b"some \0 value"
    w.os.setxattr(path, "user.k", b"")
    assert w.os.getxattr(path, "user.k") == b""


@behaviour("xattr")
def extended_attributes_are_listed(w: World) -> None:
    path = w.make("f")
    names = {f"user.{number}" for number in range(20)}
    for name in names:
        w.os.setxattr(path, name, b"v")
    assert {name for name in w.os.listxattr(path) if name.startswith("user.")} == names


@behaviour("xattr")
def a_removed_extended_attribute_is_ENODATA(w: World) -> None:
    path = w.make("f")
    w.os.setxattr(path, "user.k", b"v")
    w.os.removexattr(path, "user.k")
    fails(errno.ENODATA, w.os.getxattr, path, "user.k")
    fails(errno.ENODATA, w.os.removexattr, path, "user.k")
    assert "user.k" not in w.os.listxattr(path)


@behaviour("xattr")
def XATTR_CREATE_refuses_what_is_there_and_XATTR_REPLACE_what_is_not(w: World) -> None:
    path = w.make("f")
    fails(errno.ENODATA, w.os.setxattr, path, "user.k", b"1", REPLACE)
    w.os.setxattr(path, "user.k", b"2", CREATE)
    fails(errno.EEXIST, w.os.setxattr, path, "user.k", b"3", CREATE)
    w.os.setxattr(path, "user.k", b"4", REPLACE)
    assert w.os.getxattr(path, "user.k") == b"4"


@behaviour("xattr")
def directories_and_open_files_have_extended_attributes(w: World) -> None:
    path = w.mkdir("d")
    w.os.setxattr(path, "user.k", b"v")
    assert w.os.getxattr(path, "user.k") == b"v"
    with w.open(w.make("f"), os.O_RDWR) as fd:
        w.os.setxattr(fd, "user.k", b"w")
        assert w.os.getxattr(fd, "user.k") == b"w"
        assert "user.k" in w.os.listxattr(fd)


@behaviour("xattr")
def an_attribute_of_255_bytes_can_be_and_one_of_256_is_ERANGE(w: World) -> None:
    path = w.make("f")
    fails(errno.ERANGE, w.os.setxattr, path, "user." + "n" * 251, b"v")
    w.os.setxattr(path, "user." + "n" * 250, b"v")


@behaviour("xattr")
def a_value_of_a_kilobyte_is_kept_and_one_of_more_than_64_is_E2BIG(w: World) -> None:
    path = w.make("f")
    value = os.urandom(1024)
    w.os.setxattr(path, "user.k", value)
    assert w.os.getxattr(path, "user.k") == value
    fails((errno.E2BIG, errno.ENOSPC), w.os.setxattr, path, "user.k", bytes(65_537))


@behaviour("xattr", "symlinks")
def a_symbolic_link_has_no_attributes_of_users(w: World) -> None:
    w.make("f")
    w.os.symlink("f", w / "l")
    fails(errno.EPERM, w.os.setxattr, w / "l", "user.k", b"v", follow_symlinks=False)
    w.os.setxattr(w / "l", "user.k", b"v")
    assert w.os.getxattr(w / "f", "user.k") == b"v"


@behaviour("xattr", "rename")
def extended_attributes_go_with_the_file(w: World) -> None:
    path = w.make("f")
    w.os.setxattr(path, "user.k", b"v")
    w.os.rename(path, w / "g")
    assert w.os.getxattr(w / "g", "user.k") == b"v"


# -- locks --------------------------------------------------------------------------------------------------------


@behaviour("locks")
def an_exclusive_flock_keeps_others_out(w: World) -> None:
    path = w.make("f")
    with w.open(path, os.O_RDWR) as one, w.open(path, os.O_RDWR) as two:
        w.os.flock(one, EX)
        fails(errno.EAGAIN, w.os.flock, two, EX | NB)
        fails(errno.EAGAIN, w.os.flock, two, SH | NB)
        w.os.flock(one, UN)
        w.os.flock(two, EX | NB)


@behaviour("locks")
def shared_flocks_go_together(w: World) -> None:
    path = w.make("f")
    with w.open(path, os.O_RDWR) as one, w.open(path, os.O_RDWR) as two:
        w.os.flock(one, SH)
        w.os.flock(two, SH | NB)
        fails(errno.EAGAIN, w.os.flock, one, EX | NB)


@behaviour("locks")
def a_flock_ends_with_the_last_descriptor_of_its_file(w: World) -> None:
    path = w.make("f")
    with w.open(path, os.O_RDWR) as two:
        one = w.os.open(path, os.O_RDWR)
        w.os.flock(one, EX)
        twin = w.os.dup(one)
        w.os.close(one)
        fails(errno.EAGAIN, w.os.flock, two, EX | NB)
        w.os.close(twin)
        w.os.flock(two, EX | NB)


@behaviour("locks")
def a_POSIX_lock_keeps_other_processes_out_of_its_range(w: World) -> None:
    path = w.make("f", b"0123456789")

    def lock(system: System, start: int, length: int) -> None:
        fd = system.open(path, os.O_RDWR)
        system.lseek(fd, start, os.SEEK_SET)
        system.lockf(fd, os.F_TLOCK, length)

    with w.open(path, os.O_RDWR) as fd:
        w.os.lseek(fd, 2, os.SEEK_SET)
        w.os.lockf(fd, os.F_TLOCK, 4)
        w.os.lockf(fd, os.F_TLOCK, 4)  # one's own is no hindrance
        assert w.in_another_process(lambda system: lock(system, 0, 2)) == 0
        assert w.in_another_process(lambda system: lock(system, 5, 1)) in BUSY
        assert w.in_another_process(lambda system: lock(system, 6, 4)) == 0
        w.os.lockf(fd, os.F_ULOCK, 4)
        assert w.in_another_process(lambda system: lock(system, 5, 1)) == 0


@behaviour("locks")
def a_POSIX_lock_ends_when_its_process_closes_any_descriptor_of_the_file(w: World) -> None:
    path = w.make("f", b"data")

    def lock(system: System) -> None:
        system.lockf(system.open(path, os.O_RDWR), os.F_TLOCK, 0)

    with w.open(path, os.O_RDWR) as fd:
        w.os.lockf(fd, os.F_TLOCK, 0)
        assert w.in_another_process(lock) in BUSY
        w.os.close(w.os.open(path, os.O_RDONLY))
        assert w.in_another_process(lock) == 0


@behaviour("locks")
def a_child_does_not_inherit_POSIX_locks(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDWR) as fd:
        w.os.lockf(fd, os.F_TLOCK, 0)
        assert w.in_another_process(lambda system: system.lockf(fd, os.F_TLOCK, 0)) in BUSY


@behaviour("locks")
def locks_go_with_the_file_and_not_with_its_name(w: World) -> None:
    path = w.make("f")
    with w.open(path, os.O_RDWR) as one:
        w.os.flock(one, EX)
        w.os.unlink(path)
        with w.open(w.make("f"), os.O_RDWR) as two:
            w.os.flock(two, EX | NB)
