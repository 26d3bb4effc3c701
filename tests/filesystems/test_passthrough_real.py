"""A directory mirrored by a real mount: Linux's kernel, its permissions, its callers, and programs that are hard to please."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RealMount, need, real_mount
from lock_waiters import any_number_may_wait_for_a_lock

pytestmark = pytest.mark.real

DAEMON = """
import logging, sys, fusewire
from dataclasses import replace
from fusewire.daemon import InitFlag
from fusewire.filesystems import PassthroughFS

logging.basicConfig(filename={log!r}, level="DEBUG")
fs = PassthroughFS({source!r})
fs.entry_timeout = fs.attr_timeout = {timeout}
if not {passthrough}:
    fs.settings = replace(fs.settings, refused=InitFlag.PASSTHROUGH)
fusewire.run(fs, sys.argv[1], fusewire.MountOptions(allow_other=True, user={user!r}))
"""
AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups "
IN_GAMES = "setpriv --reuid=65534 --regid=65534 --groups=60 "


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that other users can reach, as tmp_path is not."""
    path = Path(tempfile.mkdtemp(prefix="pt-"))
    path.chmod(0o755)
    for name in ("source", "mnt"):
        (path / name).mkdir()
        (path / name).chmod(0o755)
    yield path
    shutil.rmtree(path)


def daemon(base: Path, passthrough: bool = True, timeout: float = 1.0, user: str = "") -> str:
    return DAEMON.format(
        source=str(base / "source"), log=str(base / "log"), passthrough=passthrough, timeout=timeout, user=user
    )  # fmt: skip


@pytest.fixture(params=[True, False], ids=["passthrough", "ordinary"])
def mirror(base: Path, request: pytest.FixtureRequest) -> Iterator[RealMount]:
    with real_mount(base / "mnt", daemon(base, request.param)) as mounted:
        yield mounted
    log = (base / "log").read_text()
    assert "ERROR" not in log
    assert "Traceback" not in log


@pytest.fixture
def one(base: Path) -> Iterator[RealMount]:
    with real_mount(base / "mnt", daemon(base)) as mounted:
        yield mounted


# -- reads and writes --------------------------------------------------------------------------------------------------


def test_the_log_says_that_reads_and_writes_are_passed_through(one: RealMount, base: Path) -> None:
    one.sh("echo hello > f")
    assert "reads and writes by FUSE passthrough" in (base / "log").read_text()


def test_what_is_written_here_is_there_and_the_other_way_round(mirror: RealMount, base: Path) -> None:
    mirror.sh("head -c 3000000 /dev/urandom > a; cp a b; cmp a b")
    assert (base / "source" / "a").read_bytes() == (base / "source" / "b").read_bytes()
    (base / "source" / "c").write_text("from the host")
    assert mirror.sh("cat c") == "from the host"


def test_fio_finds_every_block_as_it_wrote_it(mirror: RealMount) -> None:
    for engine in ("psync", "mmap"):
        mirror.run(
            "fio", f"--name={engine}", f"--ioengine={engine}", "--verify=crc32c", "--rw=randwrite", "--bs=4k",
            "--size=4M", "--do_verify=1", "--verify_fatal=1",
        )  # fmt: skip


def test_a_file_copied_over_while_it_is_open_is_read_anew(mirror: RealMount) -> None:
    assert mirror.sh("echo one > f; exec 3< f; echo twotwo > f; cat <&3") == "twotwo\n"


def test_an_open_file_without_a_name_is_a_whole_file(mirror: RealMount) -> None:
    assert (
        mirror.sh("exec 3<> f; rm f; echo hello >&3; cat /proc/self/fd/3; stat -Lc %h /dev/fd/3; ls -A") == "hello\n0\n"
    )


def test_sqlite_in_wal_mode_takes_writers_at_the_same_time(mirror: RealMount) -> None:
    need("sqlite3")
    mirror.sh("sqlite3 db 'pragma journal_mode=wal; create table t(a);'")
    writer = "for i in 1 2 3 4 5 6; do sqlite3 -cmd '.timeout 20000' db 'insert into t values(1)'; done"
    mirror.sh(f"({writer}) & ({writer}) & ({writer}) & wait")
    assert mirror.sh("sqlite3 db 'select count(*) from t; pragma integrity_check'") == "18\nok\n"


