"""coreutils on a real mount of the memory filesystem: Linux's kernel, our daemon."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import MEMORY, RealMount, real_mount, wait_until

import fusewire
from fusewire import MountError
from fusewire.filesystems import MemoryFS
from fusewire.linux import Control, Watchdog, connection_number, mounts

pytestmark = pytest.mark.real
UNWATCHED = MEMORY.replace("sys.argv[1]", "sys.argv[1], fusewire.MountOptions(auto_unmount=False)")


def test_cat_shows_what_was_written(memory_mount: RealMount) -> None:
    assert memory_mount.sh("echo hello > f; echo world >> f; cat f") == "hello\nworld\n"


def test_cp_copies_a_file_byte_for_byte(memory_mount: RealMount) -> None:
    memory_mount.sh("head -c 3000000 /dev/urandom > a; cp a b; cmp a b; test $(stat -c %s b) = 3000000")


def test_ls_shows_modes_links_and_sizes(memory_mount: RealMount) -> None:
    memory_mount.sh("umask 022; printf hello > f; mkdir d; chmod 600 f")
    lines = memory_mount.run("ls", "-l").stdout.splitlines()
    assert lines[0].startswith("total")
    assert [line.split()[0] for line in lines[1:]] == ["drwxr-xr-x", "-rw-------"]
    assert lines[2].split()[4] == "5"


def test_rm_removes_a_file(memory_mount: RealMount) -> None:
    memory_mount.sh("touch f; rm f; test ! -e f")
    assert "No such file" in memory_mount.run("rm", "f", check=False).stderr


def test_mkdir_and_rmdir_make_and_remove_directories(memory_mount: RealMount) -> None:
    memory_mount.sh("mkdir -p a/b; touch a/b/f")
    assert "not empty" in memory_mount.run("rmdir", "a/b", check=False).stderr
    memory_mount.sh("rm -r a; test ! -e a")


def test_mv_renames_a_file_over_another(memory_mount: RealMount) -> None:
    memory_mount.sh("echo new > f; echo old > g; mv f g; test ! -e f")
    assert memory_mount.sh("cat g") == "new\n"


def test_mv_is_refused_by_a_filesystem_without_rename(mountpoint: Path) -> None:
    class WithoutRename(MemoryFS):
        rename = fusewire.Operations.rename

    with fusewire.mount(WithoutRename({"f": b""}), mountpoint) as mounted, Watchdog(mounted.number, 60):
        moved = subprocess.run(["mv", "f", "g"], cwd=mountpoint, capture_output=True, text=True, timeout=20)
        assert moved.returncode == 1
        assert "Function not implemented" in moved.stderr
        assert subprocess.check_output(["ls"], cwd=mountpoint, timeout=20) == b"f\n"


def test_what_is_granted_is_what_a_write_carries(mountpoint: Path) -> None:
    sizes: list[int] = []

    class Large(MemoryFS):
        settings = fusewire.Settings(max_write=8 << 20)

        def write(self, ino: int, fh: int, offset: int, data: memoryview) -> int:
            sizes.append(len(data))
            return super().write(ino, fh, offset, data)

    with fusewire.mount(Large(), mountpoint) as mounted, Watchdog(mounted.number, 60):
        dd = ["dd", "if=/dev/zero", f"of={mountpoint}/f", "bs=16M", "count=1", "oflag=direct"]
        subprocess.run(dd, check=True, capture_output=True, timeout=30)
        assert mounted.session.granted is not None
        assert max(sizes) == mounted.session.granted.max_write


def test_touch_sets_now_and_keeps_the_other_time(memory_mount: RealMount) -> None:
    memory_mount.sh("touch -d 2001-02-03T04:05:06.789 f; touch -a f")
    st = os.stat(memory_mount.path / "f")
    assert st.st_mtime_ns % 10**9 == 789_000_000
    assert st.st_atime - st.st_mtime > 10**8


def test_the_mount_shows_in_proc_mounts_as_ours(memory_mount: RealMount) -> None:
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if str(memory_mount.path) in line)
    source, _, kind, options = line.split()[:4]
    assert (source, kind) == ("fusewire", "fuse.fusewire")
    assert {"nosuid", "nodev"} <= set(options.split(","))


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP"])
def test_a_signal_unmounts_and_exits_cleanly(mountpoint: Path, number: str) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        subprocess.run(["kill", f"-{number}", str(mounted.daemon.pid)], check=True)
        assert mounted.daemon.wait(timeout=20) == 0
        assert mounts.mount_at(str(mountpoint)) is None


def test_umount_from_outside_ends_the_daemon(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=20)
        assert mounted.daemon.wait(timeout=20) == 0


def test_an_abort_ends_the_daemon_and_leaves_nothing(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        Control(connection_number(str(mountpoint))).abort()
        assert mounted.daemon.wait(timeout=20) == 0
    assert mounts.mount_at(str(mountpoint)) is None


def test_a_busy_mount_is_taken_away_all_the_same(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY) as mounted:
        user = subprocess.Popen(["sleep", "60"], cwd=mountpoint)
        try:
            mounted.daemon.terminate()
            assert mounted.daemon.wait(timeout=20) == 0
            assert mounts.mount_at(str(mountpoint)) is None
        finally:
            user.kill()
            user.wait(timeout=20)


def test_a_mount_in_this_process_lasts_as_long_as_the_with(mountpoint: Path) -> None:
    with fusewire.mount(MemoryFS({"f": b"data"}), mountpoint) as mounted, Watchdog(mounted.number, 60):
        assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"
    assert mounts.mount_at(str(mountpoint)) is None
    assert list(mountpoint.iterdir()) == []


def test_a_handler_that_raises_a_bug_answers_eio_and_the_mount_lives(mountpoint: Path) -> None:
    program = """
    import sys, fusewire
    from fusewire.filesystems import MemoryFS
    class Buggy(MemoryFS):
        def read(self, ino, fh, offset, size):
            return {}["nothing"]
    fusewire.run(Buggy({"f": b"data", "g": b""}), sys.argv[1])
    """
    with real_mount(mountpoint, program) as mounted:
        assert "Input/output error" in mounted.run("cat", "f", check=False).stderr
        assert stat.S_ISREG(os.stat(mountpoint / "g").st_mode)


# -- bad input -----------------------------------------------------------------------------------------------------


def test_a_missing_mountpoint_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="does not exist: make the directory first") as caught, \
            fusewire.mount(MemoryFS(), tmp_path / "no"):  # fmt: skip
        pass
    assert caught.value.errno == errno.ENOENT


def test_a_mountpoint_that_is_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountError, match="is not a directory"), fusewire.mount(MemoryFS(), tmp_path / "file"):
        pass


def test_a_busy_mountpoint_is_said_so(memory_mount: RealMount) -> None:
    with pytest.raises(MountError, match="busy"), fusewire.mount(MemoryFS(), memory_mount.path):
        pass


def test_a_dead_mount_is_said_so_and_the_way_out_leads_out(mountpoint: Path) -> None:
    with real_mount(mountpoint, UNWATCHED) as mounted:
        mounted.daemon.kill()
        mounted.daemon.wait(timeout=20)
        with pytest.raises(MountError, match=r"if its daemon is dead or hangs, run 'fusewire (unmount .*)' and") as said, \
                fusewire.mount(MemoryFS(), mountpoint):  # fmt: skip
            pass
        words = str(said.value).split("'")[1].split()
        subprocess.run([sys.executable, "-m", *words], check=True, timeout=20)
    assert mounts.mount_at(str(mountpoint)) is None


def test_below_a_dead_mount_it_is_the_dead_mount_that_is_named(mountpoint: Path) -> None:
    with real_mount(mountpoint, UNWATCHED) as mounted:
        mounted.daemon.kill()
        mounted.daemon.wait(timeout=20)
        with pytest.raises(MountError) as caught:
            fusewire.Mounted(MemoryFS(), mountpoint / "a/b")
        assert f"run 'fusewire unmount {mountpoint}' and" in str(caught.value)


def test_a_missing_device_and_a_closed_one_are_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "DEV_FUSE", str(tmp_path / "none"))
    with pytest.raises(MountError, match="is not there: load the module"):
        mounts.open_device()


def test_unmounting_what_is_no_mount_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="not a mountpoint"):
        mounts.unmount(str(tmp_path))


def test_no_descriptor_is_left_open_when_mounting_fails(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MountError):
        mounts.mount(str(tmp_path), mounts.MountOptions(subtype="x" * 5000))
    assert len(os.listdir("/proc/self/fd")) == before


# -- the watchdog --------------------------------------------------------------------------------------------------


class Hanging(MemoryFS):
    """STATFS is never answered, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def statfs(self, ino: int) -> fusewire.StatFS:
        self.let_go.wait(60)
        return super().statfs(ino)


