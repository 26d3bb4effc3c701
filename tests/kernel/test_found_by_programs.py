"""What random programs found to be otherwise than on Linux (tests/worlds), each by itself."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator

import pytest
from conftest import errno_of

from fusewire import Kernel, Process
from fusewire.filesystems import MemoryFS
from fusewire.wire import posix_acl as acl

NOBODY = 0xFFFFFFFF
OWNER, GROUP, OTHER = (acl.USER_OBJ, 7, NOBODY), (acl.GROUP_OBJ, 5, NOBODY), (acl.OTHER, 5, NOBODY)
NAMED, MASK = (acl.USER, 7, 1000), (acl.MASK, 7, NOBODY)
EXTENDED = acl.pack([OWNER, NAMED, GROUP, MASK, OTHER])
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


@pytest.fixture
def root() -> Iterator[Process]:
    """A process of root's, where ``/f`` is a file, ``/d`` a directory and ``/l`` a symbolic link."""
    with Kernel() as kernel:
        kernel.mount(MemoryFS({"f": b"0123456789"}), "/", default_permissions=True)
        process = kernel.process(uid=0, gid=0)
        process.mkdir("/d")
        process.symlink("f", "/l")
        yield process


# -- access control lists


@pytest.mark.parametrize(
    "entries",
    [[GROUP, OTHER], [OTHER, GROUP, OWNER], [OWNER, NAMED, GROUP, OTHER], [OWNER, GROUP, MASK, MASK, OTHER],
     [OWNER, (acl.USER, 7, NOBODY), GROUP, MASK, OTHER], [OWNER, (3, 7, 1000), GROUP, OTHER], [(1, 15, NOBODY), GROUP, OTHER]],
    ids=["no owner", "no order", "no mask", "two masks", "a user who is none", "an unknown tag", "unknown permissions"],
)  # fmt: skip
def test_an_acl_that_is_not_in_order_is_refused(root: Process, entries: list[tuple[int, int, int]]) -> None:
    assert errno_of(root.setxattr, "/f", ACCESS, acl.pack(entries)) == errno.EINVAL
    assert root.listxattr("/f") == []


def test_an_acl_of_another_version_is_not_supported_whoever_sets_it(root: Process) -> None:
    other = root.kernel.process(uid=1234, gid=1234)
    assert errno_of(other.setxattr, "/f", ACCESS, b"\1\0\0\0") == errno.EOPNOTSUPP


def test_an_empty_acl_takes_the_list_away(root: Process) -> None:
    root.setxattr("/f", ACCESS, EXTENDED)
    root.setxattr("/f", ACCESS, acl.pack([]))
    assert root.listxattr("/f") == []


def test_an_acl_that_is_not_there_can_be_removed(root: Process) -> None:
    root.removexattr("/f", ACCESS)
    root.removexattr("/d", DEFAULT)


def test_a_default_acl_of_a_file_is_no_ones_to_set_and_everyones_to_remove(root: Process) -> None:
    other = root.kernel.process(uid=1234, gid=1234)
    assert errno_of(other.setxattr, "/f", DEFAULT, EXTENDED) == errno.EACCES
    other.removexattr("/f", DEFAULT)


def test_the_flags_of_setxattr_mean_nothing_for_an_acl(root: Process) -> None:
    root.setxattr("/f", ACCESS, EXTENDED, os.XATTR_REPLACE)
    root.setxattr("/f", ACCESS, EXTENDED, os.XATTR_CREATE)
    assert root.getxattr("/f", ACCESS) == EXTENDED


def test_a_symbolic_link_has_no_acl(root: Process) -> None:
    assert errno_of(root.getxattr, "/l", ACCESS, follow_symlinks=False) == errno.EOPNOTSUPP


# -- paths and descriptors


def test_statx_of_the_empty_path_is_enoent(root: Process) -> None:
    assert errno_of(root.statx, "") == errno.ENOENT
    assert errno_of(root.statx, "", dir_fd=root.open("/d", os.O_RDONLY)) == errno.ENOENT


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
def test_an_open_file_is_listed_as_no_directory(root: Process, flags: int) -> None:
    assert errno_of(root.listdir, root.open("/f", flags)) == errno.ENOTDIR


def test_an_open_file_is_linked_by_those_who_opened_it(root: Process) -> None:
    root.chmod("/d", 0o777)
    root.chmod("/f", 0o666)
    user = root.kernel.process(uid=1234, gid=1234)
    fd = user.open("/d", os.O_TMPFILE | os.O_RDWR, 0o666)
    child = user.fork()
    assert errno_of(child.link, fd, "/d/childs") == errno.ENOENT
    user.link(fd, "/d/mine")
    inherited = root.open("/f", os.O_RDWR)
    changed = root.fork()
    changed.setresuid(1234, 1234, 1234)
    assert errno_of(changed.link, inherited, "/d/linked") == errno.ENOENT
    root.link(inherited, "/d/linked")


def test_o_creat_in_a_sticky_directory_opens_no_device_of_somebody_else(root: Process) -> None:
    root.chmod("/d", 0o1777)
    user = root.kernel.process(uid=1234, gid=1234)
    user.mknod("/d/p", stat.S_IFSOCK | 0o666)
    assert errno_of(root.open, "/d/p", os.O_RDWR | os.O_CREAT) == errno.EACCES
    assert errno_of(root.open, "/d/p", os.O_RDWR) == errno.ENXIO
    assert errno_of(user.open, "/d/p", os.O_RDWR | os.O_CREAT) == errno.ENXIO


# -- locks


def test_a_range_that_is_none_is_told_before_the_descriptors_mode(root: Process) -> None:
    fd = root.open("/f", os.O_WRONLY)
    assert errno_of(root.setlk, fd, fcntl.F_RDLCK, -1) == errno.EINVAL
    assert errno_of(root.setlk, fd, fcntl.F_RDLCK, 0) == errno.EBADF


def test_a_descriptor_for_neither_reading_nor_writing_takes_no_flock(root: Process) -> None:
    fd = root.open("/f", os.O_ACCMODE)
    assert errno_of(root.flock, fd, fcntl.LOCK_SH) == errno.EBADF
    root.flock(fd, fcntl.LOCK_UN)


def test_a_flock_of_a_directory_ends_with_the_open_directory(root: Process) -> None:
    fd, other = (root.open("/d", os.O_RDONLY) for _ in range(2))
    root.flock(fd, fcntl.LOCK_EX)
    assert errno_of(root.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EAGAIN
    root.close(fd)
    root.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
