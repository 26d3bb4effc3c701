"""Attributes: modes, owners, times."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from .suite import behaviour
from .world import World, fails

LONG_AGO = (1_000_000_001_000_000_002, 1_100_000_003_000_000_004)  # atime and mtime, in nanoseconds


@behaviour()
def chmod_sets_all_twelve_bits_of_a_directory(w: World) -> None:
    path = w.mkdir("d")
    for mode in (0o000, 0o755, 0o1777, 0o700):
        w.os.chmod(path, mode)
        assert w.mode(path) == mode
    w.os.chmod(path, 0o755)


@behaviour()
def chmod_keeps_the_type(w: World) -> None:
    path = w.make("f")
    w.os.chmod(path, 0o7777 & 0o644)
    assert stat.S_ISREG(w.os.stat(path).st_mode)


@behaviour()
def fchmod_changes_an_open_file(w: World) -> None:
    path = w.make("f")
    with w.open(path, os.O_RDONLY) as fd:
        w.os.fchmod(fd, 0o400)
    assert w.mode(path) == 0o400


@behaviour("symlinks")
def chmod_follows_links(w: World) -> None:
    path = w.make("f")
    w.os.symlink("f", w / "l")
    w.os.chmod(w / "l", 0o600)
    assert w.mode(path) == 0o600


@behaviour()
def the_umask_is_taken_from_what_is_made_and_not_from_chmod(w: World) -> None:
    before = w.os.umask(0o077)
    try:
        with w.open(w / "f", os.O_WRONLY | os.O_CREAT, 0o666):
            pass
        w.os.mkdir(w / "d", 0o777)
        assert (w.mode(w / "f"), w.mode(w / "d")) == (0o600, 0o700)
        w.os.chmod(w / "f", 0o666)
        assert w.mode(w / "f") == 0o666
    finally:
        w.os.umask(before)


@behaviour()
def an_inode_has_one_number_whichever_way_it_is_asked(w: World) -> None:
    path = w.make("f")
    with w.open(path, os.O_RDONLY) as fd:
        assert w.os.fstat(fd).st_ino == w.os.stat(path).st_ino
        assert w.os.fstat(fd).st_dev == w.os.stat(w.base).st_dev


@behaviour()
def a_file_of_mode_zero_that_is_being_made_can_be_written(w: World) -> None:
    with w.open(w / "f", os.O_RDWR | os.O_CREAT, 0) as fd:
        w.os.write(fd, b"data")
        assert w.os.pread(fd, 10, 0) == b"data"
    assert w.mode(w / "f") == 0


# -- times --------------------------------------------------------------------------------------------------------


@behaviour()
def times_are_set_to_the_nanosecond(w: World) -> None:
    path = w.make("f")
    w.os.utime(path, ns=LONG_AGO)
    st = w.os.stat(path)
    assert (st.st_atime_ns, st.st_mtime_ns) == LONG_AGO


@behaviour()
def times_are_set_of_directories_and_open_files(w: World) -> None:
    w.os.utime(w.mkdir("d"), ns=LONG_AGO)
    assert w.os.stat(w / "d").st_mtime_ns == LONG_AGO[1]
    with w.open(w.make("f"), os.O_RDWR) as fd:
        w.os.utime(fd, ns=LONG_AGO)
        assert w.os.fstat(fd).st_mtime_ns == LONG_AGO[1]


@behaviour("symlinks")
def times_are_set_of_a_link_itself_when_asked(w: World) -> None:
    path = w.make("f")
    before = w.os.stat(path).st_mtime_ns
    w.os.symlink("f", w / "l")
    w.os.utime(w / "l", ns=LONG_AGO, follow_symlinks=False)
    assert w.os.lstat(w / "l").st_mtime_ns == LONG_AGO[1]
    assert w.os.stat(path).st_mtime_ns == before


@behaviour()
def times_before_1970_are_kept(w: World) -> None:
    path = w.make("f")
    w.os.utime(path, ns=(-1_500_000_000, -2_250_000_000))
    st = w.os.stat(path)
    assert (st.st_atime_ns, st.st_mtime_ns) == (-1_500_000_000, -2_250_000_000)


@behaviour()
def utime_without_times_sets_now(w: World) -> None:
    path = w.make("f")
    w.os.utime(path, ns=LONG_AGO)
    w.os.utime(path)
    assert abs(w.os.stat(path).st_mtime - time.time()) < 3600


@behaviour()
def writing_changes_mtime_and_ctime(w: World) -> None:
    path = w.make("f")
    w.os.utime(path, ns=LONG_AGO)
    with w.open(path, os.O_WRONLY) as fd:
        w.os.write(fd, b"data")
    st = w.os.stat(path)
    assert st.st_mtime_ns > LONG_AGO[1]
    assert st.st_ctime_ns >= st.st_mtime_ns - 10**9


@behaviour()
def truncating_changes_mtime(w: World) -> None:
    path = w.make("f", b"data")
    w.os.utime(path, ns=LONG_AGO)
    w.os.truncate(path, 1)
    assert w.os.stat(path).st_mtime_ns > LONG_AGO[1]


@behaviour()
def O_TRUNC_of_an_empty_file_changes_mtime(w: World) -> None:
    path = w.make("f")
    w.os.utime(path, ns=LONG_AGO)
    with w.open(path, os.O_WRONLY | os.O_TRUNC):
        pass
    assert w.os.stat(path).st_mtime_ns > LONG_AGO[1]


@behaviour()
def chmod_changes_ctime_and_not_mtime(w: World) -> None:
    path = w.make("f")
    w.os.utime(path, ns=LONG_AGO)
    before = w.os.stat(path).st_ctime_ns
    time.sleep(0.02)  # more than a tick of a kernel's clock
    w.os.chmod(path, 0o600)
    st = w.os.stat(path)
    assert st.st_mtime_ns == LONG_AGO[1]
    assert st.st_ctime_ns > before


@behaviour()
def making_and_removing_a_name_changes_the_mtime_of_its_directory(w: World) -> None:
    for change in (
        lambda: w.make("f"),
        lambda: w.os.unlink(w / "f"),
        lambda: w.mkdir("d"),
        lambda: w.os.rmdir(w / "d"),
    ):
        w.os.utime(w.base, ns=LONG_AGO)
        change()
        assert w.os.stat(w.base).st_mtime_ns > LONG_AGO[1]


@behaviour("rename")
def rename_changes_the_mtime_of_both_directories_and_not_of_the_file(w: World) -> None:
    w.mkdir("d")
    w.mkdir("e")
    w.make("d/f")
    for path in ("d", "e", "d/f"):
        w.os.utime(w / path, ns=LONG_AGO)
    w.os.rename(w / "d/f", w / "e/f")
    assert w.os.stat(w / "d").st_mtime_ns > LONG_AGO[1]
    assert w.os.stat(w / "e").st_mtime_ns > LONG_AGO[1]
    assert w.os.stat(w / "e/f").st_mtime_ns == LONG_AGO[1]


@behaviour("hardlinks")
def link_and_unlink_change_the_ctime_of_the_file(w: World) -> None:
    path = w.make("f")
    changes: list[tuple[Callable[..., object], tuple[str, ...]]] = [
        (w.os.link, (path, w / "g")),
        (w.os.unlink, (w / "g",)),
    ]
    for change, names in changes:
        before = w.os.stat(path).st_ctime_ns
        time.sleep(0.02)  # more than a tick of a kernel's clock
        change(*names)
        assert w.os.stat(path).st_ctime_ns > before


# -- owners -------------------------------------------------------------------------------------------------------


@behaviour("chown", root=True)
def chown_sets_owner_and_group_and_minus_one_leaves_them(w: World) -> None:
    path = w.make("f")
    w.os.chown(path, 12, 34)
    assert (w.os.stat(path).st_uid, w.os.stat(path).st_gid) == (12, 34)
    w.os.chown(path, -1, 56)
    assert (w.os.stat(path).st_uid, w.os.stat(path).st_gid) == (12, 56)
    w.os.chown(path, 78, -1)
    assert (w.os.stat(path).st_uid, w.os.stat(path).st_gid) == (78, 56)


@behaviour("chown", "symlinks", root=True)
def lchown_changes_a_link_and_not_what_it_leads_to(w: World) -> None:
    path = w.make("f")
    w.os.symlink("f", w / "l")
    w.os.chown(w / "l", 12, 34, follow_symlinks=False)
    assert w.os.lstat(w / "l").st_uid == 12
    assert w.os.stat(path).st_uid == 0


@behaviour("chown", root=True)
def what_a_user_makes_is_the_users(w: World) -> None:
    w.os.chmod(w.base, 0o777)
    with w.as_user(1234, 2345):
        w.make("f")
        w.mkdir("d")
    for name in ("f", "d"):
        st = w.os.stat(w / name)
        assert (st.st_uid, st.st_gid) == (1234, 2345)


@behaviour("chown", root=True)
def a_directory_with_the_set_group_ID_bit_hands_its_group_on(w: World) -> None:
    path = w.mkdir("d")
    w.os.chown(path, 1234, 777)
    w.os.chmod(path, 0o2777)
    with w.as_user(1234, 2345):
        with w.open(w / "d/f", os.O_WRONLY | os.O_CREAT, 0o644):
            pass
        w.os.mkdir(w / "d/e")
    assert w.os.stat(w / "d/f").st_gid == 777
    assert w.os.stat(w / "d/e").st_gid == 777
    assert w.mode(w / "d/e") & stat.S_ISGID
    assert not w.mode(w / "d/f") & stat.S_ISGID


@behaviour("chown", root=True)
def chown_by_a_user_clears_the_set_ID_bits(w: World) -> None:
    path = w.make("f")
    w.os.chown(path, 1234, 1)
    w.os.chmod(path, 0o6755)
    with w.as_user(1234, 1, (2,)):
        w.os.chown(path, -1, 2)
    assert w.mode(path) == 0o755


@behaviour("chown", root=True)
def writing_by_a_user_clears_the_set_ID_bits(w: World) -> None:
    path = w.make("f", b"data")
    w.os.chown(path, 1234, 1234)
    w.os.chmod(path, 0o6755)
    with w.as_user(1234, 1234), w.open(path, os.O_WRONLY) as fd:
        w.os.write(fd, b"x")
    assert w.mode(path) == 0o755


@behaviour("chown", root=True)
def truncating_by_a_user_clears_the_set_ID_bits(w: World) -> None:
    path = w.make("f", b"data")
    w.os.chown(path, 1234, 1234)
    w.os.chmod(path, 0o6755)
    with w.as_user(1234, 1234):
        w.os.truncate(path, 1)
    assert w.mode(path) == 0o755


@behaviour("chown", root=True)
def chmod_by_a_user_of_another_group_loses_the_set_group_ID_bit(w: World) -> None:
    path = w.make("f")
    w.os.chown(path, 1234, 777)
    with w.as_user(1234, 1234):
        w.os.chmod(path, 0o2755)
    assert w.mode(path) == 0o755


@behaviour()
def chmod_and_utime_of_what_is_not_there_are_ENOENT(w: World) -> None:
    fails(errno.ENOENT, w.os.chmod, w / "f", 0o600)
    fails(errno.ENOENT, w.os.utime, w / "f")
    fails(errno.ENOENT, w.os.chown, w / "f", -1, -1)
