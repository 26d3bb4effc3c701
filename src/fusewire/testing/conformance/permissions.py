"""Permissions, as root sees to them for others: owner, group and rest, directories, the sticky bit."""

from __future__ import annotations

import errno
import os

from .suite import behaviour
from .world import World, fails

USER, GROUP, OTHER = 1234, 2345, 5678
DENIED = errno.EACCES


def _owned(w: World, name: str, mode: int, data: bytes = b"") -> str:
    path = w.make(name, data)
    w.os.chown(path, USER, GROUP)
    w.os.chmod(path, mode)
    return path


@behaviour("chown", root=True)
def the_owner_is_judged_by_the_owners_bits_alone(w: World) -> None:
    path = _owned(w, "f", 0o077)
    with w.as_user(USER, GROUP):
        fails(DENIED, w.os.open, path, os.O_RDONLY)
        fails(DENIED, w.os.open, path, os.O_WRONLY)


@behaviour("chown", root=True)
def the_group_is_judged_by_the_groups_bits_alone(w: World) -> None:
    path = _owned(w, "f", 0o707)
    with w.as_user(OTHER, GROUP):
        fails(DENIED, w.os.open, path, os.O_RDONLY)
    with w.as_user(OTHER, OTHER, (GROUP,)):
        fails(DENIED, w.os.open, path, os.O_RDONLY)
    with w.as_user(OTHER, OTHER), w.open(path, os.O_RDWR):
        pass


@behaviour("chown", root=True)
def a_supplementary_group_counts(w: World) -> None:
    path = _owned(w, "f", 0o060, b"data")
    with w.as_user(OTHER, OTHER, (1, GROUP, 2)):
        assert w.contents(path) == b"data"


@behaviour("chown", root=True)
def reading_and_writing_are_two_permissions(w: World) -> None:
    path = _owned(w, "f", 0o604)
    with w.as_user(OTHER, OTHER):
        with w.open(path, os.O_RDONLY):
            pass
        fails(DENIED, w.os.open, path, os.O_WRONLY)
        fails(DENIED, w.os.open, path, os.O_RDWR)
        fails(DENIED, w.os.open, path, os.O_RDONLY | os.O_TRUNC)
        fails(DENIED, w.os.truncate, path, 0)


@behaviour("chown", root=True)
def an_open_file_stays_open_whatever_becomes_of_its_mode(w: World) -> None:
    path = _owned(w, "f", 0o600, b"data")
    with w.as_user(USER, GROUP), w.open(path, os.O_RDWR) as fd:
        w.os.chmod(path, 0)
        assert w.os.read(fd, 10) == b"data"
        w.os.write(fd, b"x")


@behaviour(root=True)
def root_may_read_and_write_whatever_the_mode(w: World) -> None:
    path = w.make("f", b"data", 0)
    assert w.contents(path) == b"data"


@behaviour("chown", root=True)
def a_directory_is_searched_listed_and_written_by_three_permissions(w: World) -> None:
    path = w.mkdir("d")
    w.make("d/f", b"data", 0o644)
    for mode, search, listing, write in (
        (0o711, True, False, False),
        (0o744, False, True, False),
        (0o733, True, False, True),
    ):
        w.os.chmod(path, mode)
        with w.as_user(OTHER, OTHER):
            _allowed(search, w.os.stat, w / "d/f")
            _allowed(listing, w.os.listdir, path)
            _allowed(write, w.os.mkdir, w / "d/new")
        if write:
            w.os.rmdir(w / "d/new")


def _allowed(may: bool, function: object, *args: object) -> None:
    assert callable(function)
    if may:
        function(*args)
    else:
        fails(DENIED, function, *args)


@behaviour(root=True)
def making_and_removing_names_needs_a_writable_directory(w: World) -> None:
    w.make("f")
    w.mkdir("d")
    with w.as_user(OTHER, OTHER):
        fails(DENIED, w.os.unlink, w / "f")
        fails(DENIED, w.os.rmdir, w / "d")
        fails(DENIED, w.os.mkdir, w / "e")
        fails(DENIED, w.os.open, w / "g", os.O_WRONLY | os.O_CREAT)
        fails(DENIED, w.os.rename, w / "f", w / "g")
        fails(DENIED, w.os.symlink, "x", w / "l")


