"""FIFOs and sockets: names of the daemon's, whose contents are not its business."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from mocked import BOTH, FIFO, absent, errno_of, there

from fusewire import Process
from fusewire.testing import MockDaemon, entry

pytestmark = BOTH


def test_mkfifo_is_mknod(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    absent(mock_daemon, b"p")
    mock_daemon.expect.mknod(1, b"p", mode=stat.S_IFIFO | 0o600, rdev=0).reply(entry(2, FIFO))
    fuse_process.mkfifo("/p", 0o600)


@pytest.mark.parametrize("kind", [stat.S_IFSOCK, stat.S_IFCHR])
def test_opening_one_does_not_ask_the_daemon(mock_daemon: MockDaemon, fuse_process: Process, kind: int) -> None:
    there(mock_daemon, b"p", 2, kind | 0o666)
    assert errno_of(fuse_process.open, "/p", os.O_RDWR | os.O_NONBLOCK) == errno.ENXIO
    assert mock_daemon.names == ["INIT", "LOOKUP"]


def test_opening_a_fifo_says_that_there_are_no_pipes_and_does_not_ask(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    with pytest.raises(NotImplementedError, match="has no pipes"):
        fuse_process.open("/p", os.O_RDWR | os.O_NONBLOCK)
    assert mock_daemon.names == ["INIT", "LOOKUP"]


def test_it_has_attributes_like_any_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO, uid=7)
    found = fuse_process.stat("/p")
    assert stat.S_ISFIFO(found.st_mode)
    assert found.st_uid == 7


def test_it_is_removed_like_any_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"p", 2, FIFO)
    mock_daemon.expect.unlink(1, b"p")
    fuse_process.unlink("/p")
