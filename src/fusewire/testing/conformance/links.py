"""Hard links, symbolic links, special files."""

from __future__ import annotations

import errno
import os
import stat

from .suite import behaviour
from .world import World, fails


@behaviour("hardlinks")
def a_link_is_another_name_of_the_same_file(w: World) -> None:
    path = w.make("f", b"data")
    w.os.link(path, w / "g")
    one, two = w.os.stat(path), w.os.stat(w / "g")
    assert (one.st_ino, one.st_nlink) == (two.st_ino, two.st_nlink)
    assert one.st_nlink == 2
    with w.open(w / "g", os.O_WRONLY | os.O_APPEND) as fd:
        w.os.write(fd, b"more")
    assert w.contents(path) == b"datamore"


@behaviour("hardlinks")
def a_file_lives_until_its_last_name_is_removed(w: World) -> None:
    path = w.make("f", b"data")
    w.os.link(path, w / "g")
    w.os.unlink(path)
    assert w.os.stat(w / "g").st_nlink == 1
    assert w.contents(w / "g") == b"data"


@behaviour("hardlinks")
def a_change_of_mode_shows_under_every_name(w: World) -> None:
    path = w.make("f")
    w.os.link(path, w / "g")
    w.os.chmod(w / "g", 0o600)
    assert w.mode(path) == 0o600


@behaviour("hardlinks")
def link_over_anything_is_EEXIST(w: World) -> None:
    path = w.make("f")
    w.make("g")
    w.mkdir("d")
    fails(errno.EEXIST, w.os.link, path, w / "g")
    fails(errno.EEXIST, w.os.link, path, w / "d")
    assert w.os.stat(path).st_nlink == 1


@behaviour("hardlinks")
def link_of_a_directory_is_EPERM(w: World) -> None:
    fails(errno.EPERM, w.os.link, w.mkdir("d"), w / "e")


@behaviour("hardlinks")
def link_of_what_is_not_there_is_ENOENT(w: World) -> None:
    fails(errno.ENOENT, w.os.link, w / "f", w / "g")
    fails(errno.ENOENT, w.os.link, w.make("h"), w / "no/g")


@behaviour("hardlinks", "symlinks")
def link_of_a_symbolic_link_is_one_more_name_of_the_link(w: World) -> None:
    w.os.symlink("nowhere", w / "l")
    w.os.link(w / "l", w / "m", follow_symlinks=False)
    assert w.os.readlink(w / "m") == "nowhere"
    assert w.os.lstat(w / "l").st_nlink == 2


@behaviour("hardlinks", "symlinks")
def link_follows_a_symbolic_link_when_asked_to(w: World) -> None:
    path = w.make("f")
    w.os.symlink("f", w / "l")
    w.os.link(w / "l", w / "g", follow_symlinks=True)
    assert w.os.lstat(w / "g").st_ino == w.os.stat(path).st_ino


@behaviour("symlinks")
def a_symbolic_link_keeps_its_target_as_it_was_written(w: World) -> None:
    for number, target in enumerate(("a", "/abs/olute", "../x", "ä b", "t" * 1000, "no//clean/./up/")):
        path = w / str(number)
        w.os.symlink(target, path)
        assert w.os.readlink(path) == target
        assert w.os.lstat(path).st_size == len(os.fsencode(target))
        assert stat.S_ISLNK(w.os.lstat(path).st_mode)


@behaviour("symlinks")
def symlink_over_anything_is_EEXIST(w: World) -> None:
    w.os.symlink("x", w / "l")
    fails(errno.EEXIST, w.os.symlink, "y", w / "l")
    fails(errno.EEXIST, w.os.symlink, "y", w.make("f"))
    assert w.os.readlink(w / "l") == "x"


@behaviour("symlinks")
def an_empty_target_is_ENOENT(w: World) -> None:
    fails(errno.ENOENT, w.os.symlink, "", w / "l")


@behaviour("symlinks")
def readlink_of_what_is_no_link_is_EINVAL(w: World) -> None:
    fails(errno.EINVAL, w.os.readlink, w.make("f"))
    fails(errno.EINVAL, w.os.readlink, w.mkdir("d"))


@behaviour("symlinks")
def unlink_removes_a_link_and_not_what_it_leads_to(w: World) -> None:
    path = w.make("f", b"data")
    w.os.symlink("f", w / "l")
    w.os.unlink(w / "l")
    assert w.contents(path) == b"data"


@behaviour("symlinks")
def rmdir_of_a_link_to_a_directory_is_ENOTDIR(w: World) -> None:
    w.mkdir("d")
    w.os.symlink("d", w / "l")
    fails(errno.ENOTDIR, w.os.rmdir, w / "l")


@behaviour("special files")
def a_FIFO_is_made_and_shown_as_one(w: World) -> None:
    w.os.mkfifo(w / "p", 0o640)
    st = w.os.lstat(w / "p")
    assert stat.S_ISFIFO(st.st_mode)
    assert stat.S_IMODE(st.st_mode) == 0o640
    w.os.unlink(w / "p")


@behaviour("special files")
def a_socket_and_a_regular_file_are_made_by_mknod(w: World) -> None:
    w.os.mknod(w / "s", stat.S_IFSOCK | 0o600)
    w.os.mknod(w / "f", stat.S_IFREG | 0o600)
    assert stat.S_ISSOCK(w.os.lstat(w / "s").st_mode)
    assert stat.S_ISREG(w.os.lstat(w / "f").st_mode)
    fails(errno.ENXIO, w.os.open, w / "s", os.O_RDONLY)


@behaviour("special files", root=True)
def a_device_keeps_its_number(w: World) -> None:
    w.os.mknod(w / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    st = w.os.lstat(w / "null")
    assert stat.S_ISCHR(st.st_mode)
    assert (os.major(st.st_rdev), os.minor(st.st_rdev)) == (1, 3)


@behaviour("special files")
def mknod_over_anything_is_EEXIST(w: World) -> None:
    fails(errno.EEXIST, w.os.mknod, w.make("f"), stat.S_IFIFO | 0o644)


@behaviour("special files")
def mknod_makes_no_directories(w: World) -> None:
    fails((errno.EPERM, errno.EINVAL), w.os.mknod, w / "d", stat.S_IFDIR | 0o755)
