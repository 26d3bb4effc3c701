"""A program: what its threads share (credentials, umask, working directory, descriptors) and the threads themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..queue import Handler, Task
from .address_space import AddressSpace
from .files import FilesStruct, path_get

if TYPE_CHECKING:
    from .files import File
    from .inode import Dentry


class Cred(NamedTuple):
    """Who asks: effective uid and gid (Linux's fsuid and fsgid follow them), supplementary groups, real and saved ids.

    uid 0 has every capability.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    ruid: int = 0
    rgid: int = 0
    suid: int = 0
    sgid: int = 0

    @classmethod
    def of(cls, uid: int, gid: int, groups: tuple[int, ...] = ()) -> Cred:
        """One whose real, effective and saved ids are the same."""
        return cls(uid, gid, groups, uid, gid, uid, gid)

    @property
    def capable(self) -> bool:
        return self.uid == 0

    @property
    def all_groups(self) -> tuple[int, ...]:
        return (self.gid, *self.groups)

    def in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


class Program:
    """A process: ``tgid`` is what getpid() returns; ``root`` and ``cwd`` where its paths start; ``mm`` its memory;
    ``argv`` what its last exec gave it."""

    def __init__(self, tgid: int, comm: str, cred: Cred, root: Dentry) -> None:
        self.tgid = tgid
        self.comm = comm
        self.cred = cred
        self.umask = 0o022
        self.root = path_get(root)
        self.cwd = path_get(root)
        self.files = FilesStruct()
        self.mm = AddressSpace()
        self.argv: tuple[bytes, ...] = ()
        self.handlers: dict[int, Handler] = {}
        self.tasks: list[ProgramTask] = []


class ProgramTask(Task):
    """A thread of a program, inside the kernel's half. ``held`` and ``using`` are what its system call holds; ``everyone`` are
    the tasks of this kernel, to which ``more_may_come`` that nobody here knows of yet; ``next_ino`` numbers what
    has no name, as Linux's get_next_ino. ``override``: the credentials that it acts with for now (``override_creds``)."""

    next_ino: Callable[[], int]

    def __init__(self, pid: int, program: Program, on_wake: Callable[[Task], None]) -> None:
        super().__init__(pid, program.comm, on_wake)
        self.program = program
        self.override: Cred | None = None
        self.everyone: Sequence[Task] = ()
        self.more_may_come = False
        self.handlers = program.handlers
        self.held: list[Dentry] = []
        self.using: list[File] = []
        program.tasks.append(self)

    @property
    def cred(self) -> Cred:
        """With which credentials it acts."""
        return self.override or self.program.cred

    @property
    def creds(self) -> tuple[int, int, int]:
        """uid, gid and pid as a request carries them."""
        cred = self.override or self.program.cred
        return cred.uid, cred.gid, self.pid

    def hold(self, dentry: Dentry) -> Dentry:
        """Hold a dentry until the system call ends."""
        dentry.count += 1
        self.held.append(dentry)
        return dentry

    def let_go(self) -> None:
        """The system call ends."""
        while self.held:
            self.held.pop().put(self)
