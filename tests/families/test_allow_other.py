"""Without ``allow_other`` a mount is its owner's alone: everybody else gets EACCES, and the daemon hears nothing of them."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, errno_of, open_file, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon

pytestmark = BOTH
OTHER = os.getuid() + 1000
owners_only = pytest.mark.mock_daemon(allow_other=False)


@owners_only
def test_the_owner_is_allowed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f", uid=os.getuid(), gid=os.getgid()).error(errno.ENOENT)
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


@owners_only
def test_another_user_is_refused_without_a_request(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    process = fuse_kernel.process(uid=OTHER, gid=OTHER)
    for call in (process.stat, process.listdir, process.readlink, process.unlink, process.mkdir):
        assert errno_of(call, "/f") == errno.EACCES
    assert errno_of(process.stat, "/") == errno.EACCES
    assert mock_daemon.names == ["INIT"]


@owners_only
def test_what_is_cached_is_refused_as_well(mock_daemon: MockDaemon, fuse_process: Process, fuse_kernel: Kernel) -> None:
    there(mock_daemon)
    fuse_process.stat("/f")
    assert errno_of(fuse_kernel.process(uid=OTHER, gid=OTHER).stat, "/f") == errno.EACCES


@owners_only
def test_a_program_that_changed_its_effective_user_is_refused(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    process = fuse_kernel.process(uid=0, gid=os.getgid())
    process.setresuid(-1, OTHER, -1)
    assert errno_of(process.stat, "/f") == errno.EACCES


@owners_only
def test_statfs_of_another_user_is_answered_with_nothing(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    assert fuse_kernel.process(uid=OTHER, gid=OTHER).statvfs("/").f_blocks == 0


@owners_only
@pytest.mark.skipif(os.getuid() != 0, reason="the program changes its user")
def test_a_descriptor_that_was_handed_on_can_be_read_but_not_looked_at(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    fd = open_file(mock_daemon, fuse_process)
    child = fuse_process.fork()
    child.setresgid(OTHER, OTHER, OTHER)
    child.setresuid(OTHER, OTHER, OTHER)
    mock_daemon.expect.read(2, fh=7, uid=OTHER).reply(b"text")
    assert child.pread(fd, 10, 0) == b"text"
    assert errno_of(child.fstat, fd) == errno.EACCES


def test_with_allow_other_the_daemon_learns_who_asks(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    process = fuse_kernel.process(uid=OTHER, gid=77)
    mock_daemon.expect.lookup(1, b"f", uid=OTHER, gid=77, pid=process.pid).error(errno.ENOENT)
    assert errno_of(process.stat, "/f") == errno.ENOENT
