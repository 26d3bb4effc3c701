"""``fusewire mount`` and ``unmount``: in the background, in the foreground, and everything that can be wrong with them."""

from __future__ import annotations

import errno
import grp
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import need, stop_process, wait_until

from fusewire.linux import mounts

COMMAND = [sys.executable, "-m", "fusewire"]


def fusewire(*args: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=60, **kwargs)  # type: ignore[call-overload, no-any-return]


def daemons_of(path: Path) -> list[int]:
    """The processes with this mountpoint on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(path).encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def unmounted(mountpoint: Path) -> object:
    yield mountpoint
    if mounts.mount_at(str(mountpoint)) is not None:
        mounts.unmount_at_any_price(str(mountpoint))
    wait_until(lambda: not daemons_of(mountpoint))


@pytest.mark.real
def test_mount_returns_once_the_mount_answers_and_unmount_ends_the_daemon(unmounted: Path) -> None:
    assert fusewire("mount", "memory", unmounted).returncode == 0
    (unmounted / "f").write_text("data")
    assert fusewire("unmount", unmounted).returncode == 0
    assert list(unmounted.iterdir()) == []
    wait_until(lambda: not daemons_of(unmounted))


@pytest.mark.real
@pytest.mark.parametrize("closed", ["0<&-", "0<&- 1>&-", "0<&- 1>&- 2>&-", "1>&-"])
def test_it_mounts_though_standard_descriptors_are_closed(unmounted: Path, closed: str) -> None:
    command = f'exec "$@" {closed}'
    done = subprocess.run(["sh", "-c", command, "sh", *COMMAND, "mount", "memory", str(unmounted)], timeout=60)
    assert done.returncode == 0
    assert mounts.mount_at(str(unmounted)) is not None
    assert subprocess.run(["ls", str(unmounted)], timeout=20).returncode == 0


@pytest.mark.real
def test_options_reach_the_mount(unmounted: Path) -> None:
    assert fusewire("mount", "-o", "ro,noexec", "-o", "fsname=my fs,subtype=mine", "memory", unmounted).returncode == 0
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if str(unmounted) in line)
    assert line.startswith("my\\040fs ")
    assert " fuse.mine ro,nosuid,nodev,noexec" in line
    with pytest.raises(OSError, match="Read-only"):
        (unmounted / "f").touch()


@pytest.mark.real
def test_the_foreground_ends_with_status_0_on_a_signal(unmounted: Path) -> None:
    daemon = subprocess.Popen([*COMMAND, "mount", "-f", "memory", str(unmounted)], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: mounts.mount_at(str(unmounted)) is not None)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=20) == 0
    assert mounts.mount_at(str(unmounted)) is None


@pytest.mark.real
def test_trace_shows_every_message_with_its_latency(unmounted: Path) -> None:
    daemon = subprocess.Popen(
        [*COMMAND, "mount", "--trace", "memory", str(unmounted)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: mounts.mount_at(str(unmounted)) is not None)
    subprocess.run(["mkdir", str(unmounted / "d")], check=True, timeout=20)
    daemon.terminate()
    _, shown = daemon.communicate(timeout=20)
    lines = shown.splitlines()
    assert lines[0].startswith("-> INIT ")
    asked = next(line for line in lines if line.startswith("-> MKDIR "))
    assert '"d"' in asked
    answered = lines[lines.index(asked) + 1]
    assert answered.startswith("<- ")
    assert answered.endswith(" us")


@pytest.mark.real
def test_what_a_handler_raises_in_the_background_is_in_the_log(unmounted: Path) -> None:
    (unmounted.parent / "broken.py").write_text(
        "from fusewire.filesystems import MemoryFS\n"
        "class FS(MemoryFS):\n    def mkdir(self, *args): raise RuntimeError('no disk')\n"
    )
    done = fusewire("mount", "--log", "log", "broken:FS", unmounted, cwd=unmounted.parent)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["mkdir", unmounted / "d"], capture_output=True, timeout=20).returncode == 1
    said = (unmounted.parent / "log").read_text()
    assert "ERROR fusewire.daemon: mkdir(node 1) raised\nTraceback " in said
    assert "RuntimeError: no disk" in said


@pytest.mark.real
def test_debug_says_how_passthrough_reads(unmounted: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for more, shown in (["--debug"], True), ([], False):
        done = fusewire("mount", *more, "--log", tmp_path / "log", "passthrough", tmp_path / "source", unmounted)
        assert done.returncode == 0, done.stderr
        (unmounted / "f").write_text("data")
        assert fusewire("unmount", unmounted).returncode == 0
        said = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
        assert ("DEBUG fusewire.passthrough: " in said) == shown
        (tmp_path / "log").unlink()


@pytest.mark.real
def test_memory_has_the_size_that_is_given(unmounted: Path) -> None:
    assert fusewire("mount", "memory", "64M", unmounted).returncode == 0
    seen = os.statvfs(unmounted)
    assert seen.f_blocks * seen.f_frsize == 64 << 20


@pytest.mark.real
def test_auto_unmount_cleans_up_after_a_killed_daemon(unmounted: Path) -> None:
    assert fusewire("mount", "memory", unmounted).returncode == 0
    for pid in daemons_of(unmounted):
        if b"mount" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: mounts.mount_at(str(unmounted)) is None)
    wait_until(lambda: not daemons_of(unmounted))


@pytest.mark.real
def test_auto_unmount_leaves_a_newer_mount_alone(unmounted: Path) -> None:
    assert fusewire("mount", "memory", unmounted).returncode == 0
    older = [pid for pid in daemons_of(unmounted) if b"mount" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    stop_process(older[0])
    mounts.unmount(str(unmounted), lazy=True)
    assert fusewire("mount", "-o", "noauto_unmount", "memory", unmounted).returncode == 0
    os.kill(older[0], signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{older[0]}").exists() or _is_zombie(older[0]))
    newer = mounts.mount_at(str(unmounted))
    wait_until(lambda: len(daemons_of(unmounted)) == 1)  # the watcher has looked, and gone
    assert mounts.mount_at(str(unmounted)) == newer is not None


def _is_zombie(pid: int) -> bool:
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.real
def test_a_mount_by_fusermount3_as_an_ordinary_user(tmp_path: Path) -> None:
    need("fusermount3")
    from fusewire.linux import MountOptions, fusermount

    path = tmp_path / "m"
    path.mkdir()
    fd = fusermount.mount(str(path), MountOptions(fsname="by,helper", read_only=True))
    try:
        assert not os.get_inheritable(fd)
        line = next(line for line in Path("/proc/mounts").read_text().splitlines() if str(path) in line)
        assert line.startswith("by,helper ")
        assert " fuse.fusewire ro,nosuid,nodev" in line
    finally:
        os.close(fd)
        fusermount.unmount(str(path), lazy=False)
    assert mounts.mount_at(str(path)) is None


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_descriptor_that_the_background_has_no_use_for(fd: int) -> None:
    assert f"/dev/fd/{fd} is /dev/null in the background: say -f" in failed("mount", "memory", f"/dev/fd/{fd}")


@pytest.mark.parametrize("word", ["suid", "dev"])
def test_what_fusermount3_would_leave_out_is_refused_by_name(unmounted: Path, word: str) -> None:
    from fusewire.linux import MountOptions, fusermount

    with pytest.raises(mounts.MountError, match=f"suid and dev on {unmounted}: only root may use them"):
        fusermount.mount(str(unmounted), MountOptions.parse(word))


@pytest.mark.real
def test_mount_dash_t_finds_the_helper(unmounted: Path) -> None:
    helper = Path("/sbin/mount.fuse.fusewire")
    if helper.exists():
        pytest.skip("a helper is installed on this machine already")
    helper.symlink_to(Path(sys.executable).with_name("mount.fuse.fusewire"))
    try:
        done = subprocess.run(
            ["mount", "-t", "fuse.fusewire", "-o", "ro,noauto", "memory", str(unmounted)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "memory on " in subprocess.run(["mount"], capture_output=True, text=True, timeout=20).stdout
    finally:
        helper.unlink()


def test_what_ends_the_daemon_in_the_background_is_in_the_log(tmp_path: Path) -> None:
    program = f"""
