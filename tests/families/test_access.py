"""access(2) and chdir(2) ask the daemon; nothing else does."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, DIR, errno_of, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon, attr

pytestmark = BOTH


@pytest.mark.parametrize("mode", [os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK | os.X_OK, os.F_OK])
def test_the_mask_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, mode: int) -> None:
    there(mock_daemon)
    mock_daemon.expect.access(2, mask=mode)
    assert fuse_process.access("/f", mode)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_the_daemon_may_refuse(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    there(mock_daemon)
    mock_daemon.expect.access(2).error(number)
    assert not fuse_process.access("/f", os.R_OK)


def test_enosys_means_yes_and_never_ask_again(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.access(2).error(errno.ENOSYS)
    assert fuse_process.access("/f", os.R_OK)
    assert fuse_process.access("/f", os.W_OK)


def test_chdir_asks_whether_the_directory_may_be_searched(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.access(3, mask=os.X_OK).error(errno.EACCES)
    assert errno_of(fuse_process.chdir, "/d") == errno.EACCES


def test_opening_and_walking_do_not_ask(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.expect.access().times(0)
    mock_daemon.default.lookup(3, b"x").error(errno.ENOENT)
    open_file(mock_daemon, fuse_process)
    assert errno_of(fuse_process.stat, "/d/x") == errno.ENOENT


@pytest.mark.mock_daemon(default_permissions=True)
def test_with_default_permissions_the_kernel_answers_itself(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, mode=0o100600, uid=12)
    mock_daemon.expect.access().times(0)
    mock_daemon.default.getattr(1).reply(attr(1, DIR))
    assert fuse_process.kernel.process(uid=0, gid=0).access("/f", os.R_OK)


def test_access_is_asked_for_the_real_user(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    process = fuse_process.kernel.process(uid=0, gid=0)
    process.setresuid(1000, 0, 0)
    mock_daemon.expect.access(2, uid=1000)
    assert process.access("/f", os.R_OK)
    assert process.geteuid() == 0


@pytest.mark.mock_daemon(read_only=True)
def test_nothing_is_writable_on_a_read_only_mount_and_nobody_is_asked(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon)
    assert not fuse_process.access("/f", os.W_OK)
