"""FORGET gives back exactly as many references as were granted."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, FOREVER, absent, forgotten, open_file, there

from fusewire import InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, attr, created, direntplus, entry, opened

pytestmark = BOTH


def test_each_lookup_counts(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    there(mock_daemon, valid=0)
    mock_daemon.default.getattr(2).reply(attr(2))
    for _ in range(5):
        fuse_process.stat("/f")
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == {2: 5}


def test_several_nodes_are_forgotten_in_one_message(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    for nodeid in range(2, 12):
        there(mock_daemon, b"%d" % nodeid, nodeid)
        fuse_process.stat(f"/{nodeid}")
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == dict.fromkeys(range(2, 12), 1)


@pytest.mark.mock_daemon(minor=15)
def test_a_daemon_of_before_7_16_gets_them_one_by_one(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    for nodeid in (2, 3):
        there(mock_daemon, b"%d" % nodeid, nodeid)
        fuse_process.stat(f"/{nodeid}")
    mock_daemon.expect.forget(2, nlookup=1)
    mock_daemon.expect.forget(3, nlookup=1)
    fuse_kernel.drop_caches()


def test_what_is_removed_is_forgotten(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.unlink(1, b"f")
    mock_daemon.expect.forget(2, nlookup=1)
    fuse_process.unlink("/f")


def test_what_is_open_is_not_forgotten_before_it_is_released(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.unlink(1, b"f")
    with mock_daemon.in_order():
        mock_daemon.expect.release(2)
        mock_daemon.expect.forget(2, nlookup=1)
    fuse_process.unlink("/f")
    mock_daemon.settle()
    assert forgotten(mock_daemon) == {}
    fuse_process.close(fd)


def test_every_kind_of_making_counts_once(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    for name in (b"file", b"dir", b"node", b"link"):
        absent(mock_daemon, name)
    mock_daemon.expect.create(1, b"file").reply(created(2, 7, valid=FOREVER))
    mock_daemon.expect.mkdir(1, b"dir").reply(entry(3, DIR, valid=FOREVER))
    mock_daemon.expect.mknod(1, b"node").reply(entry(4, 0o100600, valid=FOREVER))
    mock_daemon.expect.symlink(1, b"link").reply(entry(5, 0o120777, valid=FOREVER))
    fuse_process.close(fuse_process.open("/file", os.O_CREAT | os.O_WRONLY))
    fuse_process.mkdir("/dir")
    fuse_process.mknod("/node")
    fuse_process.symlink("x", "/link")
    mock_daemon.settle()
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == {2: 1, 3: 1, 4: 1, 5: 1}


@pytest.mark.mock_daemon(flags=InitFlag.DO_READDIRPLUS)
def test_readdirplus_counts_but_not_for_the_dots(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    mock_daemon.default.getattr(1).reply(attr(1, DIR))
    mock_daemon.expect.opendir(1).reply(opened(1))
    listing = direntplus((b".", entry(1, DIR)), (b"..", entry(9, DIR)), (b"f", entry(2, valid=FOREVER)))
    mock_daemon.expect.readdirplus(1, offset=0).reply(listing)
    mock_daemon.expect.readdirplus(1, offset=3).reply(b"")
    assert fuse_process.listdir("/") == ["f"]
    mock_daemon.settle()
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == {2: 1}


def test_an_absent_name_is_not_forgotten(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(0, valid=60))
    mock_daemon.expect.lookup(1, b"g").error(errno.ENOENT)
    assert not fuse_process.access("/f", os.F_OK)
    assert not fuse_process.access("/g", os.F_OK)
    fuse_kernel.drop_caches()
    assert forgotten(mock_daemon) == {}


def test_forget_is_not_answered(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.forget(2).wrong(refused=errno.ENOENT)
    fuse_process.stat("/f")
    fuse_kernel.drop_caches()
