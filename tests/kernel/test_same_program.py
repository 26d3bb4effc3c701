"""The same program in two worlds: random system calls on our kernel half with the memory filesystem, and on a plain directory.

Every result, every errno and the tree at the end are the same. Not compared: st_ino, st_dev, st_blocks, sizes and offsets of
directories, times, the order of listings. chown(2) of nothing to nobody is left out: it clears set-ID bits, which is refused by
FUSE's daemon (HANDLE_KILLPRIV_V2) and elsewhere by the kernel. A set-group-ID bit without group execution is kept by FUSE's
own rule (HANDLE_KILLPRIV_V2), so no umask here makes one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusewire import InitFlag, Kernel, Opened, Settings
from fusewire.filesystems import MemoryFS
from fusewire.wire.flags import FOpenFlag

NAMES = ("a", "b", "c", "d", "e", "l")
PATHS = (
    *NAMES, "d/a", "d/b", "d/c", "e/a", "d/e", "d/e/a", "l/a", "l/b", "d/l",
    "a/", "d/", "l/", "d/.", "d/..", ".", "../x", "../in/a", "./b", "d/../a", "d//b", "a/b", "", "d/l/", "n" * 255, "n" * 256,
)  # fmt: skip
TARGETS = ("a", "d", "l", "d/a", "../in/b", "nowhere", "d/", "e/../d", "d/l")  # none leads out of "base"
FLAGS = (
    os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_NOFOLLOW, os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY, os.O_TMPFILE | os.O_RDWR, os.O_TMPFILE | os.O_RDONLY,
    os.O_RDONLY | os.O_TRUNC, os.O_RDWR | os.O_NOATIME,
)  # fmt: skip
MODES = (0o777, 0o644, 0o600, 0o400, 0o000, 0o755, 0o1777, 0o2775, 0o4755)
CAN_BECOME = os.getuid() == 0  # then the program changes its user, too


class World:
    """``os``, or what is used like it; ``fds`` are what this world calls the descriptors of the program."""

    def __init__(self, system: Any, lock: Callable[..., object], map: Callable[..., Any]) -> None:
        self.system = system
        self.lock = lock
        self.map = map
        self.fds: dict[int, int] = {}
        self.home = system.open(".", os.O_PATH)

    def fd(self, number: int) -> int:
        return self.fds.get(number, 987)

    def at(self, number: int | None) -> int | None:
        return None if number is None else self.fd(number)


Step = tuple[Any, ...]


def _stays_inside(path: Any) -> bool:
    """The plain world is a directory of this machine: no path of a program is absolute, and one step up is the most."""
    return not (isinstance(path, str) and (path.startswith("/") or path.count("..") > 1))


def steps(seed: int, count: int) -> Iterator[Step]:
    """A program."""
    rng = random.Random(seed)
    slots = range(6)
    for _ in range(count):
        path, other = rng.choice(PATHS), rng.choice(PATHS)
        fd, at = rng.choice(slots), rng.choice((None, None, None, *slots))
        size = rng.choice((0, 1, 10, 4096, 5000, 70_000))
        yield rng.choice(
            [
                ("open", fd, path, rng.choice(FLAGS), rng.choice(MODES), at),
                ("open", fd, rng.choice(NAMES), rng.choice(FLAGS), rng.choice(MODES), None),
                ("close", fd),
                ("read", fd, size),
                ("pread", fd, size, rng.choice((0, 5, 4096, -1))),
                ("write", fd, rng.randbytes(size)),
                ("pwrite", fd, rng.randbytes(size), rng.choice((0, 7, 8000, -1))),
                ("lseek", fd, rng.choice((-1, 0, 5, 100_000)), rng.choice((0, 1, 2))),
                ("ftruncate", fd, rng.choice((-1, 0, 3, 9000))),
                ("truncate", path, rng.choice((-1, 0, 3, 9000))),
                ("fstat", fd),
                ("stat", path, at, rng.random() < 0.5),
                ("stat", other, None, rng.random() < 0.5),
                ("mkdir", path, rng.choice(MODES), at),
                ("mkdir", rng.choice(NAMES), 0o777, None),
                ("rmdir", path, at),
                ("unlink", path, at),
                ("rename", path, other, at, None),
                ("rename", path, other, None, None),
                ("link", path, other, at, rng.choice((None, *slots))),
                ("symlink", rng.choice(TARGETS), path, at),
                ("readlink", path, at),
                ("mknod", path, rng.choice((stat.S_IFREG, stat.S_IFSOCK)) | 0o644, at),
                ("chmod", path, rng.choice(MODES)),
                ("fchmod", fd, rng.choice(MODES)),
                ("utime", path, (rng.randrange(10**9), rng.randrange(10**9))),
                ("access", path, rng.choice((0, 1, 2, 4, 7)), at),
                ("listdir", path),
                ("dup2", fd, rng.choice(slots)),
                ("fsync", fd),
                ("posix_fallocate", fd, rng.choice((0, 10, -1)), rng.choice((0, 10, 5000))),
                ("copy_file_range", fd, rng.choice(slots), size, rng.choice((None, 0, 3)), rng.choice((None, 0, 100))),
                ("lock", fd, rng.choice((0, 1, 2))),
                ("map", fd, rng.choice((1, 1, 2)), rng.randrange(10**5), rng.randbytes(rng.choice((1, 100, 5000)))),
                ("map", fd, rng.choice((1, 1, 2)), rng.randrange(10**5), rng.randbytes(rng.choice((1, 100, 5000)))),
                ("setxattr", path, "user." + rng.choice("xyz"), rng.randbytes(3), rng.choice((0, 1, 2))),
                ("getxattr", path, "user." + rng.choice("xyz")),
                ("listxattr", path),
                ("removexattr", path, "user." + rng.choice("xyz")),
                ("chdir", rng.choice(("d", "e", "d/e", "a", "l"))),
                ("fchdir", fd),
                ("home",),
                ("umask", rng.choice((0, 0o22, 0o27))),
                ("chown", path, rng.choice((-1, 0, 1000, 1001)), rng.choice((-1, 0, 1000, 1001))),
                ("become", *rng.choice(((0, 0), (1000, 1000), (1001, 1000), (1002, 1002)))),
            ]
        )


def perform(world: World, step: Step) -> object:
    """What a call results in: a value that can be compared, or the name of its error."""
    try:
        return _perform(world, step[0], step[1:])
    except OSError as error:
        return os.strerror(error.errno or 0)
    except ValueError as error:
        return type(error).__name__


def _perform(world: World, name: str, args: tuple[Any, ...]) -> object:
    do = world.system
    match name, args:
        case "open", (slot, path, flags, mode, at):
            opened = do.open(path, flags, mode, dir_fd=world.at(at))
            if slot in world.fds:
                do.close(world.fds[slot])
            world.fds[slot] = opened
            return None
        case "close", (slot,):
            return do.close(world.fds.pop(slot, 987))
        case "dup2", (slot, to):
            if to not in world.fds:
                return None
            return do.dup2(world.fd(slot), world.fds[to]) is None
        case "fstat", (slot,):
            return shown(do.fstat(world.fd(slot)))
        case "stat", (path, at, follow):
            return shown(do.stat(path, dir_fd=world.at(at), follow_symlinks=follow))
        case (("mkdir" | "mknod"), (path, mode, at)):
            return getattr(do, name)(path, mode, dir_fd=world.at(at))
        case (("rmdir" | "unlink" | "readlink"), (path, at)):
            return getattr(do, name)(path, dir_fd=world.at(at))
        case "rename", (path, other, at, to):
            return do.rename(path, other, src_dir_fd=world.at(at), dst_dir_fd=world.at(to))
        case "link", (path, other, at, to):
            return do.link(path, other, src_dir_fd=world.at(at), dst_dir_fd=world.at(to), follow_symlinks=False)
        case "symlink", (target, path, at):
            return do.symlink(target, path, dir_fd=world.at(at))
        case "utime", (path, times):
            do.utime(path, times)
            return [int(do.stat(path).st_atime), int(do.stat(path).st_mtime)]
        case "access", (path, mode, at):
            return do.access(path, mode, dir_fd=world.at(at))
        case (("listdir" | "listxattr"), (path,)):
            return sorted(getattr(do, name)(path))
        case "copy_file_range", (slot, to, *rest):
            return do.copy_file_range(world.fd(slot), world.fd(to), *rest)
        case "lock", (slot, kind):
            return world.lock(world.fd(slot), kind)
        case "map", (slot, flags, at, data):
            return through_memory(world, slot, flags, at, data)
        case "chown", (_, -1, -1):
            return None
        case "home", ():
            return do.fchdir(world.home)
        case "become", (uid, gid):
            if CAN_BECOME:
                become(do, uid, gid)
            return None
        case "lseek", (slot, *rest):
            if slot in world.fds and stat.S_ISDIR(do.fstat(world.fds[slot]).st_mode):
                return None
            return do.lseek(world.fd(slot), *rest)
        case "fchdir", (slot,):
            return do.fchdir(world.fd(slot))
        case (("chdir" | "umask" | "truncate" | "chmod" | "chown" | "getxattr" | "setxattr" | "removexattr"), _):
            return getattr(do, name)(*args)
        case _, (slot, *rest):
            return getattr(do, name)(world.fd(slot), *rest)
    raise AssertionError(name)


def through_memory(world: World, slot: int, flags: int, at: int, data: bytes) -> object:
    """Map the file, see what is there, change it. Behind its end nothing is touched: that kills."""
    fd = world.fd(slot)
    st = world.system.fstat(fd)
    if not stat.S_ISREG(st.st_mode) or not st.st_size:
        return None
    at %= st.st_size
    data = data[: st.st_size - at]
    memory = world.map(fd, st.st_size, flags)
    before = bytes(memory[at : at + len(data)])
    memory[at : at + len(data)] = data
    after = world.system.pread(fd, len(data), at) == data
    memory.close()
    return before, after


def become(system: Any, uid: int, gid: int) -> None:
    """The effective ids; back to root first, which alone may choose."""
    if CAN_BECOME:
        system.seteuid(0)
        system.setgroups([gid + 1])
        system.setegid(gid)
        system.seteuid(uid)


def shown(st: os.stat_result) -> tuple[object, ...]:
    size = None if stat.S_ISDIR(st.st_mode) else st.st_size
    return oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size


def contents(system: Any, path: str) -> bytes | int | None:
    try:
        fd = system.open(path, os.O_RDONLY)
    except PermissionError as failed:
        return failed.errno
    try:
        data: bytes = system.read(fd, 1 << 20)
        return data
    finally:
        system.close(fd)


def tree(system: Any, top: str) -> dict[str, object]:
    """All that is there, with contents and attributes."""
    found: dict[str, object] = {}
    try:
        names = system.listdir(top)
    except PermissionError as failed:  # an ordinary user's program may have shut itself out
        return {top: failed.errno}
    for name in sorted(names):
        path = f"{top}/{name}"
        try:
            st = system.stat(path, follow_symlinks=False)
        except PermissionError as failed:
            found[path] = failed.errno
            continue
        found[path] = shown(st)
        if stat.S_ISDIR(st.st_mode):
            found |= tree(system, path)
        elif stat.S_ISLNK(st.st_mode):
            found[path] = system.readlink(path)
        elif stat.S_ISREG(st.st_mode):
            found[path] = (found[path], contents(system, path))
    return found


def lock_of_os(fd: int, kind: int) -> None:
    import fcntl
    import struct

    fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi", kind, 0, 0, 0, 0))


@contextlib.contextmanager
def plain(path: Path) -> Iterator[World]:
    """A directory. The process's own place and umask are given back."""
    before, mask, groups = os.getcwd(), os.umask(0o22), os.getgroups()
    (path / "base" / "in").mkdir(parents=True)
    os.chdir(path / "base" / "in")
    os.chmod(".", 0o777)
    world = World(os, lock_of_os, lambda fd, size, flags: mmap.mmap(fd, size, flags=flags))
    try:
        yield world
    finally:
        become(os, 0, 0)
        if CAN_BECOME:
            os.setgroups(groups)
        os.chdir(before)
        os.umask(mask)
        for fd in (world.home, *world.fds.values()):
            os.close(fd)


