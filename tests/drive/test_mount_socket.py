"""Daemons behind a socket that the caller hands over: a thread of ours, or another process, with our own daemon's half."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import in_thread, stop_process, wait_until

import fusewire
from fusewire import DaemonError, Kernel, Process
from fusewire.filesystems import MemoryFS
from fusewire.wire import codec
from fusewire.wire.codec import Message
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import FORGET_ONE, InitOut

KINDS = [pytest.param(socket.SOCK_SEQPACKET, id="seqpacket"), pytest.param(socket.SOCK_STREAM, id="stream")]
DAEMON = """
import sys, fusewire
from fusewire.filesystems import MemoryFS
fusewire.run(MemoryFS({"f": b"contents"}), "/dev/fd/" + sys.argv[1])
"""


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(request.param) as kernel:
        yield kernel


def serve_in_a_thread(theirs: socket.socket) -> threading.Thread:
    """Our daemon's half on the other end; it ends with the socket."""

    def serve() -> None:
        fusewire.Mounted(MemoryFS({"f": b"contents"}), f"/dev/fd/{theirs.detach()}").wait()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@contextlib.contextmanager
def serve_in_a_process(theirs: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", DAEMON, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as daemon:
        try:
            yield daemon
            daemon.wait(20)
        finally:
            daemon.kill()


def use(process: Process) -> None:
    """List, read, write, remove."""
    assert process.listdir("/m") == ["f"]
    fd = process.open("/m/f", os.O_RDONLY)
    assert process.read(fd, 100) == b"contents"
    process.close(fd)
    data = os.urandom(2_500_000)
    fd = process.open("/m/new", os.O_CREAT | os.O_RDWR)
    assert process.write(fd, data) == len(data)
    assert process.pread(fd, len(data), 0) == data
    process.close(fd)
    process.unlink("/m/new")
    with pytest.raises(FileNotFoundError):
        process.stat("/m/new")


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_in_a_thread_is_used_and_ends_with_the_mount(kernel: Kernel, kind: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    thread = serve_in_a_thread(theirs)
    mount = kernel.mount_socket(ours, "/m")
    use(kernel.process())
    assert mount.foreign is not None
    assert mount.foreign.refused == []
    mount.unmount()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_asked_for_abort_error_ends_with_its_kernel(kernel: Kernel, kind: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    thread = serve_in_a_thread(theirs)
    mount = kernel.mount_socket(ours, "/m")
    assert mount.connection.abort_error
    kernel.close()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_forgets_are_as_many_at_a_time_as_the_socket_takes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusewire.drive.link.SEND_BUFFER", 16_384)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    names = [f"f{number}" for number in range(4000)]
    fs = MemoryFS(dict.fromkeys(names, b""))
    thread = threading.Thread(target=lambda: fusewire.Mounted(fs, f"/dev/fd/{theirs.detach()}").wait())
    thread.start()
    mount = kernel.mount_socket(ours, "/m")
    assert mount.foreign is not None
    assert mount.foreign.link.largest < len(names) * FORGET_ONE.size
    process = kernel.process()
    for name in names:
        process.stat(f"/m/{name}")
    kernel.drop_caches()
    assert process.listdir("/m") == names
    wait_until(lambda: not mount.connection.forgets)
    mount.unmount()
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_in_a_process_is_used_and_ends_with_the_mount(kernel: Kernel, kind: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with serve_in_a_process(theirs) as daemon:
        mount = kernel.mount_socket(ours, "/m", theirs=theirs, pid=daemon.pid)
        use(kernel.process())
        mount.unmount()
        assert daemon.wait(20) == 0


def test_a_stream_over_the_network_will_do(kernel: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    thread = serve_in_a_thread(theirs)
    mount = kernel.mount_socket(ours, "/m")
    use(kernel.process())
    mount.unmount()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known_by", ["end of file", "pidfd"])
def test_the_death_of_the_daemon_frees_its_callers(kind: int, known_by: str) -> None:
    with Kernel("threads") as kernel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with serve_in_a_process(theirs) as daemon:
            if known_by == "pidfd":
                kernel.mount_socket(ours, "/m", theirs=theirs, pid=daemon.pid)
            else:
                theirs.close()
                kernel.mount_socket(ours, "/m")
            mount = kernel.mounts[0]
            process = kernel.process()
            process.stat("/m")
            stop_process(daemon.pid)
            caller, outcome = in_thread(lambda: process.mkdir("/m/d"))
            wait_until(lambda: mount.connection.num_waiting)
            daemon.kill()
            caller.join(20)
            assert outcome[0].errno == errno.ECONNABORTED


def test_an_unread_message_is_taken_back_where_the_daemons_end_is_ours_too() -> None:
    with Kernel("threads") as kernel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with serve_in_a_process(theirs) as daemon:
            mount = kernel.mount_socket(ours, "/m", theirs=theirs, pid=daemon.pid)
            process = kernel.process()
            process.stat("/m")
            stop_process(daemon.pid)
            caller, outcome = in_thread(lambda: process.mkdir("/m/d"))
            wait_until(lambda: mount.foreign is not None and mount.foreign.link.unread)
            infos = mount.control.requests()
            process.kill(signal.SIGINT)
            caller.join(20)
            assert isinstance(outcome[0], InterruptedError)
            daemon.send_signal(signal.SIGCONT)
            assert kernel.process().listdir("/m") == ["f"]  # the daemon never saw the request
            mount.unmount()
        assert [(info.state, info.servers) for info in infos] == [("on fc->pending", (f"daemon:{daemon.pid}",))]


# -- bad input -----------------------------------------------------------------------------------------------------


def test_a_socket_of_another_kind_is_refused(kernel: Kernel) -> None:
    for ours, theirs, error in [
        (*socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM), ValueError),
        (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), None, OSError),
    ]:
        with pytest.raises(error):
            kernel.mount_socket(ours, "/m")
        assert kernel.mounts == []
        ours.close()
        if theirs is not None:
            theirs.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_hangs_up_or_says_nothing_is_one_clear_line(kernel: Kernel, kind: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    theirs.close()
    with pytest.raises(DaemonError, match="the daemon behind the socket ended, or closed its socket, before it had"):
        kernel.mount_socket(ours, "/m")
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with theirs, pytest.raises(DaemonError, match=r"did not answer INIT within 0\.2 seconds"):
        kernel.mount_socket(ours, "/m", timeout=0.2)
    assert kernel.mounts == []


@pytest.mark.parametrize("kind", KINDS)
def test_nonsense_instead_of_an_answer_ends_a_stream_and_is_refused_in_a_packet(kernel: Kernel, kind: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    theirs.sendall(b"\xff" * 40)
    with theirs, pytest.raises(DaemonError):
        kernel.mount_socket(ours, "/m", timeout=0.2)
    assert kernel.mounts == []


def test_answers_in_pieces_are_put_together(kernel: Kernel) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def serve() -> None:
        header, _ = codec.decode_request(theirs.recv(1 << 16))
        answer = codec.encode_reply(Opcode.INIT, header.unique, Message((InitOut(7, 31, max_write=8192),)))
        for at in range(len(answer)):
            theirs.send(answer[at : at + 1])
            time.sleep(0.0005)

    daemon = threading.Thread(target=serve)
    daemon.start()
    mount = kernel.mount_socket(ours, "/m")
    daemon.join(20)
    assert mount.connection.dialect.minor == 31
    theirs.close()


def test_descriptors_are_given_back(kernel: Kernel) -> None:
    before = None
    for _ in range(3):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        thread = serve_in_a_thread(theirs)
        kernel.mount_socket(ours, "/m").unmount()
        thread.join(20)
        gc.collect()  # what earlier tests have left goes whenever it likes
        now = len(os.listdir("/proc/self/fd"))
        assert before in (None, now)
        before = now


def test_the_socket_named_by_path_serves_two_mounts_after_each_other(kernel: Kernel, tmp_path: Path) -> None:
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()
        for _ in range(2):
            ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.connect(address)
            thread = serve_in_a_thread(server.accept()[0])
            mount = kernel.mount_socket(ours, "/m")
            use(kernel.process())
            mount.unmount()
            thread.join(20)


SILENT = """
import socket, sys
from fusewire.wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION
from fusewire.wire.layouts import IN_HEADER, INIT_OUT, OUT_HEADER, InitOut, OutHeader
sock = socket.socket(fileno=int(sys.argv[1]))
header = IN_HEADER.unpack(sock.recv(1 << 20))
body = INIT_OUT.pack(InitOut(KERNEL_VERSION, KERNEL_MINOR_VERSION, max_write=4096))
sock.send(OUT_HEADER.pack(OutHeader(OUT_HEADER.size + len(body), 0, header.unique)) + body)
while sock.recv(1 << 20):
    pass
"""


def test_an_interrupt_from_the_terminal_ends_a_call_that_nobody_answers_and_leaves_nothing() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", SILENT, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as daemon, theirs:
        try:
            with Kernel("inline") as kernel:
                mount = kernel.mount_socket(ours, "/m", pid=daemon.pid)
                process = kernel.process()
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                with pytest.raises(KeyboardInterrupt):
                    process.stat("/m/x")
                mount.abort()
                assert not mount.connection.unused_list.in_use
                with pytest.raises(OSError):
                    process.stat("/m/x")
        finally:
            daemon.kill()


@pytest.mark.parametrize(
    ("path", "pid", "why"), [("relative", None, ValueError), ("/m", (1 << 22) + 1, OSError)], ids=["path", "pid"]
)
def test_a_socket_that_cannot_be_mounted_is_closed(path: str, pid: int | None, why: type[Exception]) -> None:
    """It was handed over: the daemon at its other end would wait for ever."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(5)
    with Kernel() as kernel, theirs:
        with pytest.raises(why):
            kernel.mount_socket(ours, path, pid=pid)
        assert theirs.recv(1) == b""


# -- what the caller says about a descriptor that is given -----------------------------------------------------------


def test_options_of_a_mount_are_refused_by_name_for_a_descriptor_that_is_given() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked = fusewire.MountOptions.parse("ro,allow_other,auto_unmount,max_read=4096,noatime,fsname=x")
    with ours, theirs:
        with pytest.raises(fusewire.MountError, match="is not mounted by us") as refused:
            fusewire.Mounted(MemoryFS(), f"/dev/fd/{theirs.fileno()}", asked)
        assert "give ro, allow_other, auto_unmount, fsname=x, max_read=4096, noatime to whoever" in str(refused.value)
        os.fstat(theirs.fileno())  # it stays the caller's


def test_a_descriptor_that_is_given_is_not_handed_on_to_programs() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = theirs.detach()
    os.set_inheritable(fd, True)
    with ours:
        mounted = fusewire.Mounted(MemoryFS(), f"/dev/fd/{fd}")
        assert not os.get_inheritable(fd)
        mounted.unmount()
        mounted.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_whoever_serves_a_descriptor_that_is_given_becomes_who_is_asked_for() -> None:
    program = """
import os, sys, fusewire
from fusewire.filesystems import MemoryFS
mounted = fusewire.Mounted(MemoryFS(), "/dev/fd/" + sys.argv[1], fusewire.MountOptions(user="nobody"))
print(*os.getresuid())
mounted.unmount()
mounted.wait()
"""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-c", program, str(theirs.fileno())]
        shown = subprocess.check_output(command, pass_fds=[theirs.fileno()], text=True, timeout=60)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert shown.split() == [str(nobody)] * 3


def test_a_user_who_does_not_exist_is_said_so_and_the_descriptor_stays_the_callers() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        with pytest.raises(fusewire.MountError, match="user 'nosuchuser' does not exist"):
            fusewire.Mounted(MemoryFS(), f"/dev/fd/{theirs.fileno()}", fusewire.MountOptions(user="nosuchuser"))
        os.fstat(theirs.fileno())