def test_git_clones_into_it(one: RealMount, base: Path) -> None:
    need("git")
    origin = base / "origin"
    commit = "git -c user.name=a -c user.email=b commit -qm c"
    subprocess.run(["sh", "-euc", f"git init -q {origin}; cd {origin}; seq 9999 > f; git add f; {commit}"], check=True)
    one.sh(f'git clone -q {origin} clone; cd clone; git fsck --strict; test -z "$(git status --short)"; tail -1 f')


# -- names and times ---------------------------------------------------------------------------------------------------


def test_rename_exchange_swaps(one: RealMount) -> None:
    script = "import ctypes; assert ctypes.CDLL(None).renameat2(-100, b'a', -100, b'b', 2) == 0"
    one.sh(f'echo A > a; echo B > b; {sys.executable} -c "{script}"')
    assert one.sh("cat a b") == "B\nA\n"


def test_touch_a_keeps_the_other_time(one: RealMount) -> None:
    one.sh("touch -d '2001-02-03 04:05:06.789012345' f; touch -a f")
    st = os.stat(one.path / "f")
    assert st.st_mtime_ns % 10**9 == 789012345
    assert st.st_atime > st.st_mtime


def test_a_renamed_directory_keeps_its_open_children(one: RealMount) -> None:
    one.sh("mkdir d; echo hello > d/c; exec 3< d/c; cd d; mv ../d ../e; echo new > n; cat <&3; cat ../e/n")


def test_an_unnamed_file_is_given_a_name(one: RealMount) -> None:
    script = (
        "import os; fd = os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o600); os.write(fd, b'hello'); "
        "os.link(f'/proc/self/fd/{fd}', 'f', dst_dir_fd=os.open('.', 0), follow_symlinks=True)"
    )
    one.run(sys.executable, "-c", script)
    assert one.sh("cat f") == "hello"


def test_the_birth_time_is_the_hosts(one: RealMount, base: Path) -> None:
    assert one.sh("touch f; stat -c %w f") == subprocess.check_output(
        ["stat", "-c", "%w", base / "source/f"], text=True
    )


def test_tar_keeps_files_of_two_filesystems_apart(base: Path) -> None:
    with contextlib.ExitStack() as stack:
        for name in ("sub", "sub2"):
            path = base / "source" / name
            path.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
            stack.callback(subprocess.run, ["umount", path], check=True)
            (path / "a").write_text(name)
            (path / "b").hardlink_to(path / "a")
        mounted = stack.enter_context(real_mount(base / "mnt", daemon(base)))
        mounted.sh("tar cf ../x.tar sub sub2; mkdir ../out; tar xf ../x.tar -C ../out")
        assert (base / "out/sub/b").read_text() == "sub"
        assert (base / "out/sub2/b").read_text() == "sub2"
        assert (base / "out/sub2/b").samefile(base / "out/sub2/a")


def test_a_mirror_of_its_own_mountpoint_can_still_be_unmounted(base: Path) -> None:
    path = base / "source" / "mnt"
    path.mkdir()
    (base / "source" / "file").touch()
    with real_mount(path, daemon(base)) as mounted:
        # The working directory must not be what keeps it busy.
        listed = subprocess.run(["ls", "-l", path], capture_output=True, text=True, timeout=60)
        assert "file" in listed.stdout
        assert os.strerror(errno.ELOOP) in listed.stderr
        subprocess.run(["umount", path], check=True, timeout=60)
        assert mounted.daemon.wait(timeout=60) == 0


def test_a_directory_is_shown_as_the_mount_that_leads_to_it_has_it(base: Path) -> None:
    source = base / "source"
    for name in ("one/sub", "two", "whole"):
        (source / name).mkdir(parents=True)
    with contextlib.ExitStack() as stack:

        def mount(*arguments: str | Path) -> None:
            subprocess.run(["mount", *arguments], check=True)
            stack.callback(subprocess.run, ["umount", arguments[-1]], check=True)

        mount("-t", "tmpfs", "none", source / "one/sub")
        mount("--bind", source / "one", source / "two")
        mount("--bind", source, source / "whole")
        (source / "one/sub/file").touch()
        mounted = stack.enter_context(real_mount(base / "mnt", daemon(base)))
        assert mounted.sh("ls one/sub") == "file\n"
        assert mounted.sh("ls two/sub") == ""
        assert mounted.sh("ls whole") == "one\ntwo\nwhole\n"


