"""A hang on a real mount, from its beginning to its end: who is in it, what each sleeps in, what a blow changes.

Nothing in it has its order forced. It is looked at, at most so long, until nobody moves any more; then it is struck, and looked
at again. The mount and every process are its own; a watchdog aborts the connection when all else fails.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, NamedTuple

from ...inspect.events import Event, Kind
from ...inspect.graph import Deadlocked, WaitGraph
from ...linux import Control, MountError, Watchdog, fusectl, mounts, proc, tracefs
from ...linux.autounmount import AutoUnmount
from ...linux.proc import Seen
from ...linux.waits import idle, observed

QUIET = 0.25  # seconds in which nobody has moved: so nobody will
LIMIT = 15.0  # seconds until whoever still moves is taken as he is


class Program(NamedTuple):
    """A process of the hang: one of the daemon's, or a caller."""

    role: str
    process: subprocess.Popen[str]
    said: IO[str]  # on standard error


class Look(NamedTuple):
    """Who is there at one moment, asleep in what; ``waiting`` is fusectl's count, None when the connection is gone."""

    tasks: tuple[Seen, ...]
    waiting: int | None

    @property
    def stuck(self) -> dict[int, Seen]:
        """Those that wait for the mount."""
        return {task.tid: task for task in self.tasks if not idle(task)}


class Blow(NamedTuple):
    """What was done to it, and how it was before and after. ``ends``: how each process ended that did, by its number."""

    name: str
    time: int  # nanoseconds of CLOCK_MONOTONIC
    whom: tuple[int, ...]  # the threads that it was meant for
    before: Look
    after: Look
    ends: dict[int, str]

    @property
    def freed(self) -> list[Seen]:
        """Who waited before and does not after: gone, or back at work."""
        return [task for tid, task in self.before.stuck.items() if tid not in self.after.stuck]

    @property
    def sunk(self) -> list[Seen]:
        """Who waits after and did not before."""
        return [task for tid, task in self.after.stuck.items() if tid not in self.before.stuck]


def why_not() -> str:
    """Why no hang can be made here; empty when it can. One that could not be ended must not be begun."""
    if os.geteuid() != 0:
        return "it needs root, to see in /proc/PID/stack what each task of a hung mount sleeps in: run it as root"
    try:
        os.close(mounts.open_device())
    except MountError as error:
        return str(error)
    if not os.path.exists("/proc/self/stack"):
        return "this kernel does not show in which functions a task sleeps (/proc/PID/stack: CONFIG_STACKTRACE)"
    if not fusectl.ensure_mounted():
        return (
            "fusectl cannot be mounted, and without it a hung mount could not be ended:"
            " mount -t fusectl none /sys/fs/fuse/connections"
        )
    return ""


