"""A daemon whose answers are mutated at random: the kernel's half never crashes, never hangs and stays sound."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from typing import Any

import pytest

from fusewire import Kernel, Process, Session
from fusewire.filesystems import MemoryFS
from fusewire.filesystems.memory.nodes import Directory
from fusewire.kernel.queue import State
from fusewire.testing import Liar


class Honest(MemoryFS):
    """Nothing is cached, so that each lie is asked for."""

    entry_timeout = attr_timeout = 0.0


def meddle(process: Process, rng: random.Random) -> None:
    """One system call, on a few names that exist and a few that do not."""
    name = rng.choice(["/f", "/d", "/d/g", "/new", "/d/new"])
    with contextlib.suppress(OSError):
        match rng.randrange(9):
            case 0:
                process.stat(name)
            case 1:
                fd = process.open(name, rng.choice([os.O_RDWR | os.O_CREAT, os.O_RDONLY, os.O_WRONLY | os.O_TRUNC]))
                with contextlib.suppress(OSError):
                    process.pwrite(fd, b"x" * rng.randrange(9000), rng.randrange(9000))
                with contextlib.suppress(OSError):
                    process.pread(fd, rng.randrange(9000), rng.randrange(9000))
                process.close(fd)
            case 2:
                process.listdir(rng.choice(["/", "/d"]))
            case 3:
                process.mkdir(name)
            case 4:
                process.rmdir(name)
            case 5:
                process.unlink(name)
            case 6:
                process.chmod(name, rng.randrange(0o10000))
            case 7:
                process.truncate(name, rng.randrange(9000))
            case _:
                process.statvfs(name)


def lie_to(driver: str, seed: int, lies: int) -> Any:
    """A kernel's half that has been told so many lies; and then the truth, which it must still be able to take."""
    rng = random.Random(seed)
    filesystem = Honest({"f": b"abc" * 3000, "d/g": b""})
    liar = Liar(Session(filesystem), rng)
    with Kernel(driver, request_timeout=30) as kernel:
        mount = kernel.mount_with(liar.serve, "/")
        process = kernel.process()
        while liar.told.total() < lies:
            meddle(process, rng)
            if not mount.connection.connected:
                raise AssertionError(f"a lie ended the connection: {liar.told}")
        process.exit()
        liar.share = 0
        if driver == "inline":
            kernel.advance(1 << 65)  # for ever is one of the lies that were told about how long things stay true
            _no_lie_is_left(kernel.process(), filesystem)
        fc = mount.connection
        if driver == "inline":
            assert fc.num_waiting == 0
            assert not fc.unused_list.in_use
            assert not fc.pending
        assert all(req.state is State.UNUSED for req in fc.unused_list.free)
    return liar.told


def _no_lie_is_left(process: Process, filesystem: MemoryFS) -> None:
    root = filesystem.nodes[1]
    assert isinstance(root, Directory)
    assert sorted(process.listdir("/")) == sorted(map(os.fsdecode, root.links))
    for name, link in root.links.items():
        true, told = link.node, process.stat(b"/" + name)
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