def test_the_watchdog_ends_a_hung_mount(mountpoint: Path) -> None:
    filesystem = Hanging()
    with fusewire.mount(filesystem, mountpoint) as mounted:
        watchdog = Watchdog(mounted.number, seconds=0.5)
        df = subprocess.run(["stat", "-f", str(mountpoint)], capture_output=True, text=True, timeout=30)
        assert "Software caused connection abort" in df.stderr
        filesystem.let_go.set()
        watchdog.stop()
        assert watchdog.barked


def test_the_watchdog_ends_it_too_when_its_owner_dies(mountpoint: Path) -> None:
    with real_mount(mountpoint, MEMORY):
        number = connection_number(str(mountpoint))
        owner = f"import os; from fusewire.linux import Watchdog; Watchdog({number}, 60); os._exit(0)"
        subprocess.run([sys.executable, "-c", owner], check=True, timeout=30)
        wait_until(lambda: mounts.mount_at(str(mountpoint)) is None)


# -- mount(2) that waits for INIT (Linux 6.18) -----------------------------------------------------------------------


class Refusing(MemoryFS):
    def init(self, granted: object) -> None:
        raise OSError(errno.ENXIO, "no disk")


def test_a_filesystem_whose_init_fails_is_never_seen_mounted(mountpoint: Path) -> None:
    with pytest.raises(MountError, match="init raised"):
        fusewire.Mounted(Refusing(), mountpoint)
    assert mounts.mount_at(str(mountpoint)) is None
    assert list(mountpoint.iterdir()) == []


