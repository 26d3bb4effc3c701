"""exec: which files are opened and read for it, who may not write to them meanwhile, and what is left of the old program."""

from __future__ import annotations

import errno
import mmap as real
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import errno_of

from fusewire import FOpenFlag, InitFlag, Kernel, Process
from fusewire.filesystems import MemoryFS
from fusewire.kernel.vfs import SegmentationFault
from fusewire.testing import MockDaemon, entry, opened
from fusewire.wire.flags import PAGE_SIZE

ELF = b"\x7fELF" + bytes(100)
FILES = {
    "elf": ELF,
    "text": b"plain text\n",
    "empty": b"",
    "script": b"#!/elf\n",
    "one argument": b"#! \t /elf \t -x  -y \t\n",
    "lost": b"#!/no/such\n",
    "loop": b"#!/loop\n",
    "second": b"#!/script arg\n",
    "long": b"#!/" + b"x" * 300 + b"\n",
    "no newline": b"#!/elf",
    "nul": b"#!/elf\0junk\n",
    "nul in argument": b"#!/elf x \0junk\n",
    "blank end": b"#!/elf ",
    "no name": b"#!\0/elf\n",
    "d/inner": b"#!elf\n",
}


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        kernel.mount(MemoryFS(FILES), "/", default_permissions=True)
        yield kernel


@pytest.fixture
def process(kernel: Kernel) -> Process:
    process = kernel.process(uid=0, gid=0)
    for name in FILES:
        process.chmod(f"/{name}", 0o755)
    return process


# -- what is run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "argv"),
    [
        ("/elf", ["name", "a"]),
        ("/script", ["/elf", "/script", "a"]),
        ("/one argument", ["/elf", "-x  -y", "/one argument", "a"]),
        ("/second", ["/elf", "/script", "arg", "/second", "a"]),
        ("/no newline", ["/elf", "/no newline", "a"]),
        ("/nul", ["/elf", "/nul", "a"]),
        ("/nul in argument", ["/elf", "x ", "/nul in argument", "a"]),
        ("/blank end", ["/elf", "", "/blank end", "a"]),
    ],
)
def test_a_script_is_run_by_its_interpreter_with_one_argument(process: Process, path: str, argv: list[str]) -> None:
    process.execv(path, ["name", "a"])
    assert process.argv == argv
    assert process.comm == path[1:]


def test_an_interpreter_without_a_slash_is_looked_for_in_the_working_directory(process: Process) -> None:
    process.chdir("/")
    process.execv("/d/inner", ["inner"])
    assert process.argv == ["elf", "/d/inner"]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/text", errno.ENOEXEC),
        ("/empty", errno.ENOEXEC),
        ("/long", errno.ENOEXEC),
        ("/lost", errno.ENOENT),
        ("/no name", errno.EACCES),
        ("/loop", errno.ELOOP),
        ("/d", errno.EACCES),
        ("/nothing", errno.ENOENT),
    ],
)
def test_what_cannot_be_run_leaves_the_program_as_it_was(process: Process, path: str, number: int) -> None:
    fd = process.open("/elf", os.O_RDONLY)
    assert errno_of(process.execv, path, ["x"]) == number
    assert process.read(fd, 4) == ELF[:4]
    assert process.comm == "python"
    process.close(process.open("/text", os.O_WRONLY))  # nobody keeps any of them from being written to
    process.close(process.open("/loop", os.O_WRONLY))


def test_what_is_about_to_be_written_to_cannot_be_run_while_the_daemon_is_asked() -> None:
    class Asked(MemoryFS):
        def open(self, *args: Any) -> Any:
            return self.asked(super().open, *args)

        def setattr(self, *args: Any) -> Any:
            return self.asked(super().setattr, *args)

        def asked(self, call: Callable[..., Any], *args: Any) -> Any:
            if calls.pop():
                seen.append(errno_of(other.execv, "/elf", ["elf"]))
            return call(*args)

    seen: list[int | None] = []
    calls = [False]
    with Kernel() as kernel:
        kernel.mount(Asked({"elf": ELF}), "/", workers=2)
        writer, other = kernel.process(uid=0, gid=0), kernel.process(uid=0, gid=0)
        writer.chmod("/elf", 0o755)
        calls += [False, True]  # the second is exec's own
        writer.close(writer.open("/elf", os.O_WRONLY))
        calls[:] = [False, True]
        writer.truncate("/elf", len(ELF))
        assert seen == [errno.ETXTBSY] * 2
        calls[:] = [False]
        other.execv("/elf", ["elf"])


