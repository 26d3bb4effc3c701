"""Locks, and the life of processes: fork shares open files, exec closes, exit closes and unlocks."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator

import pytest
from conftest import errno_of, wait_until

from fusewire import InitFlag, Kernel, Process, Settings
from fusewire.filesystems import MemoryFS


class Local(MemoryFS):
    """Leaves locks to the kernel."""

    settings = Settings(refused=InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS)
    released: list[int]


@pytest.fixture(params=[MemoryFS, Local], ids=["the daemon's locks", "the kernel's locks"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel("threads") as kernel:
        kernel.mount(request.param({"f": b"0123456789"}), "/", workers=4)
        yield kernel


def two(kernel: Kernel) -> tuple[Process, int, Process, int]:
    one, other = kernel.process("one"), kernel.process("other")
    return one, one.open("/f", os.O_RDWR), other, other.open("/f", os.O_RDWR)


def test_byte_ranges_exclude_each_other(kernel: Kernel) -> None:
    one, fd, other, fd2 = two(kernel)
    one.setlk(fd, fcntl.F_WRLCK, 2, 4)
    other.setlk(fd2, fcntl.F_WRLCK, 0, 2)
    other.setlk(fd2, fcntl.F_WRLCK, 6, 0)
    assert errno_of(lambda: other.setlk(fd2, fcntl.F_RDLCK, 5, 1)) == errno.EAGAIN
    found = other.getlk(fd2, fcntl.F_WRLCK, 0, 0)
    assert (found.start, found.end, found.type, found.pid) == (2, 5, fcntl.F_WRLCK, one.pid)
    one.setlk(fd, fcntl.F_UNLCK, 3, 1)
    other.setlk(fd2, fcntl.F_WRLCK, 3, 1)
    assert one.getlk(fd, fcntl.F_RDLCK, 4, 1).type == fcntl.F_UNLCK


def test_closing_any_descriptor_of_a_file_loses_its_posix_locks(kernel: Kernel) -> None:
    one, fd, other, fd2 = two(kernel)
    one.setlk(fd, fcntl.F_WRLCK)
    one.close(one.dup(fd))
    other.setlk(fd2, fcntl.F_WRLCK)


def test_a_lock_that_is_waited_for_is_handed_over(kernel: Kernel) -> None:
    one, fd, other, fd2 = two(kernel)
    one.setlk(fd, fcntl.F_WRLCK)
    waiter = threading.Thread(target=lambda: other.setlk(fd2, fcntl.F_WRLCK, wait=True))
    waiter.start()
    wait_until(lambda: any(task.sleep is not None for task in other.program.tasks))
    one.setlk(fd, fcntl.F_UNLCK)
    waiter.join(10)
    assert errno_of(lambda: one.setlk(fd, fcntl.F_RDLCK)) == errno.EAGAIN


def test_flock_belongs_to_the_open_file_and_goes_with_it(kernel: Kernel) -> None:
    one, fd, other, fd2 = two(kernel)
    one.flock(fd, fcntl.LOCK_SH)
    other.flock(fd2, fcntl.LOCK_SH)
    assert errno_of(lambda: other.flock(fd2, fcntl.LOCK_EX | fcntl.LOCK_NB)) == errno.EAGAIN
    duplicate = one.dup(fd)
    one.close(fd)
    assert errno_of(lambda: other.flock(fd2, fcntl.LOCK_EX | fcntl.LOCK_NB)) == errno.EAGAIN
    one.close(duplicate)
    wait_until(lambda: not kernel.mounts[0].connection.num_waiting)
    other.flock(fd2, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_locks_need_the_access_that_goes_with_them(kernel: Kernel) -> None:
    process = kernel.process()
    fd = process.open("/f", os.O_RDONLY)
    process.setlk(fd, fcntl.F_RDLCK)
    assert errno_of(lambda: process.setlk(fd, fcntl.F_WRLCK)) == errno.EBADF
    assert errno_of(lambda: process.setlk(fd, 7)) == errno.EINVAL
    assert errno_of(lambda: process.setlk(fd, fcntl.F_RDLCK, -5)) == errno.EINVAL


def test_exit_gives_up_every_lock(kernel: Kernel) -> None:
    one, fd, other, fd2 = two(kernel)
    one.setlk(fd, fcntl.F_WRLCK)
    one.exit()
    other.setlk(fd2, fcntl.F_WRLCK)


def test_waiting_in_a_circle_is_edeadlk(kernel: Kernel) -> None:
    one, fd, other, fd2 = two(kernel)
    one.setlk(fd, fcntl.F_WRLCK, 0, 1)
    other.setlk(fd2, fcntl.F_WRLCK, 1, 1)
    waiter = threading.Thread(target=lambda: other.setlk(fd2, fcntl.F_WRLCK, 0, 1, wait=True))
    waiter.start()
    wait_until(lambda: any(task.sleep is not None for task in other.program.tasks))
    wait_until(lambda: kernel.mounts[0].foreign is None)
    while True:
        try:
            assert errno_of(lambda: one.setlk(fd, fcntl.F_WRLCK, 1, 1, wait=True)) == errno.EDEADLK
            break
        finally:
            one.setlk(fd, fcntl.F_UNLCK)
            waiter.join(10)


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[Process]:
    with Kernel() as kernel:
        kernel.mount(MemoryFS({"f": b"0123456789", "d/g": b""}), "/")
        yield kernel.process()


def test_fork_shares_open_files_and_not_the_table(process: Process) -> None:
    fd = process.open("/f", os.O_RDONLY)
    child = process.fork()
    assert child.pid != process.pid
    assert child.read(fd, 3) == b"012"
    assert process.read(fd, 3) == b"345"
    child.close(fd)
    assert process.read(fd, 3) == b"678"


def test_fork_copies_the_place_the_ids_and_the_umask(process: Process) -> None:
    process.chdir("/d")
    process.umask(0o077)
    child = process.fork()
    child.chdir("/")
    assert (process.getcwd(), child.getcwd()) == ("/d", "/")
    assert child.umask(0) == 0o077
    assert (child.getuid(), child.getgroups()) == (process.getuid(), process.getgroups())


def test_exec_closes_what_is_not_inheritable(process: Process) -> None:
    fd, kept = process.open("/f", os.O_RDONLY), process.open("/f", os.O_RDONLY)
    process.set_inheritable(kept, True)
    process.exec("other")
    assert process.comm == "other"
    assert process.read(kept, 1) == b"0"
    assert errno_of(lambda: process.read(fd, 1)) == errno.EBADF


def test_exit_flushes_and_releases_every_descriptor() -> None:
    told: list[str] = []

    class Telling(MemoryFS):
        def flush(self, ino: int, fh: int) -> None:
            told.append("flush")

        def release(self, ino: int, fh: int, flags: int) -> None:
            told.append("release")

    with Kernel() as kernel:
        kernel.mount(Telling({"f": b""}), "/")
        process = kernel.process()
        fd = process.open("/f", os.O_RDONLY)
        process.dup(fd)
        child = process.fork()
        process.exit()
        assert told == ["flush", "flush"]
        child.exit()
        assert told == ["flush"] * 4 + ["release"]


@pytest.mark.skipif(os.getuid() != 0, reason="the program changes its user")
def test_ids_change_as_linux_lets_them(process: Process) -> None:
    process.setgroups([5, 6])
    process.setresgid(10, 11, 12)
    process.setresuid(20, 21, 22)
    assert (process.getresuid(), process.getresgid()) == ((20, 21, 22), (10, 11, 12))
    process.seteuid(22)
    assert errno_of(lambda: process.setuid(0)) == errno.EPERM
    assert errno_of(lambda: process.setgroups([])) == errno.EPERM
    assert errno_of(lambda: process.chroot("/d")) == errno.EPERM


@pytest.mark.skipif(os.getuid() != 0, reason="the program changes its user")
def test_the_saved_id_follows_the_effective_one_when_the_real_one_is_set(process: Process) -> None:
    process.setregid(-1, 0)
    assert process.getresgid() == (0, 0, 0)
    process.setregid(10, 11)
    assert process.getresgid() == (10, 11, 11)
    process.setreuid(-1, 31)
    assert process.getresuid() == (0, 31, 31)
    process.setreuid(31, -1)
    assert process.getresuid() == (31, 31, 31)


def test_open_file_gives_an_ordinary_file_object(process: Process) -> None:
    with process.open_file("/new", "w") as file:
        print("first", file=file)
        file.write("zweite Zeile: äöü\n")
    with process.open_file("/new") as file:
        assert file.readlines() == ["first\n", "zweite Zeile: äöü\n"]
    with process.open_file("/new", "r+b") as file:
        file.seek(2)
        file.write(b"XX")
        file.seek(0)
        assert file.read(5) == b"fiXXt"
    with process.open_file("/new", "ab", buffering=0) as file:
        assert file.tell() == os.stat_result(process.stat("/new")).st_size
    with pytest.raises(FileExistsError):
        process.open_file("/new", "x")
    with pytest.raises(ValueError, match="invalid mode"):
        process.open_file("/new", "rw")


def test_walk_and_scandir_are_those_of_os(process: Process) -> None:
    process.symlink("d", "/l")
    assert [(top, sorted(dirs), sorted(files)) for top, dirs, files in process.walk("/")] == [
        ("/", ["d", "l"], ["f"]),
        ("/d", [], ["g"]),
    ]
    with process.scandir("/") as entries:
        found = {entry.name: (entry.is_dir(), entry.is_symlink(), entry.stat().st_size) for entry in entries}
    assert found["f"] == (False, False, 10)
    assert found["l"][:2] == (True, True)
    assert process.listdir(b"/d") == [b"g"]
    assert process.listdir(process.open("/d", os.O_RDONLY)) == ["g"]


def test_what_is_not_supported_says_so_by_name(process: Process) -> None:
    with pytest.raises(AttributeError, match=r"os\.memfd_create is not supported on a Process"):
        process.memfd_create  # noqa: B018
    with pytest.raises(NotImplementedError, match="preadv"):
        process.preadv(0, [], 0, flags=1)


def test_dup2_closes_what_was_there_and_close_range_all(process: Process) -> None:
    fd = process.open("/f", os.O_RDONLY)
    other = process.open("/d", os.O_RDONLY)
    assert process.dup2(fd, other) == other
    assert process.read(other, 2) == b"01"
    process.closerange(0, 100)
    assert errno_of(lambda: process.fstat(fd)) == errno.EBADF