def test_file_flags_are_the_hosts(one: RealMount, base: Path) -> None:
    need("chattr", "lsattr")
    one.sh("touch f; chattr +i f")
    try:
        assert "i" in subprocess.check_output(["lsattr", base / "source/f"], text=True).split()[0]
        assert one.run("rm", "-f", "f", check=False).returncode == 1
    finally:
        one.sh("chattr -i f")


# -- whose it is -------------------------------------------------------------------------------------------------------


def test_what_is_made_belongs_to_the_caller(one: RealMount, base: Path) -> None:
    one.sh("mkdir d; chmod 777 d")
    one.sh(AS_NOBODY + "sh -c 'umask 022; cd d; echo > f; mkdir m; ln -s x l; mkfifo p'")
    for name in "fmlp":
        st = (base / "source" / "d" / name).lstat()
        assert (st.st_uid, st.st_gid) == (65534, 65534), name


def test_after_a_strangers_file_roots_are_roots_again(one: RealMount, base: Path) -> None:
    one.sh(f"mkdir d; chmod 777 d; {AS_NOBODY} touch d/f; touch d/root; mkdir d/sub")
    assert [(base / "source/d" / name).stat().st_uid for name in ("f", "root", "sub")] == [65534, 0, 0]


def test_without_its_privileges_the_mirror_makes_files_as_itself(base: Path) -> None:
    (base / "source").chmod(0o777)
    (base / "source" / "own").touch(0o600)
    os.chown(base / "source" / "own", 65534, 65534)
    with real_mount(base / "mnt", daemon(base, user="nobody")) as mounted:
        mounted.sh(AS_NOBODY + "sh -c 'touch new; mkdir d; ln -s x link; echo more >> own'")
        mounted.sh("setpriv --reuid=1 --regid=1 --clear-groups sh -c 'umask 0; echo hi > anyones'")
        assert {mounted.sh(f"stat -c %u:%g {name}") for name in ("new", "d", "link", "anyones")} == {"65534:65534\n"}
        mounted.sh(AS_NOBODY + "sh -c 'chmod 4755 new; echo hi >> new; truncate -s 1 new'")
        assert mounted.sh("stat -c %a new") == "755\n"


def test_permissions_are_checked(one: RealMount) -> None:
    one.sh("mkdir d; echo secret > f; chmod 600 f")
    for command in ("cat f", "touch d/f", "rm -f f", "mv f g", "chmod 777 f", "ln f g"):
        assert one.run("sh", "-c", AS_NOBODY + command, check=False).returncode != 0, command


def test_a_supplementary_group_of_the_acl_lets_its_members_make_files(one: RealMount, base: Path) -> None:
    need("setfacl")
    one.sh("mkdir d; chmod 700 d; setfacl -m g:60:rwx d")
    one.sh(IN_GAMES + "touch d/f")
    assert (base / "source/d/f").stat().st_uid == 65534
    assert one.run("sh", "-c", AS_NOBODY + "touch d/g", check=False).returncode != 0


def test_the_set_group_id_bit_stays_for_members_of_the_group_only(one: RealMount, base: Path) -> None:
    need("perl")
    one.sh("mkdir d; chgrp 60 d; chmod 2777 d")
    make = f"perl -e 'umask 0; sysopen(F, $ARGV[0], {os.O_CREAT | os.O_WRONLY}, {0o2775}) or die'"
    one.sh(f"{IN_GAMES} {make} d/in; {AS_NOBODY} {make} d/out")
    modes = [stat.S_IMODE((base / "source/d" / name).stat().st_mode) for name in ("in", "out")]
    assert modes == [0o2775, 0o775]


