"""A program's processes on this machine: real ones, which take their steps from a pipe each.

Run as a program, this is the nursery: it forks the processes of one program after the other, from a process that is small, has
one thread, and nothing of pytest's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from calls import Place, perform, tree, with_numbers
from this_machine import Linux
from vocabulary import PROCESSES, Step

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 60.0  # seconds that a system call may take


class Nursery:
    """Where real processes come from. A context manager."""

    def __enter__(self) -> Nursery:
        ours, theirs = zip(*(Pipe() for _ in (None, *PROCESSES)), strict=True)
        fds = [end.fileno() for end in theirs]
        command = [sys.executable, __file__, *map(str, fds)]
        self.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
        for end in theirs:
            end.close()
        self.control, *self.pipes = ours
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.control, *self.pipes):
            end.close()
        try:
            self.process.wait(timeout=10)
        finally:
            self.process.kill()
            self.process.wait(timeout=10)

    @contextlib.contextmanager
    def program(self, top: Path) -> Iterator[Family]:
        """The processes of a program that begin in ``top``/base/in, which is made, and removed at the end."""
        self.control.send(("begin", str(top)))
        family = Family(self.control, self.pipes, self.control.recv(), str(top))
        try:
            yield family
        finally:
            family.end()
            _remove(top)


class Family:
    """The processes of one program."""

    def __init__(self, control: Connection, pipes: list[Connection], pids: list[int], top: str) -> None:
        self.control = control
        self.pipes = pipes
        self.pids = list(pids)
        self.top = top
        self.pidfds = [os.pidfd_open(pid) for pid in pids]

    def start(self, step: Step) -> None:
        """Have a step done; ``result`` waits for it."""
        process, call, args, _ = step
        if call == "fork" and args[0] != process:
            self._exit(args[0])
        self.pipes[process].send(step)

    def result(self, step: Step) -> object:
        """What the step that was started resulted in."""
        process, call, args, _ = step
        answer = self._receive(process)
        if call == "fork":
            child = args[0]
            if child == process:
                self._await_end(process)
            self.pids[child], self.pidfds[child] = answer, os.pidfd_open(answer)
            return None
        return with_numbers(answer, self.pids)

    def tree(self) -> object:
        """What is there at the end."""
        self.control.send(("tree", self.top))
        return self.control.recv()

    def end(self) -> None:
        """The processes are gone, whatever they did."""
        for process in PROCESSES:
            self._exit(process)

    def _receive(self, process: int) -> object:
        pipe, pidfd = self.pipes[process], self.pidfds[process]
        ready = wait([pipe, pidfd], PATIENCE)
        if pipe in ready:
            return pipe.recv()
        raise RuntimeError(f"process {process} " + ("died" if ready else f"did not come back in {PATIENCE} seconds"))

    def _exit(self, process: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfds[process], signal.SIGKILL)
        self._await_end(process)

    def _await_end(self, process: int) -> None:
        """A process that is gone has closed what it had open."""
        pidfd = self.pidfds[process]
        try:
            if not select.select([pidfd], [], [], PATIENCE)[0]:
                raise TimeoutError(f"process {process} does not end")
        finally:
            os.close(pidfd)


def _remove(top: Path) -> None:
    top.chmod(0o700)
    for directory, names, _ in os.walk(top):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o700)  # or it could not be walked into
    shutil.rmtree(top)


# -- the other side of the pipes ---------------------------------------------------------------------------------------


def serve(place: Place, pipes: list[Connection], process: int) -> None:
    """Be a process of a program."""
    while True:
        step = pipes[process].recv()
        if step.call == "fork":
            process = fork(pipes, process, step.args[0])
        else:
            pipes[process].send(perform(place, step))


def fork(pipes: list[Connection], process: int, child: int) -> int:
    """Returns in both; in the child which process it is. One that forks itself is replaced by its child."""
    pid = os.fork()
    if not pid:
        return child
    pipes[process].send(pid)
    if child == process:
        os._exit(0)
    return process


def begin(top: str, pipes: list[Connection], process: int) -> None:
    """A first process, in the child that was forked for it."""
    if os.getuid() == 0:
        os.chroot(top)
        top = "/"
    os.chdir(os.path.join(top, "base", "in"))
    os.umask(0o22)
    serve(Place(Linux(), os.open(".", os.O_PATH)), pipes, process)


def nursery(fds: list[int]) -> None:
    """Fork programs' processes until nobody wants any."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: they vanish
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    control, *pipes = map(Connection, fds)
    while True:
        what, top = control.recv()
        if what == "begin":
            control.send(first_processes(top, pipes))
        else:
            os.chdir(top)
            control.send(tree(Linux(), "base"))
            os.chdir("/")


def first_processes(top: str, pipes: list[Connection]) -> list[int]:
    """Their pids."""
    home = os.path.join(top, "base", "in")
    os.makedirs(home)
    os.chmod(home, 0o777)
    pids = []
    for process in PROCESSES:
        pid = os.fork()
        if not pid:
            begin(top, pipes, process)
        pids.append(pid)
    return pids


if __name__ == "__main__":
    with contextlib.suppress(EOFError, BrokenPipeError):
        nursery(list(map(int, sys.argv[1:])))
