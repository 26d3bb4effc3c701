"""A daemon that answers badly gets an errno for its write, its caller gets EIO, and everybody else goes on."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from mocked import BOTH, DIR, REG, errno_of, open_file, there

from fusewire import Process
from fusewire.testing import MockDaemon, attr, entry, written

pytestmark = BOTH


def test_an_answer_to_nobody_is_enoent(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").wrong(unique=lambda right: right + 1000, refused=errno.ENOENT).error(
        errno.ENOENT
    )
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


@pytest.mark.parametrize("length", [0, 15, 17, 1 << 31])
def test_a_length_that_is_not_that_of_the_write_is_einval(
    mock_daemon: MockDaemon, fuse_process: Process, length: int
) -> None:
    mock_daemon.expect.lookup(1, b"f").wrong(length=length, refused=errno.EINVAL).error(errno.ENOENT)
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


def test_less_than_a_header_is_einval(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").wrong(raw=bytes(8), refused=errno.EINVAL).error(errno.ENOENT)
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


@pytest.mark.parametrize("error", [1, 38, -512, -(1 << 31)])
def test_an_error_that_is_no_errno_is_einval_and_the_request_goes_on_waiting(
    mock_daemon: MockDaemon, fuse_process: Process, error: int
) -> None:
    mock_daemon.expect.lookup(1, b"f").wrong(error=error, refused=errno.EINVAL).error(errno.ENOENT)
    assert errno_of(fuse_process.stat, "/f") == errno.ENOENT


def test_an_error_with_a_body_is_einval_and_eio_for_the_caller(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    wrong = mock_daemon.expect.lookup(1, b"f").wrong(error=-errno.ENOENT, body=bytes(128), refused=errno.EINVAL)
    wrong.never()
    assert errno_of(fuse_process.stat, "/f") == errno.EIO


@pytest.mark.parametrize("size", [0, 127, 129, 4096])
def test_a_body_of_another_length_is_einval_and_eio_for_the_caller(
    mock_daemon: MockDaemon, fuse_process: Process, size: int
) -> None:
    mock_daemon.expect.lookup(1, b"f").wrong(body=bytes(size), refused=errno.EINVAL).never()
    assert errno_of(fuse_process.stat, "/f") == errno.EIO


def test_a_second_answer_is_enoent(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.unlink(1, b"f").wrong().wrong(refused=errno.ENOENT)
    there(mock_daemon)
    fuse_process.unlink("/f")


def test_more_data_than_was_asked_for_is_eio(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.read(2).wrong(body=bytes(11), refused=errno.EINVAL).never()
    assert errno_of(fuse_process.pread, fd, 10, 0) == errno.EIO


def test_more_bytes_written_than_there_were_is_eio(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    fd = open_file(mock_daemon, fuse_process)
    mock_daemon.expect.write(2).reply(written(11))
    assert errno_of(fuse_process.pwrite, fd, bytes(10), 0) == errno.EIO


@pytest.mark.parametrize(
    "answer",
    [
        entry(1, DIR),
        entry(2, 0),
        entry(2, 0o30644),
        entry(2, REG, size=1 << 63),
    ],
    ids=["the root", "no type", "a type that is none", "a size below zero"],
)
def test_an_entry_that_cannot_be_is_eio(mock_daemon: MockDaemon, fuse_process: Process, answer: object) -> None:
    mock_daemon.expect.lookup(1, b"f").reply(answer)
    assert errno_of(fuse_process.stat, "/f") == errno.EIO


def test_a_file_that_becomes_a_directory_is_bad_for_ever(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    there(mock_daemon, entry_valid=1000, attr_valid=0)
    mock_daemon.expect.getattr(2).reply(attr(2, stat.S_IFDIR | 0o755))
    fd = open_file(mock_daemon, fuse_process, entry_valid=1000, attr_valid=0, valid=0)
    assert errno_of(fuse_process.fstat, fd) == errno.EIO
    assert errno_of(fuse_process.pread, fd, 1, 0) == errno.EIO
    assert not [name for name in mock_daemon.names if name == "READ"]


@pytest.mark.parametrize("body", [b"\1" * 24 + b"name", bytes(24)])
def test_a_listing_that_is_none_is_eio_and_no_endless_loop(
    mock_daemon: MockDaemon, fuse_process: Process, body: bytes
) -> None:
    mock_daemon.default.getattr(1).reply(attr(1, DIR))
    mock_daemon.default.opendir(1).reply()
    mock_daemon.expect.readdir(1).reply(body)
    assert errno_of(fuse_process.listdir, "/") == errno.EIO


def test_everybody_else_goes_on(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    mock_daemon.expect.lookup(1, b"f").wrong(body=b"junk", refused=errno.EINVAL).never()
    mock_daemon.expect.lookup(1, b"g").reply(entry(3, valid=9))
    assert errno_of(fuse_process.open, "/f", os.O_RDONLY) == errno.EIO
    assert fuse_process.stat("/g").st_ino == 3