def asking(flags: InitFlag) -> Settings:
    """The memory filesystem's settings, and these flags."""
    settings = MemoryFS.settings
    return dataclasses.replace(settings, flags=settings.flags | flags, refused=settings.refused & ~flags)


class Direct(MemoryFS):
    """Nothing of a file is cached, but what is mapped."""

    settings = asking(InitFlag.DIRECT_IO_ALLOW_MMAP)

    def open(self, ino: int, flags: int) -> Opened:
        return Opened(super().open(ino, flags).fh, FOpenFlag.DIRECT_IO)


class AutoInval(MemoryFS):
    settings = asking(InitFlag.AUTO_INVAL_DATA)


class WritingBack(MemoryFS):
    settings = asking(InitFlag.WRITEBACK_CACHE)


KINDS = {
    "uncached": MemoryFS, "cached": MemoryFS, "direct": Direct, "auto inval": AutoInval, "writing back": WritingBack,
    "few pages": WritingBack,
}  # fmt: skip


@contextlib.contextmanager
def ours(kind: str) -> Iterator[World]:
    filesystem = KINDS[kind]()
    filesystem.entry_timeout = filesystem.attr_timeout = 0.0 if kind == "uncached" else 1.0
    with Kernel() as kernel:
        mount = kernel.mount(filesystem, "/")
        process = kernel.process()
        process.umask(0o22)
        process.makedirs("/base/in")
        process.chdir("/base/in")
        process.chmod(".", 0o777)
        if kind == "few pages":
            kernel.page_lru.limit, kernel.page_lru.dirty_limit = 3, 1
        yield World(process, process.setlk, lambda fd, size, flags: process.mmap(fd, size, flags=flags))
        process.exit()
        kernel.drop_caches()
        assert list(mount.sb.inodes) == [1]  # whatever was granted was given back
        assert {node.nlookup for node in filesystem.nodes.values()} <= {0}


