"""A daemon whose answers are mutated at random: the kernel's half never crashes, never hangs and stays sound."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from fusewire import Kernel, Process, Session
from fusewire.drive import Mount
from fusewire.filesystems import MemoryFS
from fusewire.filesystems.memory.nodes import Directory
from fusewire.kernel.queue import State
from fusewire.kernel.vfs.inode import BAD
from fusewire.testing import Liar

NAMES = ["/f", "/d", "/d/g", "/new", "/d/new"]


class Honest(MemoryFS):
    """Nothing is cached, so that each lie is asked for."""

    entry_timeout = attr_timeout = 0.0


def meddle(process: Process, rng: random.Random) -> None:
    """One system call or a few, on names that exist and names that do not."""
    name, other = rng.choice(NAMES), rng.choice(NAMES)
    calls: list[Callable[[], Any]] = [
        lambda: process.stat(name),
        lambda: process.listdir(rng.choice(["/", "/d"])),
        lambda: process.mkdir(name),
        lambda: process.rmdir(name),
        lambda: process.unlink(name),
        lambda: process.rename(name, other),
        lambda: process.link(name, other),
        lambda: process.symlink("f", name),
        lambda: process.readlink(name),
        lambda: process.mknod(name, 0o100644),
        lambda: process.chmod(name, rng.randrange(0o10000)),
        lambda: process.utime(name, ns=(rng.randrange(1 << 60), 0)),
        lambda: process.truncate(name, rng.randrange(9000)),
        lambda: process.statvfs(name),
        lambda: process.access(name, os.R_OK),
        lambda: process.setxattr(name, "user.a", b"1"),
        lambda: process.getxattr(name, "user.a"),
        lambda: process.listxattr(name),
        lambda: process.removexattr(name, "user.a"),
        lambda: _use(process, name, rng),
    ]
    with contextlib.suppress(OSError, NotImplementedError):  # a lie may make a FIFO of anything, and there are no pipes
        rng.choice(calls)()


def _use(process: Process, name: str, rng: random.Random) -> None:
    fd = process.open(name, rng.choice([os.O_RDWR | os.O_CREAT, os.O_RDONLY, os.O_WRONLY | os.O_TRUNC]))
    calls: list[Callable[[], Any]] = [
        lambda: process.fstat(fd),
        lambda: process.pwrite(fd, b"x" * rng.randrange(9000), rng.randrange(9000)),
        lambda: process.pread(fd, rng.randrange(9000), rng.randrange(9000)),
        lambda: process.lseek(fd, rng.randrange(100), rng.choice([os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE])),
        lambda: process.posix_fallocate(fd, 0, rng.randrange(1, 9000)),
        lambda: process.copy_file_range(fd, fd, rng.randrange(100), 0, 5000),
        lambda: process.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
        lambda: process.fsync(fd),
        lambda: process.ftruncate(fd, rng.randrange(9000)),
    ]
    for call in rng.sample(calls, 3):
        with contextlib.suppress(OSError):
            call()
    process.close(fd)


def lie_to(driver: str, seed: int, lies: int) -> Any:
    """Kernel's halves that are told so many lies; and then the truth, which they must still be able to take."""
    rng = random.Random(seed)
    told: Counter[str] = Counter()
    while told.total() < lies:
        filesystem = Honest({"f": b"abc" * 3000, "d/g": b""})
        liar = Liar(Session(filesystem), rng)
        with Kernel(driver, request_timeout=30) as kernel:
            mount = kernel.mount_with(liar.serve, "/")
            process = kernel.process()
            # As on Linux, an inode that changed its type is bad for ever; with the root nothing is left to lie about.
            while told.total() + liar.told.total() < lies and not mount.sb.root.positive.state & BAD:
                meddle(process, rng)
                assert mount.connection.connected, f"a lie ended the connection: {liar.told}"
            process.exit()
            liar.share = 0
            if driver == "inline":
                _no_lie_is_left(kernel, mount, filesystem)
            assert all(req.state is State.UNUSED for req in mount.connection.unused_list.free)
        told += liar.told
    return told


def _no_lie_is_left(kernel: Kernel, mount: Mount, filesystem: MemoryFS) -> None:
    fc = mount.connection
    assert fc.num_waiting == 0
    assert not fc.unused_list.in_use
    assert not fc.pending
    if mount.sb.root.positive.state & BAD:
        return
    kernel.advance(1 << 65)  # for ever is one of the lies that were told about how long things stay true
    kernel.drop_caches()  # as on Linux, an inode that the daemon lied about is bad for as long as it is remembered
    root, process = filesystem.nodes[1], kernel.process()
    assert isinstance(root, Directory)
    assert sorted(process.listdir("/")) == sorted(map(os.fsdecode, root.links))
    for name, link in root.links.items():
        true, told = link.node, process.lstat(b"/" + name)
        assert (true.mode, true.size, true.nlink) == (told.st_mode, told.st_size, told.st_nlink)


@pytest.mark.parametrize("seed", range(8))
def test_a_thousand_lies_each_neither_crash_nor_hang_nor_corrupt_the_kernel_half_inline(seed: int) -> None:
    told = lie_to("inline", seed, 1000)
    assert told["taken"] > 100
    assert told["errno 22"] > 100
    assert told["errno 2"] > 10


@pytest.mark.parametrize("seed", range(2))
def test_a_thousand_lies_each_on_threads(seed: int) -> None:
    lie_to("threads", seed, 1000)


def test_a_liar_that_is_killed_frees_its_callers() -> None:
    liar = Liar(Session(Honest({"f": b""})), random.Random(1), share=1)
    with Kernel() as kernel:
        mount = kernel.mount_with(liar.serve, "/")
        mount.daemon.kill(signal.SIGKILL)
        with pytest.raises(OSError, match="daemon is gone"):
            kernel.process().stat("/f")


@pytest.mark.slow
def test_a_million_lies() -> None:
    for seed in range(100, 200):
        try:
            lie_to("inline", seed, 10_000)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
