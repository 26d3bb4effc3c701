"""libfuse's examples of ioctl, poll and notifications, and the one that has a stream socket instead of /dev/fuse."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from foreign_programs import example, read

from fusewire import DaemonError, Kernel

FIOC_GET_SIZE, FIOC_SET_SIZE = 0x80084500, 0x40084501  # ioctl.h: _IOR('E', 0, size_t), _IOW('E', 1, size_t)


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(request.param) as kernel:
        yield kernel
        for mount in kernel.mounts:
            assert mount.foreign is not None
            assert mount.foreign.refused == []


def heard(kernel: Kernel, condition: Callable[[], bool]) -> None:
    """Listen until it holds."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the daemon said nothing"
        kernel.listen(0.05)


def test_libfuses_ioctl_changes_the_size_of_its_file(kernel: Kernel) -> None:
    kernel.mount_command([example("ioctl"), "-f", "{fd}"], "/m")
    process = kernel.process()
    fd = process.open("/m/fioc", os.O_RDWR)
    assert process.ioctl(fd, FIOC_GET_SIZE, bytes(8)) == bytes(8)
    process.ioctl(fd, FIOC_SET_SIZE, struct.pack("=Q", 12))
    assert process.ioctl(fd, FIOC_GET_SIZE, bytes(8)) == struct.pack("=Q", 12)
    assert process.pwrite(fd, b"abc", 0) == 3
    assert process.pread(fd, 100, 0) == b"abc" + bytes(9)
    with pytest.raises(OSError):
        process.ioctl(fd, 0x80084599, bytes(8))


def test_libfuses_poll_wakes_who_waits_for_its_files(kernel: Kernel) -> None:
    kernel.mount_command([example("poll"), "-f", "{fd}"], "/m")
    process = kernel.process()
    names = process.listdir("/m")
    assert sorted(names) == sorted("0123456789ABCDEF")
    fds = [process.open(f"/m/{name}", os.O_RDONLY) for name in names]
    for fd in fds:  # empty them
        while process.read(fd, 10):
            pass
    ready = process.poll([(fd, select.POLLIN) for fd in fds])  # sleeps until the daemon notifies
    assert ready
    fd, events = ready[0]
    assert events & select.POLLIN
    assert process.read(fd, 1)


@pytest.mark.parametrize("options", [[], ["--only-expire"]])
def test_libfuses_notify_inval_entry_takes_a_name_away_that_was_valid_for_long(
    kernel: Kernel, options: list[str]
) -> None:
    command = [example("notify_inval_entry"), "-f", "--update-interval=1", "--timeout=1000000", *options, "{fd}"]
    kernel.mount_command(command, "/m")
    process = kernel.process()

    def gone() -> bool:
        with contextlib.suppress(FileNotFoundError):
            process.stat(f"/m/{name}")
            return False
        return True

    (name,) = process.listdir("/m")
    process.stat(f"/m/{name}")
    heard(kernel, gone)
    assert process.listdir("/m") != [name]


def test_libfuses_example_on_a_stream_socket_is_mounted_through_mount_socket(kernel: Kernel, tmp_path: Path) -> None:
    """It waits at /tmp/libfuse-hello-ll.sock, whatever its mountpoint: so it gets a /tmp of its own."""
    program = example("hello_ll_uds")
    binary = Path(program).read_bytes()
    place = bytes(tmp_path / "s")
    fixed = b"/tmp/libfuse-hello-ll.sock"
    if len(place) > len(fixed):  # as long as the text in the program, or shorter
        place = f"/tmp/fw-{os.getpid()}.sock".encode()
    moved = tmp_path / "hello_ll_uds"
    moved.write_bytes(binary.replace(fixed, place.ljust(len(fixed), b"\0")))
    moved.chmod(0o755)
    said = tmp_path / "said"
    with said.open("wb") as words:
        daemon = subprocess.Popen([moved, "-f", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=words)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end = time.monotonic() + 20
        while sock.connect_ex(place):
            assert time.monotonic() < end, "the daemon does not listen"
            time.sleep(0.02)
        try:
            mount = kernel.mount_socket(sock, "/m", pid=daemon.pid)
        except DaemonError:
            if "custom io is not enabled in this build" in said.read_text():
                pytest.skip("this libfuse was built without custom io")
            raise
        process = kernel.process()
        assert process.listdir("/m") == ["hello"]
        assert read(process, "/m/hello") == b"Hello World!\n"
        mount.unmount()
    finally:
        daemon.kill()
        daemon.wait(timeout=10)
        with contextlib.suppress(OSError):
            os.unlink(place)


@pytest.mark.parametrize("name", ["notify_inval_inode", "notify_store_retrieve"])
def test_libfuses_example_changes_what_is_cached_of_its_file(kernel: Kernel, name: str) -> None:
    """notify_inval_inode has the pages dropped; notify_store_retrieve puts new ones there, and checks what it gets back."""
    mount = kernel.mount_command([example(name), "-f", "--update-interval=1", "{fd}"], "/m")
    process = kernel.process()
    assert process.listdir("/m") == ["current_time"]
    fd = process.open("/m/current_time", os.O_RDONLY)
    before = process.pread(fd, 4096, 0)
    assert before
    heard(kernel, lambda: process.pread(fd, 4096, 0) != before)
    kernel.listen(1.5)  # one more round, with the answer to RETRIEVE
    assert mount.connection.connected
    process.close(fd)
