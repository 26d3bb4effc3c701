"""The systems that are measured: what each is, how it is started and, at any price, ended.

Nothing in this process touches a mount. The client does; where it does not come back the mount is aborted, and where this
process dies a watchdog does that.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fusewire.filesystems
from fusewire.linux import Control, Watchdog, connection_number, mounts, unmount

HERE = Path(__file__).resolve().parent.parent
BACKED = "backed-fusewire--off"  # where the one runs that is FUSE passthrough
C_EXAMPLE = Path("/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")
PATIENCE = 60.0  # seconds until an order of the client, or a mount that is being made, counts as hung


class Broken(Exception):
    """A system that cannot be measured; the text says why."""


class Refused(Exception):
    """A system that fails at one thing; the text says how."""


@dataclass(frozen=True)
class System:
    """``family`` is the table it is in, ``name`` the column, ``variant`` which of several ways to run it, of which the
    table shows the better. ``command`` gets MOUNTPOINT, SOURCE and "off" or "on"; none: ``name`` says what it is."""

    family: str
    name: str
    command: tuple[str, ...] = ()
    variant: str = ""
    caches: tuple[str, ...] = ("off", "on")

    def __str__(self) -> str:
        return f"{self.family}/{self.name}" + (f" ({self.variant})" if self.variant else "")

    def arguments(self, mountpoint: str, source: str, caches: str) -> list[str]:
        """How it is run."""
        if self.command[0].endswith("passthrough_ll"):
            cache = "never,timeout=0" if caches == "off" else "auto,timeout=1"
            return [self.command[0], mountpoint, "-f", *self.command[1:], "-o", f"source={source},cache={cache}"]
        module, *before = self.command[0].split()
        return [sys.executable, "-m", module, *before, mountpoint, source, caches, *self.command[1:]]


def all_systems(scratch: Path, say: Any) -> list[System]:
    """What can be run here; ``say`` is told what cannot."""
    systems = [System("memory", "fusewire", ("benchmarks.ours memory",))]
    if hasattr(fusewire.filesystems, "PassthroughFS"):
        systems.append(System("passthrough", "fusewire", ("benchmarks.ours passthrough",)))
        systems.append(System("backed", "fusewire", ("benchmarks.ours backed",), caches=("off",)))
    else:
        say("fusewire.filesystems has no PassthroughFS: our passthrough is LEFT OUT")
    for library in ("pyfuse3", "mfusepy"):
        why = _why_not_importable(library)
        if why:
            say(f"{library} is LEFT OUT: {why}")
            continue
        one, many = ("one task", "tasks") if library == "pyfuse3" else ("one thread", "threads")
        for family in ("memory", "passthrough"):
            module = f"benchmarks.peers.{library}_{family}"
            systems += [System(family, library, (module,), many), System(family, library, (module, "one"), one)]
    try:
        program = _compiled(scratch)
    except Broken as error:
        say(f"libfuse's passthrough_ll is LEFT OUT: {error}")
    else:
        systems.append(System("C", "passthrough_ll", (program,), "threads"))
        systems.append(System("C", "passthrough_ll", (program, "-s"), "one thread"))
        systems += [
            System("foreign", driver, (program, "-s"), caches=("off",)) for driver in ("inline", "threads", "bare")
        ]
    systems.append(System("plain", "the directory itself", caches=("off",)))
    systems += [System("in process", driver) for driver in ("inline", "threads")]
    return systems


def _why_not_importable(library: str) -> str:
    if importlib.util.find_spec(library) is None:
        return f"it is not installed (pip install '{library}')"
    tried = subprocess.run([sys.executable, "-c", f"import {library}"], capture_output=True, text=True, timeout=60)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else ""


def _compiled(scratch: Path) -> str:
    """Debian's copy of libfuse's example, with Debian's flags for an optimized program."""
    if not C_EXAMPLE.exists():
        raise Broken(f"{C_EXAMPLE} is not there (Debian: apt install libfuse3-dev)")
    if not shutil.which("gcc") or not shutil.which("pkg-config"):
        raise Broken("gcc or pkg-config is not installed")
    target = scratch / "passthrough_ll"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, timeout=60)
    command = ["gcc", "-O2", "-w", str(C_EXAMPLE), "-o", str(target), *flags.stdout.split()]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if built.returncode:
        raise Broken(f"it does not compile: {(flags.stderr + built.stderr).strip()[-300:]}")
    return str(target)


