"""Directories, renaming, removing, and which names there can be."""

from __future__ import annotations

import errno
import os
import stat

from .suite import behaviour
from .world import World, fails

NOREPLACE, EXCHANGE = 1, 2


@behaviour()
def a_new_directory_is_empty_and_has_two_links_and_its_mode(w: World) -> None:
    w.os.mkdir(w / "d", 0o777)
    assert w.os.listdir(w / "d") == []
    assert stat.S_ISDIR(w.os.stat(w / "d").st_mode)
    assert w.mode(w / "d") == 0o755


@behaviour()
def mkdir_over_anything_is_EEXIST(w: World) -> None:
    fails(errno.EEXIST, w.os.mkdir, w.make("f"))
    fails(errno.EEXIST, w.os.mkdir, w.mkdir("d"))
    fails(errno.EEXIST, w.os.mkdir, w / ".")


@behaviour()
def mkdir_takes_a_slash_at_the_end(w: World) -> None:
    w.os.mkdir(w / "d/")
    assert w.os.listdir(w.base) == ["d"]


@behaviour()
def a_listing_has_every_name_once(w: World) -> None:
    names = {f"file {number}" for number in range(500)}
    for name in names:
        w.os.close(w.os.open(w / name, os.O_WRONLY | os.O_CREAT))
    assert sorted(w.os.listdir(w.base)) == sorted(names)


@behaviour()
def a_listing_tells_the_types(w: World) -> None:
    w.make("f")
    w.mkdir("d")
    with w.os.scandir(w.base) as entries:
        assert {entry.name: (entry.is_dir(), entry.is_file()) for entry in entries} == {
            "f": (False, True),
            "d": (True, False),
        }


@behaviour()
def names_can_be_removed_while_they_are_listed(w: World) -> None:
    for number in range(200):
        w.make(f"f{number}")
    with w.os.scandir(w.base) as entries:
        for entry in entries:
            w.os.unlink(w / entry.name)
    assert w.os.listdir(w.base) == []


@behaviour("symlinks")
def a_listing_of_an_open_directory_knows_where_its_names_are(w: World) -> None:
    w.os.mkdir(w / "d")
    w.make("d/f", b"data")
    w.os.symlink("f", w / "d/l")
    with w.open(w / "d", os.O_RDONLY | os.O_DIRECTORY) as fd, w.os.scandir(fd) as entries:
        assert {entry.name: entry.stat().st_size for entry in entries} == {"f": 4, "l": 4}


@behaviour("symlinks")
def fwalk_goes_through_a_tree_and_not_through_its_links(w: World) -> None:
    w.os.makedirs(w / "a/b")
    w.make("a/b/f", b"data")
    w.os.symlink("a", w / "l")
    seen = {}
    for path, dirs, files, fd in w.os.fwalk(w.base):
        seen[path] = sorted(dirs), files
        assert [w.os.stat(name, dir_fd=fd).st_size for name in files] == [4] * len(files)
    assert seen == {w.base: (["a", "l"], []), w / "a": (["b"], []), w / "a/b": ([], ["f"])}


@behaviour("rename")
def renames_makes_what_is_missing_and_removes_what_is_left_empty(w: World) -> None:
    w.os.makedirs(w / "a/b")
    w.make("a/b/f", b"data")
    w.make("stays")
    w.os.renames(w / "a/b/f", w / "c/d/g")
    assert w.contents(w / "c/d/g") == b"data"
    assert sorted(w.os.listdir(w.base)) == ["c", "stays"]