def test_a_mount_that_fails_leaves_neither_thread_nor_descriptor(mountpoint: Path) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(MountError, match="failed"):
            fusewire.Mounted(MemoryFS(), mountpoint, fusewire.MountOptions(subtype="x" * 5000))
    wait_until(lambda: threading.active_count() == threads)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_privileges_are_dropped_after_mounting(mountpoint: Path) -> None:
    program = """
    import os, sys, fusewire
    from fusewire.filesystems import MemoryFS
    class Who(MemoryFS):
        def statfs(self, ino):
            return fusewire.StatFS(files=os.getuid())
    mounted = fusewire.Mounted(Who(), sys.argv[1], fusewire.MountOptions(user="nobody", allow_other=True))
    mounted.wait()
    """
    with real_mount(mountpoint, program):
        nobody = int(subprocess.check_output(["id", "-u", "nobody"]))
        wait_until(lambda: os.statvfs(mountpoint).f_files == nobody)  # the mount is seen before they are dropped


def test_a_user_that_does_not_exist_is_said_so_and_nothing_stays_mounted(mountpoint: Path) -> None:
    with pytest.raises(MountError, match="user 'nosuchuser' does not exist"):
        fusewire.Mounted(MemoryFS(), mountpoint, fusewire.MountOptions(user="nosuchuser"))
    assert mounts.mount_at(str(mountpoint)) is None


