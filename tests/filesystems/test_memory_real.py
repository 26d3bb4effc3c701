"""The memory filesystem on a real mount: what programs see when Linux's kernel does its part."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RealMount, real_mount, wait_until
from lock_waiters import any_number_may_wait_for_a_lock

pytestmark = pytest.mark.real

PROGRAM = """
import sys, fusewire
from fusewire.filesystems import MemoryFS
fusewire.run(MemoryFS(), sys.argv[1], fusewire.MountOptions(allow_other=True, default_permissions=True))
"""


@pytest.fixture
def mounted(mountpoint: Path) -> Iterator[RealMount]:
    with real_mount(mountpoint, PROGRAM) as mounted:
        yield mounted


def python(mounted: RealMount, source: str) -> str:
    """Run a Python program in the mount; returns its output."""
    return mounted.run(sys.executable, "-c", source).stdout


def test_a_write_by_someone_else_takes_set_id_bits_away_and_the_kernel_is_told(mounted: RealMount) -> None:
    mounted.sh("chmod 777 .; touch f; chmod 6777 f; stat -c %a f")
    mounted.run("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "sh", "-c", "echo x >> f")
    wait_until(lambda: mounted.sh("stat -c %a f") == "777\n", seconds=0.7)  # less than the kernel keeps attributes


def test_exchange_swaps_two_files(mounted: RealMount) -> None:
    swap = "import ctypes; print(ctypes.CDLL(None).renameat2(-100, b'a', -100, b'b', 2))"
    mounted.sh("echo one > a; echo other > b")
    assert python(mounted, swap) == "0\n"
    assert mounted.sh("cat a b") == "other\none\n"


def test_a_sparse_file_of_4_gib_takes_a_page(mounted: RealMount) -> None:
    assert mounted.sh("truncate -s 4G f; stat -c '%s %b' f") == "4294967296 0\n"
    seek = (
        "import os; f = os.open('f', os.O_RDWR); os.pwrite(f, b'x', 3 << 30); print(os.lseek(f, 0, os.SEEK_DATA) >> 30)"
    )
    assert python(mounted, seek) == "3\n"
    assert mounted.sh("stat -c %b f") == "8\n"


def test_a_file_made_without_a_name_is_linked(mounted: RealMount) -> None:
    source = """
import os
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
os.write(fd, b"data")
print(os.listdir("."), os.fstat(fd).st_nlink)
os.link(f"/proc/self/fd/{fd}", "named", src_dir_fd=fd, follow_symlinks=True)
print(open("named").read())
"""
    assert python(mounted, source) == "[] 0\ndata\n"


def test_flock_waits_and_can_be_interrupted(mounted: RealMount) -> None:
    mounted.sh("touch f")
    holder = subprocess.Popen(["flock", "f", "sh", "-c", "echo held; exec cat"], cwd=mounted.path, stdin=-1, stdout=-1)
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        holder.stdout.readline()
        assert mounted.run("flock", "-n", "f", "true", check=False).returncode == 1
        assert mounted.run("timeout", "0.3", "flock", "f", "true", check=False).returncode == 124
        waiter = subprocess.Popen(["flock", "f", "true"], cwd=mounted.path)
    finally:
        holder.stdin.close()
        holder.wait(timeout=20)
        holder.stdout.close()
    assert waiter.wait(timeout=20) == 0


def test_a_daemon_ends_though_someone_waits_for_a_lock(mountpoint: Path) -> None:
    with real_mount(mountpoint, PROGRAM) as mounted:
        mounted.sh("touch f")
        holder = subprocess.Popen(["flock", "f", "sleep", "60"], cwd=mountpoint)
        waiter = subprocess.Popen(["timeout", "30", "flock", "f", "true"], cwd=mountpoint)
        try:
            mounted.daemon.terminate()
            assert mounted.daemon.wait(timeout=20) == 0
        finally:
            for process in (holder, waiter):
                process.kill()
                process.wait(timeout=20)


def test_locks_of_lockf_exclude_other_processes(mounted: RealMount) -> None:
    source = """
import fcntl, os, struct
file = open("f", "w")
fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
if not os.fork():
    other = open("f", "r+")
    asked = fcntl.fcntl(other, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    print(struct.unpack("hhqqi4x", asked)[2:] == (5, 10, os.getppid()))
    fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)
    print("free")
else:
    os.wait()
"""
    assert python(mounted, source) == "True\nfree\n"


def test_a_default_acl_is_inherited(mounted: RealMount) -> None:
    value = "0sAgAAAAEABwD/////AgAHAOgDAAAEAAUA/////xAABwD/////IAAFAP////8="  # u::rwx,u:1000:rwx,g::r-x,m::rwx,o::r-x
    source = f"""
import base64, os
os.mkdir("d")
os.setxattr("d", "system.posix_acl_default", base64.b64decode("{value[2:]}"))
os.umask(0o077)
os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o666))
print(oct(os.stat("d/f").st_mode), os.listxattr("d/f"))
"""
    assert python(mounted, source) == "0o100664 ['system.posix_acl_access']\n"


def test_a_database_in_wal_mode_works(mounted: RealMount) -> None:
    source = """
import sqlite3
one, other = sqlite3.connect("db"), sqlite3.connect("db")
print(one.execute("pragma journal_mode=wal").fetchone()[0])
one.execute("create table t(a)")
with one:
    one.executemany("insert into t values(?)", [(number,) for number in range(1000)])
print(other.execute("select count(*), sum(a) from t").fetchone())
print(other.execute("pragma integrity_check").fetchone()[0])
"""
    assert python(mounted, source) == "wal\n(1000, 499500)\nok\n"


def test_a_large_directory_is_listed_and_removed(mounted: RealMount) -> None:
    python(mounted, "import os; os.mkdir('d'); [os.close(os.open(f'd/{n}', os.O_CREAT)) for n in range(5000)]")
    assert len(os.listdir(mounted.path / "d")) == 5000
    mounted.sh("rm -r d; test ! -e d")


def test_a_full_filesystem_says_so(mountpoint: Path) -> None:
    with real_mount(mountpoint, PROGRAM.replace("MemoryFS()", "MemoryFS(size=1 << 20)")) as mounted:
        failed = mounted.run("dd", "if=/dev/zero", "of=f", "bs=64k", check=False)
        assert "No space left on device" in failed.stderr
        assert os.stat(mountpoint / "f").st_size == 1 << 20


def test_a_file_handle_opens_its_file(mounted: RealMount) -> None:
    source = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
open("f", "w").write("data")
handle = ctypes.create_string_buffer(b"\\x80\\0\\0\\0", 136)
number = ctypes.c_int()
assert libc.name_to_handle_at(-100, b"f", handle, ctypes.byref(number), 0) == 0
directory = os.open(".", os.O_RDONLY)
fd = libc.open_by_handle_at(directory, handle, os.O_RDONLY)
print(os.read(fd, 10))
"""
    assert python(mounted, source) == "b'data'\n"


def test_any_number_may_wait_for_a_lock(mounted: RealMount) -> None:
    any_number_may_wait_for_a_lock(mounted)


def test_a_signal_ends_the_wait_for_a_lock(mounted: RealMount) -> None:
    mounted.sh("touch f; flock f sh -c '! timeout 0.3 flock f true'")