class Client:
    """A client process. ``ask`` has it do something. Raises Refused when that fails, Broken when it does not end."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.client", *arguments],
            cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self.pid = self._process.pid
        self._serial = 0

    def ask(self, **order: Any) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        self._serial += 1
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([self._serial, order]).encode() + b"\n")
        serial, answer = 0, {}
        while serial != self._serial:  # an earlier order that hung may be answered late
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            line = process.stdout.readline() if ready else b""
            if not line:
                raise Broken(f"the client {'ended' if ready else 'hangs'} at {order}")
            serial, answer = json.loads(line)
        if "error" in answer:
            raise Refused(f"{order['do']}: {answer['error']}")
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        _end(self._process)


@dataclass
class Running:
    """A system that is up. ``place`` is the directory to use."""

    system: System
    caches: str
    client: Client
    place: str
    daemon: subprocess.Popen[bytes] | None = None
    number: int = 0
    refused: set[str] = field(default_factory=set)

    def pin(self, client: list[int], daemon: list[int]) -> None:
        """Client and daemon, each with all its threads, to these CPUs. A client's children are daemons."""
        _pin(self.client.pid, client)
        for daemon_pid in [self.daemon.pid] if self.daemon else _children(self.client.pid):
            _pin(daemon_pid, daemon)

    def abort(self) -> None:
        """Free whoever waits for it."""
        if self.number:
            Control(self.number).abort()


class Fleet:
    """Everything that runs. A context manager, at whose end nothing is left."""

    def __init__(self, scratch: Path, seconds: float) -> None:
        self.scratch = scratch
        self.seconds = seconds
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.close()

    def start(self, system: System, caches: str) -> Running:
        """Start it. Broken says why it did not."""
        if system.family == "in process":
            return Running(system, caches, self._own_client(system.name, caches), "/mnt")
        base = self.scratch / f"{system.family}-{system.name}-{system.variant}-{caches}".replace(" ", "-")
        source, mountpoint = base / "source", base / "mnt"
        if system.family == "plain" and (behind := self.scratch / BACKED / "source").exists():
            source = behind  # the very files: which pages a file lies in makes a difference, too
        source.mkdir(parents=True, exist_ok=True)
        if system.family == "foreign":
            command = system.arguments("{fd}", str(source), caches)
            return Running(system, caches, self._own_client(system.name, caches, *command), "/mnt")
        if self._client is None:
            self._client = self._own_client()
        if not system.command:
            return Running(system, caches, self._client, str(source))
        mountpoint.mkdir()
        errors = (base / "stderr").open("wb")
        self._stack.callback(errors.close)
        command = system.arguments(str(mountpoint), str(source), caches)
        daemon = subprocess.Popen(command, cwd=HERE, stderr=errors, start_new_session=True)
        self._stack.callback(_end, daemon)
        self._stack.callback(_unmount, str(mountpoint))
        try:
            _wait_for_mount(str(mountpoint), daemon)
        except Broken as error:
            said = (base / "stderr").read_text(errors="replace").strip()
            raise Broken(f"{error}: {said[-500:]}") from None
        number = connection_number(str(mountpoint))
        watchdog = Watchdog(number, self.seconds)
        self._stack.callback(watchdog.stop)
        return Running(system, caches, self._client, str(mountpoint), daemon, number)

    def _own_client(self, *arguments: str) -> Client:
        client = Client(*arguments)
        self._stack.callback(client.close)
        return client


def _pin(pid: int, cpus: list[int]) -> None:
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), cpus)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _wait_for_mount(path: str, daemon: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while mounts.mount_at(path) is None:
        if daemon.poll() is not None:
            raise Broken(f"the daemon ended with {daemon.returncode}")
        if time.monotonic() > end:
            raise Broken("it did not mount")
        time.sleep(0.01)


def _unmount(path: str) -> None:
    if mounts.mount_at(path) is not None:
        with suppress(OSError):
            unmount(path)
            return
        mounts.unmount_at_any_price(path)


def _end(process: subprocess.Popen[bytes]) -> None:
    """A daemon ends by itself when it is unmounted, a client when its orders are."""
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)
