"""An answer about attributes that is older than a change of ours does not bring the old attributes back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from mocked import FOREVER, open_file

from fusewire import Process
from fusewire.testing import MockDaemon, attr, entry, written

pytestmark = pytest.mark.fuse_kernel(driver="threads")


def while_getattr_is_under_way(daemon: MockDaemon, process: Process, change: Callable[[], object]) -> None:
    """``change`` happens between the question for the attributes and its answer, which has the old size 3."""
    held = daemon.expect.getattr(2).hold()
    asker = threading.Thread(target=process.kernel.process().stat, args=("/f",))
    asker.start()
    asked = held.wait()
    change()
    asked.reply(attr(2, size=3, valid=FOREVER))
    asker.join(20)


def test_a_write_counts_more_than_an_older_getattr(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, entry_valid=FOREVER, attr_valid=0, size=3)
    mock_daemon.expect.write(2).reply(written(10))
    while_getattr_is_under_way(mock_daemon, fuse_process, lambda: fuse_process.pwrite(fd, bytes(10), 0))
    mock_daemon.expect.getattr(2).reply(attr(2, size=10, valid=FOREVER))
    assert fuse_process.stat("/f").st_size == 10


def test_a_truncation_counts_more_than_an_older_getattr(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, entry_valid=FOREVER, attr_valid=0, size=3)
    mock_daemon.expect.setattr(2, size=0).reply(attr(2, size=0, valid=FOREVER))
    while_getattr_is_under_way(mock_daemon, fuse_process, lambda: fuse_process.ftruncate(fd, 0))
    assert fuse_process.stat("/f").st_size == 0


def test_an_invalidation_counts_more_than_an_older_getattr(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    open_file(mock_daemon, fuse_process, entry_valid=FOREVER, attr_valid=0, size=3)
    while_getattr_is_under_way(mock_daemon, fuse_process, lambda: mock_daemon.notify.inval_inode(2, off=-1))
    mock_daemon.expect.getattr(2).reply(attr(2, size=50, valid=FOREVER))
    assert fuse_process.stat("/f").st_size == 50


def test_a_write_counts_more_than_an_older_lookup(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, entry_valid=0, attr_valid=FOREVER, size=3)
    held = mock_daemon.expect.lookup(1, b"f").hold()
    asker = threading.Thread(target=fuse_process.kernel.process().stat, args=("/f",))
    mock_daemon.default.getattr(2).reply(attr(2, size=10, valid=FOREVER))
    mock_daemon.expect.write(2).reply(written(10))
    asker.start()
    asked = held.wait()
    fuse_process.pwrite(fd, bytes(10), 0)
    asked.reply(entry(2, size=3, valid=FOREVER))
    asker.join(20)
    assert fuse_process.fstat(fd).st_size == 10
