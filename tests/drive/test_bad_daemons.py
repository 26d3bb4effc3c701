"""Daemons that do not come up: each is one clear line, and nothing waits beyond it."""

from __future__ import annotations

import errno
import os
import sys
import textwrap
from collections.abc import Iterator

import pytest
from foreign_programs import example, need

from fusewire import DaemonError, Kernel


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(request.param) as kernel:
        yield kernel


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["false", "{fd}"], "false ended with status 1"),
        (["true", "{fd}"], "ended with status 0: it went into the background, or takes no /dev/fd/N"),
        (["sh", "-c", "echo bad news >&2; exit 3 # {fd}"], r"ended with status 3; it said: bad news"),
        (["sh", "-c", "kill -9 $$ # {fd}"], "was killed by SIGKILL"),
        (["sh", "-c", "echo 'mountpoint is not a directory' >&2; exit 1 # {fd}"], "does not take /dev/fd/N"),
        (["sh", "-c", "exec sleep 60 # {fd}"], "did not answer INIT within 0.5 seconds"),
        (["/no/such/program", "{fd}"], "cannot be started: No such file"),
    ],
)
def test_a_daemon_that_does_not_come_up_is_one_clear_line(kernel: Kernel, command: list[str], why: str) -> None:
    with pytest.raises(DaemonError, match=why):
        kernel.mount_command(command, "/m", timeout=0.5)
    assert kernel.mounts == []
    assert kernel.process().listdir("/") in ([], ["m"])


def test_a_command_without_a_place_for_the_descriptor_is_refused(kernel: Kernel) -> None:
    with pytest.raises(ValueError, match=r"has no \{fd\}"):
        kernel.mount_command(["hello"], "/m")
    assert kernel.mounts == []


def refused(kernel: Kernel, command: list[str], timeout: float = 20) -> DaemonError:
    """The error of a mount that fails."""
    with pytest.raises(DaemonError) as caught:
        kernel.mount_command(command, "/m", timeout=timeout)
    assert kernel.mounts == []
    return caught.value


def python(program: str, *arguments: str) -> list[str]:
    """A daemon of a few lines. ``sock`` is its socket, ``read`` reads a request, ``init`` makes an answer to INIT."""
    begin = """
        import os, socket, struct, sys, time
        sock = socket.socket(fileno=int(sys.argv[1].rsplit("/", 1)[1]))
        def read():
            return struct.unpack_from("=IIQ", sock.recv(1 << 20))[2]
        def init(unique, major=7, error=0, minor=31):
            body = b"" if error else struct.pack("=IIIIHHIIHH32s", major, minor, 0, 0, 0, 0, 4096, 0, 0, 0, b"")
            return struct.pack("=IiQ", 16 + len(body), error, unique) + body
    """
    return [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(program), "{fd}", *arguments]


def test_a_program_that_looks_at_its_mountpoint_is_told_apart_with_the_way_out(kernel: Kernel) -> None:
    need("bindfs")
    error = refused(kernel, ["bindfs", "-f", "/tmp", "{fd}"])
    assert "bindfs does not take /dev/fd/N as a mountpoint" in str(error)
    assert "libfuse 3 and go-fuse programs do" in str(error)
    assert "Failed to resolve mount point" in str(error)


def test_a_daemon_that_goes_into_the_background_is_told_to_stay(kernel: Kernel) -> None:
    error = refused(kernel, [example("hello"), "{fd}"])
    assert "went into the background" in str(error)
    assert "(-f)" in str(error)


def test_a_daemon_that_answers_from_the_background_is_told_to_stay(kernel: Kernel) -> None:
    error = refused(
        kernel,
        python("""
            told, tell = os.pipe()
            if os.fork():
                os.read(told, 1)  # the answer is on its way before this one ends
                time.sleep(0.1)
                os._exit(0)
            sock.send(init(read()))
            os.write(tell, b"x")
            sock.recv(1 << 20)  # until the socket ends
        """),
    )
    assert "went into the background" in str(error)


def test_a_daemon_behind_a_shell_that_waits_for_it_is_fine(kernel: Kernel) -> None:
    kernel.mount_command(["sh", "-c", '"$0" -f "$1"; exit $?', example("hello"), "{fd}"], "/m")
    assert kernel.process().listdir("/m") == ["hello"]


@pytest.mark.parametrize(
    ("answer", "number", "why"),
    [
        ("init(read(), major=6)", errno.EPROTO, "speaks FUSE 6.31, and we 7."),
        ("init(read(), major=8)", errno.EPROTO, "speaks FUSE 8.31, and we 7."),
        ("init(read(), error=-13)", errno.EPROTO, "refused INIT with EACCES"),
        ('struct.pack("=IiQI", 20, 0, read(), 7)', errno.EPROTO, "answered INIT with 4 bytes, 8 are the least"),
        ("init(read() + 2)", errno.ETIMEDOUT, "did not answer INIT within 0.3 seconds"),
        ("init(read())[:-1]", errno.ETIMEDOUT, "did not answer INIT within 0.3 seconds"),
    ],
)
def test_what_is_wrong_with_an_answer_to_init_is_said(kernel: Kernel, answer: str, number: int, why: str) -> None:
    command = python(f"sock.send({answer})\nsock.recv(1 << 20)\nsock.recv(1 << 20)")
    error = refused(kernel, command, timeout=0.3)
    assert why in str(error)
    assert error.errno == number


def test_a_daemon_that_closes_its_socket_and_lives_on_is_not_waited_for(kernel: Kernel) -> None:
    error = refused(kernel, python("sock.shutdown(socket.SHUT_RDWR)\nsock.close()\ntime.sleep(60)"))
    assert "closed its socket" in str(error)


def test_a_daemon_that_ends_after_init_leaves_nobody_waiting(kernel: Kernel) -> None:
    kernel.mount_command(python("sock.send(init(read()))\nread()"), "/m")
    for number in (errno.ECONNABORTED, errno.ENOTCONN):
        with pytest.raises(OSError) as caught:
            kernel.process().open("/m/f", os.O_RDONLY)
        assert caught.value.errno == number
