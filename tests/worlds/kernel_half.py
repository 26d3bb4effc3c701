"""A program's processes on our kernel half, with the memory filesystem behind it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from calls import Place, perform, tree, with_numbers
from vocabulary import PROCESSES, Step

from fusewire import InitFlag, Kernel, Opened, Process, Settings
from fusewire.filesystems import MemoryFS
from fusewire.wire.flags import FOpenFlag


def asking(flags: InitFlag) -> Settings:
    """The memory filesystem's settings, and these flags."""
    settings = MemoryFS.settings
    return dataclasses.replace(settings, flags=settings.flags | flags, refused=settings.refused & ~flags)


class Uncached(MemoryFS):
    """Every name and every attribute is asked for, each time."""

    entry_timeout = attr_timeout = 0.0


class Direct(MemoryFS):
    """Nothing of a file is cached, but what is mapped."""

    settings = asking(InitFlag.DIRECT_IO_ALLOW_MMAP)

    def open(self, ino: int, flags: int) -> Opened:
        return Opened(super().open(ino, flags).fh, FOpenFlag.DIRECT_IO)


class AutoInval(MemoryFS):
    settings = asking(InitFlag.AUTO_INVAL_DATA)


class WritingBack(MemoryFS):
    settings = asking(InitFlag.WRITEBACK_CACHE)


KINDS: dict[str, type[MemoryFS]] = {
    "uncached": Uncached, "cached": MemoryFS, "direct": Direct, "auto inval": AutoInval, "writing back": WritingBack,
    "few pages": WritingBack,
}  # fmt: skip


class KernelHalf:
    """The processes of one program."""

    def __init__(self, first: Process) -> None:
        self.processes = [first, *(first.fork() for _ in PROCESSES[1:])]
        self.places = [Place(process, process.open(".", os.O_PATH)) for process in self.processes]

    def start(self, step: Step) -> None:
        """All is done in ``result``."""

    def result(self, step: Step) -> object:
        """Do the step."""
        if step.call == "fork":
            self._fork(step.process, step.args[0])
            return None
        try:
            result = perform(self.places[step.process], step)
        except Exception as broken:  # not what a system call may do: a difference, too
            result = repr(broken)
        return with_numbers(result, [process.pid for process in self.processes])

    def _fork(self, process: int, child: int) -> None:
        if child != process:
            self.processes[child].exit()
        parent, place = self.processes[process], self.places[process]
        self.processes[child] = parent.fork()
        self.places[child] = place.forked(self.processes[child])
        if child == process:
            parent.exit()

    def tree(self) -> object:
        """What is there at the end."""
        root = self.processes[0].kernel.process()
        try:
            return tree(root, "base")
        finally:
            root.exit()


@contextlib.contextmanager
def kernel_half(kind: str) -> Iterator[KernelHalf]:
    """A kernel with a fresh filesystem, and a program on it. At its end, whatever was granted was given back."""
    filesystem = KINDS[kind]()
    with Kernel() as kernel:
        mount = kernel.mount(filesystem, "/", default_permissions=True)
        process = kernel.process()
        process.umask(0o22)
        process.makedirs("/base/in")
        process.chdir("/base/in")
        process.chmod(".", 0o777)
        if kind == "few pages":
            kernel.page_lru.limit, kernel.page_lru.dirty_limit = 3, 1
        program = KernelHalf(process)
        yield program
        for process in program.processes:
            process.exit()
        kernel.drop_caches()
        assert list(mount.sb.inodes) == [1]
        assert {node.nlookup for node in filesystem.nodes.values()} <= {0}
