"""FIBMAP: a filesystem that stands on no block device has no blocks, and its daemon is not asked."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, DIR, errno_of, open_file, there

from fusewire import InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, opened

pytestmark = BOTH
FIBMAP = 1


def test_no_block_is_found_and_nobody_asked(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    process = fuse_kernel.process(uid=0, gid=0)
    fd = open_file(mock_daemon, process)
    block = bytearray((5).to_bytes(4, "little"))
    process.ioctl(fd, FIBMAP, block)
    assert block == bytes(4)
    assert "BMAP" not in mock_daemon.names
    assert "IOCTL" not in mock_daemon.names


def test_only_root_may_ask(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    process = fuse_kernel.process(uid=1000, gid=1000)
    fd = open_file(mock_daemon, process)
    assert errno_of(process.ioctl, fd, FIBMAP, bytearray(4)) == errno.EPERM


@pytest.mark.mock_daemon(flags=InitFlag.HAS_IOCTL_DIR)
def test_of_a_directory_it_is_an_ioctl_like_any_other(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    mock_daemon.expect.ioctl(3, fh=4, cmd=FIBMAP).error(errno.ENOTTY)
    fd = fuse_process.open("/d", 0)
    assert errno_of(fuse_process.ioctl, fd, FIBMAP, bytearray(4)) == errno.ENOTTY
