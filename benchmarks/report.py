"""The tables: microseconds per operation, and how many times a peer's ours take."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .rounds import PLACEMENTS, Key, Results
from .systems import System
from .workloads import OPERATIONS


def show(console: Console, results: Results, systems: list[System]) -> None:
    """All tables that something was measured for, with ``systems`` in this order."""
    measured = {system for system, _ in results.micros}
    systems = [system for system in systems if system in measured]
    for family in ("memory", "passthrough"):
        for caches in ("off", "on"):
            for placement in PLACEMENTS:
                _family(console, results, systems, family, caches, placement)
    for placement in PLACEMENTS:
        _backed(console, results, systems, placement)
    memory, passthrough = ("memory", "fusewire", ""), ("C", "passthrough_ll", "one thread")
    title = "our kernel half / Linux's, with"
    for caches in ("off", "on"):
        what = f"{title} the memory filesystem in process, caches {caches}"
        _ours_and_linux(console, results, systems, "in process", memory, caches, what)
    what = f"{title} libfuse's passthrough_ll -s (bare: one loop of send and receive, the least that Python takes)"
    _ours_and_linux(console, results, systems, "foreign", passthrough, "off", what)
    console.print(
        "Microseconds per operation, the median of the rounds; in brackets the median, over the rounds, of ours divided by"
        " theirs: below 1 ours is faster. Peers are measured in two variants, of which each cell shows the faster one:"
        " t behind it for several threads or tasks, 1 for one.",
        style="dim",
    )


def _rows(results: Results, system: System, caches: str, placement: str) -> list[Key]:
    keys = [(name, caches, placement) for name, operation in OPERATIONS.items() if operation.compares != "kernels"]
    return [key for key in keys if results.has(system, key)]


def _title(key: Key) -> str:
    return OPERATIONS[key[0]].title


def _family(
    console: Console, results: Results, systems: list[System], family: str, caches: str, placement: str
) -> None:
    ours = next((system for system in systems if system.family == family and system.name == "fusewire"), None)
    if ours is None:
        return
    peers: dict[str, list[System]] = {}
    for system in systems:
        if system != ours and system.family in (family, "C", *(("plain",) if family == "passthrough" else ())):
            peers.setdefault(system.name, []).append(system)
    table = _table(f"{family}, caches {caches}, {PLACEMENTS[placement]}", "fusewire", *peers)
    for key in _rows(results, ours, caches, placement):
        cells = [f"{results.median(ours, key):.1f}"]
        for variants in peers.values():
            measured = [system for system in variants if results.has(system, key)]
            if not measured:
                cells.append("-")
                continue
            best = min(measured, key=lambda system: results.median(system, key))
            cells.append(_cell(results, ours, best, key))
        table.add_row(_title(key), *cells)
    if table.row_count:
        console.print(table)


def _cell(results: Results, ours: System, peer: System, key: Key) -> str:
    ratio = results.ratio(ours, peer, key)
    letter = {"": "", "one": " 1"}.get(peer.variant.split(" ")[0], " t")
    colour = "" if ratio is None else "green" if ratio <= 1 else "yellow"
    shown = "-" if ratio is None else f"[{colour}]({ratio:.2f})[/]"
    return f"{results.median(peer, key):.1f} {shown}{letter}"


def _backed(console: Console, results: Results, systems: list[System], placement: str) -> None:
    ours = next((system for system in systems if system.family == "backed"), None)
    plain = next((system for system in systems if system.family == "plain"), None)
    if ours is None or plain is None:
        return
    table = _table(f"FUSE passthrough, against the plain file, {PLACEMENTS[placement]}", "fusewire", "plain")
    for key in _rows(results, ours, "off", placement):
        if results.has(plain, key):
            table.add_row(_title(key), f"{results.median(ours, key):.2f}", _cell(results, ours, plain, key))
    if table.row_count:
        console.print(table)


def _ours_and_linux(
    console: Console,
    results: Results,
    systems: list[System],
    family: str,
    linux: tuple[str, str, str],
    caches: str,
    title: str,
) -> None:
    """Our own kernel's half against Linux's: the systems of ``family`` against the one that is mounted and called ``linux``."""
    mounted = next((one for one in systems if (one.family, one.name, one.variant) == linux), None)
    if mounted is None:
        return
    keys = [key for key in results.measured() if key[1] == caches and results.has(mounted, key)]
    own = [system for system in systems if system.family == family]
    measured = [(system, key) for system in own for key in keys if results.has(system, key)]
    columns = list(dict.fromkeys((system, place) for system, (_, _, place) in measured))
    table = _table(title, *(f"{system.name}, {PLACEMENTS[place]}" for system, place in columns))
    for name in dict.fromkeys(name for _, (name, _, _) in measured):
        cells = [_times(results, system, mounted, (name, caches, place)) for system, place in columns]
        table.add_row(_title((name, caches, "")), *cells)
    if columns:
        console.print(table)


def _times(results: Results, ours: System, theirs: System, key: Key) -> str:
    """Ours, Linux's, and the ratio of the two."""
    if not results.has(ours, key):
        return "-"
    ratio = results.ratio(ours, theirs, key)
    shown = "-" if ratio is None else f"({ratio:.2f})"
    return f"{results.median(ours, key):.1f} / {results.median(theirs, key):.1f} {shown}"


def callers(console: Console, numbers: dict[str, float]) -> None:
    """Requests in flight at once."""
    console.print(
        f"callers on threads: {numbers['callers']:.0f} with a request in flight after {numbers['started']:.1f} s,"
        f" {numbers['kib']:.0f} KiB of memory each; all answered after {numbers['answered']:.1f} s more"
    )


def inodes(console: Console, numbers: dict[str, Any]) -> None:
    """What cached inodes cost."""
    few, many = numbers["few"], numbers["many"]
    for name, (at_few, at_many, ratio) in numbers["micros"].items():
        console.print(f"{name} with {few:,} inodes cached {at_few:.1f} µs, with {many:,} {at_many:.1f} ({ratio:.2f})")
    linux = f", on Linux {numbers['linux']}" if numbers["linux"] else ""
    console.print(f"memory of a cached inode and its name: {numbers['bytes']:.0f} bytes{linux}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", min_width=len(title))
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def as_json(results: Results) -> list[dict[str, Any]]:
    """Every number of every round."""
    return [
        {
            "family": system.family, "system": system.name, "variant": system.variant,
            "operation": operation, "caches": caches, "placement": placement, "micros": times,
        }
        for (system, (operation, caches, placement)), times in results.micros.items()
    ]  # fmt: skip