def test_without_the_right_to_execute_nobody_runs_it_and_root_needs_one_too(kernel: Kernel, process: Process) -> None:
    user = kernel.process(uid=1000, gid=1000)
    process.chmod("/elf", 0o700)
    assert errno_of(user.execv, "/elf", ["elf"]) == errno.EACCES
    process.chmod("/elf", 0o644)
    assert errno_of(process.execv, "/elf", ["elf"]) == errno.EACCES


def test_set_id_bits_say_who_it_runs_as(kernel: Kernel, process: Process) -> None:
    process.chown("/elf", 7, 8)
    process.chmod("/elf", 0o6755)
    user = kernel.process(uid=1000, gid=1000)
    user.execv("/script", ["script"])
    assert user.getresuid() == (1000, 7, 7)
    assert user.getresgid() == (1000, 8, 8)
    process.chmod("/elf", 0o2745)  # set-group-ID without execution by the group means something else
    other = kernel.process(uid=1000, gid=1000)
    other.execv("/elf", ["elf"])
    assert other.getresgid() == (1000, 1000, 1000)


def test_those_of_a_script_do_not(kernel: Kernel, process: Process) -> None:
    process.chown("/script", 7, 8)
    process.chmod("/script", 0o6755)
    user = kernel.process(uid=1000, gid=1000)
    user.execv("/script", ["script"])
    assert user.geteuid() == 1000


# -- text files are busy -------------------------------------------------------------------------------------------------


def test_a_program_that_runs_is_not_written_to(kernel: Kernel, process: Process) -> None:
    runs = kernel.process(uid=0, gid=0)
    runs.execv("/script", ["script"])
    child = runs.fork()
    for left in (runs, child):
        assert errno_of(process.open, "/elf", os.O_WRONLY) == errno.ETXTBSY
        assert errno_of(process.open, "/elf", os.O_RDONLY | os.O_TRUNC) == errno.ETXTBSY
        assert errno_of(process.truncate, "/elf", 0) == errno.ETXTBSY
        process.close(process.open("/script", os.O_WRONLY))  # a script is only read
        left.exit()
    process.close(process.open("/elf", os.O_WRONLY))


def test_a_program_that_becomes_another_lets_go_of_the_first(kernel: Kernel, process: Process) -> None:
    runs = kernel.process(uid=0, gid=0)
    runs.execv("/elf", ["elf"])
    runs.exec("something else")
    process.close(process.open("/elf", os.O_WRONLY))


@pytest.mark.parametrize("path", ["/elf", "/script"])
def test_what_is_open_for_writing_is_not_run(process: Process, path: str) -> None:
    fd = process.open(path, os.O_WRONLY)
    assert errno_of(process.execv, path, ["x"]) == errno.ETXTBSY
    process.close(fd)
    process.execv(path, ["x"])


def test_a_signal_that_comes_while_it_is_looked_at_leaves_nothing_held() -> None:
    class Signalling(MemoryFS):
        def getxattr(self, ino: int, name: bytes) -> Any:
            if name == b"security.capability":
                process.kill(signal.SIGUSR1)
            return super().getxattr(ino, name)

    def handler(number: int) -> None:
        raise RuntimeError("it is not called")

    with Kernel() as kernel:
        kernel.mount(Signalling(FILES), "/")
        process, other = kernel.process(uid=0, gid=0), kernel.process(uid=0, gid=0)
        other.chmod("/elf", 0o755)
        process.signal(signal.SIGUSR1, handler)
        process.execv("/elf", ["elf"])
        assert not process.alive  # what was pending met a program that does not handle it
        other.close(other.open("/elf", os.O_WRONLY))