@pytest.mark.parametrize(
    "change",
    ["echo x >> f", ": > f", "truncate -s 3 f", "fallocate -l 99999 f", "dd if=/dev/zero of=f conv=notrunc count=1"],
)
def test_a_strangers_change_clears_the_set_user_id_bit(mirror: RealMount, base: Path, change: str) -> None:
    mirror.sh(f"echo hello > f; chmod 6777 f; {AS_NOBODY} sh -c '{change}'")
    assert stat.S_IMODE((base / "source" / "f").stat().st_mode) == 0o777
    assert mirror.sh("stat -c %a f") == "777\n"


def test_a_default_acl_is_inherited_and_overrides_the_umask(one: RealMount, base: Path) -> None:
    need("setfacl", "getfacl")
    script = (
        "umask 077; mkdir d; setfacl -d -m u::rwx,g::rwx,o::rx,u:65534:rwx d; "
        "touch d/f plain; mkdir d/sub; getfacl -c d/f d/sub; stat -c %a plain"
    )
    (base / "native").mkdir()
    native = subprocess.check_output(["sh", "-euc", script], cwd=base / "native", text=True)
    assert one.sh(script) == native
    assert "user:nobody:rwx" in native
    assert native.endswith("600\n")


# -- locks -------------------------------------------------------------------------------------------------------------


def test_processes_of_the_mount_and_of_the_host_lock_each_other_out(one: RealMount, base: Path) -> None:
    one.sh("echo > f")
    try_lock = f'{sys.executable} -c \'import fcntl; fcntl.lockf(open("%s", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)\''
    for holder, other in (("f", base / "source/f"), (base / "source/f", "f"), ("f", "f")):
        hold = f"import fcntl; f = open('{holder}', 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", hold], cwd=one.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert "BlockingIOError" in one.run("sh", "-c", try_lock % other, check=False).stderr
            process.communicate("\n")
        one.sh(try_lock % other)


def test_any_number_may_wait_for_a_lock(one: RealMount) -> None:
    any_number_may_wait_for_a_lock(one)


def test_a_signal_ends_the_wait_for_a_lock(one: RealMount) -> None:
    one.sh("touch f; flock f sh -c '! timeout 0.3 flock f true'")


# -- no way out --------------------------------------------------------------------------------------------------------

RENAMER = """
import ctypes, os, sys
os.chdir(sys.argv[1])
rename = ctypes.CDLL(None).renameat2
print(flush=True)
while True:
    rename(-100, b"a", -100, b"link", 2)          # the directory and a link to /
    rename(-100, b"outer/b", -100, b"b", 0)       # a directory that goes up and down
    rename(-100, b"b", -100, b"outer/b", 0)
"""
WALKER = """
import os, sys, time
device = os.stat(".").st_dev
end = time.monotonic() + float(sys.argv[1])
walked = escaped = 0
def into(name, at):
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
root = into(".", None)
while time.monotonic() < end:
    for path in ("a", "link", "outer/b", "b", "outer/b/.."):
        fds = [root]
        try:
            for name in path.split("/"):
                fds.append(into(name, fds[-1]))
            walked += 1
            at = fds[-1]
            names = set(os.listdir(at))
            escaped += bool(names - {"inside", "a", "link", "outer", "b", "made"}) or os.fstat(at).st_dev != device
            try:
                os.stat("etc/passwd", dir_fd=at)
                escaped += 1
            except (FileNotFoundError, NotADirectoryError):
                pass
            os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=at))
        except OSError:
            pass
        finally:
            for fd in fds[1:]:
                os.close(fd)
print(walked, escaped)
"""


def test_nothing_outside_is_reached_while_directories_are_swapped_for_links(base: Path) -> None:
    source = base / "source"
    for path in ("a/inside", "outer/b/inside"):
        (source / path).mkdir(parents=True)
    (source / "link").symlink_to("/")
    with (
        real_mount(base / "mnt", daemon(base, timeout=0)) as mounted,
        subprocess.Popen([sys.executable, "-c", RENAMER, source], stdout=subprocess.PIPE) as renamer,
    ):
        assert renamer.stdout is not None
        renamer.stdout.readline()
        try:
            walked, escaped = map(int, mounted.run(sys.executable, "-c", WALKER, "3").stdout.split())
        finally:
            renamer.kill()
    assert walked > 50
    assert escaped == 0
    assert not Path("/made").exists()
    assert not (base / "made").exists()
