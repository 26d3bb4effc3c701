"""What there is: ls, tree, find."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import stat
import time
from collections.abc import Iterator

from rich.cells import cell_len

from ..modes import group_name, user_name
from ..registry import Options, Run, UsageError, command, printable

HALF_A_YEAR = 182 * 86400  # seconds: an older time shows its year
TYPES = {
    "f": stat.S_IFREG,
    "d": stat.S_IFDIR,
    "l": stat.S_IFLNK,
    "p": stat.S_IFIFO,
    "s": stat.S_IFSOCK,
    "b": stat.S_IFBLK,
    "c": stat.S_IFCHR,
}
COLOURS = {
    stat.S_IFDIR: "1;34",
    stat.S_IFLNK: "36",
    stat.S_IFIFO: "33",
    stat.S_IFSOCK: "35",
    stat.S_IFBLK: "1;33",
    stat.S_IFCHR: "1;33",
}


def shown(run: Run, name: str, mode: int) -> str:
    """A name as it is put out: on a terminal in colour, and without what a terminal would obey."""
    if not run.pretty:
        return name
    colour = COLOURS.get(stat.S_IFMT(mode), "1;32" if mode & 0o111 and stat.S_ISREG(mode) else "")
    return f"\x1b[{colour}m{printable(name)}\x1b[0m" if colour else printable(name)


def names_in(run: Run, path: str) -> list[str]:
    """The names in a directory, sorted."""
    return sorted((os.fsdecode(name) for name in run.process.listdir(path)), key=os.fsencode)


@command(
    "ls [-l] [-a] [-d] [-1] [PATH]...", "what is in directories (-l: with attributes; -d: themselves)", options="lad1"
)
def ls(run: Run, options: Options, words: list[str]) -> None:
    files: list[tuple[str, os.stat_result]] = []
    directories: list[str] = []
    for path in words or ["."]:
        with run.telling(path):
            st = run.process.lstat(path)
            if stat.S_ISLNK(st.st_mode) and "l" not in options and "d" not in options:
                with contextlib.suppress(OSError):
                    st = run.process.stat(path)
            if stat.S_ISDIR(st.st_mode) and "d" not in options:
                directories.append(path)
            else:
                files.append((path, st))
    _show(run, options, "", files)
    for number, path in enumerate(directories):
        if len(words) > 1:
            if number or files:
                run.print()
            run.print(f"{path}:")
        with run.telling(path):
            _list(run, options, path)


def _list(run: Run, options: Options, path: str) -> None:
    names = names_in(run, path)
    if "a" in options:
        names = [".", "..", *names]
    else:
        names = [name for name in names if not name.startswith(".")]
    entries = []
    attributes = "l" in options or run.pretty
    for name in names:
        with run.telling(os.path.join(path, name)):
            entries.append((name, run.process.lstat(os.path.join(path, name)) if attributes else None))
    _show(run, options, path, entries)


def _show(
    run: Run,
    options: Options,
    directory: str,
    entries: list[tuple[str, os.stat_result | None]] | list[tuple[str, os.stat_result]],
) -> None:
    if "l" in options:
        _long(run, directory, [(name, st) for name, st in entries if st is not None])
    elif run.pretty and "1" not in options:
        _columns(run, [(name, st.st_mode if st else 0) for name, st in entries])
    else:
        for name, st in entries:
            run.print(shown(run, name, st.st_mode if st else 0))


def _columns(run: Run, entries: list[tuple[str, int]]) -> None:
    if not entries:
        return
    widths = [cell_len(printable(name)) for name, _ in entries]
    column = max(widths) + 2
    count = max(1, run.width // column)
    rows = -(-len(entries) // count)
    for row in range(rows):
        line = ""
        for at in range(row, len(entries), rows):
            line += shown(run, *entries[at]) + " " * (column - widths[at] if at + rows < len(entries) else 0)
        run.print(line)


def _long(run: Run, directory: str, entries: list[tuple[str, os.stat_result]]) -> None:
    rows = []
    for name, st in entries:
        size = str(st.st_size)
        if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            size = f"{os.major(st.st_rdev)}, {os.minor(st.st_rdev)}"
        target = ""
        if stat.S_ISLNK(st.st_mode):
            with run.telling(name):
                path = os.path.join(directory, name)
                pointed = os.fsdecode(run.process.readlink(path))
                target = " -> " + (printable(pointed) if run.pretty else pointed)
        mode, links, when = stat.filemode(st.st_mode), str(st.st_nlink), _when(st.st_mtime)
        columns = (mode, links, user_name(st.st_uid), group_name(st.st_gid), size, when)
        rows.append((columns, shown(run, name, st.st_mode) + target))
    widths = [max(len(row[0][at]) for row in rows) for at in range(6)] if rows else []
    for (mode, links, user, group, size, when), name in rows:
        owner = f"{user:{widths[2]}} {group:{widths[3]}}"
        run.print(f"{mode} {links:>{widths[1]}} {owner} {size:>{widths[4]}} {when} {name}")


def _when(seconds: float) -> str:
    try:
        local = time.localtime(seconds)
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f}s"
    recent = 0 <= time.time() - seconds < HALF_A_YEAR
    return time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", local)


@command("tree [-a] [DIRECTORY]...", "all that is below directories, drawn", options="a")
def tree(run: Run, options: Options, words: list[str]) -> None:
    counts = {"directories": 0, "files": 0}
    for path in words or ["."]:
        with run.telling(path):
            st = run.process.stat(path)
            if not stat.S_ISDIR(st.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            run.print(shown(run, path, st.st_mode))
            _branch(run, path, "", "a" in options, counts)
    one = {"directories": "directory", "files": "file"}
    run.print("\n" + ", ".join(f"{n} {what if n != 1 else one[what]}" for what, n in counts.items()))


def _branch(run: Run, directory: str, prefix: str, everything: bool, counts: dict[str, int]) -> None:
    names = [name for name in names_in(run, directory) if everything or not name.startswith(".")]
    for name in names:
        path = os.path.join(directory, name)
        last = name == names[-1]
        with run.telling(path):
            mode = run.process.lstat(path).st_mode
            line = shown(run, name, mode)
            if stat.S_ISLNK(mode):
                target = os.fsdecode(run.process.readlink(path))
                line += " -> " + (printable(target) if run.pretty else target)
            run.print(prefix + ("└── " if last else "├── ") + line)
            counts["directories" if stat.S_ISDIR(mode) else "files"] += 1
            if stat.S_ISDIR(mode):
                _branch(run, path, prefix + ("    " if last else "│   "), everything, counts)


@command("find [PATH]... [-name PATTERN] [-type f|d|l|p|s|b|c]", "paths below, those that match", options=None)
def find(run: Run, options: Options, words: list[str]) -> None:
    paths: list[str] = []
    while words and not words[0].startswith("-"):
        paths.append(words.pop(0))
    pattern: str | None = None
    kinds: set[int] = set()
    while words:
        test = words.pop(0)
        if test not in ("-name", "-type") or not words:
            raise UsageError(f"{test} is no test, or lacks its value: -name PATTERN, -type f|d|l|p|s|b|c")
        value = words.pop(0)
        if test == "-name":
            pattern = value
        else:
            unknown = [letter for letter in value.split(",") if letter not in TYPES]
            if unknown:
                raise UsageError(f"-type {value}: the types are {', '.join(TYPES)}")
            kinds |= {TYPES[letter] for letter in value.split(",")}
    for top in paths or ["."]:
        with run.telling(top):
            for path, mode in _below(run, top):
                name = os.path.basename(path.rstrip("/")) or path
                if (pattern is None or fnmatch.fnmatchcase(name, pattern)) and (
                    not kinds or stat.S_IFMT(mode) in kinds
                ):
                    run.print(printable(path) if run.pretty else path)


def _below(run: Run, path: str) -> Iterator[tuple[str, int]]:
    mode = run.process.lstat(path).st_mode
    yield path, mode
    if not stat.S_ISDIR(mode):
        return
    names: list[str] = []
    with run.telling(path):
        names = names_in(run, path)
    for name in names:
        inner = os.path.join(path, name)
        with run.telling(inner):
            yield from _below(run, inner)
