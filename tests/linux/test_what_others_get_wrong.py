"""The faults of other Python FUSE libraries, each as a test of what should happen, on a real mount."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import RealMount

import fusewire
from fusewire import DirEntry
from fusewire.filesystems import MemoryFS
from fusewire.linux import Watchdog

pytestmark = pytest.mark.real
_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_rename_exchange_swaps_and_loses_nothing(any_mount: RealMount) -> None:
    a, b = any_mount.path / "a", any_mount.path / "b"
    a.write_text("A")
    b.write_text("B")
    renameat2(a, b, 2)
    assert (a.read_text(), b.read_text()) == ("B", "A")


def test_rename_noreplace_replaces_nothing(any_mount: RealMount) -> None:
    a, b = any_mount.path / "a", any_mount.path / "b"
    a.write_text("A")
    b.write_text("B")
    with pytest.raises(FileExistsError):
        renameat2(a, b, 1)
    assert (a.read_text(), b.read_text()) == ("A", "B")


def test_touch_sets_now_and_touch_a_leaves_the_other_time(any_mount: RealMount) -> None:
    any_mount.sh("touch f")
    st = os.stat(any_mount.path / "f")
    assert abs(st.st_mtime - time.time()) < 60
    any_mount.sh("touch -d '2001-02-03 04:05:06.123456789' f; touch -a f")
    st = os.stat(any_mount.path / "f")
    assert st.st_mtime_ns == 981173106_123456789
    assert abs(st.st_atime - time.time()) < 60


def test_an_unlinked_open_file_leaves_no_trace_and_stays_readable(any_mount: RealMount) -> None:
    directory = any_mount.path / "d"
    directory.mkdir()
    with open(directory / "f", "w+") as file:
        file.write("still here")
        file.flush()
        os.unlink(directory / "f")
        assert os.listdir(directory) == []
        directory.rmdir()
        file.seek(0)
        assert file.read() == "still here"
        assert os.fstat(file.fileno()).st_nlink == 0


def test_children_are_still_there_after_their_directory_moved(any_mount: RealMount) -> None:
    (any_mount.path / "a/b").mkdir(parents=True)
    (any_mount.path / "a/b/f").write_text("data")
    with open(any_mount.path / "a/b/f", "r+") as file:
        os.rename(any_mount.path / "a", any_mount.path / "z")
        assert (any_mount.path / "z/b/f").read_text() == "data"
        file.write("DATA")
    assert (any_mount.path / "z/b/f").read_text() == "DATA"


def test_hard_links_share_their_inode_number(any_mount: RealMount) -> None:
    any_mount.sh("echo data > a; ln a b")
    a, b = os.stat(any_mount.path / "a"), os.stat(any_mount.path / "b")
    assert (a.st_ino, a.st_nlink) == (b.st_ino, 2)


def test_one_einval_from_a_read_does_not_end_the_mount(mountpoint: Path) -> None:
    class Picky(MemoryFS):
        def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
            raise OSError(errno.EINVAL, "no")

    with fusewire.mount(Picky({"f": b"data"}), mountpoint) as mounted, Watchdog(mounted.number, 60):
        for _ in range(2):
            failed = subprocess.run(["cat", str(mountpoint / "f")], capture_output=True, text=True, timeout=20)
            assert "Invalid argument" in failed.stderr


@pytest.mark.parametrize("nonsense", ["text", b"x" * 100_000, None, 5])
def test_a_read_that_returns_nonsense_is_eio_and_leaks_no_memory(mountpoint: Path, nonsense: object) -> None:
    class Wrong(MemoryFS):
        def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
            return nonsense  # type: ignore[return-value]

    with fusewire.mount(Wrong({"f": b"data"}), mountpoint) as mounted, Watchdog(mounted.number, 60):
        failed = subprocess.run(["cat", str(mountpoint / "f")], capture_output=True, timeout=20)
        assert b"Input/output error" in failed.stderr
        assert failed.stdout == b""
        assert subprocess.run(["ls", str(mountpoint)], timeout=20, stdout=subprocess.DEVNULL).returncode == 0


def test_listing_many_names_takes_work_in_proportion_to_their_number(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusewire.wire import layouts

    made: list[int] = []

    class Counting(MemoryFS):
        def readdir(self, ino: int, fh: int, offset: int) -> object:  # type: ignore[override]
            for entry in super().readdir(ino, fh, offset):
                made.append(1)
                yield entry

    filesystem = Counting({f"d/{n}": b"" for n in range(20_000)})
    filesystem.settings = fusewire.Settings(refused=fusewire.InitFlag.DO_READDIRPLUS)
    with fusewire.mount(filesystem, mountpoint) as mounted, Watchdog(mounted.number, 120):
        names = subprocess.run(["ls", "-U", str(mountpoint / "d")], capture_output=True, text=True, timeout=100).stdout
    assert len(names.split()) == 20_000
    assert len(made) < 2 * 20_000
    assert layouts.DIRENT.size == 24
    assert DirEntry(b"n", 1, 0, 1).entry is None


def test_four_clients_of_a_slow_handler_wait_together_and_not_in_turn(mountpoint: Path) -> None:
    class Slow(MemoryFS):
        entry_timeout = attr_timeout = 0.0
        barrier = threading.Barrier(4)

        def statfs(self, ino: int) -> fusewire.StatFS:
            self.barrier.wait(30)  # opens only when four handlers are in it
            return super().statfs(ino)

    with fusewire.mount(Slow(), mountpoint) as mounted, Watchdog(mounted.number, 90) as watchdog:
        clients = [subprocess.Popen(["stat", "-f", str(mountpoint)], stdout=subprocess.DEVNULL) for _ in range(4)]
        assert [client.wait(timeout=60) for client in clients] == [0] * 4
    assert not watchdog.barked


def test_memory_is_flat_after_many_files_came_and_went(mountpoint: Path) -> None:
    filesystem = MemoryFS()
    with fusewire.mount(filesystem, mountpoint) as mounted, Watchdog(mounted.number, 120):
        script = "import os\nfor n in range(5000):\n os.close(os.open('f', os.O_CREAT)); os.unlink('f')"
        subprocess.run([sys.executable, "-c", script], cwd=mountpoint, check=True, timeout=100)
        end = time.monotonic() + 20
        while len(filesystem.nodes) > 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(filesystem.nodes) == 1


def test_locks_of_two_programs_exclude_each_other(any_mount: RealMount) -> None:
    path = any_mount.path / "locked"
    path.touch()
    script = """
import fcntl, sys
file = open(sys.argv[1], "r+")
try:
    getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("got it")
except BlockingIOError:
    print("in the way")
"""
    for kind in ("flock", "lockf"):
        with open(path, "r+") as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            run = [sys.executable, "-c", script, str(path), kind]
            assert subprocess.check_output(run, timeout=30, text=True) == "in the way\n"
        assert subprocess.check_output(run, timeout=30, text=True) == "got it\n"
