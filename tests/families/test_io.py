"""Reads, writes and sizes against a daemon that keeps a real file's contents: whatever the order, it is as on a file."""

from __future__ import annotations

import os
import random

import pytest
from mocked import BOTH, DIRECT, REG, there

from fusewire import InitFlag, Process
from fusewire.testing import MockDaemon, attr, opened, written
from fusewire.testing.mock import Asked
from fusewire.wire.flags import FAttr

pytestmark = [BOTH, pytest.mark.mock_daemon(flags=InitFlag.HANDLE_KILLPRIV_V2, max_write=4096)]


class Contents:
    """What a mock daemon says of one file, node 2."""

    def __init__(self, daemon: MockDaemon, how: int = DIRECT) -> None:
        self.data = bytearray()
        there(daemon, valid=0)
        daemon.default.lookup(1, b"f").reply(lambda asked: self.entry())
        daemon.default.open(2).reply(opened(7, how))
        daemon.default.getattr(2).reply(lambda asked: attr(2, size=len(self.data)))
        daemon.default.read(2).reply(lambda asked: bytes(self.data[asked.offset : asked.offset + asked.size]))
        daemon.default.write(2).reply(self.write)
        daemon.default.setattr(2).reply(self.setattr)

    def entry(self) -> object:
        from fusewire.testing import entry

        return entry(2, REG, size=len(self.data))

    def write(self, asked: Asked) -> object:
        end = asked.offset + len(asked.data)
        self.data.extend(bytes(max(0, asked.offset - len(self.data))))
        self.data[asked.offset : end] = asked.data
        return written(len(asked.data))

    def setattr(self, asked: Asked) -> object:
        assert asked.valid & FAttr.SIZE
        del self.data[asked.size :]
        self.data.extend(bytes(asked.size - len(self.data)))
        return attr(2, size=len(self.data))


@pytest.mark.parametrize("seed", range(6))
def test_it_is_as_on_a_file_of_the_host(
    mock_daemon: MockDaemon, fuse_process: Process, seed: int, tmp_path: os.PathLike[str]
) -> None:
    Contents(mock_daemon)
    rng = random.Random(seed)
    real = os.open(os.path.join(tmp_path, "f"), os.O_RDWR | os.O_CREAT)
    ours = fuse_process.open("/f", os.O_RDWR)
    for _ in range(60):
        offset, size = rng.randrange(20_000), rng.randrange(1, 12_000)
        match rng.randrange(5):
            case 0:
                data = rng.randbytes(size)
                assert fuse_process.pwrite(ours, data, offset) == os.pwrite(real, data, offset)
            case 1:
                assert fuse_process.pread(ours, size, offset) == os.pread(real, size, offset)
            case 2:
                fuse_process.ftruncate(ours, offset)
                os.ftruncate(real, offset)
            case 3:
                assert fuse_process.lseek(ours, offset, os.SEEK_SET) == os.lseek(real, offset, os.SEEK_SET)
                assert fuse_process.read(ours, size) == os.read(real, size)
            case _:
                assert fuse_process.lseek(ours, -0, os.SEEK_END) == os.lseek(real, 0, os.SEEK_END)
                assert fuse_process.fstat(ours).st_size == os.fstat(real).st_size
    os.close(real)


def test_a_file_object_reads_what_it_wrote(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    Contents(mock_daemon)
    text = "line\n" * 5000
    with fuse_process.open_file("/f", "w") as file:
        file.write(text)
    with fuse_process.open_file("/f") as file:
        assert file.read() == text


def test_what_is_appended_goes_to_the_end_as_the_daemon_sees_it(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    contents = Contents(mock_daemon)
    fd = fuse_process.open("/f", os.O_WRONLY | os.O_APPEND)
    fuse_process.write(fd, b"one ")
    contents.data += b"(somebody else's) "
    fuse_process.write(fd, b"two")
    assert contents.data == b"one (somebody else's) two"