@behaviour("chown", root=True)
def a_sticky_directory_lets_only_owners_remove(w: World) -> None:
    w.os.chmod(w.base, 0o1777)
    mine, theirs = _owned(w, "mine", 0o666), _owned(w, "theirs", 0o666)
    w.os.chown(mine, OTHER, OTHER)
    with w.as_user(OTHER, OTHER):
        fails(errno.EPERM, w.os.unlink, theirs)
        fails(errno.EPERM, w.os.rename, theirs, w / "stolen")
        fails(errno.EPERM, w.os.rename, mine, theirs)
        w.os.unlink(mine)


@behaviour("chown", root=True)
def the_owner_of_a_sticky_directory_may_remove_what_is_in_it(w: World) -> None:
    path = w.mkdir("d")
    _owned(w, "d/f", 0o600)
    w.os.chown(path, OTHER, OTHER)
    w.os.chmod(path, 0o1777)
    with w.as_user(OTHER, OTHER):
        w.os.unlink(w / "d/f")


@behaviour("chown", root=True)
def chmod_is_the_owners(w: World) -> None:
    path = _owned(w, "f", 0o666)
    with w.as_user(OTHER, GROUP):
        fails(errno.EPERM, w.os.chmod, path, 0o777)
    with w.as_user(USER, GROUP):
        w.os.chmod(path, 0o600)
    assert w.mode(path) == 0o600


@behaviour("chown", root=True)
def giving_a_file_away_is_roots_and_its_group_the_owners_among_their_own(w: World) -> None:
    path = _owned(w, "f", 0o644)
    with w.as_user(USER, GROUP, (OTHER,)):
        fails(errno.EPERM, w.os.chown, path, OTHER, -1)
        fails(errno.EPERM, w.os.chown, path, -1, 99)
        w.os.chown(path, -1, OTHER)
    assert w.os.stat(path).st_gid == OTHER


@behaviour("chown", root=True)
def setting_times_is_the_owners_and_to_now_of_who_may_write(w: World) -> None:
    path = _owned(w, "f", 0o606)
    with w.as_user(OTHER, OTHER):
        fails(errno.EPERM, w.os.utime, path, ns=(1, 1))
        w.os.utime(path)
    w.os.chmod(path, 0o604)
    with w.as_user(OTHER, OTHER):
        fails(DENIED, w.os.utime, path)
    with w.as_user(USER, GROUP):
        w.os.utime(path, ns=(1, 1))


@behaviour("chown", root=True)
def access_asks_for_the_real_user_and_for_the_effective_one_when_told_to(w: World) -> None:
    path = _owned(w, "f", 0o600)
    with w.as_user(OTHER, OTHER):
        assert w.os.access(path, os.R_OK)  # the real user is root still
        assert not w.os.access(path, os.R_OK, effective_ids=True)
    assert not w.os.access(path, os.X_OK)  # not even root, where nobody may


@behaviour("chown", root=True)
def O_NOATIME_is_the_owners(w: World) -> None:
    path = _owned(w, "f", 0o666)
    with w.as_user(OTHER, OTHER):
        fails(errno.EPERM, w.os.open, path, os.O_RDONLY | os.O_NOATIME)
    with w.as_user(USER, GROUP), w.open(path, os.O_RDONLY | os.O_NOATIME):
        pass


@behaviour("xattr", "chown", root=True)
def extended_attributes_of_users_go_by_the_mode_of_the_file(w: World) -> None:
    path = _owned(w, "f", 0o604)
    w.os.setxattr(path, "user.k", b"v")
    with w.as_user(OTHER, OTHER):
        assert w.os.getxattr(path, "user.k") == b"v"
        fails(DENIED, w.os.setxattr, path, "user.k", b"w")
        fails(DENIED, w.os.removexattr, path, "user.k")
