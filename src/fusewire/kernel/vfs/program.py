"""A program: what its threads share (credentials, umask, working directory, descriptors) and the threads themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..queue import Task
from .files import FilesStruct

if TYPE_CHECKING:
    from .inode import Dentry


class Cred(NamedTuple):
    """Who asks: fsuid, fsgid and the supplementary groups."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


class Program:
    """A process: ``tgid`` is what getpid() returns; ``root`` and ``cwd`` where its paths start."""

    def __init__(self, tgid: int, comm: str, cred: Cred, root: Dentry) -> None:
        self.tgid = tgid
        self.comm = comm
        self.cred = cred
        self.umask = 0o022
        self.root = root
        self.cwd = root
        self.files = FilesStruct()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.tasks: list[ProgramTask] = []


class ProgramTask(Task):
    """A thread of a program, inside the kernel's half."""

    def __init__(self, pid: int, program: Program, on_wake: Callable[[Task], None]) -> None:
        super().__init__(pid, program.comm, on_wake)
        self.program = program
        self.handlers = program.handlers
        program.tasks.append(self)

    @property
    def creds(self) -> tuple[int, int, int]:
        """uid, gid and pid as a request carries them."""
        cred = self.program.cred
        return cred.uid, cred.gid, self.pid