import threading
from fusewire.cli.background import detached
from fusewire.cli.logs import log_to
class Broken:
    path = "/"
    _server = threading.Thread()
    def unmount(self): pass
    def wait(self): raise OSError(5, "the device broke")
def start(stop):
    log_to({str(tmp_path / "log")!r}, foreground=False, debug=False)
    Broken._server = threading.Thread(target=len, args=("",))
    Broken._server.start()
    return Broken()
detached(start)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and "the device broke" in log.read_text())
    assert "CRITICAL fusewire.cli: the daemon ended\nTraceback " in log.read_text()


# -- bad input -----------------------------------------------------------------------------------------------------


def failed(*args: object, **kwargs: object) -> str:
    """Runs the command, which must fail with status 1 and one line."""
    done = fusewire(*args, **kwargs)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_missing_mountpoint(tmp_path: Path) -> None:
    assert "does not exist: make the directory first" in failed("mount", "memory", tmp_path / "no")


def test_a_missing_mountpoint_whose_name_is_no_text(tmp_path: Path) -> None:
    assert r"\udcff does not exist: make the directory first" in failed("mount", "memory", tmp_path / "\udcff")


def test_a_mountpoint_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert "is not a directory" in failed("mount", "memory", tmp_path / "f")


@pytest.mark.real
def test_a_mountpoint_that_is_mounted_already(unmounted: Path) -> None:
    assert fusewire("mount", "memory", unmounted).returncode == 0
    assert "is busy: a FUSE filesystem is mounted there already" in failed("mount", "memory", unmounted)


