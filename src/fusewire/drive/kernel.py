"""``Kernel``: a kernel's half in this process. Mount filesystems on it, and make programs that use them."""

from __future__ import annotations

import os
import queue
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Unpack

from ..daemon import Operations, Session
from ..inspect.events import EventStream
from ..inspect.graph import Deadlocked, WaitGraph
from ..kernel.queue import DETACH, POLICIES, Connection, Deadlock, Device, Policy, wait_graph
from ..kernel.vfs import Cred, DeviceFile, Flusher, FuseSuper, PageLru, ProgramTask, RootSuper
from ..kernel.vfs import syscalls as sc
from ..kernel.vfs.flusher import Work
from ..transport.inprocess import Notify, Serving
from ..wire.flags import PAGE_SIZE
from .aio import Pool, refuse_to_block
from .carrier import Carrier
from .driver import Driver
from .foreign import ForeignDaemon
from .inline import Inline
from .link import link
from .mount import Mount, Options, Worker
from .process import Path, Process
from .threads import Threads


def _driver(name: str, on_deadlock: str | None) -> Driver:
    if name not in ("inline", "threads"):
        raise ValueError(f"the drivers are inline and threads, not {name!r}")
    kind: Callable[..., Driver] = Inline if name == "inline" else Threads
    return kind() if on_deadlock is None else kind(on_deadlock)


