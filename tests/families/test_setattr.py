"""chmod, chown, truncate, utimensat: SETATTR says which fields count."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from mocked import BOTH, FOREVER, LNK, REG, errno_of, open_file, there

from fusewire import InitFlag, Kernel, Process
from fusewire.testing import MockDaemon, attr
from fusewire.wire.flags import FAttr

pytestmark = BOTH


def test_chmod_sends_the_kind_with_the_mode(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.setattr(2, valid=FAttr.MODE, mode=stat.S_IFREG | 0o4711).reply(attr(2, 0o104711, valid=FOREVER))
    fuse_process.chmod("/f", 0o4711)
    assert fuse_process.stat("/f").st_mode == 0o104711


def test_chown_sends_what_is_to_change(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.default.getattr(2).reply(attr(2, valid=FOREVER))
    mock_daemon.expect.setattr(2, valid=FAttr.UID | FAttr.GID, uid=10, gid=11).reply(attr(2))
    mock_daemon.expect.setattr(2, valid=FAttr.UID, uid=12).reply(attr(2))
    mock_daemon.expect.setattr(2, valid=FAttr.GID, gid=13).reply(attr(2))
    fuse_process.chown("/f", 10, 11)
    fuse_process.chown("/f", 12, -1)
    fuse_process.chown("/f", -1, 13)


def test_truncate_sends_size_and_lock_owner(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    asked = mock_daemon.expect.setattr(2, valid=FAttr.SIZE | FAttr.LOCKOWNER, size=77).reply(
        attr(2, size=77, valid=FOREVER)
    )
    fuse_process.truncate("/f", 77)
    assert asked.wait().lock_owner
    assert fuse_process.stat("/f").st_size == 77


def test_ftruncate_sends_the_handle_too(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.setattr(2, valid=FAttr.SIZE | FAttr.LOCKOWNER | FAttr.FH, fh=7, size=5).reply(attr(2, size=5))
    fuse_process.ftruncate(fd, 5)


def test_times_are_seconds_and_nanoseconds(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.setattr(
        2, valid=FAttr.ATIME | FAttr.MTIME, atime=1, atimensec=2, mtime=(1 << 64) - 1, mtimensec=5
    ).reply(attr(2))
    fuse_process.utime("/f", ns=(1_000_000_002, -999_999_995))


def test_now_is_said_to_be_now(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    valid = FAttr.ATIME | FAttr.MTIME | FAttr.ATIME_NOW | FAttr.MTIME_NOW
    mock_daemon.expect.setattr(2, valid=valid).reply(attr(2))
    fuse_process.utime("/f")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS, errno.EFBIG, errno.ENOSYS])
def test_the_daemons_error_is_the_callers_and_nothing_has_changed(
    mock_daemon: MockDaemon, fuse_process: Process, number: int
) -> None:
    there(mock_daemon, size=9)
    mock_daemon.expect.setattr(2).error(number)
    assert errno_of(fuse_process.truncate, "/f", 0) == number
    assert fuse_process.stat("/f").st_size == 9


def test_an_answer_of_another_kind_is_eio_for_ever(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.setattr(2).reply(attr(2, stat.S_IFDIR | 0o755))
    fd = open_file(mock_daemon, fuse_process)
    assert errno_of(fuse_process.fchmod, fd, 0o600) == errno.EIO
    assert errno_of(fuse_process.fstat, fd) == errno.EIO


def test_a_symbolic_link_has_an_owner_but_no_mode(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, b"l", 3, LNK)
    mock_daemon.default.getattr(3).reply(attr(3, LNK, valid=FOREVER))
    mock_daemon.expect.setattr(3, uid=5).reply(attr(3, LNK, uid=5))
    fuse_process.lchown("/l", 5, -1)
    assert errno_of(fuse_process.chmod, "/l", 0o600, follow_symlinks=False) == errno.EOPNOTSUPP


def test_a_file_opened_for_reading_is_not_truncated(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process, os.O_RDONLY)
    assert errno_of(fuse_process.ftruncate, fd, 0) == errno.EINVAL
    assert errno_of(fuse_process.truncate, "/f", -1) == errno.EINVAL


def test_a_change_of_owner_clears_set_id_bits(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, mode=0o106755)
    mock_daemon.default.getattr(2).reply(attr(2, 0o106755, valid=FOREVER))
    mock_daemon.expect.setattr(2, valid=FAttr.UID | FAttr.MODE, uid=5, mode=0o100755).reply(attr(2, 0o100755))
    fuse_process.chown("/f", 5, -1)


@pytest.mark.mock_daemon(flags=InitFlag.HANDLE_KILLPRIV_V2)
def test_a_daemon_that_clears_them_itself_is_told(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    there(mock_daemon, mode=REG)
    process = fuse_kernel.process(uid=1000, gid=1000)
    kill = FAttr.SIZE | FAttr.LOCKOWNER | FAttr.KILL_SUIDGID
    mock_daemon.expect.setattr(2, valid=kill).reply(attr(2))
    process.truncate("/f", 1)
    mock_daemon.expect.setattr(2, valid=FAttr.UID | FAttr.KILL_SUIDGID).reply(attr(2))
    process.chown("/f", 5, -1)
