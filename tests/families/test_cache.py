"""How long names and attributes are believed, and what makes them be asked for again."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, DIR, errno_of, forgotten, open_file

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, attr, entry, written

in_line = pytest.mark.fuse_kernel(driver="inline")


@in_line
def test_a_name_is_believed_for_as_long_as_the_daemon_said(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").times(2).reply(entry(2, entry_valid=1.5, attr_valid=60))
    fuse_process.stat("/f")
    fuse_kernel.advance(1.4)
    fuse_process.stat("/f")
    assert len(mock_daemon.came("lookup")) == 1
    fuse_kernel.advance(0.2)
    fuse_process.stat("/f")


@in_line
def test_attributes_are_believed_for_as_long_as_the_daemon_said(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, entry_valid=60, attr_valid=2, size=1))
    mock_daemon.expect.getattr(2).reply(attr(2, size=9, valid=60))
    assert fuse_process.stat("/f").st_size == 1
    fuse_kernel.advance(2.1)
    assert fuse_process.stat("/f").st_size == 9


@in_line
def test_a_name_that_leads_elsewhere_now_is_followed_and_the_old_node_forgotten(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=1))
    mock_daemon.expect.lookup(1, b"f").times(2).reply(entry(3, valid=1))
    fuse_process.stat("/f")
    fuse_kernel.advance(2)
    assert fuse_process.stat("/f").st_ino == 3
    assert forgotten(mock_daemon) == {2: 1, 3: 1}  # one of node 3: what told that it is another was of no use


@BOTH
def test_no_time_at_all_is_no_caching(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").times(2).reply(entry(2, valid=0))
    mock_daemon.expect.getattr(2).times(2).reply(attr(2))
    for _ in range(2):
        fuse_process.stat("/f")


@BOTH
def test_enoent_is_not_remembered(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").times(2).error(errno.ENOENT)
    for _ in range(2):
        assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


@BOTH
def test_node_0_is_a_name_remembered_as_absent(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(0, valid=60))
    for _ in range(2):
        assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


@in_line
def test_an_absent_name_is_asked_for_again_when_its_time_is_over(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(0, valid=1))
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=60))
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT
    fuse_kernel.advance(1.1)
    assert fuse_process.stat("/f").st_ino == 2


@BOTH
def test_creating_makes_an_absent_name_present(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"d").times(2).reply(entry(0, valid=60))  # whoever makes it makes sure
    mock_daemon.expect.mkdir(1, b"d").reply(entry(2, DIR, valid=60))
    assert errno_of(fuse_process.stat, "/d") == errno.ENOENT
    fuse_process.mkdir("/d")
    assert fuse_process.stat("/d").st_ino == 2


@BOTH
def test_a_write_makes_size_and_times_be_asked_for_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, size=3)
    mock_daemon.expect.write(2).reply(written(4))
    mock_daemon.expect.getattr(2).reply(attr(2, size=100, valid=60))
    fuse_process.pwrite(fd, b"abcd", 0)
    assert fuse_process.stat("/f").st_size == 100
    assert fuse_process.stat("/f").st_size == 100


@BOTH
def test_what_nobody_uses_is_forgotten_with_the_caches(
    mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process
) -> None:
    mock_daemon.expect.lookup(1, b"f").times(2).reply(entry(2, valid=60))
    mock_daemon.expect.forget(2, nlookup=1)
    fuse_process.stat("/f")
    fuse_kernel.drop_caches()
    fuse_process.stat("/f")


@BOTH
def test_a_generation_that_changed_is_another_file(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=0, generation=1))
    mock_daemon.expect.lookup(1, b"f").times(2).reply(entry(2, valid=0, generation=2))
    mock_daemon.default.getattr(2).reply(attr(2))
    fuse_process.stat("/f")
    fd = open_file(mock_daemon, fuse_process)
    assert fuse_process.fstat(fd).st_ino == 2
