"""unlink(2)."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, DIR, FOREVER, errno_of, forgotten, open_file, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, attr, entry

pytestmark = BOTH


def test_the_name_is_gone_and_the_node_forgotten(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=FOREVER))
    mock_daemon.expect.unlink(1, b"f")
    mock_daemon.expect.lookup(1, b"f").error(errno.ENOENT)
    fuse_process.unlink("/f")
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT
    assert forgotten(mock_daemon) == {2: 1}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENOSYS])
def test_the_daemons_error_is_the_callers_and_it_is_still_there(
    mock_daemon: MockDaemon, fuse_process: Process, number: int
) -> None:
    there(mock_daemon)
    mock_daemon.expect.unlink(1, b"f").error(number)
    assert errno_of(fuse_process.unlink, "/f") == number
    assert fuse_process.stat("/f").st_ino == 2


def test_a_name_that_the_daemon_does_not_find_is_looked_up_again(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=FOREVER))
    mock_daemon.expect.unlink(1, b"f").error(errno.ENOENT)
    mock_daemon.expect.lookup(1, b"f").times(2).error(errno.ENOENT)
    assert errno_of(fuse_process.unlink, "/f") == errno.ENOENT
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


def test_a_directory_is_eisdir_without_a_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    assert errno_of(fuse_process.unlink, "/d") == errno.EISDIR


def test_an_open_file_lives_on(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.unlink(1, b"f")
    mock_daemon.expect.read(2, fh=7).reply(b"text")
    fuse_process.unlink("/f")
    assert fuse_process.pread(fd, 4, 0) == b"text"
    assert forgotten(mock_daemon) == {}


def test_another_name_lives_on_and_its_links_are_counted_anew(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, nlink=2)
    there(mock_daemon, b"g", 2, nlink=2)
    mock_daemon.expect.unlink(1, b"f")
    mock_daemon.expect.getattr(2).reply(attr(2, nlink=1, valid=FOREVER))
    fuse_process.stat("/g")
    fuse_process.unlink("/f")
    assert fuse_process.stat("/g").st_nlink == 1


def test_a_mountpoint_is_busy(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    there(mock_daemon, b"m", 3, DIR)
    MockDaemon(fuse_kernel, "/m")
    assert errno_of(fuse_process.rmdir, "/m") == errno.EBUSY