class Kernel:
    """The kernel's half of FUSE, driven by ``driver``: ``"inline"`` (deterministic, one thread), ``"threads"``, or one's own.

    ``policy``: what a signal does to a waiting caller, ``"detach"`` or ``"linux"``. ``on_deadlock``: ``"report"``,
    ``"interrupt"`` or ``"raise"`` (by default ``raise`` inline, ``interrupt`` on threads). ``trace``: record events
    (or where to).
    ``pool``: how many requests a mount may have in use at once, ``reserve`` how many more of those that close files.
    ``request_timeout``: after how many seconds a request that is not answered ends with ETIMEDOUT (0: never). ``flusher``
    writes back what has been dirty for ``flusher.dirty_expire`` seconds. A context manager: at its end everything is
    unmounted.
    """

    def __init__(
        self,
        driver: str | Driver = "inline",
        *,
        policy: str | Policy = DETACH,
        on_deadlock: str | None = None,
        trace: bool | EventStream = False,
        pool: int = 16_384,
        reserve: int = 64,
        request_timeout: float = 0,
    ) -> None:
        self.driver = driver if isinstance(driver, Driver) else _driver(driver, on_deadlock)
        self.policy = POLICIES[policy] if isinstance(policy, str) else policy
        self.events = EventStream(clock=self.driver.now) if trace is True else None if trace is False else trace
        self.pool = pool
        self.reserve = reserve
        self.request_timeout = request_timeout
        self.mounts: list[Mount] = []
        self.pool_of_threads = Pool(1 if isinstance(self.driver, Inline) else 10_000)  # for process.aio
        self.detached: list[Mount] = []  # unmounted lazily, and still in use
        self._pid = 0
        self._ino = 0
        self._connections = 0
        self.raised: list[Deadlocked] = []
        self._found: queue.SimpleQueue[Deadlocked] = queue.SimpleQueue()
        self.driver.listeners += [self.raised.append, self._found.put]
        self.page_lru = PageLru()
        self._rootfs = RootSuper()
        self.root = self._rootfs.root
        self._init = self.process("init", uid=0, gid=0)
        self._init_task = self._init._main
        self.flusher = Flusher(self.driver.now, self.driver.call_at, self._start_flusher, self.page_lru.limit // 10)
        self.page_lru.flusher = self.flusher
        if isinstance(self.driver, Inline):
            self.driver.busy_outside = self._busy_outside

    def process(
        self, comm: str = "python", *, uid: int | None = None, gid: int | None = None, groups: Sequence[int] = ()
    ) -> Process:
        """A new program, by default of this process's own user and group."""
        cred = Cred.of(os.getuid() if uid is None else uid, os.getgid() if gid is None else gid, tuple(groups))
        return Process(self, comm, cred)

    def drop_caches(self) -> None:
        """As writing 3 to /proc/sys/vm/drop_caches: cached pages, and names and inodes that nobody uses, are forgotten."""
        with self.driver.locked():
            self.page_lru.drop_clean()
            for mount in [*self.mounts, *self.detached]:
                mount.sb.root.shrink(self._init_task)
        self._quiesce()

    def mount(
        self,
        operations: Operations,
        path: Path = "/",
        *,
        workers: int = 1,
        comm: str = "daemon",
        **options: Unpack[Options],
    ) -> Mount:
        """Serve ``operations`` at ``path`` with ``workers`` tasks that share one device; ``options`` are those of
        :class:`Options`. Inside another mount, ``path`` is a directory of it."""
        session = Session(operations)
        session.events = self.events
        session.who = self._who
        serving = Serving(session, self.driver, lambda notify: self._start_notifier(mount, notify))
        mount = self.mount_with(
            lambda task, fd, mount: serving.work(task, fd), path, workers=workers, comm=comm, **options
        )
        mount.loop = serving.loop
        mount.loop.on_start = self._refuse_to_block  # until it runs there is nothing to refuse
        return mount

    def _start_flusher(self, work: Work) -> None:
        task = self._init._new_task(self._next_pid())
        task.comm = "flush"

        async def flush() -> None:
            await work(task)
            await sc.sys_exit(task)

        self.driver.start(task, flush())

    def _start_notifier(self, mount: Mount, notify: Notify) -> None:
        task = mount.daemon._new_task(self._next_pid())
        mount.workers.append(task)
        self.driver.start(task, notify(task, 0))

    def mount_with(
        self,
        worker: Worker,
        path: Path = "/",
        *,
        workers: int = 1,
        comm: str = "daemon",
        **options: Unpack[Options],
    ) -> Mount:
        """Mount what a daemon of one's own serves: ``worker(task, fd, mount)`` is the coroutine of each of its tasks, which
        reads requests from the descriptor ``fd`` (``sys_read``) and writes answers (``sys_write``)."""
        mount, fd = self._new_mount(path, comm, options)
        daemon = mount.daemon
        mount.workers = [daemon._main]
        mount.workers += [daemon._new_task(self._next_pid()) for _ in range(workers - 1)]
        daemon._unclaimed.clear()  # its own calls are made by its workers, or by threads of their own
        for task in mount.workers:
            self.driver.start(task, worker(task, fd, mount))
        with self.driver.locked():
            mount.sb.send_init()
        self._quiesce()
        return mount

    def mount_command(
        self,
        command: Sequence[str | os.PathLike[str]],
        path: Path = "/",
        *,
        timeout: float = 20.0,
        **options: Unpack[Options],
    ) -> Mount:
        """Start a FUSE program of any language, and mount what it serves at ``path``.

        ``{fd}`` in ``command`` stands where its mountpoint would: it becomes ``/dev/fd/N``, which libfuse 3 and go-fuse take.
        The program must stay in the foreground (libfuse: ``-f``). Raises ``DaemonError`` when it does not come up within
        ``timeout`` seconds, with what it printed.
        """
        if not command:
            raise ValueError("an empty command: the program to start, and {fd} among its arguments")
        mount, fd = self._new_mount(path, os.path.basename(command[0]), options)
        carrier = self._detaching(mount, lambda: ForeignDaemon(command, self.driver))
        return self._carry(mount, fd, timeout, carrier)

    def mount_socket(
        self,
        sock: socket.socket,
        path: Path = "/",
        *,
        theirs: socket.socket | None = None,
        pid: int | None = None,
        timeout: float = 20.0,
        **options: Unpack[Options],
    ) -> Mount:
        """Mount what a daemon serves at the other end of ``sock``, which is a connected SOCK_SEQPACKET or SOCK_STREAM socket
        and ours from now on. The daemon is a thread of this process, or another process; it may not have begun to read.

        ``theirs``: a duplicate of the daemon's end, where the caller has it, ours too. A message that is still unread in it
        (SOCK_SEQPACKET) can then be taken back, and its real buffer size is known; without it, the buffer is taken to be
        what a new socket gets. While we hold it the socket has no end of file, so give ``pid`` as well when the daemon is a
        process of its own. Raises ``DaemonError`` when INIT is not answered within ``timeout`` seconds, ValueError for
        a socket of another kind.
        """
        connected = link(sock, theirs)
        name = "the daemon behind the socket"
        try:
            mount, fd = self._new_mount(path, "daemon", options)
            carrier = self._detaching(mount, lambda: Carrier(connected, self.driver, name, pid))
        except BaseException:
            connected.close()  # it is ours, and nobody else will
            raise
        return self._carry(mount, fd, timeout, carrier)

    def _detaching(self, mount: Mount, start: Callable[[], Carrier]) -> Carrier:
        """Start what is to serve ``mount``, which is taken out of the tree where that fails."""
        try:
            return start()
        except BaseException:
            self._detach(mount)
            raise

    def _carry(self, mount: Mount, fd: int, timeout: float, carrier: Carrier) -> Mount:
        """Have messages carried between ``fd`` and the daemon behind ``carrier``."""
        carrier.attach(mount.connection.devices[0])
        mount.foreign = carrier
        if carrier.may_be_in_this_process:
            self._refuse_to_block()
        mount.sb.largest = (carrier.link.largest - PAGE_SIZE) // PAGE_SIZE * PAGE_SIZE
        feeder, drainer = mount.daemon._main, mount.daemon._new_task(self._next_pid())
        mount.daemon._unclaimed.clear()
        mount.workers = [feeder, drainer]
        self.driver.start(feeder, carrier.feed(feeder, fd))
        self.driver.start(drainer, carrier.drain(drainer, fd))
        with self.driver.locked():
            mount.sb.send_init()
        try:
            carrier.await_init(mount.connection, timeout)
        except BaseException:
            mount.end()
            raise
        return mount

    def _new_mount(self, path: Path, comm: str, options: Options) -> tuple[Mount, int]:
        """A connection, a super block, a process that holds the device; nothing reads it yet."""
        name = os.fsencode(path)
        if not name.startswith(b"/"):
            raise ValueError(f"a mountpoint is an absolute path, not {path!r}")
        self._connections += 1
        driver = self.driver
        connection = Connection(
            self._connections, self.policy, self.pool, self.reserve, clock=driver.now, call_at=driver.call_at
        )
        connection.timeouts.set_limit(self.request_timeout)
        sb = FuseSuper(connection, self.driver.now)
        sb.lru = self.page_lru
        sb.owner = (os.getuid(), os.getgid())
        sb.allow_other = options.get("allow_other", True)
        sb.checks_permissions = options.get("default_permissions", False)
        sb.read_only = options.get("read_only", False)
        daemon = self.process(comm)
        fd = daemon.program.files.install(DeviceFile(Device(connection)))
        mount = Mount(self, name, sb, daemon)
        self._attach(mount)
        return mount, fd

    def _detach(self, mount: Mount) -> None:
        """Take it out of the tree, if it is still in it."""
        with self.driver.locked():
            sc.uncover(self._init_task, mount.sb)
        for mounts in (self.mounts, self.detached):
            if mount in mounts:
                mounts.remove(mount)

    def _attach(self, mount: Mount) -> None:
        """Over a directory of another mount, or in the tree that comes into being by mounting."""
        sb = mount.sb
        inside = any(other.path != b"/" and mount.path.startswith(other.path + b"/") for other in self.mounts)
        if inside or self.root.mounted is not None:
            self.driver.run(self._init_task, sc.sys_mount(self._init_task, mount.path, sb))
        else:
            with self.driver.locked():
                sc.cover(self._rootfs.mountpoint(mount.path), sb)
        sb.on_shutdown = lambda task: self._last_user_gone(mount, task)
        self.mounts.append(mount)

    def _last_user_gone(self, mount: Mount, task: ProgramTask | None) -> None:
        """It was unmounted lazily, and nobody is left: as the kernel's half ends it, from within a system call."""
        mount.connection.abort(task or self._init_task)
        if mount.foreign is not None:
            mount.foreign.request_stop()

    def advance(self, seconds: float) -> None:
        """Let the virtual clock of ``inline`` run. Raises TypeError under another driver."""
        if not isinstance(self.driver, Inline):
            raise TypeError("only the inline driver has a clock of its own")
        self.driver.advance(seconds)

    def listen(self, seconds: float) -> None:
        """Hear what daemons in other processes say of themselves (their notifications), for so many seconds of real time. On
        threads they are heard anyway; ``inline`` hears them in every call, and here."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.driver.pass_time(left)

    def graph(self) -> WaitGraph:
        """Who waits for whom, now."""
        with self.driver.locked():
            return wait_graph(self.driver.tasks)

    def wait_deadlock(self, timeout: float | None = None) -> Deadlocked:
        """The next deadlock that is found, in the order they close. Raises TimeoutError after ``timeout`` seconds."""
        try:
            return self._found.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no deadlock in {timeout} seconds") from None

    def close(self) -> None:
        """Unmount everything."""
        failed: Exception | None = None
        for mount in [*self.detached, *reversed(self.mounts)]:
            try:
                mount.end()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    # -- plumbing -------------------------------------------------------------------------------------------------

    def _refuse_to_block(self) -> None:
        """From here on each call is asked whether it would block an event loop that has to answer it."""
        self.driver.before_call = self._before_call

    def _before_call(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        refuse_to_block(self, coroutine)

    def _next_pid(self) -> int:
        self._pid += 1
        return self._pid

    def _next_ino(self) -> int:
        self._ino += 1
        return self._ino

    def _quiesce(self) -> None:
        if isinstance(self.driver, Inline) and self.driver.current is None:
            self.driver.quiesce()

    def _busy_outside(self) -> bool:
        """Whether a daemon in another process still has something of ours to do."""
        for mount in self.mounts:
            fc = mount.connection
            in_use = fc.unused_list.in_use  # what a caller has left behind is nobody's
            if mount.foreign is None or not (fc.forgets or (in_use and any(req.background for req in in_use))):
                continue
            if fc.connected and fc.initialized:  # who waits for INIT has a limit of its own
                return True
        return False

    def _who(self) -> tuple[int, str]:
        task = self.driver.current
        return (task.pid, task.comm) if isinstance(task, ProgramTask) else (0, "daemon")

    def _raise_deadlock(self) -> None:
        if self.driver.policy == "raise" and self.raised:
            found = self.raised[0]
            self.raised.clear()
            raise Deadlock(found.words())
