"""Daemons that do not come up: each is one clear line, and nothing waits beyond it."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import need
from foreign_programs import example, python

from fusewire import DaemonError, Kernel
from fusewire.drive.foreign import ForeignDaemon


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


def refused(kernel: Kernel, command: Sequence[str | Path], timeout: float = 20) -> DaemonError:
    """The error of a mount that fails."""
    with pytest.raises(DaemonError) as caught:
        kernel.mount_command(command, "/m", timeout=timeout)
    assert kernel.mounts == []
    return caught.value


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
        ('init(read(), more=b"1234")', errno.EPROTO, "answered INIT with 68 bytes, 64 are the most"),
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


def test_a_limit_on_requests_that_ends_init_is_said(kernel: Kernel) -> None:
    hasty = Kernel("threads", request_timeout=0.1)
    with hasty:
        assert "did not answer INIT in time" in str(refused(hasty, ["sh", "-c", "exec sleep 60 # {fd}"]))


def test_an_empty_command_is_refused_and_paths_are_taken(kernel: Kernel) -> None:
    with pytest.raises(ValueError, match="an empty command"):
        kernel.mount_command([], "/m")
    assert "false ended with status 1" in str(refused(kernel, [Path("false"), "{fd}"]))


def test_how_a_daemon_ended_is_not_made_up_where_sigchld_is_ignored(kernel: Kernel) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        error = refused(kernel, ["sh", "-c", "echo bad news >&2; exit 3 # {fd}"])
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert "SIGCHLD is ignored here; it said: bad news" in str(error)


def test_a_daemon_that_will_not_end_and_never_was_up_is_not_waited_for(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusewire.drive.foreign.PATIENCE", 1e9)  # who is asked politely could take so long
    command = python("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)")
    assert "did not answer INIT" in str(refused(kernel, command, timeout=0.3))


def test_what_a_daemon_said_that_failed_later_is_told_to_its_callers_and_kept(kernel: Kernel) -> None:
    program = 'sock.send(init(read()))\nread()\nprint("disk on fire", file=sys.stderr)\nsys.exit(3)'
    mount = kernel.mount_command(python(program), "/m")
    for _ in range(2):
        with pytest.raises(OSError, match="ended with status 3; it said: disk on fire"):
            kernel.process().stat("/m")
    mount.unmount()
    assert isinstance(mount.foreign, ForeignDaemon)
    assert mount.foreign.last_words() == "disk on fire"


def test_a_daemon_that_goes_into_the_background_after_init_is_told_to_stay(kernel: Kernel) -> None:
    program = "sock.send(init(read()))\nif os.fork():\n    os._exit(0)\nsock.recv(1 << 20)\ntime.sleep(60)"
    mount = kernel.mount_command(python(program), "/m")
    with pytest.raises(OSError, match="went into the background"):
        kernel.process().stat("/m")
    assert not mount.connection.connected


def test_an_empty_packet_is_refused_and_the_daemon_lives_on(kernel: Kernel) -> None:
    program = "sock.send(init(read()))\nunique = read()\nsock.send(b'')\nsock.send(answer(unique, DIRECTORY))\nread()"
    mount = kernel.mount_command(python(program), "/m")
    assert stat.S_ISDIR(kernel.process().stat("/m").st_mode)
    assert mount.foreign is not None
    assert mount.foreign.refused == ["an empty message"]


def test_a_daemon_that_ends_after_init_leaves_nobody_waiting(kernel: Kernel) -> None:
    kernel.mount_command(python("sock.send(init(read()))\nread()"), "/m")
    for number in (errno.ECONNABORTED, errno.ENOTCONN):
        with pytest.raises(OSError) as caught:
            kernel.process().open("/m/f", os.O_RDONLY)
        assert caught.value.errno == number


def test_no_message_is_larger_than_the_buffer_that_a_daemon_must_have(kernel: Kernel) -> None:
    least = """
        sock.send(init(read(), max_write=4096))
        sock.send(answer(read(), DIRECTORY))
        while True:
            size, _, flags, _ = sock.recvmsg_into([bytearray(8192)])
            if not size or flags & socket.MSG_TRUNC:
                sys.exit(4)
    """
    mount = kernel.mount_command(python(least), "/m")
    process = kernel.process()
    process.stat("/m")
    with pytest.raises(OSError) as caught:
        process.setxattr("/m", "user.large", bytes(60_000))
    assert caught.value.errno == errno.E2BIG  # as Linux says it
    assert mount.connection.connected


def test_a_daemon_may_ask_for_writes_that_the_socket_does_not_take(kernel: Kernel) -> None:
    mount = kernel.mount_command(
        python("sock.send(init(read(), max_write=16 << 20))\nsock.send(answer(read(), DIRECTORY))\nread()"), "/m"
    )
    assert stat.S_ISDIR(kernel.process().stat("/m").st_mode)
    assert mount.sb.max_write <= mount.foreign.link.largest  # type: ignore[union-attr]


CHATTERS = """
    sock.send(init(read()))
    read()
    while True:
        sock.send(struct.pack("=IiQQqq", 40, 2, 0, 1, -1, 0))
        time.sleep(0.01)
"""


@pytest.mark.parametrize("driver", ["inline", "threads"])
def test_time_runs_out_for_a_request_although_its_daemon_talks_of_other_things(driver: str) -> None:
    with Kernel(driver, request_timeout=0.3) as kernel:
        mount = kernel.mount_command(python(CHATTERS), "/m")
        with pytest.raises(TimeoutError):
            kernel.process().stat("/m")
        assert mount.connection.connected