@behaviour()
def an_open_directory_is_listed_anew_from_its_start(w: World) -> None:
    w.make("a")
    with w.open(w.base, os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert w.os.listdir(fd) == ["a"]
        w.make("b")
        w.os.unlink(w / "a")
        assert w.os.listdir(fd) == ["b"]


@behaviour()
def rmdir_removes_an_empty_directory_only(w: World) -> None:
    w.mkdir("d")
    w.make("d/f")
    fails(errno.ENOTEMPTY, w.os.rmdir, w / "d")
    w.os.unlink(w / "d/f")
    w.os.rmdir(w / "d")
    assert not w.exists(w / "d")


@behaviour()
def rmdir_of_a_file_is_ENOTDIR(w: World) -> None:
    fails(errno.ENOTDIR, w.os.rmdir, w.make("f"))


@behaviour()
def rmdir_of_dot_is_EINVAL_and_of_dot_dot_ENOTEMPTY(w: World) -> None:
    w.mkdir("d")
    fails(errno.EINVAL, w.os.rmdir, w / "d/.")
    fails(errno.ENOTEMPTY, w.os.rmdir, w / "d/..")


@behaviour()
def nothing_is_made_in_a_directory_that_was_removed(w: World) -> None:
    with w.open(w.mkdir("d"), os.O_RDONLY | os.O_DIRECTORY) as fd:
        w.os.rmdir(w / "d")
        fails(errno.ENOENT, w.os.mkdir, "x", dir_fd=fd)
        fails(errno.ENOENT, w.os.open, "x", os.O_WRONLY | os.O_CREAT, dir_fd=fd)


@behaviour()
def a_directory_that_was_removed_lists_as_empty(w: World) -> None:
    with w.open(w.mkdir("d"), os.O_RDONLY | os.O_DIRECTORY) as fd:
        w.os.rmdir(w / "d")
        assert w.os.listdir(fd) == []


@behaviour()
def unlink_of_a_directory_is_EISDIR(w: World) -> None:
    fails(errno.EISDIR, w.os.unlink, w.mkdir("d"))


@behaviour()
def unlink_of_what_is_not_there_is_ENOENT(w: World) -> None:
    fails(errno.ENOENT, w.os.unlink, w / "f")
    fails(errno.ENOENT, w.os.rmdir, w / "d")


@behaviour()
def the_links_of_a_directory_count_those_in_it_or_are_one(w: World) -> None:
    path = w.mkdir("d")
    before = w.os.stat(path).st_nlink
    w.mkdir("d/e")
    after = w.os.stat(path).st_nlink
    assert (before, after) in ((2, 3), (1, 1))
    w.os.rmdir(w / "d/e")
    assert w.os.stat(path).st_nlink == before


@behaviour()
def dot_dot_leads_back(w: World) -> None:
    w.mkdir("d")
    assert w.os.stat(w / "d/..").st_ino == w.os.stat(w.base).st_ino
    assert w.os.stat(w / "d/.").st_ino == w.os.stat(w / "d").st_ino


# -- rename -----------------------------------------------------------------------------------------------------------


@behaviour("rename")
def rename_moves_a_file_and_its_inode(w: World) -> None:
    path = w.make("f", b"data")
    number = w.os.stat(path).st_ino
    w.mkdir("d")
    w.os.rename(path, w / "d/g")
    assert not w.exists(path)
    assert w.contents(w / "d/g") == b"data"
    assert w.os.stat(w / "d/g").st_ino == number


@behaviour("rename")
def rename_replaces_a_file(w: World) -> None:
    w.os.rename(w.make("f", b"new"), w.make("g", b"old"))
    assert w.os.listdir(w.base) == ["g"]
    assert w.contents(w / "g") == b"new"


@behaviour("rename")
def rename_moves_a_directory_with_all_in_it(w: World) -> None:
    w.mkdir("d")
    w.make("d/f", b"data")
    w.mkdir("other")
    w.os.rename(w / "d", w / "other/e")
    assert w.contents(w / "other/e/f") == b"data"
    assert w.os.stat(w / "other/e/..").st_ino == w.os.stat(w / "other").st_ino


@behaviour("rename")
def rename_replaces_an_empty_directory_only(w: World) -> None:
    w.mkdir("d")
    w.mkdir("empty")
    w.mkdir("full")
    w.make("full/f")
    fails((errno.ENOTEMPTY, errno.EEXIST), w.os.rename, w / "d", w / "full")
    w.os.rename(w / "d", w / "empty")
    assert sorted(w.os.listdir(w.base)) == ["empty", "full"]


@behaviour("rename")
def a_file_and_a_directory_do_not_replace_each_other(w: World) -> None:
    w.make("f")
    w.mkdir("d")
    fails(errno.EISDIR, w.os.rename, w / "f", w / "d")
    fails(errno.ENOTDIR, w.os.rename, w / "d", w / "f")


@behaviour("rename")
def a_directory_does_not_move_into_itself(w: World) -> None:
    w.mkdir("d")
    w.mkdir("d/e")
    fails(errno.EINVAL, w.os.rename, w / "d", w / "d/e/d")
    fails((errno.ENOTEMPTY, errno.EEXIST), w.os.rename, w / "d/e", w / "d")


@behaviour("rename")
def rename_of_what_is_not_there_is_ENOENT(w: World) -> None:
    fails(errno.ENOENT, w.os.rename, w / "f", w / "g")
    fails(errno.ENOENT, w.os.rename, w.make("h"), w / "no/g")


@behaviour("rename")
def rename_to_itself_does_nothing(w: World) -> None:
    path = w.make("f", b"data")
    w.os.rename(path, path)
    assert w.contents(path) == b"data"


@behaviour("rename", "hardlinks")
def rename_of_one_link_onto_another_of_the_same_file_does_nothing(w: World) -> None:
    path = w.make("f")
    w.os.link(path, w / "g")
    w.os.rename(path, w / "g")
    assert sorted(w.os.listdir(w.base)) == ["f", "g"]


@behaviour("rename")
def rename_of_dot_is_EBUSY_or_EINVAL(w: World) -> None:
    w.mkdir("d")
    fails((errno.EBUSY, errno.EINVAL), w.os.rename, w / "d/.", w / "e")
    fails((errno.EBUSY, errno.EINVAL), w.os.rename, w / "d/..", w / "e")


@behaviour("rename", "symlinks")
def rename_moves_a_link_and_not_what_it_leads_to(w: World) -> None:
    w.make("f", b"data")
    w.os.symlink("f", w / "l")
    w.os.rename(w / "l", w / "m")
    assert w.os.readlink(w / "m") == "f"
    assert w.contents(w / "f") == b"data"


@behaviour("rename flags")
def NOREPLACE_refuses_what_is_there(w: World) -> None:
    w.make("f", b"f")
    w.make("g", b"g")
    fails(errno.EEXIST, w.os.rename, w / "f", w / "g", flags=NOREPLACE)
    assert w.contents(w / "g") == b"g"
    w.os.rename(w / "f", w / "h", flags=NOREPLACE)
    assert w.contents(w / "h") == b"f"


@behaviour("rename flags")
def EXCHANGE_swaps_two_names_of_any_kind(w: World) -> None:
    w.make("f", b"data")
    w.mkdir("d")
    w.make("d/inner")
    w.os.rename(w / "f", w / "d", flags=EXCHANGE)
    assert w.os.listdir(w / "f") == ["inner"]
    assert w.contents(w / "d") == b"data"
    fails(errno.ENOENT, w.os.rename, w / "f", w / "nothing", flags=EXCHANGE)


@behaviour("rename flags")
def NOREPLACE_and_EXCHANGE_together_are_EINVAL(w: World) -> None:
    w.make("f")
    fails(errno.EINVAL, w.os.rename, w / "f", w / "g", flags=NOREPLACE | EXCHANGE)


# -- which names there can be ---------------------------------------------------------------------------------------


@behaviour()
def a_name_of_255_bytes_is_kept(w: World) -> None:
    w.make("n" * 255, b"data")
    assert w.contents(w / ("n" * 255)) == b"data"
    assert w.os.listdir(w.base) == ["n" * 255]


@behaviour()
def a_name_of_256_bytes_is_ENAMETOOLONG(w: World) -> None:
    path = w / ("n" * 256)
    fails(errno.ENAMETOOLONG, w.os.open, path, os.O_WRONLY | os.O_CREAT)
    fails(errno.ENAMETOOLONG, w.os.mkdir, path)
    fails(errno.ENAMETOOLONG, w.os.stat, path)
    fails(errno.ENAMETOOLONG, w.os.unlink, path)


@behaviour()
def unicode_names_are_kept_as_they_are_written(w: World) -> None:
    names = ["ä", "a\u0308", "日本語", "😀", "İ", "ß" * 127]  # composed and decomposed are two names
    for name in names:
        w.make(name, name.encode())
    assert sorted(w.os.listdir(w.base)) == sorted(names)
    assert all(w.contents(w / name) == name.encode() for name in names)


@behaviour()
def every_byte_but_slash_and_NUL_can_stand_in_a_name(w: World) -> None:
    names = [bytes([byte]) * 2 for byte in range(1, 256) if byte not in (0x2E, 0x2F)]
    base = os.fsencode(w.base)
    for name in names:
        w.os.close(w.os.open(base + b"/" + name, os.O_WRONLY | os.O_CREAT, 0o644))
    assert sorted(w.os.listdir(base)) == names
    for name in names:
        w.os.unlink(base + b"/" + name)


@behaviour()
def names_differ_by_case(w: World) -> None:
    w.make("name", b"1")
    w.make("NAME", b"2")
    assert w.contents(w / "name") == b"1"
    assert w.contents(w / "NAME") == b"2"


@behaviour()
def names_with_dots_and_blanks_are_ordinary(w: World) -> None:
    names = ["...", ".hidden", " ", "a ", "..a", "-rf", "a\nb"]
    for name in names:
        w.mkdir(name)
    assert sorted(w.os.listdir(w.base)) == sorted(names)
    for name in names:
        w.os.rmdir(w / name)
