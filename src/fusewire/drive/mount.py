"""``Mount``: a filesystem on a :class:`Kernel`, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypedDict

from ..kernel.queue import Connection, Control
from ..kernel.vfs import FuseSuper, ProgramTask
from ..kernel.vfs import syscalls as sc
from ..transport.eventloop import EventLoop
from .carrier import Carrier
from .process import Process

if TYPE_CHECKING:
    from .kernel import Kernel


class Mount:
    """A filesystem on a :class:`Kernel`. ``daemon`` is the process that serves it, ``connection`` its queue; ``foreign`` the
    program behind it, where it is one."""

    def __init__(self, kernel: Kernel, path: bytes, sb: FuseSuper, daemon: Process) -> None:
        self.kernel = kernel
        self.path = path
        self.sb = sb
        self.daemon = daemon
        self.foreign: Carrier | None = None
        self.loop: EventLoop | None = None  # where its async handlers run
        self.workers: list[ProgramTask] = []

    @property
    def connection(self) -> Connection:
        return self.sb.connection

    @property
    def control(self) -> Control:
        """What fusectl shows of a mount (waiting, abort, limits), and the list of its requests."""
        return Control(self.connection, self.kernel._init_task, self.kernel.driver.locked)

    def abort(self) -> None:
        """As writing to fusectl's ``abort``: whatever waits for this mount is freed."""
        self.control.abort()
        self.kernel._quiesce()

    def unmount(self, *, lazy: bool = False) -> None:
        """Take it out of the tree and end its daemon. Raises OSError(EBUSY) while a process has a file open on it, or stands in
        it: ``lazy`` takes it out of the tree all the same, and it ends with its last user. Raises TimeoutError when a handler
        does not come back."""
        kernel = self.kernel
        kernel.driver.run(kernel._init_task, sc.sys_umount(kernel._init_task, self.sb, sc.MNT_DETACH if lazy else 0))
        if self.sb.users:
            kernel.mounts.remove(self)
            kernel.detached.append(self)
        else:
            self.end()

    def remount(self, *, read_only: bool) -> None:
        """Raises OSError(EBUSY) for a filesystem on which files are open for writing."""
        task = self.kernel._init_task
        self.kernel.driver.run(task, sc.sys_remount(task, self.sb, read_only))

    def end(self) -> None:
        """Whatever uses it: out of the tree, the connection aborted, the daemon ended. Raises TimeoutError."""
        self.kernel._detach(self)
        self.abort()
        with self.kernel.driver.locked():
            self.sb.drop_pages()
        if self.foreign is not None:
            self.foreign.request_stop()
        try:
            left = self.kernel.driver.settle(self.workers, timeout=10)
        finally:
            if self.foreign is not None:
                self.foreign.stop()
        if left:
            raise TimeoutError(f"{left[0]!r} still runs a handler of the filesystem at {self.path!r}")


class Options(TypedDict, total=False):
    """``allow_other`` (default True): programs of any user may use it. ``default_permissions`` (False): access is checked
    here, by mode and owner; a daemon that asks for POSIX_ACL in INIT brings that about, too. ``read_only`` (False)."""

    allow_other: bool
    default_permissions: bool
    read_only: bool


Worker = Callable[[ProgramTask, int, Mount], Coroutine[Any, Any, None]]
