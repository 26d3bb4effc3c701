"""``python -m benchmarks``: start everything, measure in rounds, report, leave nothing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from . import report, rounds
from .systems import HERE, Broken, Fleet, Refused, all_systems
from .workloads import OPERATIONS

_PLACES = ", ".join(f"{name} ({text})" for name, text in rounds.PLACEMENTS.items())


@click.command()
@click.option("--rounds", "count", default=7, show_default=True, help="How many rounds.")
@click.option("--only", default="", metavar="NAME,...", help=f"Operations: {', '.join(OPERATIONS)}.")
@click.option(
    "--systems", default="", metavar="NAME,...", help="Systems whose name contains one of these, as memory/pyfuse3."
)
@click.option(
    "--cpus", default="one,free", show_default=True, metavar="NAME,...", help=f"Client and daemon: {_PLACES}."
)
@click.option("--quick", is_flag=True, help="10 ms an operation instead of 50.")
@click.option(
    "--callers",
    "callers",
    default=10_000,
    show_default=True,
    help="How many at once on our kernel half; 0: not measured.",
)
@click.option(
    "--inodes", default=100_000, show_default=True, help="How many cached on our kernel half; 0: not measured."
)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write every number there.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Where sources and mountpoints are made (TMPDIR).")
def main(
    count: int,
    only: str,
    systems: str,
    cpus: str,
    quick: bool,
    callers: int,
    inodes: int,
    target: Path | None,
    scratch: Path | None,
) -> None:
    """Measure our filesystems and those of other libraries, all mounted at once and in turn."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)

    def say(text: str) -> None:
        console.print(f"!! {text}", style="bold red", markup=False)

    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise click.ClickException("the benchmark mounts: it needs root and /dev/fuse")
    operations = [name for name in only.split(",") if name] or list(OPERATIONS)
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown:
        raise click.ClickException(f"no operation is called {', '.join(unknown)}; there are {', '.join(OPERATIONS)}")
    placements = [name for name in cpus.split(",") if name]
    if not set(placements) <= set(rounds.PLACEMENTS):
        raise click.ClickException(f"client and daemon can be {_PLACES}, not {cpus}")
    words = [word for word in systems.split(",") if word]
    base = Path(tempfile.mkdtemp(prefix="bench-", dir=scratch))
    try:
        chosen = [one for one in all_systems(base, say) if not words or any(word in str(one) for word in words)]
        if not chosen:
            raise click.ClickException(f"no system's name contains {' or '.join(words)}")
        seconds = 0.01 if quick else 0.05
        with Fleet(base, 120 + count * 240) as fleet:
            running = []
            for system in chosen:
                for caches in system.caches:
                    measures = rounds.measures_of(system, caches, operations)
                    if not measures:
                        continue
                    try:
                        one = fleet.start(system, caches)
                        one.client.ask(do="prepare", place=one.place, measures=measures)
                    except (Broken, Refused) as error:
                        say(f"{system}, caches {caches}, is LEFT OUT: {error}")
                        continue
                    running.append(one)
            console.print(_machine(base, len(running), count), style="dim", markup=False)
            results = rounds.run(running, operations, count, seconds, placements, say)
        report.show(console, results, chosen)
        if callers:
            report.callers(console, _alone("callers", callers))
        if inodes:
            report.inodes(console, _alone("inodes", 1000, inodes))
        if target:
            target.write_text(json.dumps(report.as_json(results), indent=1))
    finally:
        _remove(base)
    if not results.micros:
        raise click.ClickException("nothing was measured")


def _alone(module: str, *arguments: int) -> Any:
    """What a program of ours prints that measures something by itself."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    return json.loads(subprocess.check_output(command, cwd=HERE, timeout=600))


def _machine(base: Path, running: int, count: int) -> str:
    where = max(
        _mounts(),
        key=lambda fields: len(fields[1]) if str(base).startswith(fields[1]) else -1,
    )
    return (
        f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; sources on {where[2]};"
        f" {running} systems, {count} rounds"
    )


def _mounts() -> list[list[str]]:
    """The fields of /proc/mounts. A mountpoint may have any byte in it that ends a line, but for the newline."""
    lines = os.fsdecode(Path("/proc/mounts").read_bytes()).split("\n")
    return [line.split(" ") for line in lines if line]


def _remove(base: Path) -> None:
    """Never through a mount: what is still mounted below it stays."""
    if any(fields[1].startswith(f"{base}/") for fields in _mounts()):
        click.echo(f"!! something is still mounted below {base}; it is left there", err=True)
        return
    shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
