"""With ``default_permissions`` modes and owners are checked here, and the daemon is never asked."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from mocked import BOTH, DIR, FOREVER, REG, errno_of, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, attr, entry, opened
from fusewire.wire.flags import FAttr

pytestmark = [BOTH, pytest.mark.mock_daemon(default_permissions=True)]
OWNER, OTHER = 1000, 2000


@pytest.fixture
def owner(fuse_kernel: Kernel, mock_daemon: MockDaemon) -> Process:
    """Who has the files; the root is everybody's."""
    mock_daemon.default.getattr(1).reply(attr(1, stat.S_IFDIR | 0o777, valid=FOREVER))
    return fuse_kernel.process(uid=OWNER, gid=OWNER)


@pytest.fixture
def other(fuse_kernel: Kernel, owner: Process) -> Process:
    """Somebody else."""
    return fuse_kernel.process(uid=OTHER, gid=OTHER)


@pytest.fixture
def root(fuse_kernel: Kernel, owner: Process) -> Process:
    return fuse_kernel.process(uid=0, gid=0)


def a_file(daemon: MockDaemon, permissions: int, kind: int = stat.S_IFREG) -> None:
    """``/f``, of ``OWNER``. What is refused is looked at twice: attributes may be out of date."""
    there(daemon, b"f", 2, kind | permissions, uid=OWNER, gid=OWNER)
    daemon.default.getattr(2).reply(attr(2, kind | permissions, uid=OWNER, gid=OWNER, valid=FOREVER))


def test_the_owner_may_and_others_may_not(mock_daemon: MockDaemon, owner: Process, other: Process) -> None:
    a_file(mock_daemon, 0o600)
    mock_daemon.expect.open(2).reply(opened(7))
    owner.open("/f", os.O_RDWR)
    assert errno_of(other.open, "/f", os.O_RDONLY) == errno.EACCES


def test_root_may_read_and_write_everything(mock_daemon: MockDaemon, root: Process) -> None:
    a_file(mock_daemon, 0)
    mock_daemon.expect.open(2).reply(opened(7))
    root.open("/f", os.O_RDWR)


def test_a_supplementary_group_counts(mock_daemon: MockDaemon, fuse_kernel: Kernel, other: Process) -> None:
    a_file(mock_daemon, 0o640)
    mock_daemon.expect.open(2).reply(opened(7))
    fuse_kernel.process(uid=OTHER, gid=OTHER, groups=(OWNER,)).open("/f", os.O_RDONLY)
    assert errno_of(other.open, "/f", os.O_RDONLY) == errno.EACCES


def test_a_directory_is_searched_by_those_who_may(mock_daemon: MockDaemon, owner: Process, other: Process) -> None:
    a_file(mock_daemon, 0o700, stat.S_IFDIR)
    mock_daemon.expect.lookup(2, b"x").error(errno.ENOENT)
    assert errno_of(owner.stat, "/f/x") == errno.ENOENT
    assert errno_of(other.stat, "/f/x") == errno.EACCES


def test_only_the_owner_changes_the_mode(mock_daemon: MockDaemon, owner: Process, other: Process) -> None:
    a_file(mock_daemon, 0o666)
    mock_daemon.expect.setattr(2, valid=FAttr.MODE, mode=REG & ~0o7777 | 0o600).reply(attr(2, stat.S_IFREG | 0o600))
    assert errno_of(other.chmod, "/f", 0o777) == errno.EPERM
    owner.chmod("/f", 0o600)


def test_nobody_gives_a_file_away_but_root(mock_daemon: MockDaemon, owner: Process, root: Process) -> None:
    a_file(mock_daemon, 0o644)
    mock_daemon.expect.setattr(2, uid=OTHER).reply(attr(2, uid=OTHER))
    assert errno_of(owner.chown, "/f", OTHER, -1) == errno.EPERM
    root.chown("/f", OTHER, -1)


def test_the_owner_may_give_it_to_a_group_of_his_own(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, owner: Process
) -> None:
    a_file(mock_daemon, 0o644)
    mock_daemon.expect.setattr(2, gid=77).reply(attr(2, uid=OWNER, gid=77))
    assert errno_of(owner.chown, "/f", -1, 77) == errno.EPERM
    fuse_kernel.process(uid=OWNER, gid=OWNER, groups=(77,)).chown("/f", -1, 77)


def test_truncating_takes_the_right_to_write(mock_daemon: MockDaemon, other: Process) -> None:
    a_file(mock_daemon, 0o644)
    assert errno_of(other.truncate, "/f", 0) == errno.EACCES
    assert errno_of(other.open, "/f", os.O_RDONLY | os.O_TRUNC) == errno.EACCES


def test_who_may_write_may_touch_but_not_set_times(mock_daemon: MockDaemon, other: Process) -> None:
    a_file(mock_daemon, 0o666)
    mock_daemon.expect.setattr(2).reply(attr(2, stat.S_IFREG | 0o666, uid=OWNER))
    other.utime("/f")
    assert errno_of(other.utime, "/f", (1, 1)) == errno.EPERM


@pytest.mark.parametrize("call", ["mkdir", "unlink", "rmdir"])
def test_a_directory_is_changed_by_those_who_may_write_it(
    mock_daemon: MockDaemon, owner: Process, other: Process, call: str
) -> None:
    a_file(mock_daemon, 0o755, stat.S_IFDIR)
    if call == "mkdir":
        mock_daemon.default.lookup(2, b"x").error(errno.ENOENT)
    else:
        mock_daemon.default.lookup(2, b"x").reply(entry(3, REG if call == "unlink" else DIR, valid=FOREVER))
    assert errno_of(getattr(other, call), "/f/x") == errno.EACCES


def test_in_a_sticky_directory_only_owners_remove(mock_daemon: MockDaemon, owner: Process, other: Process) -> None:
    a_file(mock_daemon, 0o1777, stat.S_IFDIR)
    mock_daemon.default.lookup(2, b"x").reply(entry(3, uid=OTHER, valid=FOREVER))
    mock_daemon.default.lookup(2, b"y").reply(entry(4, uid=OWNER, valid=FOREVER))
    mock_daemon.expect.unlink(2, b"x")
    assert errno_of(other.unlink, "/f/y") == errno.EPERM
    other.unlink("/f/x")


def test_a_refusal_by_attributes_that_may_be_old_looks_again(mock_daemon: MockDaemon, owner: Process) -> None:
    there(mock_daemon, b"f", 2, stat.S_IFREG | 0, uid=OWNER)
    mock_daemon.expect.getattr(2).reply(attr(2, stat.S_IFREG | 0o600, uid=OWNER, valid=FOREVER))
    mock_daemon.expect.open(2).reply(opened(7))
    owner.open("/f", os.O_RDONLY)