def test_an_unknown_option_is_refused_by_name(mountpoint: Path) -> None:
    assert "mount option 'bogus' is not known; known are ro, " in failed(
        "mount", "-o", "ro,bogus", "memory", mountpoint
    )
    assert "'many' is not a number" in failed("mount", "-o", "max_read=many", "memory", mountpoint)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nope", "there is no filesystem 'nope'"),
        ("no_such_module:factory", "no_such_module cannot be imported"),
        ("os:no_such_factory", "os has no no_such_factory"),
        ("os:sep", "is a str and cannot be called"),
        ("os:getcwd", "which is no fusewire.Operations"),
        ("json:loads", "the factory raised TypeError"),
    ],
)
def test_a_factory_that_is_none(mountpoint: Path, name: str, why: str) -> None:
    assert why in failed("mount", name, mountpoint)


@pytest.mark.parametrize("size", ["0", "many", "64X", "6 4", "64MB", "\u0664M"])
def test_a_size_that_is_none(mountpoint: Path, size: str) -> None:
    assert f"memory: {size!r} is no size: say bytes, or 64k, 64M, 1g" in failed("mount", "memory", size, mountpoint)


def test_more_than_a_size_for_memory(mountpoint: Path) -> None:
    assert "memory takes a size, and nothing more: 'x y'" in failed("mount", "memory", "1g", "x", "y", mountpoint)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def FS(:\n", "broken cannot be imported: SyntaxError: invalid syntax (broken.py, line 1)"),
        ("\nnosuchname\n", "broken cannot be imported: NameError: name 'nosuchname' is not defined ("),
        ("import no_such_module\n", "broken cannot be imported: No module named 'no_such_module'"),
    ],
)
def test_a_module_that_cannot_be_imported(tmp_path: Path, source: str, why: str) -> None:
    (tmp_path / "broken.py").write_text(source)
    assert why in failed("mount", "-f", "broken:FS", tmp_path, cwd=tmp_path)