# -- what is left --------------------------------------------------------------------------------------------------------


def test_descriptors_that_are_not_inheritable_and_memory_are_gone(process: Process) -> None:
    gone, stays = process.open("/text", os.O_RDONLY), process.open("/text", os.O_RDONLY)
    process.set_inheritable(stays, True)
    mapping = process.mmap(stays, PAGE_SIZE, real.PROT_READ)
    process.execv("/elf", ["elf"])
    assert process.read(stays, 5) == b"plain"
    assert errno_of(process.read, gone, 1) == errno.EBADF
    with pytest.raises(SegmentationFault):
        mapping[0]


# -- what is asked -------------------------------------------------------------------------------------------------------

FMODE_EXEC, LARGEFILE = 0x20, 0o100000


def executable(daemon: MockDaemon, name: bytes, nodeid: int, contents: bytes, **attributes: Any) -> None:
    daemon.default.lookup(1, name).reply(entry(nodeid, 0o100755, valid=60, size=len(contents), **attributes))
    daemon.default.read(nodeid).reply(lambda asked: contents[asked.offset : asked.offset + asked.size])


def test_the_daemon_is_told_that_it_is_opened_to_be_run_and_is_not_asked_to_flush(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    executable(mock_daemon, b"elf", 2, ELF)
    with mock_daemon.in_order():
        mock_daemon.expect.open(2, flags=LARGEFILE | FMODE_EXEC).reply(opened(5, FOpenFlag.DIRECT_IO))
        mock_daemon.expect.read(2, fh=5, offset=0, size=256).reply(ELF)
        mock_daemon.expect.getxattr(2, b"security.capability", size=24).error(errno.ENODATA)
    fuse_process.execv("/elf", ["elf"])
    assert "RELEASE" not in mock_daemon.names
    mock_daemon.expect.flush().times(0)
    mock_daemon.expect.release(2, fh=5, flags=LARGEFILE | FMODE_EXEC)
    fuse_process.exit()


@pytest.mark.mock_daemon(flags=InitFlag.ASYNC_READ, max_readahead=32 * PAGE_SIZE)
def test_of_a_cached_file_the_first_page_is_read(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    executable(mock_daemon, b"text", 2, b"text")
    mock_daemon.expect.open(2).reply(opened(5))
    mock_daemon.expect.read(2, offset=0, size=PAGE_SIZE).reply(b"text")
    mock_daemon.expect.release(2, fh=5)
    assert errno_of(fuse_process.execv, "/text", ["x"]) == errno.ENOEXEC


def test_a_loop_opens_seven_files_and_reads_six(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    executable(mock_daemon, b"loop", 2, b"#!/loop\n")
    mock_daemon.expect.open(2).times(7).reply(opened(5, FOpenFlag.DIRECT_IO))
    mock_daemon.expect.release(2).times(7)
    assert errno_of(fuse_process.execv, "/loop", ["x"]) == errno.ELOOP
    assert len(mock_daemon.came("read")) == 6


def test_a_busy_file_is_opened_and_not_read(mock_daemon: MockDaemon, fuse_process: Process) -> None:
    executable(mock_daemon, b"elf", 2, ELF)
    mock_daemon.expect.open(2).times(2).reply(opened(5, FOpenFlag.DIRECT_IO))
    fd = fuse_process.open("/elf", os.O_WRONLY)
    mock_daemon.expect.release(2, flags=LARGEFILE | FMODE_EXEC)
    assert errno_of(fuse_process.execv, "/elf", ["x"]) == errno.ETXTBSY
    assert "READ" not in mock_daemon.names
    fuse_process.close(fd)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_read_that_fails_fails_the_exec(mock_daemon: MockDaemon, fuse_process: Process, number: int) -> None:
    executable(mock_daemon, b"elf", 2, ELF)
    mock_daemon.expect.open(2).reply(opened(5, FOpenFlag.DIRECT_IO))
    mock_daemon.expect.read(2).error(number)
    mock_daemon.expect.release(2)
    assert errno_of(fuse_process.execv, "/elf", ["x"]) == number