def short(step: Step) -> str:
    return f"{step!r:.90}"


def compare(tmp_path: Path, seed: int, count: int, kind: str) -> None:
    with plain(tmp_path / "w") as there, ours(kind) as here:
        done: list[Step] = []
        for step in steps(seed, count):
            assert all(map(_stays_inside, step[1:])), step
            done.append(step)
            expected = perform(there, step)
            got = perform(here, step)
            assert os.readlink("/proc/self/cwd").startswith(str(tmp_path / "w" / "base")), (
                "the program left its directory"
            )
            before = [short(one) for one in done[-8:]]
            assert got == expected, (
                f"{got!r:.60}, not {expected!r:.60}: seed {seed}, {len(done)}: {short(step)} of {before}"
            )
        for world in (there, here):
            become(world.system, 0, 0)
        os.chdir(tmp_path / "w" / "base")
        here.system.chdir("/base")
        os.umask(0)
        assert tree(here.system, ".") == tree(os, ".")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_random_programs_do_the_same_as_on_a_plain_directory(tmp_path: Path, seed: int, kind: str) -> None:
    compare(tmp_path, seed, 300, kind)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_more_random_programs(tmp_path: Path, seed: int) -> None:
    compare(tmp_path, seed, 1000, list(KINDS)[seed % len(KINDS)])