@pytest.mark.parametrize("name", [":f", ".x:f", "os:", "os:path..join"])
def test_a_name_that_is_no_module_and_function(mountpoint: Path, name: str) -> None:
    assert f"{name!r} is not known here: say module:function" in failed("mount", "-f", name, mountpoint)


@pytest.mark.parametrize("command", [["mount", "memory"], ["mount", "-f", "memory"], ["unmount"]])
def test_an_empty_mountpoint_is_not_the_working_directory(unmounted: Path, command: list[str]) -> None:
    assert "the mountpoint is empty: say which directory" in failed(*command, "", cwd=unmounted)


@pytest.mark.real
def test_a_symlink_to_the_mountpoint_is_unmounted(unmounted: Path) -> None:
    (unmounted.parent / "link").symlink_to(unmounted.name)
    (unmounted.parent / "further").symlink_to("link/")
    assert fusewire("mount", "memory", unmounted).returncode == 0
    assert fusewire("unmount", unmounted.parent / "further").returncode == 0
    assert mounts.mount_at(str(unmounted)) is None


@pytest.mark.real
def test_where_systemd_cannot_be_told_the_mount_goes_on(unmounted: Path) -> None:
    daemon = subprocess.Popen(
        [*COMMAND, "mount", "-f", "memory", str(unmounted)],
        env={**os.environ, "NOTIFY_SOCKET": str(unmounted.parent / "missing")}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert daemon.stderr is not None
    assert "systemd was not told READY=1 at NOTIFY_SOCKET=" in daemon.stderr.readline()
    assert mounts.mount_at(str(unmounted)) is not None
    daemon.terminate()
    assert "STOPPING=1" in daemon.communicate(timeout=20)[1]
    assert daemon.returncode == 0


@pytest.mark.real
def test_a_filesystem_whose_init_raises_is_not_mounted(mountpoint: Path) -> None:
    (mountpoint.parent / "broken.py").write_text(
        "import fusewire\nclass FS(fusewire.Operations):\n    def init(self, granted): raise RuntimeError('no disk')\n"
    )
    why = failed("mount", "broken:FS", mountpoint, cwd=mountpoint.parent)
    assert "was not mounted: the filesystem's init raised RuntimeError('no disk')" in why
    assert mounts.mount_at(str(mountpoint)) is None


@pytest.mark.parametrize(
    ("mode", "gid", "helps"), [(0o660, 1, True), (0o600, 1, False), (0o640, 1, False), (0o660, 0, False)]
)
def test_no_permission_on_the_device_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, gid: int, helps: bool
) -> None:
    device = tmp_path / "device"
    device.touch(mode)
    device.chmod(mode)
    if os.geteuid() == 0:
        os.chown(device, 0, gid)
    elif gid == 0:
        pytest.skip("only root gives a file to root's group")
    try:
        group = grp.getgrgid(device.stat().st_gid).gr_name
    except KeyError:  # a group that has no name, nobody can be told to join
        group, helps = "", False
    monkeypatch.setattr(mounts, "DEV_FUSE", str(device))
    said = mounts._why_no_device(PermissionError(errno.EACCES, "Permission denied"))
    assert said.startswith(f"no permission to open {device}: run as root,")
    assert f"chmod 666 {device}" in said
    assert ("join the group that owns it" in said) == helps
    assert (f"({group})" in said) == helps


def test_unmounting_what_is_no_mount(tmp_path: Path) -> None:
    assert "is not a FUSE mount" in failed("unmount", tmp_path)


def test_too_few_arguments_are_a_usage_error() -> None:
    done = fusewire("mount", "memory")
    assert done.returncode == 2
    assert "a filesystem and a mountpoint are needed" in done.stderr
