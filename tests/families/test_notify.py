"""What a daemon tells unasked, and what its write() gets for it."""

from __future__ import annotations

import errno
import os
import select

import pytest
from mocked import BOTH, DIR, FOREVER, errno_of, forgotten, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon, attr, entry
from fusewire.wire.flags import UNIQUE_RESEND

pytestmark = BOTH


def test_an_invalidated_inode_is_asked_for_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, size=1)
    mock_daemon.expect.getattr(2).reply(attr(2, size=2, valid=FOREVER))
    fuse_process.stat("/f")
    mock_daemon.notify.inval_inode(2, off=-1)
    assert fuse_process.stat("/f").st_size == 2


def test_an_invalidated_name_is_looked_up_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=FOREVER))
    mock_daemon.expect.lookup(1, b"f").reply(entry(3, valid=FOREVER))
    fuse_process.stat("/f")
    mock_daemon.notify.inval_entry(1, b"f")
    assert fuse_process.stat("/f").st_ino == 3
    assert forgotten(mock_daemon) == {2: 1}


def test_an_expired_name_stays_where_it_is_and_is_confirmed(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").times(2).reply(entry(2, valid=FOREVER))
    fuse_process.stat("/f")
    mock_daemon.notify.expire_entry(1, b"f")
    fuse_process.stat("/f")
    assert forgotten(mock_daemon) == {}


def test_a_name_that_was_cached_as_absent_is_looked_up_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(0, valid=FOREVER))
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=FOREVER))
    assert not fuse_process.access("/f", os.F_OK)
    mock_daemon.notify.inval_entry(1, b"f")
    assert fuse_process.stat("/f").st_ino == 2


def test_what_is_not_cached_is_enoent(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    fuse_process.stat("/f")
    assert errno_of(mock_daemon.notify.inval_inode, 9) == errno.ENOENT
    assert errno_of(mock_daemon.notify.inval_entry, 1, b"g") == errno.ENOENT
    assert errno_of(mock_daemon.notify.inval_entry, 9, b"f") == errno.ENOENT
    assert errno_of(mock_daemon.notify.inval_entry, 2, b"x") == errno.ENOTDIR
    assert errno_of(mock_daemon.notify.store, 9, b"data") == errno.ENOENT
    assert errno_of(mock_daemon.notify.retrieve, 1, nodeid=9) == errno.ENOENT


def test_deleting_takes_the_name_away(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=FOREVER))
    mock_daemon.expect.lookup(1, b"f").error(errno.ENOENT)
    fuse_process.stat("/f")
    mock_daemon.notify.delete(1, b"f", child=2)
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT
    assert forgotten(mock_daemon) == {2: 1}


def test_deleting_another_child_is_enoent(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    fuse_process.stat("/f")
    assert errno_of(mock_daemon.notify.delete, 1, b"f", child=3) == errno.ENOENT


def test_deleting_a_directory_in_which_something_is_open_is_enotempty(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.lookup(3, b"x").reply(entry(4, valid=FOREVER))
    mock_daemon.expect.open(4).reply()
    fuse_process.open("/d/x", os.O_RDONLY)
    assert errno_of(mock_daemon.notify.delete, 1, b"d", child=3) == errno.ENOTEMPTY


def test_a_new_epoch_makes_every_name_be_looked_up_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    for name, nodeid in ((b"f", 2), (b"g", 3)):
        mock_daemon.expect.lookup(1, name).times(2).reply(entry(nodeid, valid=FOREVER))
    for _ in range(2):
        fuse_process.stat("/f")
        fuse_process.stat("/g")
        mock_daemon.notify.inc_epoch()


def test_pruned_nodes_are_forgotten_unless_they_are_in_use(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"g", 3)
    fuse_process.stat("/g")
    open_file(mock_daemon, fuse_process)
    mock_daemon.notify.prune([2, 3, 99])
    assert forgotten(mock_daemon) == {3: 1}


def test_storing_beyond_the_end_makes_the_file_longer(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, size=3)
    mock_daemon.expect.getattr(2).reply(attr(2, size=14, valid=FOREVER))
    fuse_process.stat("/f")
    mock_daemon.notify.store(2, b"data", offset=10)
    assert fuse_process.stat("/f").st_size == 14


def test_what_is_retrieved_comes_as_a_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, size=100)
    came = mock_daemon.expect.notify_reply(2, offset=10)
    fuse_process.stat("/f")
    mock_daemon.notify.retrieve(77, nodeid=2, offset=10, size=20)
    assert came.wait().unique == 77


def test_what_was_read_and_not_answered_is_sent_again_when_asked_for(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").do(lambda asked: mock_daemon.notify.resend()).never()
    again = mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=FOREVER))
    assert fuse_process.stat("/f").st_ino == 2
    assert again.wait().unique & UNIQUE_RESEND


@pytest.mark.fuse_kernel(driver="inline")
def test_who_waits_for_events_is_woken(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    waiting = mock_daemon.expect.poll(2, events=lambda events: bool(events & select.POLLIN))
    waiting.do(lambda asked: mock_daemon.notify.poll(asked.kh)).reply(revents=0)
    mock_daemon.expect.poll(2).reply(revents=select.POLLIN)
    assert fuse_process.poll([(fd, select.POLLIN)]) == [(fd, select.POLLIN)]


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (0, b""),
        (10, b""),
        (2, bytes(23)),
        (2, bytes(25)),
        (3, bytes(15)),
        (3, bytes(17)),
        (7, b"x"),
        (8, b"x"),
        (9, bytes(17)),
    ],
)
def test_what_is_no_notification_is_einval(mock_daemon: MockDaemon, code: int, body: bytes) -> None:
    assert errno_of(mock_daemon.notify.raw, code, body) == errno.EINVAL


def test_before_init_is_answered_it_is_einval(mock_daemon: MockDaemon) -> None:
    found = []
    daemon = MockDaemon(mock_daemon.kernel, "/m", mounted=False)
    there(mock_daemon, b"m", 3, DIR)
    daemon.expect.init().do(lambda asked: found.append(errno_of(daemon.notify.inc_epoch))).reply(major=7, minor=46)
    daemon.mount_now()
    daemon.verify()
    assert found == [errno.EINVAL]
