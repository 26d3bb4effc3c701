"""rename(2) and renameat2(2)."""

from __future__ import annotations

import errno

import pytest
from mocked import BOTH, DIR, absent, errno_of, forgotten, there

from fusewire import Kernel, Process
from fusewire.testing import MockDaemon, attr, entry

pytestmark = BOTH
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def test_the_daemon_learns_both_directories_and_names(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.default.lookup(3, b"g").error(errno.ENOENT)
    mock_daemon.expect.rename(1, b"f", b"g", newdir=3)
    fuse_process.rename("/f", "/d/g")


def test_the_new_name_is_known_and_the_old_one_is_not(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, valid=60))
    mock_daemon.expect.lookup(1, b"f").error(errno.ENOENT)
    mock_daemon.expect.lookup(1, b"g").error(errno.ENOENT)
    mock_daemon.expect.rename(1, b"f", b"g")
    mock_daemon.expect.getattr(2).reply(attr(2))  # its time of change is another now
    fuse_process.rename("/f", "/g")
    assert fuse_process.stat("/g").st_ino == 2
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


def test_what_was_there_is_forgotten(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"g", 3)
    mock_daemon.expect.rename(1, b"f", b"g", newdir=1)
    fuse_process.rename("/f", "/g")
    assert forgotten(mock_daemon)[3] == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTEMPTY, errno.ENOSPC, errno.EIO])
def test_the_daemons_error_is_the_callers_and_nothing_has_moved(
    mock_daemon: MockDaemon, fuse_process: Process, number: int
) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.expect.rename(1, b"f", b"g").error(number)
    assert errno_of(fuse_process.rename, "/f", "/g") == number
    assert fuse_process.stat("/f").st_ino == 2


def test_a_directory_does_not_go_into_itself(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    mock_daemon.default.lookup(3, b"x").error(errno.ENOENT)
    assert errno_of(fuse_process.rename, "/d", "/d/x") == errno.EINVAL


def test_a_file_does_not_replace_a_directory_nor_the_other_way_round(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    there(mock_daemon)
    there(mock_daemon, b"d", 3, DIR)
    assert errno_of(fuse_process.rename, "/f", "/d") == errno.EISDIR
    assert errno_of(fuse_process.rename, "/d", "/f") == errno.ENOTDIR


def test_two_names_of_one_file_stay(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"g", 2)
    mock_daemon.expect.rename().times(0)
    fuse_process.rename("/f", "/g")


def test_another_mount_is_exdev(mock_daemon: MockDaemon, fuse_kernel: Kernel, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"m", 3, DIR)
    absent(MockDaemon(fuse_kernel, "/m"), b"g")
    assert errno_of(fuse_process.rename, "/f", "/m/g") == errno.EXDEV


@pytest.mark.parametrize("flags", [NOREPLACE, WHITEOUT])
def test_flags_are_for_rename2(mock_daemon: MockDaemon, fuse_kernel: Kernel, flags: int) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.expect.rename2(1, b"f", b"g", newdir=1, flags=flags)
    fuse_kernel.process(uid=0, gid=0).rename("/f", "/g", flags=flags)


def test_names_can_be_exchanged(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"g", 3)
    mock_daemon.default.getattr(2).reply(attr(2, valid=60))
    mock_daemon.default.getattr(3).reply(attr(3, valid=60))
    mock_daemon.expect.rename2(1, b"f", b"g", flags=EXCHANGE)
    fuse_process.rename("/f", "/g", flags=EXCHANGE)
    assert (fuse_process.stat("/f").st_ino, fuse_process.stat("/g").st_ino) == (3, 2)


def test_a_daemon_without_rename2_is_asked_once(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    absent(mock_daemon, b"g")
    mock_daemon.expect.rename2(1).error(errno.ENOSYS)
    for _ in range(2):
        assert errno_of(fuse_process.rename, "/f", "/g", flags=NOREPLACE) == errno.EINVAL
    mock_daemon.expect.rename(1, b"f", b"g")
    fuse_process.rename("/f", "/g")


def test_noreplace_of_what_is_there_is_eexist_without_a_request(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    there(mock_daemon, b"g", 3)
    assert errno_of(fuse_process.rename, "/f", "/g", flags=NOREPLACE) == errno.EEXIST


def test_a_working_directory_moves_with_its_name(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"d", 3, DIR)
    absent(mock_daemon, b"e")
    mock_daemon.default.access(3).reply()
    mock_daemon.expect.rename(1, b"d", b"e")
    fuse_process.chdir("/d")
    fuse_process.rename("/d", "/e")
    assert fuse_process.getcwd() == "/e"
