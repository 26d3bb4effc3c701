"""mknod(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from mocked import BOTH, DIR, absent, errno_of, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, entry

pytestmark = BOTH


@pytest.fixture
def root(fuse_kernel: Kernel) -> Process:
    return fuse_kernel.process(uid=0, gid=0)


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK])
def test_files_fifos_and_sockets(mock_daemon: MockDaemon, fuse_process: Process, kind: int) -> None:
    absent(mock_daemon, b"n")
    mock_daemon.expect.mknod(1, b"n", mode=kind | 0o640, umask=0o027, rdev=0).reply(entry(2, kind | 0o640, valid=60))
    fuse_process.umask(0o027)
    fuse_process.mknod("/n", kind | 0o666)
    assert stat.S_IFMT(fuse_process.stat("/n").st_mode) == kind


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices_have_a_number(mock_daemon: MockDaemon, root: Process, kind: int) -> None:
    device = os.makedev(300, 70000)
    absent(mock_daemon, b"n")
    wire = (70000 & 0xFF) | 300 << 8 | (70000 & ~0xFF) << 12
    mock_daemon.expect.mknod(1, b"n", mode=kind | 0o600, rdev=wire).reply(entry(2, kind | 0o600, valid=60, rdev=wire))
    root.mknod("/n", kind | 0o600, device)
    assert root.stat("/n").st_rdev == device


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices_are_roots_alone(mock_daemon: MockDaemon, fuse_kernel: Kernel, kind: int) -> None:
    absent(mock_daemon, b"n")
    process = fuse_kernel.process(uid=1000, gid=1000)
    assert errno_of(process.mknod, "/n", kind | 0o600, os.makedev(1, 3)) == errno.EPERM


def test_no_kind_at_all_is_a_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"n")
    mock_daemon.expect.mknod(1, b"n", mode=stat.S_IFREG | 0o600).reply(entry(2, 0o100600))
    fuse_process.mknod("/n", 0o600)


def test_a_directory_is_not_made_like_that(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    assert errno_of(fuse_process.mknod, "/n", DIR) == errno.EPERM
    assert errno_of(fuse_process.mknod, "/n", stat.S_IFLNK | 0o777) == errno.EINVAL


def test_a_name_that_is_there_is_eexist(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.mknod, "/f") == errno.EEXIST


@pytest.mark.parametrize("answer", [entry(2, 0o20600), entry(0), entry(1, DIR)])
def test_an_answer_of_another_kind_is_eio(mock_daemon: MockDaemon, fuse_process: Process, answer: object) -> None:
    absent(mock_daemon, b"n")
    mock_daemon.expect.mknod(1, b"n").reply(answer)
    assert errno_of(fuse_process.mknod, "/n") == errno.EIO


def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"n")
    mock_daemon.expect.mknod(1, b"n").error(errno.ENOSPC)
    assert errno_of(fuse_process.mknod, "/n") == errno.ENOSPC


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_of_devices_only_a_whiteout_is_for_everyone(mock_daemon: MockDaemon, fuse_kernel: Kernel, kind: int) -> None:
    """The character device 0, 0 is what overlayfs leaves where a name was; a block device of that number is a device."""
    absent(mock_daemon, b"n")
    mock_daemon.default.mknod(1, b"n").reply(entry(2, kind | 0o600, valid=60))
    user = fuse_kernel.process(uid=1000, gid=1000)
    if kind == stat.S_IFCHR:
        user.mknod("/n", kind | 0o600, 0)
    else:
        assert errno_of(user.mknod, "/n", kind | 0o600, 0) == errno.EPERM
