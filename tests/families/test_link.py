"""link(2)."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, DIR, absent, errno_of, forgotten, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, attr, entry

pytestmark = BOTH


def test_the_daemon_learns_the_node_the_directory_and_the_name(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.expect.link(1, b"g", oldnodeid=2).reply(entry(2, valid=60, nlink=2))
    fuse_process.link("/f", "/g")
    assert fuse_process.stat("/g").st_nlink == 2
    assert fuse_process.stat("/f").st_nlink == 2


def test_a_name_that_is_there_is_eexist_without_a_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"g", 3)
    assert errno_of(fuse_process.link, "/f", "/g") == errno.EEXIST


def test_a_directory_has_one_name(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    absent(mock_daemon, b"g")
    assert errno_of(fuse_process.link, "/d", "/g") == errno.EPERM


def test_a_link_to_another_mount_is_exdev(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"m", 3, DIR)
    other = MockDaemon(fuse_kernel, "/m")
    absent(other, b"g")
    assert errno_of(fuse_process.link, "/f", "/m/g") == errno.EXDEV


def test_a_name_that_is_there_is_eexist_on_another_mount_too(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    there(mock_daemon)
    there(mock_daemon, b"m", 3, DIR)
    there(MockDaemon(fuse_kernel, "/m"), b"g")
    assert errno_of(fuse_process.link, "/f", "/m/g") == errno.EEXIST


@pytest.mark.parametrize("number", [errno.EMLINK, errno.EPERM, errno.ENOSPC])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.expect.link(1, b"g").error(number)
    assert errno_of(fuse_process.link, "/f", "/g") == number


def test_a_daemon_without_links_is_not_asked_twice(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.expect.link(1, b"g").error(errno.ENOSYS)
    for _ in range(2):
        assert errno_of(fuse_process.link, "/f", "/g") == errno.EPERM


def test_another_kind_of_file_is_eio_and_what_was_granted_goes_back(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.expect.link(1, b"g").reply(entry(9, DIR))
    assert errno_of(fuse_process.link, "/f", "/g") == errno.EIO
    assert forgotten(mock_daemon) == {9: 1}


def test_the_name_counts_as_looked_up(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.default.getattr(2).reply(attr(2))
    mock_daemon.expect.link(1, b"g").reply(entry(2, valid=60))
    fuse_process.link("/f", "/g")
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == {2: 2}
