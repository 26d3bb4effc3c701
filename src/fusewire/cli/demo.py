"""``fusewire demo``: one unlink through both halves, drawn from what happened; and a deadlock, named and ended."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
import threading

import click
from rich.console import Console
from rich.markup import escape

from ..daemon import current_request
from ..drive import Kernel, Process
from ..filesystems import MemoryFS
from ..inspect import Diagram, Event, EventStream, Kind
from ..linux import MountError, Watchdog, tracefs
from ..mounting import Mounted, mount
from .demo_scenarios import show_kamikaze, show_locked, show_pool

MOUNTPOINT = "/mnt/fuse"
DAEMON = "FUSE filesystem daemon"
SCENES = {"kamikaze": show_kamikaze, "pool": show_pool, "locked": show_locked}
CALLS = ("newfstatat", "unlink", "unlinkat")


@click.command()
@click.argument("scenario", type=click.Choice(["unlink", "deadlock", *SCENES]), default="unlink")
def demo(scenario: str) -> None:
    """Show how a request goes through both halves of FUSE, or how it gets stuck.

    unlink: the real rm on a mount of this machine, then the same call on our own kernel half.
    deadlock: a daemon that unlinks a file of its own mount; the cycle, and how it is ended.
    kamikaze: an answer that is written from the page that it is to fill.
    pool: the only request of the pool is in use, and the daemon needs it.
    locked: a caller that is interrupted while its answer is copied.
    """
    console = Console(highlight=False, soft_wrap=True)
    if scenario == "unlink":
        _unlink_on_linux(console)
        _unlink_here(console)
    elif scenario == "deadlock":
        _deadlock(console)
    else:
        SCENES[scenario](console)


# -- unlink --------------------------------------------------------------------------------------------------------


class Telling(MemoryFS):
    """Where Linux does not let us trace it, the messages themselves tell of the caller."""

    def __init__(self) -> None:
        super().__init__({"file": b""})
        self.asked: list[Event] = []
        self.stream: EventStream | None = None

    def unlink(self, parent: int, name: bytes) -> None:
        request = current_request()
        if self.stream is not None:
            self.asked.append(
                Event(self.stream.clock(), request.pid, "rm", Kind.STEP, "its UNLINK req has been read", request.unique)
            )
        super().unlink(parent, name)


def _unlink_on_linux(console: Console) -> None:
    _title(console, "rm on Linux: its kernel, our daemon")
    events = EventStream()
    filesystem = Telling()
    with tempfile.TemporaryDirectory(prefix="fusewire-") as path:
        try:
            with mount(filesystem, path, events=events) as mounted, _guard(mounted):
                console.print(escape(_rm_traced(mounted, filesystem, events)))
        except (MountError, RuntimeError) as error:
            console.print(f"Not shown here: {escape(str(error))}.")


def _guard(mounted: Mounted) -> Watchdog:
    return Watchdog(mounted.number, seconds=30)


def _rm_traced(mounted: Mounted, filesystem: Telling, events: EventStream) -> str:
    victim = os.path.join(mounted.path, "file")
    server = mounted.readers.thread_ids[1]
    since = events.clock()
    if tracefs.available():
        with tracefs.record([os.getpid(), server], CALLS) as recording:
            pid = _rm(victim)
            left = recording.events(mounted.number, CALLS)
        note = "left: from tracefs (fuse:*, syscalls:*, sched:sched_switch)"
    else:
        filesystem.stream = events
        pid = _rm(victim)
        left = filesystem.asked
        note = "left: from the messages that the daemon read (tracefs is not readable here)"
    shown = sorted([*events, *(event for event in left if event.pid in (pid, server))], key=lambda event: event.time)
    last = max(event.time for event in shown if event.pid == pid)
    diagram = Diagram({f'"rm {victim}"': [pid], DAEMON: [server]})
    return diagram.render([event for event in shown if event.time <= last], since) + f"\n({note})"


def _rm(path: str) -> int:
    process = subprocess.Popen(["rm", path])
    if process.wait(timeout=20):
        raise click.ClickException(f"rm {path} failed with status {process.returncode}")
    return process.pid


def _unlink_here(console: Console) -> None:
    _title(console, "The same unlink on our own kernel half: no mount, no root")
    with Kernel(trace=True) as kernel:
        mounted = kernel.mount(MemoryFS({"file": b""}), MOUNTPOINT)
        rm = kernel.process("rm")
        path = f"{MOUNTPOINT}/file"
        rm.stat(path)  # so that the name is cached and valid
        assert kernel.events is not None
        kernel.advance(1e-6)
        since = kernel.driver.now()
        rm.unlink(path)
        diagram = Diagram({f'"rm {path}"': [rm.pid], DAEMON: [mounted.daemon.pid]})
        console.print(escape(diagram.render(kernel.events, since)))


# -- deadlock ------------------------------------------------------------------------------------------------------


class SelfUser(MemoryFS):
    """Its handler of UNLINK first unlinks the same file on the mount that it serves itself."""

    daemon: Process | None = None

    def unlink(self, parent: int, name: bytes) -> None:
        if self.daemon is not None:
            self.daemon.unlink(f"{MOUNTPOINT}/{os.fsdecode(name)}")
        super().unlink(parent, name)


def _deadlock(console: Console) -> None:
    _title(console, "Scenario 1: the daemon unlinks a file of its own mount")
    filesystem = SelfUser({"file": b""})
    with Kernel("threads", trace=True, on_deadlock="report") as kernel:
        mounted = kernel.mount(filesystem, MOUNTPOINT)
        rm = kernel.process("rm")
        path = f"{MOUNTPOINT}/file"
        events = kernel.events
        assert events is not None
        outcome: list[str] = []
        caller = threading.Thread(target=_rm_here, args=(rm, path, outcome))
        kernel.process("ls").stat(path)  # so that the name is cached and valid
        filesystem.daemon = mounted.daemon
        since = kernel.driver.now()
        caller.start()
        found = kernel.wait_deadlock(timeout=30)
        diagram = Diagram({f'"rm {path}"': [rm.pid], DAEMON: [mounted.daemon.pid]})
        console.print(escape(diagram.render(events, since)))
        console.print(f"\n[bold]*DEADLOCK*[/bold]\n{escape(found.words())}\n")

        _title(console, "The cure: the caller is interrupted")
        since = kernel.driver.now()
        rm.kill(signal.SIGINT)
        caller.join(timeout=30)
        left = kernel.wait_deadlock(timeout=30)
        console.print(escape(diagram.render(events, since)))
        console.print(f"\nrm: {escape(outcome[0])}\nThe caller is free. The daemon was single threaded:")
        console.print(f"{escape(left.words())}\n")

        _title(console, "So the daemon is killed as well")
        since = kernel.driver.now()
        mounted.daemon.kill(signal.SIGKILL)
        stuck = kernel.driver.settle(mounted.workers, timeout=30)
        console.print(escape(diagram.render(events, since)))
        console.print("\nNobody waits any more." if not stuck else f"\nStill there: {stuck}")


def _rm_here(rm: Process, path: str, outcome: list[str]) -> None:
    """The body of ``rm``, in a thread of its own."""
    try:
        rm.unlink(path)
        outcome.append("removed")
    except OSError as error:
        outcome.append(f"unlink: {error.strerror} ({errno.errorcode[error.errno or 0]})")


def _title(console: Console, text: str) -> None:
    console.print(f"[bold]== {escape(text)}[/bold]\n")
