"""Daemons nobody here wrote, behind our kernel half: no mount, no root, no /dev/fuse. libfuse's examples, squashfuse."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until

from fusewire import DaemonError, Kernel, Process
from fusewire.drive.link import Link

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Compiles one of libfuse's examples; returns its path."""
    folder = tmp_path_factory.mktemp("examples")

    def build(name: str) -> str:
        if not (EXAMPLES / f"{name}.c").exists() or shutil.which("gcc") is None or shutil.which("pkg-config") is None:
            pytest.skip("gcc, pkg-config and libfuse3-dev are needed")
        program = folder / name
        if not program.exists():
            flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "fuse3"], text=True).split()
            subprocess.run(["gcc", "-o", program, EXAMPLES / f"{name}.c", *flags], check=True, timeout=60)
        return str(program)

    return build


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(request.param) as kernel:
        yield kernel


def read(process: Process, path: str) -> bytes:
    fd = process.open(path, os.O_RDONLY)
    try:
        data = b""
        while piece := process.read(fd, 1 << 20):
            data += piece
        return data
    finally:
        process.close(fd)


@pytest.mark.parametrize("name", ["hello", "hello_ll"])
def test_libfuses_hello_is_listed_and_read(kernel: Kernel, example: object, name: str) -> None:
    kernel.mount_command([example(name), "-f", "{fd}"], "/m")  # type: ignore[operator]
    process = kernel.process()
    assert process.listdir("/m") == ["hello"]
    assert read(process, "/m/hello") == b"Hello World!\n"
    with pytest.raises(FileNotFoundError):
        process.stat("/m/other")


@pytest.mark.parametrize("threads", ["-s", ""])
def test_libfuses_passthrough_ll_lists_reads_writes_and_removes(
    kernel: Kernel, example: object, tmp_path: Path, threads: str
) -> None:
    (tmp_path / "there").write_bytes(b"data")
    command = [example("passthrough_ll"), "-f", *threads.split(), "-o", f"source={tmp_path},cache=never", "{fd}"]  # type: ignore[operator]
    kernel.mount_command(command, "/m")
    process = kernel.process()
    assert process.listdir("/m") == ["there"]
    assert read(process, "/m/there") == b"data"
    data = os.urandom(3_000_000)
    fd = process.open("/m/new", os.O_CREAT | os.O_RDWR, 0o640)
    assert process.write(fd, data) == len(data)
    assert process.pread(fd, len(data), 0) == data
    process.close(fd)
    assert (tmp_path / "new").read_bytes() == data
    process.mkdir("/m/dir")
    process.truncate("/m/new", 5)
    assert process.stat("/m/new").st_size == 5
    process.unlink("/m/new")
    process.rmdir("/m/dir")
    assert os.listdir(tmp_path) == ["there"]
    mount = kernel.mounts[0]
    assert mount.foreign is not None
    assert mount.foreign.refused == []


def test_libfuses_high_level_passthrough_shows_the_host(kernel: Kernel, example: object, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 200_000)
    kernel.mount_command([example("passthrough"), "-f", "{fd}"], "/m")  # type: ignore[operator]
    assert read(kernel.process(), f"/m{tmp_path}/f") == b"x" * 200_000


@pytest.mark.parametrize("name", ["squashfuse", "squashfuse_ll"])
def test_squashfuse_shows_what_is_in_an_image(kernel: Kernel, tmp_path: Path, name: str) -> None:
    if shutil.which(name) is None or shutil.which("mksquashfs") is None:
        pytest.skip("squashfuse and squashfs-tools are needed")
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_bytes(os.urandom(300_000))
    image = tmp_path / "image.sqsh"
    subprocess.run(["mksquashfs", tree, image, "-quiet", "-no-progress"], check=True, timeout=60, capture_output=True)
    kernel.mount_command([name, "-f", str(image), "{fd}"], "/m")
    process = kernel.process()
    assert process.listdir("/m/a") == ["b"]
    assert read(process, "/m/a/b/file") == (tree / "a/b/file").read_bytes()
    with pytest.raises(OSError) as caught:
        process.mkdir("/m/new")
    assert caught.value.errno in (errno.EROFS, errno.ENOSYS, errno.EACCES)


def test_messages_follow_the_sockets_real_sizes(
    kernel: Kernel, example: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusewire.drive.link.SEND_BUFFER", 212_992)  # an ordinary user's net.core.wmem_max
    command = [example("passthrough_ll"), "-f", "-o", f"source={tmp_path}", "{fd}"]  # type: ignore[operator]
    mount = kernel.mount_command(command, "/m")
    assert mount.sb.max_write <= mount.foreign.link.largest  # type: ignore[union-attr]
    process = kernel.process()
    fd = process.open("/m/f", os.O_CREAT | os.O_RDWR)
    data = os.urandom(1_000_000)
    assert process.write(fd, data) == len(data)
    assert process.pread(fd, len(data), 0) == data
    process.close(fd)


def test_a_daemon_that_dies_frees_its_callers(example: object, tmp_path: Path) -> None:
    with Kernel("threads") as kernel:
        command = [example("passthrough_ll"), "-f", "-o", f"source={tmp_path}", "{fd}"]  # type: ignore[operator]
        mount = kernel.mount_command(command, "/m")
        assert mount.foreign is not None
        process = kernel.process()
        process.stat("/m")
        mount.foreign.process.send_signal(signal.SIGSTOP)
        outcome: list[int | None] = []

        def call() -> None:
            try:
                process.mkdir("/m/d")
                outcome.append(0)
            except OSError as error:
                outcome.append(error.errno)

        caller = threading.Thread(target=call)
        caller.start()
        wait_until(lambda: mount.connection.unused_list.in_use)
        mount.foreign.process.kill()
        caller.join(20)
        assert outcome == [errno.ECONNABORTED]
        with pytest.raises(OSError) as caught:
            process.mkdir("/m/e")
        assert caught.value.errno == errno.ENOTCONN


def test_a_caller_that_leaves_takes_its_unread_message_back(example: object, tmp_path: Path) -> None:
    with Kernel("threads") as kernel:
        command = [example("passthrough_ll"), "-f", "-s", "-o", f"source={tmp_path}", "{fd}"]  # type: ignore[operator]
        mount = kernel.mount_command(command, "/m")
        assert mount.foreign is not None
        process = kernel.process()
        process.stat("/m")
        mount.foreign.process.send_signal(signal.SIGSTOP)
        outcome: list[BaseException] = []

        def call() -> None:
            try:
                process.mkdir("/m/d")
            except OSError as error:
                outcome.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        wait_until(lambda: mount.foreign is not None and mount.foreign.link.unread)
        process.kill(signal.SIGINT)
        caller.join(20)
        assert isinstance(outcome[0], InterruptedError)
        mount.foreign.process.send_signal(signal.SIGCONT)
        other = kernel.process()
        assert other.listdir("/m") == []
        assert not (tmp_path / "d").exists()  # it never saw the request


def test_a_link_knows_whether_its_message_was_read() -> None:
    link = Link.pair()
    link.ours.send(b"message")
    assert link.unread
    assert link.take_back() == b"message"
    assert not link.unread
    assert link.take_back() is None
    link.close()


# -- bad input -----------------------------------------------------------------------------------------------------


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
