"""open(2) of a directory, and its end."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, LARGEFILE, errno_of, there

from fusewire import Process
from fusewire.testing import MockDaemon, attr, opened

pytestmark = BOTH


def test_it_has_an_operation_of_its_own(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3, flags=os.O_RDONLY | os.O_DIRECTORY | LARGEFILE).reply(opened(4))
    fuse_process.open("/d", os.O_RDONLY | os.O_DIRECTORY)


def test_so_has_its_end(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    mock_daemon.expect.releasedir(3, fh=4)
    fuse_process.close(fuse_process.open("/d", os.O_RDONLY))


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EIO])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).error(number)
    assert errno_of(fuse_process.listdir, "/d") == number


def test_enosys_means_without_handles_from_then_on(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).error(errno.ENOSYS)
    mock_daemon.default.readdir(3, fh=0).reply(b"")
    mock_daemon.default.getattr(3).reply(attr(3, DIR))
    mock_daemon.expect.releasedir().times(0)
    for _ in range(2):
        assert fuse_process.listdir("/d") == []


def test_a_directory_is_not_for_writing(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT | os.O_RDONLY, os.O_RDONLY | os.O_TRUNC):
        assert errno_of(fuse_process.open, "/d", flags) == errno.EISDIR


def test_o_path_opens_nothing(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    fuse_process.close(fuse_process.open("/d", os.O_PATH | os.O_DIRECTORY))
    assert mock_daemon.names == ["INIT", "LOOKUP"]


def test_a_directory_cannot_be_read_like_a_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.opendir(3).reply(opened(4))
    assert errno_of(fuse_process.read, fuse_process.open("/d", os.O_RDONLY), 10) == errno.EISDIR
