"""The end of a mount."""

from __future__ import annotations

import errno
import os

from mocked import BOTH, errno_of, open_file, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, opened

pytestmark = BOTH


def test_unmounting_tells_a_plain_daemon_nothing(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    fuse_process.stat("/f")
    mock_daemon.mount.unmount()
    assert mock_daemon.names == ["INIT", "LOOKUP"]


def test_the_daemons_read_ends_and_it_goes_home(mock_daemon: MockDaemon) -> None:
    mock_daemon.mount.unmount()
    assert not mock_daemon.mount.daemon.alive


def test_a_mount_with_open_files_is_busy(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    assert errno_of(mock_daemon.mount.unmount) == errno.EBUSY
    fuse_process.close(fd)
    mock_daemon.settle()
    mock_daemon.mount.unmount()


def test_a_lazy_unmount_serves_who_is_there_and_nobody_else(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.mount.unmount(lazy=True)
    mock_daemon.expect.read(2, fh=7).reply(b"text")
    assert fuse_process.pread(fd, 9, 0) == b"text"
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


def test_an_abort_ends_what_is_under_way_and_what_comes(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").do(lambda asked: mock_daemon.mount.abort()).never()
    assert errno_of(fuse_process.stat, "/f") == errno.ECONNABORTED
    assert errno_of(fuse_process.stat, "/f") == errno.ENOTCONN


def test_after_an_abort_descriptors_can_be_closed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.mount.abort()
    assert errno_of(fuse_process.close, fd) == errno.ENOTCONN
    assert errno_of(fuse_process.close, fd) == errno.EBADF
    mock_daemon.mount.unmount()


def test_a_daemon_that_dies_ends_every_request_it_had(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDONLY)
    mock_daemon.expect.read(2).die()
    assert errno_of(fuse_process.pread, fd, 9, 0) == errno.ECONNABORTED
    assert errno_of(fuse_process.pread, fd, 9, 0) == errno.ENOTCONN


def test_another_mount_goes_on_when_one_ends(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    there(mock_daemon, b"m", 3, 0o40755)
    other = MockDaemon(fuse_kernel, "/m")
    other.default.opendir(1).reply(opened(1))
    process = fuse_kernel.process()
    process.open("/m", os.O_RDONLY)
    other.kill()
    mock_daemon.expect.statfs(1).reply()
    process.statvfs("/")