class Hang:
    """``scenario`` of ``daemons`` on a mount of its own, served by so many ``workers``. A context manager; whatever hangs is
    freed at its end. Raises :class:`MountError`, and TimeoutError when the daemon does not begin."""

    def __init__(self, scenario: str, workers: int = 1, seconds: float = 60) -> None:
        self.scenario = scenario
        self.programs: list[Program] = []
        self.told: list[Event] = []
        self.blows: list[Blow] = []
        self._ends: dict[int, str] = {}
        self._init = ""
        self._ready = 0
        self._cleanup = contextlib.ExitStack()
        try:
            self._begin(workers, seconds)
        except BaseException:
            self._cleanup.close()
            raise

    def _begin(self, workers: int, seconds: float) -> None:
        self.path = tempfile.mkdtemp(prefix="fusewire-")
        self._cleanup.callback(os.rmdir, self.path)
        self.trace = None
        if tracefs.available():
            with contextlib.suppress(OSError):  # there, and not to be written to, as in a container
                self.trace = self._cleanup.enter_context(tracefs.record([os.getpid()], ()))
        mode = mounts.check_mountpoint(self.path)
        fd = mounts.open_device()
        try:
            watcher = AutoUnmount(self.path)  # however we end
            self._cleanup.callback(watcher.close)
            self._cleanup.callback(self._unmount_if_there)
            mounts.attach(fd, self.path, mode)
            watcher.mounted(mounts.identity(self.path))
            self.number = mounts.connection_number(self.path)
            self.control = Control(self.number)
            self.watchdog = self._cleanup.enter_context(Watchdog(self.number, seconds))
            self._cleanup.callback(self._end_all)
            for _ in range(workers):
                self._start_worker(fd)
        finally:
            os.close(fd)

    def _unmount_if_there(self) -> None:
        """For an end that comes before the watcher knows what to unmount."""
        if mounts.mount_at(self.path) is not None:
            mounts.unmount(self.path, lazy=True)

    def __enter__(self) -> Hang:
        return self

    def __exit__(self, kind: object, *exc: Any) -> None:
        self._cleanup.close()
        if kind is None and self.watchdog.barked:
            raise RuntimeError("the mount hung longer than it may: the watchdog had to abort it")

    # -- who takes part -------------------------------------------------------------------------------------------

    def _start_worker(self, fd: int) -> None:
        """The first is asked INIT; what it was asked is told to the others."""
        command = [sys.executable, "-m", f"{__package__}.daemons", self.scenario, self.path, str(fd), self._init]
        program = self._start("worker", command, subprocess.PIPE, pass_fds=[fd])
        threading.Thread(target=self._listen, args=(program.process,), daemon=True).start()
        number = len(self.workers)
        self._until(lambda: (self._init and self._ready == number) or program.process.poll() is not None)
        if program.process.poll() is not None:
            raise MountError(errno.EIO, f"the daemon ended: {self._last_words(program)}")

    def call(self, *command: str) -> Program:
        """Start a caller, with the mount as what ``@`` stands for."""
        argv = [word.replace("@", self.path) for word in command]
        return self._start(command[0], argv, subprocess.DEVNULL)

    def _start(self, role: str, command: Sequence[str], stdout: int, **kwargs: Any) -> Program:
        said = self._cleanup.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stdout, stderr=said, text=True, start_new_session=True, **kwargs
        )
        program = Program(role, process, said)
        self.programs.append(program)
        return program

    @property
    def workers(self) -> list[Program]:
        """The daemon's processes."""
        return [program for program in self.programs if program.role == "worker"]

    @property
    def callers(self) -> list[Program]:
        return [program for program in self.programs if program.role != "worker"]

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            when, tid, text, unique = json.loads(line)
            if text == "ready":
                self._ready += 1
            elif text.startswith("INIT "):
                self._init = text.removeprefix("INIT ")
            else:
                self.told.append(Event(when, tid, "worker", Kind.STEP, text, unique))

    # -- looking --------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        """Who is there now."""
        tasks = [task for program in self.programs for task in proc.threads(program.process.pid)]
        try:
            waiting = self.control.waiting
        except OSError:
            waiting = None
        return Look(tuple(tasks), waiting)

    def graph(self, look: Look) -> WaitGraph:
        """Who waits for whom, as far as can be seen."""
        return observed(look.tasks, [program.process.pid for program in self.workers])

    def deadlocks(self, look: Look) -> list[Deadlocked]:
        """Who waits for each other."""
        return self.graph(look).deadlocks()

    def settled(self, limit: float = LIMIT) -> Look:
        """Look until nobody has moved for a while, at most ``limit`` seconds."""
        end = time.monotonic() + limit
        last, since = self.look(), time.monotonic()
        while time.monotonic() < end:
            time.sleep(0.01)
            now = self.look()
            if now != last or self._moves(now):
                last, since = now, time.monotonic()
            elif time.monotonic() - since > QUIET:
                break
        self._reap()
        return last

    def _moves(self, look: Look) -> bool:
        """Whether somebody runs, waits for a disk, or has not yet come to the mount that he was started for."""
        callers = {program.process.pid for program in self.callers if program.process.poll() is None}
        stuck = look.stuck
        return bool(callers - {task.pid for task in stuck.values()}) or any(
            not task.asleep or (task.state == "D" and task.tid not in stuck) for task in look.tasks
        )

    def _reap(self) -> None:
        for program in self.programs:
            status = program.process.poll()
            if status is not None and program.process.pid not in self._ends:
                how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
                words = self._last_words(program)
                self._ends[program.process.pid] = how + (f": {words}" if words else "")

    @staticmethod
    def _last_words(program: Program) -> str:
        program.said.seek(0)
        lines = program.said.read().split("\n")
        return next((line for line in reversed(lines) if line), "")

    # -- striking -------------------------------------------------------------------------------------------------

    def strike(self, name: str, do: Callable[[], object], whom: Iterable[int] = ()) -> Blow:
        """Do it, and look at what has changed when all is quiet again."""
        before, known, when = self.look(), dict(self._ends), time.monotonic_ns()
        do()
        after = self.settled()
        ends = {pid: how for pid, how in self._ends.items() if pid not in known}
        blow = Blow(name, when, tuple(whom), before, after, ends)
        self.blows.append(blow)
        return blow

    def send(self, number: signal.Signals, *programs: Program) -> Blow:
        """Send a signal to those of them that are there."""
        names = " and ".join(f"{program.role}:{program.process.pid}" for program in programs)

        def do() -> None:
            for program in programs:
                program.process.send_signal(number)

        return self.strike(f"{number.name} to {names}", do, [program.process.pid for program in programs])

    def abort(self) -> Blow:
        """By fusectl."""
        return self.strike("abort", self.control.abort, self.look().stuck)

    def allow_background(self, slots: int) -> Blow:
        """How many background requests may be under way, by fusectl."""
        name = f"max_background {slots}"
        return self.strike(name, lambda: (self.control.path / "max_background").write_text(str(slots)))

    def bring_page(self) -> Blow:
        """``locked``: the page that the answer is written from comes."""
        return self.strike("the page comes", lambda: self._to_worker("x"))

    def _to_worker(self, text: str) -> None:
        stdin = self.workers[0].process.stdin
        assert stdin is not None
        stdin.write(text)
        stdin.flush()

    def kill_while_any_remain(self) -> Iterator[Blow]:
        """SIGINT to the callers; then SIGKILL to the worker that waits for an answer, one after the other, as long as that
        frees it; then to those that are left; then an abort if they hang all the same."""
        yield self.send(signal.SIGINT, *self.callers)
        while self.blows[-1].freed:
            asking = [task for task in self.look().stuck.values() if "request_wait_answer" in task.stack]
            if not asking:
                break
            yield self.send(signal.SIGKILL, *(one for one in self.workers if one.process.pid == asking[0].pid))
        if any(program.process.poll() is None for program in self.workers):
            yield self.send(signal.SIGKILL, *(one for one in self.workers if one.process.poll() is None))
        if self.blows[-1].after.stuck:
            yield self.abort()

    # -- the end --------------------------------------------------------------------------------------------------

    def _end_all(self) -> None:
        """Kill, and abort for those that this does not end."""
        for program in self.programs:
            program.process.kill()
        with contextlib.suppress(OSError):
            self.control.abort()
        for program in self.programs:
            assert program.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                program.process.stdin.close()
            program.process.wait(timeout=20)

    @staticmethod
    def _until(condition: Callable[[], object], limit: float = 30) -> None:
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the daemon does not begin")
            time.sleep(0.005)
