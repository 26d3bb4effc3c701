"""A mount lives as long as its daemon: however mounting ends, wherever the mount is by then, whoever still uses it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from conftest import MEMORY, RealMount, in_thread, real_mount, wait_until
from programs import guarded, nothing_is_left, program, said_by

import fusewire
from fusewire import MountError
from fusewire.filesystems import MemoryFS
from fusewire.linux import Watchdog, mounts

pytestmark = [pytest.mark.real, pytest.mark.usefixtures(nothing_is_left.__name__)]


# -- mounting that does not come to its end --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["SystemExit(3)", "KeyboardInterrupt()"])
def test_an_init_that_ends_its_thread_fails_the_mount(mountpoint: Path, ending: str) -> None:
    source = f"""
    class FS(MemoryFS):
        def init(self, granted): raise {ending}
    try: fusewire.run(FS(), M)
    except fusewire.MountError as error: print(error)
    """
    said = said_by(source, mountpoint)
    assert "was not mounted: the filesystem's init " in said
    assert ending in said
    assert mounts.mount_at(str(mountpoint)) is None


def test_a_reader_that_fails_before_it_has_read_init_fails_the_mount(mountpoint: Path) -> None:
    source = """
    from fusewire.transport.devfuse import DevFuse
    def receive(self, buffer):
        while not fusewire.linux.mounts.connection_of(self.fd): time.sleep(0.01)
        raise MemoryError
    DevFuse.receive = receive
    try: fusewire.run(MemoryFS(), M)
    except fusewire.MountError as error: print(error)
    """
    said = said_by(source, mountpoint)
    assert "was not mounted: its reader failed with MemoryError()" in said
    assert mounts.mount_at(str(mountpoint)) is None


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_a_signal_ends_a_mounting_whose_init_does_not_return(mountpoint: Path, number: str) -> None:
    source = """
    class FS(MemoryFS):
        def init(self, granted):
            print("here", flush=True)
            time.sleep(60)
    fusewire.run(FS(), M)
    """
    daemon = program(source, mountpoint)
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "here\n"
        daemon.send_signal(getattr(signal, f"SIG{number}"))
        assert daemon.wait(timeout=20) == 0
    assert mounts.mount_at(str(mountpoint)) is None


def test_an_interrupt_ends_a_with_mount_whose_init_does_not_return(mountpoint: Path) -> None:
    source = """
    class FS(MemoryFS):
        def init(self, granted):
            print("here", flush=True)
            time.sleep(60)
    try:
        with fusewire.mount(FS(), M): pass
    except KeyboardInterrupt: print("interrupted", flush=True)
    """
    daemon = program(source, mountpoint)
    with guarded(daemon):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "here\n"
        daemon.send_signal(signal.SIGINT)
        assert daemon.stdout.readline() == "interrupted\n"
        assert daemon.wait(timeout=20) == 0
    assert mounts.mount_at(str(mountpoint)) is None


def test_serve_cancelled_while_it_mounts_leaves_nothing(mountpoint: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(MemoryFS):
        def init(self, granted: fusewire.daemon.Granted) -> None:  # type: ignore[name-defined]
            begun.set()
            go_on.wait(60)

    async def cancelled() -> None:
        serving = asyncio.ensure_future(fusewire.serve(Slow(), mountpoint))
        await asyncio.to_thread(begun.wait, 20)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert mounts.mount_at(str(mountpoint)) is None

    try:
        asyncio.run(cancelled())
    finally:
        go_on.set()
    assert mounts.mount_at(str(mountpoint)) is None


def test_serve_cancelled_twice_while_it_mounts_leaves_nothing(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun, go_on = mounts.attach, threading.Event(), threading.Event()

    def attach(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        begun.set()
        go_on.wait(60)

    monkeypatch.setattr(mounts, "attach", attach)

    async def cancelled() -> None:
        serving = asyncio.ensure_future(fusewire.serve(MemoryFS(), mountpoint))
        await asyncio.to_thread(begun.wait, 20)
        for _ in range(2):
            serving.cancel()
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert mounts.mount_at(str(mountpoint)) is None

    asyncio.run(cancelled())


@pytest.mark.parametrize("seconds", [1e-4, 0.01, 0.03])
def test_serve_given_up_at_any_time_leaves_nothing(mountpoint: Path, seconds: float) -> None:
    async def hasty() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(fusewire.serve(MemoryFS(), mountpoint), seconds)

    asyncio.run(hasty())
    assert mounts.mount_at(str(mountpoint)) is None


def test_a_program_that_ends_unmounts(mountpoint: Path) -> None:
    daemon = program("mounted = fusewire.Mounted(MemoryFS(), M)\nraise SystemExit(5)", mountpoint)
    with guarded(daemon):
        assert daemon.wait(timeout=20) == 5
        assert mounts.mount_at(str(mountpoint)) is None


# -- mounts that are not (only) where they were ----------------------------------------------------------------------


def ends(mounted: RealMount) -> None:
    """SIGTERM ends the daemon, in good order."""
    mounted.daemon.terminate()
    assert mounted.daemon.wait(timeout=20) == 0


def test_a_signal_ends_a_daemon_whose_mount_is_covered(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(mountpoint)], check=True, timeout=20)
        try:
            (mountpoint / "theirs").touch()
            ends(mounted)
            assert (mountpoint / "theirs").exists()
        finally:
            subprocess.run(["umount", str(mountpoint)], check=True, timeout=20)
            subprocess.run(["umount", str(mountpoint)], timeout=20)


def test_what_stays_beneath_another_mount_is_said(mountpoint: Path) -> None:
    with real_mount(mountpoint, "import logging; logging.basicConfig()" + MEMORY) as mounted:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(mountpoint)], check=True, timeout=20)
        try:
            ends(mounted)
            assert mounted.daemon.stderr is not None
            assert "stays, dead, beneath another mount: unmount that one" in mounted.daemon.stderr.read()
        finally:
            subprocess.run(["umount", str(mountpoint)], check=True, timeout=20)
            subprocess.run(["umount", str(mountpoint)], timeout=20)


def test_a_signal_unmounts_what_moved_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "before" / "mnt").mkdir(parents=True)
    with real_mount(tmp_path / "before" / "mnt", MEMORY) as mounted:
        (tmp_path / "before").rename(tmp_path / "after")
        ends(mounted)
        assert mounts.mount_at(str(tmp_path / "after" / "mnt")) is None


def test_a_signal_ends_a_daemon_whose_mount_was_taken_away_in_use(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        user = subprocess.Popen(["sleep", "60"], cwd=mountpoint)
        try:
            subprocess.run(["umount", "-l", str(mountpoint)], check=True, timeout=20)
            ends(mounted)
        finally:
            user.kill()
            user.wait(timeout=20)


def test_a_signal_unmounts_bind_mounts_too(mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    with real_mount(mountpoint, MEMORY) as mounted:
        subprocess.run(["mount", "--bind", str(mountpoint), str(tmp_path / "bound")], check=True, timeout=20)
        ends(mounted)
        assert mounts.mount_at(str(tmp_path / "bound")) is None
        assert mounts.mount_at(str(mountpoint)) is None


def test_a_signal_ends_a_daemon_whose_mount_another_namespace_has(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        other = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", "echo in; exec sleep 60"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "in\n"
            ends(mounted)
            assert mounts.mount_at(str(mountpoint)) is None
        finally:
            other.kill()
            other.communicate(timeout=20)


@pytest.mark.parametrize("options", ["user='nobody', allow_other=True", "user='nobody'"])
def test_a_signal_ends_a_daemon_without_privileges_whose_mount_is_in_use(options: str) -> None:
    mountpoint = Path(tempfile.mkdtemp(prefix="fusewire-"))  # where others may look, unlike in tmp_path
    mountpoint.chmod(0o755)
    source = MEMORY.replace("sys.argv[1])", f"sys.argv[1], fusewire.MountOptions({options}))")
    with real_mount(mountpoint, source) as mounted:
        user = subprocess.Popen(["sleep", "60"], cwd=mountpoint)
        wait_until(lambda: f"Uid:\t{65534}" in Path(f"/proc/{mounted.daemon.pid}/status").read_text())
        try:
            ends(mounted)
            assert mounts.mount_at(str(mountpoint)) is None
        finally:
            user.kill()
            user.wait(timeout=20)
    mountpoint.rmdir()


# -- mountpoints that are mounted already ----------------------------------------------------------------------------


def test_mounting_on_a_mount_that_hangs_is_refused_at_once(mountpoint: Path, tmp_path: Path) -> None:
    source = """
    class FS(MemoryFS):
        attr_timeout = entry_timeout = 0
        def getattr(self, ino, fh): time.sleep(60)
    fusewire.run(FS(), sys.argv[1])
    """
    (tmp_path / "link").symlink_to(mountpoint)
    head = "import sys, time, fusewire\nfrom fusewire.filesystems import MemoryFS\n"
    with real_mount(mountpoint, head + textwrap.dedent(source)) as mounted:
        try:
            for path in (mountpoint, tmp_path / "link"):
                command = [sys.executable, "-m", "fusewire", "mount", "memory", str(path)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=20)
                assert "is busy: a FUSE filesystem is mounted there already" in done.stderr
        finally:
            mounted.daemon.kill()


def test_of_two_mounts_at_the_same_time_the_later_one_gives_up(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, both = mounts.check_mountpoint, threading.Barrier(2)

    def check(path: str) -> int:
        mode = real(path)
        both.wait(20)  # each finds nothing mounted there yet
        return mode

    monkeypatch.setattr(mounts, "check_mountpoint", check)
    started = [in_thread(lambda: fusewire.Mounted(MemoryFS({"f": b"data"}), mountpoint)) for _ in range(2)]
    for thread, _ in started:
        thread.join(30)
    outcomes = [outcome for _, (outcome,) in started]
    lost = next(outcome for outcome in outcomes if isinstance(outcome, MountError))
    assert lost.errno == errno.EBUSY
    won = next(outcome for outcome in outcomes if isinstance(outcome, fusewire.Mounted))
    with Watchdog(won.number, 60):
        assert won.number == mounts.mount_at(str(mountpoint))
        assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"
        won.unmount()
        assert won.wait(timeout=20)
    assert mounts.mount_at(str(mountpoint)) is None


def test_a_mount_knows_its_connection_though_another_is_mounted_over_it(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mounts.attach
    over: list[int] = []

    def attach(fd: int, path: str, *args: object) -> None:
        real(fd, path, *args)  # type: ignore[arg-type]
        monkeypatch.setattr(mounts, "attach", real)
        over.append(mounts.open_device())
        mounts.attach(over[0], path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(mounts, "attach", attach)
    mounted = fusewire.Mounted(MemoryFS(), mountpoint)
    with Watchdog(mounted.number, 60):
        assert mounted.number == mounts.connection_of(mounted.channel.fd)  # type: ignore[union-attr]
        assert mounts.mount_at(str(mountpoint)) == mounts.connection_of(over[0]) != mounted.number
        os.close(over[0])
        mounts.unmount(str(mountpoint), lazy=True)
        mounted.unmount()
        assert mounted.wait(timeout=20)
    assert mounts.mount_at(str(mountpoint)) is None
