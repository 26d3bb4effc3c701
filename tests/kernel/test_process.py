"""What programs do on our kernel half, on both drivers: as with ``os``, down to the errno."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import pytest
from conftest import in_thread

from fusewire import Kernel, Process
from fusewire.filesystems import MemoryFS
from fusewire.testing import MockDaemon, attr, dirents, entry, opened


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    filesystem = MemoryFS({"hello": b"hello, world", "dir/inner": b""})
    for node in filesystem.nodes.values():
        node.uid = node.gid = 1000
    with Kernel(request.param) as kernel:
        kernel.mount(filesystem, "/mnt/fuse")
        yield kernel


@pytest.fixture
def process(kernel: Kernel) -> Process:
    return kernel.process("test", uid=1000, gid=1000)


def test_a_file_is_read_through_both_halves(process: Process) -> None:
    fd = process.open("/mnt/fuse/hello", os.O_RDONLY)
    assert process.read(fd, 5) == b"hello"
    assert process.read(fd, 100) == b", world"
    assert process.read(fd, 100) == b""
    assert process.pread(fd, 5, 7) == b"world"
    process.close(fd)


def test_what_is_written_is_read_back(process: Process) -> None:
    fd = process.open("/mnt/fuse/new", os.O_CREAT | os.O_RDWR, 0o640)
    assert process.write(fd, b"x" * 3_000_000) == 3_000_000
    assert process.lseek(fd, -1, os.SEEK_END) == 2_999_999
    assert process.pwrite(fd, b"end", 3_000_000) == 3
    assert process.pread(fd, 4, 2_999_999) == b"xend"
    assert process.fstat(fd).st_size == 3_000_003
    process.close(fd)


def test_append_writes_at_the_end(process: Process) -> None:
    fd = process.open("/mnt/fuse/hello", os.O_WRONLY | os.O_APPEND)
    process.write(fd, b"!")
    process.close(fd)
    assert process.stat("/mnt/fuse/hello").st_size == 13


def test_truncation_by_open_and_by_path(process: Process) -> None:
    process.truncate("/mnt/fuse/hello", 5)
    assert process.stat("/mnt/fuse/hello").st_size == 5
    process.close(process.open("/mnt/fuse/hello", os.O_WRONLY | os.O_TRUNC))
    assert process.stat("/mnt/fuse/hello").st_size == 0


def test_a_new_file_has_the_callers_owner_and_umask(process: Process) -> None:
    process.umask(0o027)
    process.close(process.open("/mnt/fuse/new", os.O_CREAT | os.O_WRONLY, 0o666))
    st = process.stat("/mnt/fuse/new")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 1000, 1000)


def test_directories_are_made_listed_and_removed(process: Process) -> None:
    process.mkdir("/mnt/fuse/d")
    assert sorted(process.listdir("/mnt/fuse")) == ["d", "dir", "hello"]
    process.rmdir("/mnt/fuse/d")
    assert process.listdir("/mnt/fuse/dir") == ["inner"]


def test_a_name_that_is_not_utf8_survives(process: Process) -> None:
    process.mkdir(b"/mnt/fuse/\xff\xfe")
    assert "\udcff\udcfe" in process.listdir("/mnt/fuse")
    process.rmdir("/mnt/fuse/\udcff\udcfe")


def test_an_open_file_outlives_its_name(process: Process) -> None:
    fd = process.open("/mnt/fuse/hello", os.O_RDONLY)
    process.unlink("/mnt/fuse/hello")
    assert process.pread(fd, 5, 0) == b"hello"
    process.close(fd)


def test_mountpoints_show_in_the_tree_above_them(process: Process) -> None:
    assert process.listdir("/") == ["mnt"]
    assert process.listdir("/mnt") == ["fuse"]
    assert process.stat("/mnt/fuse/..").st_ino == process.stat("/mnt").st_ino


def test_statvfs_and_chmod(process: Process) -> None:
    assert process.statvfs("/mnt/fuse").f_bsize == 4096
    process.chmod("/mnt/fuse/hello", 0o600)
    assert stat.S_IMODE(process.stat("/mnt/fuse/hello").st_mode) == 0o600


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda p: p.stat("/mnt/fuse/missing"), errno.ENOENT),
        (lambda p: p.stat("/mnt/fuse/hello/x"), errno.ENOTDIR),
        (lambda p: p.stat("/mnt/fuse/hello/"), errno.ENOTDIR),
        (lambda p: p.stat(""), errno.ENOENT),
        (lambda p: p.stat("/mnt/fuse/" + "n" * 256), errno.ENAMETOOLONG),
        (lambda p: p.stat("/" + "n/" * 3000), errno.ENAMETOOLONG),
        (lambda p: p.unlink("/mnt/fuse/missing"), errno.ENOENT),
        (lambda p: p.unlink("/mnt/fuse/dir"), errno.EISDIR),
        (lambda p: p.unlink("/mnt/fuse/hello/"), errno.ENOTDIR),
        (lambda p: p.rmdir("/mnt/fuse/hello"), errno.ENOTDIR),
        (lambda p: p.rmdir("/mnt/fuse/dir"), errno.ENOTEMPTY),
        (lambda p: p.rmdir("/mnt/fuse/dir/."), errno.EINVAL),
        (lambda p: p.rmdir("/mnt/fuse"), errno.EBUSY),
        (lambda p: p.mkdir("/mnt/fuse/hello"), errno.EEXIST),
        (lambda p: p.mkdir("/mnt/fuse/no/dir"), errno.ENOENT),
        (lambda p: p.mkdir("/else"), errno.EROFS),
        (lambda p: p.open("/mnt/fuse/hello", os.O_CREAT | os.O_EXCL | os.O_RDWR), errno.EEXIST),
        (lambda p: p.open("/mnt/fuse/dir", os.O_WRONLY), errno.EISDIR),
        (lambda p: p.open("/mnt/fuse/hello", os.O_DIRECTORY), errno.ENOTDIR),
        (lambda p: p.read(99, 1), errno.EBADF),
        (lambda p: p.close(99), errno.EBADF),
        (lambda p: p.write(p.open("/mnt/fuse/hello", os.O_RDONLY), b"x"), errno.EBADF),
        (lambda p: p.read(p.open("/mnt/fuse/hello", os.O_WRONLY), 1), errno.EBADF),
        (lambda p: p.lseek(p.open("/mnt/fuse/hello", os.O_RDONLY), -1, os.SEEK_SET), errno.EINVAL),
        (lambda p: p.truncate("/mnt/fuse/hello", -1), errno.EINVAL),
        (lambda p: list(p.fwalk("/mnt/fuse/missing")), errno.ENOENT),
    ],
)
def test_what_cannot_be_done_fails_with_linuxs_errno(process: Process, call: object, number: int) -> None:
    with pytest.raises(OSError) as caught:
        call(process)  # type: ignore[operator]
    assert caught.value.errno == number, os.strerror(caught.value.errno or 0)


def test_a_path_with_a_nul_is_refused_as_os_does(process: Process) -> None:
    with pytest.raises(ValueError, match="null byte"):
        process.stat("/mnt/\0")


def test_nothing_is_leaked_by_a_life_of_calls(kernel: Kernel, process: Process) -> None:
    mount = kernel.mounts[0]
    for round_ in range(50):
        fd = process.open(f"/mnt/fuse/f{round_}", os.O_CREAT | os.O_RDWR)
        process.write(fd, b"data")
        process.close(fd)
        process.unlink(f"/mnt/fuse/f{round_}")
    connection = mount.connection
    kernel.advance(0) if kernel.driver.__class__.__name__ == "Inline" else mount.unmount()
    assert not connection.unused_list.in_use
    assert connection.num_waiting == 0
    assert not connection.pending.requests


def test_every_reference_that_was_granted_is_given_back() -> None:
    filesystem = MemoryFS()
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        process.close(process.open("/f", os.O_CREAT | os.O_RDWR))
        process.stat("/f")
        assert len(filesystem.nodes) == 2
        process.unlink("/f")
        assert list(filesystem.nodes) == [1]


def test_a_process_that_exits_closes_its_files() -> None:
    closed: list[int] = []

    class Watched(MemoryFS):
        def release(self, ino: int, fh: int, flags: int) -> None:
            closed.append(ino)

    with Kernel() as kernel:
        kernel.mount(Watched({"f": b""}), "/")
        process = kernel.process()
        process.open("/f", os.O_RDONLY)
        process.exit()
        assert closed == [2]
        with pytest.raises(ProcessLookupError):
            process.stat("/f")


@pytest.mark.parametrize("driver", ["inline", "threads"])
def test_a_filesystem_is_unmounted_and_its_daemon_ends(driver: str) -> None:
    with Kernel(driver) as kernel:
        mount = kernel.mount(MemoryFS({"f": b""}), "/m")
        process = kernel.process()
        process.stat("/m/f")
        mount.unmount()
        assert not mount.daemon.alive
        assert process.listdir("/m") == []


def test_async_handlers_are_answered_too() -> None:
    class Later(MemoryFS):
        async def getattr(self, ino: int, fh: int | None) -> object:  # type: ignore[override]
            return super().getattr(ino, fh)

    with Kernel() as kernel:
        kernel.mount(Later(), "/")
        assert stat.S_ISDIR(kernel.process().stat("/").st_mode)


@pytest.mark.fuse_kernel(driver="threads")
def test_access_takes_the_real_ids_for_the_thread_that_asks_and_for_no_other(
    mock_daemon: MockDaemon, fuse_kernel: Kernel
) -> None:
    mock_daemon.default.lookup(1, b"f").reply(entry(2, valid=1000))
    process = fuse_kernel.process(uid=0, gid=0)
    process.setresuid(1000, 0, 0)
    held = mock_daemon.expect.access(2, uid=1000).hold()
    thread, outcome = in_thread(lambda: process.access("/f", os.R_OK))
    asked = held.wait()
    assert process.geteuid() == 0
    process.setresuid(1000, 1000, 1000)
    asked.reply()
    thread.join(20)
    assert outcome == [True]
    assert process.getresuid() == (1000, 1000, 1000)


def test_a_link_that_leads_to_itself_is_no_directory_to_walk(process: Process) -> None:
    process.symlink("loop", "/mnt/fuse/loop")
    for found in (process.walk("/mnt/fuse"), (one[:3] for one in process.fwalk("/mnt/fuse"))):
        top, dirs, files = next(found)
        assert (top, dirs, sorted(files)) == ("/mnt/fuse", ["dir"], ["hello", "loop"])


def test_what_cannot_be_looked_at_is_a_file_to_walk_and_nothing_to_fwalk(
    mock_daemon: MockDaemon, fuse_process: Process
) -> None:
    """As os.walk and os.fwalk have it, where the directory does not tell the type."""
    mock_daemon.default.getattr(1).reply(attr(1, stat.S_IFDIR | 0o755))
    mock_daemon.default.opendir(1).reply(opened(3))
    mock_daemon.default.readdir(1).reply(b"")
    mock_daemon.default.readdir(1, offset=0).reply(dirents((b"odd", 9, 0)))
    mock_daemon.default.lookup(1, b"odd").error(errno.EIO)
    assert list(fuse_process.walk("/")) == [("/", [], ["odd"])]
    assert [one[:3] for one in fuse_process.fwalk("/")] == [("/", [], [])]


def test_a_directory_that_goes_while_it_is_walked_to_is_told_to_onerror(process: Process) -> None:
    errors: list[OSError] = []
    walk = process.walk("/mnt/fuse", onerror=errors.append)
    next(walk)
    process.unlink("/mnt/fuse/dir/inner")
    process.rmdir("/mnt/fuse/dir")
    assert list(walk) == []
    assert [(error.errno, error.filename) for error in errors] == [(errno.ENOENT, "/mnt/fuse/dir")]


@pytest.mark.fuse_kernel(driver="threads")
@pytest.mark.parametrize("call", ["statx", "statvfs"])
def test_what_is_asked_of_a_descriptor_that_is_closed_meanwhile_comes_before_its_release(
    mock_daemon: MockDaemon, fuse_process: Process, call: str
) -> None:
    mock_daemon.default.lookup(1, b"f").reply(entry(2, valid=1000))
    mock_daemon.default.open(2).reply(opened(7))
    fd = fuse_process.open("/f", os.O_RDONLY)
    held = getattr(mock_daemon.expect, {"statx": "statx", "statvfs": "statfs"}[call])(2).hold()
    arguments = {"statx": (fd, 0x800), "statvfs": (fd,)}[call]
    thread, _ = in_thread(lambda: getattr(fuse_process, call)(*arguments))
    asked = held.wait()
    fuse_process.close(fd)
    mock_daemon.settle()
    assert "RELEASE" not in mock_daemon.names
    asked.error(errno.EIO)
    thread.join(20)
    mock_daemon.settle()
    assert mock_daemon.names[-1] == "RELEASE"
