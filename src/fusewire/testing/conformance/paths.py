"""Walking paths: what is no directory, links that go in circles, lengths, descriptors of directories."""

from __future__ import annotations

import errno
import os

from .suite import behaviour
from .world import World, fails


@behaviour()
def a_file_in_the_midst_of_a_path_is_ENOTDIR(w: World) -> None:
    w.make("f")
    for call in (w.os.stat, w.os.unlink, w.os.rmdir, w.os.mkdir, w.os.listdir):
        fails(errno.ENOTDIR, call, w / "f/x")
    fails(errno.ENOTDIR, w.os.open, w / "f/x", os.O_WRONLY | os.O_CREAT)


@behaviour()
def a_missing_directory_in_a_path_is_ENOENT(w: World) -> None:
    for call in (w.os.stat, w.os.unlink, w.os.rmdir, w.os.mkdir, w.os.listdir):
        fails(errno.ENOENT, call, w / "no/x")
    fails(errno.ENOENT, w.os.open, w / "no/x", os.O_WRONLY | os.O_CREAT)


@behaviour()
def the_empty_path_is_ENOENT(w: World) -> None:
    for call in (w.os.stat, w.os.unlink, w.os.mkdir):
        fails(errno.ENOENT, call, "")


@behaviour()
def a_file_with_a_slash_behind_it_is_ENOTDIR(w: World) -> None:
    w.make("f")
    fails(errno.ENOTDIR, w.os.stat, w / "f/")
    fails(errno.ENOTDIR, w.os.unlink, w / "f/")
    fails(errno.ENOTDIR, w.os.open, w / "f/", os.O_RDONLY)


@behaviour()
def O_CREAT_with_a_slash_behind_the_name_is_EISDIR(w: World) -> None:
    fails(errno.EISDIR, w.os.open, w / "f/", os.O_WRONLY | os.O_CREAT)
    assert not w.exists(w / "f")


@behaviour()
def many_slashes_are_one(w: World) -> None:
    w.mkdir("d")
    w.make("d/f", b"data")
    assert w.contents(w / "d////f") == b"data"
    assert w.contents(w / "./d/.//f") == b"data"


@behaviour()
def a_path_of_4096_bytes_is_ENAMETOOLONG(w: World) -> None:
    path = w / ("./" * 2048)
    fails(errno.ENAMETOOLONG, w.os.stat, path[:4096])
    assert w.os.stat(path[:4094]).st_ino == w.os.stat(w.base).st_ino


@behaviour("symlinks")
def links_in_a_circle_are_ELOOP(w: World) -> None:
    w.os.symlink("b", w / "a")
    w.os.symlink("a", w / "b")
    w.os.symlink("self", w / "self")
    for name in ("a", "self"):
        fails(errno.ELOOP, w.os.stat, w / name)
        fails(errno.ELOOP, w.os.open, w / name, os.O_RDONLY)
        fails(errno.ELOOP, w.os.stat, w / f"{name}/x")


@behaviour("symlinks")
def forty_links_are_followed_and_forty_one_are_not(w: World) -> None:
    w.make("0", b"data")
    for number in range(1, 42):
        w.os.symlink(str(number - 1), w / str(number))
    assert w.contents(w / "40") == b"data"
    fails(errno.ELOOP, w.os.stat, w / "41")


@behaviour("symlinks")
def links_to_directories_are_followed_within_paths(w: World) -> None:
    w.mkdir("d")
    w.make("d/f", b"data")
    w.os.symlink("d", w / "l")
    w.os.symlink("l/../d", w / "m")
    assert w.contents(w / "l/f") == b"data"
    assert w.contents(w / "m/f") == b"data"
    assert w.os.listdir(w / "l") == ["f"]


@behaviour("symlinks")
def a_slash_behind_a_link_follows_it(w: World) -> None:
    w.mkdir("d")
    w.os.symlink("d", w / "l")
    assert w.os.lstat(w / "l/").st_ino == w.os.stat(w / "d").st_ino
    fails(errno.ENOTDIR, w.os.unlink, w / "l/")
    fails(errno.ENOTDIR, w.os.rmdir, w / "l/")


@behaviour("symlinks")
def a_link_that_leads_nowhere_is_ENOENT(w: World) -> None:
    w.os.symlink("nowhere", w / "l")
    fails(errno.ENOENT, w.os.stat, w / "l")
    fails(errno.ENOENT, w.os.open, w / "l", os.O_RDONLY)
    assert w.os.lstat(w / "l").st_size == 7


@behaviour()
def calls_start_from_the_descriptor_of_a_directory(w: World) -> None:
    with w.open(w.mkdir("d"), os.O_RDONLY | os.O_DIRECTORY) as fd:
        w.os.mkdir("e", dir_fd=fd)
        w.os.close(w.os.open("e/f", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
        assert w.os.stat("e/f", dir_fd=fd).st_size == 0
        w.os.unlink("e/f", dir_fd=fd)
        w.os.rmdir("e", dir_fd=fd)
        assert w.os.listdir(fd) == []


@behaviour("rename")
def the_descriptor_of_a_directory_goes_with_it(w: World) -> None:
    with w.open(w.mkdir("d"), os.O_RDONLY | os.O_DIRECTORY) as fd:
        w.os.rename(w / "d", w / "e")
        w.os.close(w.os.open("f", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
    assert w.os.listdir(w / "e") == ["f"]


@behaviour()
def a_file_as_the_start_of_a_path_is_ENOTDIR(w: World) -> None:
    with w.open(w.make("f"), os.O_RDONLY) as fd:
        fails(errno.ENOTDIR, w.os.stat, "x", dir_fd=fd)
        fails(errno.ENOTDIR, w.os.mkdir, "x", dir_fd=fd)


@behaviour()
def a_deep_tree_can_be_made_walked_and_removed(w: World) -> None:
    path = w.base
    for _ in range(60):
        path += "/d"
        w.os.mkdir(path)
    w.make("d/" * 60 + "f", b"data")
    assert w.contents(path + "/f") == b"data"
    w.os.unlink(path + "/f")
    while path != w.base:
        w.os.rmdir(path)
        path = os.path.dirname(path)
    assert w.os.listdir(w.base) == []


@behaviour("hardlinks", "rename")
def links_and_renames_to_another_filesystem_are_EXDEV(w: World) -> None:
    path = w.make("f")
    fails(errno.EXDEV, w.os.link, w.elsewhere, w / "l")
    fails(errno.EXDEV, w.os.rename, path, os.path.join(os.path.dirname(w.elsewhere), "conformance"))
    assert w.os.listdir(w.base) == ["f"]
