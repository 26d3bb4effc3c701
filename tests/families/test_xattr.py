"""Extended attributes: four operations, each with a memory of its own."""

from __future__ import annotations

import errno
import os

import pytest
from mocked import BOTH, errno_of, open_file, there

from fusewire import InitFlag, Kernel, Process
from fusewire.kernel.vfs.syscalls import Where, sys_getxattr, sys_listxattr
from fusewire.testing import MockDaemon

pytestmark = BOTH


def test_a_value_is_asked_for_with_the_room_there_is(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.getxattr(2, b"user.x", size=128).reply(b"value")
    assert fuse_process.getxattr("/f", "user.x") == b"value"


def test_a_size_of_0_asks_how_long_it_is(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.getxattr(2, b"user.x", size=0).reply(size=777)
    mock_daemon.expect.listxattr(2, size=0).reply(size=55)
    where = Where(b"/f")
    assert fuse_process._call(sys_getxattr, where, b"user.x", 0) == 777
    assert fuse_process._call(sys_listxattr, where, 0) == 55


def test_erange_is_asked_again_with_more_room(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.getxattr(2, b"user.x", size=128).error(errno.ERANGE)
    mock_daemon.expect.getxattr(2, b"user.x", size=65536).reply(b"v" * 60_000)
    assert fuse_process.getxattr("/f", "user.x") == b"v" * 60_000


@pytest.mark.parametrize("number", [errno.ENODATA, errno.EACCES, errno.E2BIG])
def test_the_daemons_error_is_the_callers(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    there(mock_daemon)
    mock_daemon.expect.getxattr(2).error(number)
    assert errno_of(fuse_process.getxattr, "/f", "user.x") == number


def test_a_list_is_names_with_their_nul(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.listxattr(2).reply(b"user.a\0user.b\0")
    assert fuse_process.listxattr("/f") == ["user.a", "user.b"]


@pytest.mark.parametrize("names", [b"user.a", b"\0", b"user.a\0\0user.b\0"])
def test_a_list_that_is_none_is_eio(mock_daemon: MockDaemon, fuse_process: Process, names: bytes) -> None:
    there(mock_daemon)
    mock_daemon.expect.listxattr(2).reply(names)
    assert errno_of(fuse_process.listxattr, "/f") == errno.EIO


@pytest.mark.parametrize("flags", [0, os.XATTR_CREATE, os.XATTR_REPLACE])
def test_setting_sends_value_and_flags(mock_daemon: MockDaemon, fuse_process: Process, flags: int) -> None:
    there(mock_daemon)
    mock_daemon.expect.setxattr(2, b"user.x", value=b"\0\1value", size=7, flags=flags)
    fuse_process.setxattr("/f", "user.x", b"\0\1value", flags)


@pytest.mark.mock_daemon(flags=InitFlag.SETXATTR_EXT)
def test_the_longer_struct_is_for_those_who_asked_for_it(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    long = mock_daemon.expect.setxattr(2, b"user.x", value=b"v", setxattr_flags=0)
    fuse_process.setxattr("/f", "user.x", b"v")
    assert len(long.wait().raw) == 40 + 16 + len(b"user.x\0") + 1


def test_removing_has_the_name(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    mock_daemon.expect.removexattr(2, b"user.x").error(errno.ENODATA)
    assert errno_of(fuse_process.removexattr, "/f", "user.x") == errno.ENODATA


def test_each_of_the_four_remembers_its_own_enosys(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    calls = {
        "getxattr": lambda: fuse_process.getxattr("/f", "user.x"),
        "listxattr": lambda: fuse_process.listxattr("/f"),
        "setxattr": lambda: fuse_process.setxattr("/f", "user.x", b""),
        "removexattr": lambda: fuse_process.removexattr("/f", "user.x"),
    }
    for name, call in calls.items():
        getattr(mock_daemon.expect, name)(2).error(errno.ENOSYS)
        for _ in range(2):
            assert errno_of(call) == errno.EOPNOTSUPP


def test_a_descriptor_will_do(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.getxattr(2, b"user.x").reply(b"v")
    assert fuse_process.getxattr(fd, "user.x") == b"v"


def test_trusted_attributes_are_roots(mock_daemon: MockDaemon, fuse_kernel: Kernel) -> None:
    there(mock_daemon)
    process = fuse_kernel.process(uid=1000, gid=1000)
    assert errno_of(process.getxattr, "/f", "trusted.x") == errno.ENODATA
    assert errno_of(process.setxattr, "/f", "trusted.x", b"") == errno.EPERM


def test_a_name_that_is_too_long_is_refused_here(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon)
    assert errno_of(fuse_process.getxattr, "/f", "user." + "x" * 255) == errno.ERANGE
    assert errno_of(fuse_process.setxattr, "/f", "user.x", bytes(65_537)) == errno.E2BIG
