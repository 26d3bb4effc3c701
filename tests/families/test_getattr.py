"""stat(2), fstat(2), statx(2)."""

from __future__ import annotations

import errno
import stat

import pytest
from mocked import BOTH, DIR, FOREVER, errno_of, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon, attr
from fusewire.wire.flags import GetattrFlag
from fusewire.wire.layouts import Statx, StatxOut, SxTime

pytestmark = BOTH
BTIME, BASIC = 0x800, 0x7FF
FORCE_SYNC, DONT_SYNC = 0x2000, 0x4000


def test_every_field_reaches_the_caller(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, valid=0)
    mock_daemon.expect.getattr(2).reply(
        attr(
            2, stat.S_IFREG | 0o6751, ino=77, size=1 << 40, blocks=88, atime=1, mtime=2, ctime=3, atimensec=4, mtimensec=5,
            ctimensec=6, nlink=9, uid=10, gid=11, rdev=12, blksize=8192,
        )
    )  # fmt: skip
    found = fuse_process.stat("/f")
    assert (found.st_mode, found.st_ino, found.st_size, found.st_blocks) == (0o106751, 77, 1 << 40, 88)
    assert (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) == (1_000_000_004, 2_000_000_005, 3_000_000_006)
    assert (found.st_nlink, found.st_uid, found.st_gid, found.st_rdev, found.st_blksize) == (9, 10, 11, 12, 8192)


def test_times_before_1970_are_negative(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, mtime=(1 << 64) - 10)
    assert fuse_process.stat("/f").st_mtime == -10


def test_an_open_file_is_asked_for_by_its_handle(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, valid=0)
    mock_daemon.expect.getattr(2, getattr_flags=GetattrFlag.FH, fh=7).reply(attr(2))
    fuse_process.fstat(fd)


def test_a_path_is_asked_for_without_one(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, valid=0)
    mock_daemon.expect.getattr(2, getattr_flags=0, fh=0).reply(attr(2))
    fuse_process.stat("/f")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.EACCES])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    there(mock_daemon, valid=0)
    mock_daemon.expect.getattr(2).error(number)
    assert errno_of(fuse_process.stat, "/f") == number


def test_the_root_is_asked_for_like_any_other(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.getattr(1).reply(attr(1, DIR, size=5, valid=FOREVER))
    assert fuse_process.stat("/").st_size == 5
    assert fuse_process.stat("/").st_size == 5


def test_attributes_of_another_kind_are_eio_for_ever(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, entry_valid=FOREVER, attr_valid=0)
    mock_daemon.expect.getattr(2).reply(attr(2, DIR))
    fd = open_file(mock_daemon, fuse_process, entry_valid=FOREVER, attr_valid=0)
    assert errno_of(fuse_process.fstat, fd) == errno.EIO
    assert errno_of(fuse_process.fstat, fd) == errno.EIO


def test_the_birth_time_is_asked_for_by_statx(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.statx(2, sx_mask=BASIC | BTIME).reply(
        StatxOut(9, stat=Statx(mask=BASIC | BTIME, mode=0o100644, ino=2, btime=SxTime(5, 6)))
    )
    assert fuse_process.statx("/f", BASIC | BTIME).btime == SxTime(5, 6)


def test_a_daemon_without_statx_is_not_asked_twice(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.statx(2).error(errno.ENOSYS)
    for _ in range(2):
        assert not fuse_process.statx("/f", BASIC | BTIME).mask & BTIME


def test_force_sync_asks_in_any_case_and_dont_sync_never(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, size=1)
    mock_daemon.expect.getattr(2).reply(attr(2, size=2, valid=0))
    assert fuse_process.statx("/f", flags=FORCE_SYNC).size == 2
    assert fuse_process.statx("/f", flags=DONT_SYNC).size == 2