def test_systemd_is_told_when_the_mount_is_ready(mountpoint: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        program = f"import os; os.environ['NOTIFY_SOCKET'] = {str(tmp_path / 'notify')!r}" + MEMORY
        with real_mount(mountpoint, program) as mounted:
            assert systemd.recv(100) == b"READY=1"
            mounted.daemon.terminate()
            assert systemd.recv(100) == b"STOPPING=1"


def test_a_clone_has_requests_of_its_own(memory_mount: RealMount) -> None:
    from fusewire.transport.devfuse import DevFuse

    alone = DevFuse(mounts.open_device())
    try:
        with pytest.raises(OSError, match=r"not permitted|Invalid argument"):
            alone.clone()  # nothing is mounted with it
    finally:
        alone.close()


def test_a_mounted_descriptor_is_cloned(mountpoint: Path) -> None:
    with fusewire.mount(MemoryFS({"f": b"data"}), mountpoint) as mounted, Watchdog(mounted.number, 60):
        clone = mounted.channel.clone()  # type: ignore[union-attr]
        try:
            assert os.fstat(clone.fd).st_rdev == os.makedev(10, 229)
        finally:
            clone.close()
        assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"


# -- awkward ends ----------------------------------------------------------------------------------------------------


def test_a_symlinked_mountpoint_is_mounted_and_unmounted(mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(mountpoint)
    with fusewire.mount(MemoryFS({"f": b"data"}), tmp_path / "link") as mounted, Watchdog(mounted.number, 60):
        assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"
    assert mounts.mount_at(str(mountpoint)) is None


def test_a_mountpoint_in_bytes_is_mounted(mountpoint: Path) -> None:
    with fusewire.mount(MemoryFS(), os.fsencode(mountpoint)) as mounted, Watchdog(mounted.number, 60):
        assert mounted.path == str(mountpoint)


def test_a_relative_mountpoint_is_unmounted_wherever_we_are_by_then(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mountpoint.parent)
    with fusewire.mount(MemoryFS(), mountpoint.name) as mounted, Watchdog(mounted.number, 60):
        monkeypatch.chdir("/")
    assert mounts.mount_at(str(mountpoint)) is None


def test_a_signal_unmounts_after_privileges_were_dropped(mountpoint: Path) -> None:
    program = """
    import sys, fusewire
    from fusewire.filesystems import MemoryFS
    fusewire.run(MemoryFS(), sys.argv[1], fusewire.MountOptions(user="nobody", allow_other=True))
    """
    with real_mount(mountpoint, program) as mounted:
        os.stat(mountpoint)
        mounted.daemon.terminate()
        assert mounted.daemon.wait(timeout=20) == 0
        assert mounts.mount_at(str(mountpoint)) is None


def test_a_given_device_is_served_and_let_go(mountpoint: Path) -> None:
    fd = mounts.mount(str(mountpoint))
    os.set_inheritable(fd, True)
    number = connection_number(str(mountpoint))
    try:
        with Watchdog(number, 60):
            mounted = fusewire.Mounted(MemoryFS({"f": b"data"}), f"/dev/fd/{fd}")
            assert not os.get_inheritable(fd)
            assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"
            mounted.unmount()
            assert mounted.wait(timeout=20)
    finally:
        mounts.unmount_at_any_price(str(mountpoint))


def test_a_forked_child_leaves_the_parents_mount_alone(mountpoint: Path) -> None:
    with fusewire.mount(MemoryFS({"f": b"data"}), mountpoint) as mounted, Watchdog(mounted.number, 60):
        child = os.fork()
        if not child:
            mounted.unmount()
            os._exit(0)
        os.waitpid(child, 0)
        assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"


def test_where_mount_is_not_permitted_the_helper_mounts_and_the_filesystem_is_not_destroyed_before(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class Told(MemoryFS):
        def init(self, granted: fusewire.daemon.Granted) -> None:  # type: ignore[name-defined]
            calls.append("init")
            super().init(granted)

        def destroy(self) -> None:
            calls.append("destroy")
            super().destroy()

    def refused(*args: object) -> None:
        raise MountError(errno.EPERM, "not permitted")

    monkeypatch.setattr(mounts, "attach", refused)
    monkeypatch.setattr(mounts, "may_use_helper", lambda error: True)
    with fusewire.mount(Told({"f": b"data"}), mountpoint) as mounted, Watchdog(mounted.number, 60):
        assert subprocess.check_output(["cat", mountpoint / "f"], timeout=20) == b"data"
    assert calls == ["init", "destroy"]
