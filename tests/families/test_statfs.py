"""statvfs(3)."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, DIR, errno_of, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon
from fusewire.wire.layouts import Kstatfs

pytestmark = BOTH


def test_every_field_reaches_the_caller(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.statfs(1).reply(
        st=Kstatfs(blocks=1 << 40, bfree=2, bavail=3, files=4, ffree=5, bsize=512, namelen=99, frsize=1024)
    )
    found = fuse_process.statvfs("/")
    assert (found.f_blocks, found.f_bfree, found.f_bavail) == (1 << 40, 2, 3)
    assert (found.f_files, found.f_ffree, found.f_favail) == (4, 5, 5)
    assert (found.f_bsize, found.f_frsize, found.f_namemax) == (512, 1024, 99)


def test_without_fragments_a_block_is_one(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.statfs(1).reply(st=Kstatfs(bsize=4096))
    assert fuse_process.statvfs("/").f_frsize == 4096


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSYS, errno.EACCES])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    mock_daemon.expect.statfs(1).error(number)
    assert errno_of(fuse_process.statvfs, "/") == number


def test_it_is_asked_of_the_node_that_was_named(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.statfs(3).reply()
    fuse_process.statvfs("/d")


def test_a_descriptor_will_do(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.statfs(2).reply(st=Kstatfs(blocks=8))
    assert fuse_process.statvfs(fd).f_blocks == 8


def test_it_is_never_cached(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.statfs(1).times(3).reply()
    for _ in range(3):
        fuse_process.statvfs("/")
