"""Daemons nobody here wrote, behind our kernel half: no mount, no root, no /dev/fuse. libfuse's examples, squashfuse, sshfs."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import in_thread, need, stop_process, wait_until
from foreign_programs import example, read, sshd, write_and_remove

from fusewire import Kernel
from fusewire.drive.link import Link

ORDINARY = 212_992  # bytes: what an ordinary user's sockets may have (net.core.wmem_max)


@pytest.fixture(params=["inline", "threads", "inline, ordinary buffers"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    driver, _, buffers = request.param.partition(", ")
    if buffers:
        monkeypatch.setattr("fusewire.drive.link.SEND_BUFFER", ORDINARY)
    with Kernel(driver) as kernel:
        yield kernel
        for mount in kernel.mounts:
            assert mount.foreign is not None
            assert mount.foreign.refused == []


@pytest.mark.parametrize("name", ["hello", "hello_ll"])
def test_libfuses_hello_is_listed_and_read(kernel: Kernel, name: str) -> None:
    kernel.mount_command([example(name), "-f", "{fd}"], "/m")
    process = kernel.process()
    assert process.listdir("/m") == ["hello"]
    assert read(process, "/m/hello") == b"Hello World!\n"
    with pytest.raises(FileNotFoundError):
        process.stat("/m/other")


@pytest.mark.parametrize("threads", ["-s", ""])
def test_libfuses_passthrough_ll_lists_reads_writes_and_removes(kernel: Kernel, tmp_path: Path, threads: str) -> None:
    (tmp_path / "there").write_bytes(b"data")
    command = [example("passthrough_ll"), "-f", *threads.split(), "-o", f"source={tmp_path},cache=never", "{fd}"]
    kernel.mount_command(command, "/m")
    process = kernel.process()
    assert process.listdir("/m") == ["there"]
    assert read(process, "/m/there") == b"data"
    write_and_remove(process, "/m")
    assert os.listdir(tmp_path) == ["there"]


def test_libfuses_high_level_passthrough_shows_the_host(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 200_000)
    kernel.mount_command([example("passthrough"), "-f", "{fd}"], "/m")
    process = kernel.process()
    assert process.listdir(f"/m{tmp_path}") == ["f"]
    assert read(process, f"/m{tmp_path}/f") == b"x" * 200_000
    write_and_remove(process, f"/m{tmp_path}")
    assert os.listdir(tmp_path) == ["f"]


def test_sshfs_lists_reads_writes_and_removes_on_a_local_sshd(kernel: Kernel, tmp_path: Path) -> None:
    keys, served = tmp_path / "keys", tmp_path / "served"
    keys.mkdir()
    served.mkdir()
    (served / "f").write_bytes(b"x" * 200_000)
    with sshd(keys) as command:
        mount = kernel.mount_command(command(served), "/m")
        process = kernel.process()
        assert process.listdir("/m") == ["f"]
        assert read(process, "/m/f") == b"x" * 200_000
        write_and_remove(process, "/m")
        assert os.listdir(served) == ["f"]
        mount.unmount()


@pytest.mark.parametrize("name", ["squashfuse", "squashfuse_ll"])
def test_squashfuse_shows_what_is_in_an_image(kernel: Kernel, tmp_path: Path, name: str) -> None:
    need(name, "mksquashfs")
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


def test_messages_follow_the_sockets_real_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusewire.drive.link.SEND_BUFFER", ORDINARY)
    with Kernel() as kernel:
        mount = kernel.mount_command([example("passthrough_ll"), "-f", "-o", f"source={tmp_path}", "{fd}"], "/m")
        assert mount.foreign is not None
        assert mount.foreign.link.largest == 425_952
        assert mount.sb.max_write < mount.foreign.link.largest
        assert mount.sb.max_read < mount.foreign.link.largest
        process = kernel.process()
        fd = process.open("/m/f", os.O_CREAT | os.O_RDWR)
        data = os.urandom(1_000_000)
        assert process.write(fd, data) == len(data)
        assert process.pread(fd, len(data), 0) == data
        process.close(fd)


@pytest.mark.parametrize("driver", ["inline", "threads"])
def test_an_ordinary_user_uses_a_daemon_with_no_mount(driver: str) -> None:
    program = example("passthrough_ll")

    def use() -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            assert os.getuid() != 0
            (folder / "f").write_bytes(b"contents")
            with Kernel(driver) as kernel:
                kernel.mount_command([program, "-f", "-o", f"source={folder}", "{fd}"], "/m")
                process = kernel.process()
                assert process.listdir("/m") == ["f"]
                assert read(process, "/m/f") == b"contents"
                write_and_remove(process, "/m")
                assert process.stat("/m/f").st_uid == os.getuid()
                assert f"user_id={os.getuid()}," not in Path("/proc/self/mounts").read_text()
        finally:
            shutil.rmtree(folder)

    as_ordinary_user(use)


NOBODY = 65534


def as_ordinary_user(function: Callable[[], None]) -> None:
    """Call it in a child that is root no more."""
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            function()
        except BaseException:
            os.write(tell, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as failed:
        assert failed.read() == ""
    os.waitpid(pid, 0)


def test_a_daemon_that_dies_frees_its_callers(tmp_path: Path) -> None:
    with Kernel("threads") as kernel:
        command = [example("passthrough_ll"), "-f", "-o", f"source={tmp_path}", "{fd}"]
        mount = kernel.mount_command(command, "/m")
        assert mount.foreign is not None
        process = kernel.process()
        process.stat("/m")
        stop_process(mount.foreign.process.pid)
        caller, outcome = in_thread(lambda: process.mkdir("/m/d"))
        wait_until(lambda: mount.connection.unused_list.in_use)
        mount.foreign.process.kill()
        caller.join(20)
        assert outcome[0].errno == errno.ECONNABORTED
        with pytest.raises(OSError) as caught:
            process.mkdir("/m/e")
        assert caught.value.errno == errno.ENOTCONN


def test_a_caller_that_leaves_takes_its_unread_message_back(tmp_path: Path) -> None:
    with Kernel("threads") as kernel:
        command = [example("passthrough_ll"), "-f", "-s", "-o", f"source={tmp_path}", "{fd}"]
        mount = kernel.mount_command(command, "/m")
        assert mount.foreign is not None
        process = kernel.process()
        process.stat("/m")
        stop_process(mount.foreign.process.pid)
        caller, outcome = in_thread(lambda: process.mkdir("/m/d"))
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


def test_what_the_daemon_has_read_is_never_taken_for_unread() -> None:
    link = Link.pair()
    theirs, rounds = link.theirs, 3000
    assert theirs is not None

    def daemon() -> None:
        for _ in range(rounds):
            theirs.recv(100)

    reader = threading.Thread(target=daemon)
    reader.start()
    for _ in range(rounds):
        assert link.send(memoryview(b"message"))
        while link.unread:
            assert select.select([link.read_events], [], [], 10)[0], "it is read, and nothing tells of it any more"
            link.consume_read_event()
    reader.join()
    link.close()
