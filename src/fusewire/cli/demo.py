"""``fusewire demo``: one unlink through both halves, drawn from what happened; and deadlocks, named and ended."""

from __future__ import annotations

import os
import subprocess
import tempfile

import click
from rich.console import Console
from rich.markup import escape

from ..daemon import current_request
from ..drive import Kernel
from ..filesystems import MemoryFS
from ..inspect import Diagram, Event, EventStream, Kind
from ..linux import MountError, Watchdog, tracefs
from ..mounting import Mounted, mount
from ..testing.hangs import why_not
from .demo_linux import show_on_linux
from .demo_scenarios import show_deadlock, show_kamikaze, show_locked, show_pool

MOUNTPOINT = "/mnt/fuse"
DAEMON = "FUSE filesystem daemon"
SCENES = {"deadlock": show_deadlock, "kamikaze": show_kamikaze, "pool": show_pool, "locked": show_locked}
CALLS = ("newfstatat", "unlink", "unlinkat")


@click.command()
@click.argument("scenario", type=click.Choice(["unlink", *SCENES]), default="unlink")
@click.option(
    "--on",
    type=click.Choice(["both", "here", "linux"]),
    default="both",
    show_default=True,
    help="Our own kernel half (here), a real mount on Linux (root and /dev/fuse), or one after the other.",
)
def demo(scenario: str, on: str) -> None:
    """Show how a request goes through both halves of FUSE, or how it gets stuck.

    unlink: the real rm on a mount of this machine, then the same call on our own kernel half.
    deadlock: a daemon that unlinks a file of its own mount; the cycle, and how it is ended.
    kamikaze: an answer that is written from the page that it is to fill.
    pool: the only request of the pool is in use, and the daemon needs it.
    locked: a caller that is interrupted while its answer is copied.

    On Linux each hangs a mount of its own, under a watchdog; what ends it is tried out, and said.
    """
    console = Console(highlight=False, soft_wrap=True)
    if scenario == "unlink":
        if on != "here":
            _unlink_on_linux(console, on == "linux")
        if on != "linux":
            _unlink_here(console)
        return
    if on != "linux":
        SCENES[scenario](console)
    if on != "here":
        _on_linux(console, scenario, on == "linux")


def _on_linux(console: Console, scenario: str, wanted: bool) -> None:
    left_out = why_not()
    try:
        if not left_out:
            show_on_linux(console, scenario)
    except MountError as error:
        left_out = str(error)
    except (OSError, RuntimeError) as error:
        raise click.ClickException(f"on Linux: {error}") from error
    if left_out and wanted:
        raise click.ClickException(left_out)
    if left_out:
        console.print(f"\nLeft out: the same on Linux. {escape(left_out)}.")


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


def _unlink_on_linux(console: Console, wanted: bool) -> None:
    _title(console, "rm on Linux: its kernel, our daemon")
    events = EventStream()
    filesystem = Telling()
    with tempfile.TemporaryDirectory(prefix="fusewire-") as path:
        try:
            with mount(filesystem, path, events=events) as mounted, _guard(mounted):
                console.print(escape(_rm_traced(mounted, filesystem, events)))
        except (MountError, RuntimeError) as error:
            if wanted:
                raise click.ClickException(str(error)) from error
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


def _title(console: Console, text: str) -> None:
    console.print(f"[bold]== {escape(text)}[/bold]\n")
