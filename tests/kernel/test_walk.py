"""How paths are walked: symbolic links, ``..``, descriptors, mounts inside mounts, and what is remembered of names."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import errno_of

from fusewire import Attributes, Entry, Kernel, Process
from fusewire.filesystems import MemoryFS
from fusewire.wire.flags import ROOT_ID


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        kernel.mount(MemoryFS({"f": b"f", "d/e/g": b"g", "inner/hidden": b""}), "/")
        yield kernel


@pytest.fixture
def process(kernel: Kernel) -> Process:
    return kernel.process()


def test_forty_symbolic_links_are_followed_and_not_one_more(process: Process) -> None:
    process.symlink("f", "/l0")
    for number in range(1, 41):
        process.symlink(f"l{number - 1}", f"/l{number}")
    assert process.stat("/l39").st_size == 1
    assert errno_of(lambda: process.stat("/l40")) == errno.ELOOP


def test_a_link_to_itself_is_eloop(process: Process) -> None:
    process.symlink("l", "/l")
    assert errno_of(lambda: process.stat("/l")) == errno.ELOOP
    assert stat.S_ISLNK(process.lstat("/l").st_mode)


@pytest.mark.skipif(os.getuid() != 0, reason="the program changes its user")
def test_absolute_links_start_at_the_programs_root(process: Process) -> None:
    process.symlink("/d/e", "/d/l")
    assert process.stat("/d/l/g").st_size == 1
    process.setuid(0)
    process.chroot("/d")
    assert errno_of(lambda: process.stat("/l/g")) == errno.ENOENT
    assert process.listdir("/../..") == ["e", "l"]


def test_o_nofollow_refuses_a_link_and_o_path_opens_it(process: Process) -> None:
    process.symlink("f", "/l")
    assert errno_of(lambda: process.open("/l", os.O_RDONLY | os.O_NOFOLLOW)) == errno.ELOOP
    fd = process.open("/l", os.O_PATH | os.O_NOFOLLOW)
    assert process.readlink("", dir_fd=fd) == "f"
    assert errno_of(lambda: process.read(fd, 1)) == errno.EBADF


def test_calls_relative_to_a_descriptor(process: Process) -> None:
    fd = process.open("/d", os.O_RDONLY)
    process.rename("/d", "/moved")
    assert process.stat("e/g", dir_fd=fd).st_size == 1
    process.mkdir("new", dir_fd=fd)
    assert sorted(process.listdir("/moved")) == ["e", "new"]
    file = process.open("/f", os.O_RDONLY)
    assert errno_of(lambda: process.stat("x", dir_fd=file)) == errno.ENOTDIR
    assert errno_of(lambda: process.stat("x", dir_fd=77)) == errno.EBADF


def test_a_mount_inside_a_mount_is_walked_into_and_out_of(kernel: Kernel, process: Process) -> None:
    kernel.mount(MemoryFS({"x/y": b"12"}), "/inner")
    assert process.stat("/inner/x/y").st_size == 2
    assert process.listdir("/inner/x/../..") == process.listdir("/")
    assert process.stat("/inner").st_dev != process.stat("/").st_dev
    process.chdir("/inner/x")
    assert process.getcwd() == "/inner/x"
    process.chdir("../..")
    assert process.getcwd() == "/"


def test_what_is_covered_shows_again_after_unmounting(kernel: Kernel, process: Process) -> None:
    mount = kernel.mount(MemoryFS({"x": b""}), "/inner")
    assert process.listdir("/inner") == ["x"]
    mount.unmount()
    assert process.listdir("/inner") == ["hidden"]


def test_a_mountpoint_is_busy(kernel: Kernel, process: Process) -> None:
    kernel.mount(MemoryFS(), "/inner")
    assert errno_of(lambda: process.rmdir("/inner")) == errno.EBUSY
    assert errno_of(lambda: process.rename("/inner", "/other")) == errno.EBUSY
    assert errno_of(lambda: process.rename("/f", "/inner/f")) == errno.EXDEV
    assert errno_of(lambda: process.link("/f", "/inner/f")) == errno.EXDEV


def test_unmounting_what_is_in_use_is_ebusy_and_lazily_it_ends_with_its_last_user(
    kernel: Kernel, process: Process
) -> None:
    mount = kernel.mount(MemoryFS({"x": b"12"}), "/inner")
    fd = process.open("/inner/x", os.O_RDONLY)
    assert errno_of(mount.unmount) == errno.EBUSY
    mount.unmount(lazy=True)
    assert process.listdir("/inner") == ["hidden"]
    assert process.read(fd, 9) == b"12"
    assert mount.connection.connected
    process.close(fd)
    assert not mount.connection.connected


def test_a_working_directory_keeps_its_mount(kernel: Kernel, process: Process) -> None:
    mount = kernel.mount(MemoryFS({"x": b"12"}), "/inner")
    process.chdir("/inner")
    assert errno_of(mount.unmount) == errno.EBUSY
    process.chdir("/")
    mount.unmount()


def test_a_read_only_mount_refuses_writing_and_remounting_needs_no_writers(kernel: Kernel, process: Process) -> None:
    mount = kernel.mount(MemoryFS({"x": b"12"}), "/inner")
    fd = process.open("/inner/x", os.O_RDWR)
    assert errno_of(lambda: mount.remount(read_only=True)) == errno.EBUSY
    process.close(fd)
    mount.remount(read_only=True)
    for call in (
        lambda: process.open("/inner/x", os.O_RDWR),
        lambda: process.mkdir("/inner/d"),
        lambda: process.unlink("/inner/x"),
        lambda: process.chmod("/inner/x", 0),
    ):
        assert errno_of(call) == errno.EROFS
    assert not process.access("/inner/x", os.W_OK)
    assert process.statvfs("/inner").f_flag & 1


class Asking(MemoryFS):
    """``meanwhile`` is done while the daemon is asked, the first time, what ``about`` names; not of the root."""

    entry_timeout = attr_timeout = 0.0
    about = ""
    meanwhile: Callable[[], object]

    def _asked(self, what: str) -> None:
        if what == self.about:
            self.about = ""
            self.meanwhile()

    def open(self, *args: Any) -> Any:
        self._asked("open")
        return super().open(*args)

    def setattr(self, *args: Any) -> Any:
        self._asked("setattr")
        return super().setattr(*args)

    def getattr(self, ino: int, fh: int | None = None) -> Any:
        if ino != 1:
            self._asked("getattr")
        return super().getattr(ino, fh)


@pytest.mark.parametrize(
    ("about", "call"),
    [
        ("open", lambda process: process.open("/inner/x", os.O_WRONLY)),
        ("open", lambda process: process.open("/inner/x", os.O_RDONLY | os.O_TRUNC)),
        ("setattr", lambda process: process.truncate("/inner/x", 0)),
    ],
    ids=["open", "O_TRUNC", "truncate"],
)
def test_a_writer_that_waits_for_the_daemon_is_one(
    kernel: Kernel, process: Process, about: str, call: Callable[[Process], object]
) -> None:
    filesystem = Asking({"x": b"12"})
    mount = kernel.mount(filesystem, "/inner")
    outcome: list[int | None] = []
    filesystem.meanwhile = lambda: outcome.append(errno_of(lambda: mount.remount(read_only=True)))
    filesystem.about = about
    call(process)
    assert outcome == [errno.EBUSY]


def test_a_filesystem_that_becomes_read_only_while_rights_are_looked_at_is_not_written_to(
    kernel: Kernel, process: Process
) -> None:
    filesystem = Asking({"x": b"12"})
    mount = kernel.mount(filesystem, "/inner", default_permissions=True)
    process.stat("/inner/x")
    filesystem.meanwhile = lambda: mount.remount(read_only=True)
    filesystem.about = "getattr"
    assert errno_of(lambda: process.open("/inner/x", os.O_WRONLY)) == errno.EROFS
    assert not filesystem.about


def test_a_removed_working_directory_has_no_path_and_takes_no_names(process: Process) -> None:
    process.mkdir("/gone")
    process.chdir("/gone")
    process.rmdir("/gone")
    assert errno_of(process.getcwd) == errno.ENOENT
    assert errno_of(lambda: process.mkdir("x")) == errno.ENOENT
    assert process.listdir(".") == []


class Absent(MemoryFS):
    """Says of names that are not there for how long they are not. ``lookups`` counts."""

    lookups = 0

    def lookup(self, parent: int, name: bytes) -> Entry:
        self.lookups += 1
        try:
            return super().lookup(parent, name)
        except FileNotFoundError:
            return Entry(Attributes(0, 0), 0, entry_timeout=10)


def test_a_negative_entry_is_remembered_as_long_as_the_daemon_says() -> None:
    filesystem = Absent()
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        for _ in range(3):
            assert errno_of(lambda: process.stat("/no")) == errno.ENOENT
        assert filesystem.lookups == 1
        kernel.advance(11)
        assert errno_of(lambda: process.stat("/no")) == errno.ENOENT
        assert filesystem.lookups == 2
        process.close(process.open("/no", os.O_CREAT))
        assert process.stat("/no").st_size == 0


def test_an_entry_is_asked_for_again_when_its_time_is_up(process: Process, kernel: Kernel) -> None:
    process.stat("/f")
    requests = kernel.mounts[0].connection.reqctr
    process.stat("/f")
    assert kernel.mounts[0].connection.reqctr == requests
    kernel.advance(2)
    process.stat("/f")
    assert kernel.mounts[0].connection.reqctr > requests


@pytest.mark.parametrize(
    "make",
    [
        lambda process: process.mkdir("/d/new"),
        lambda process: process.rename("/f", "/d/new"),
        lambda process: process.unlink("/d/new"),
        lambda process: process.open("/d/new", os.O_CREAT | os.O_WRONLY),
    ],
    ids=["mkdir", "rename", "unlink", "open"],
)
def test_a_directory_that_is_removed_while_it_is_asked_who_may_search_it_is_enoent(
    make: Callable[[Process], object],
) -> None:
    class Asked(MemoryFS):
        attr_timeout = 0.0  # who may search it is asked each time
        on_getattr: Callable[[], None] | None = None

        def getattr(self, node: int, fh: int | None = None) -> Attributes:
            answer = super().getattr(node, fh)
            if node != ROOT_ID and self.on_getattr is not None:
                remove, self.on_getattr = self.on_getattr, None
                remove()
            return answer

    filesystem = Asked({"f": b""})
    with Kernel() as kernel:
        mount = kernel.mount(filesystem, "/", workers=2, default_permissions=True)
        process, other = kernel.process(), kernel.process()
        process.mkdir("/d")
        directory = process.stat("/d").st_ino
        filesystem.on_getattr = lambda: other.rmdir("/d")
        assert errno_of(lambda: make(process)) == errno.ENOENT
        assert filesystem.on_getattr is None
        assert directory not in mount.sb.inodes
