"""Names: mkdir, rm, rmdir, mv, ln."""

from __future__ import annotations

import errno
import os
import stat

from ....drive import Process
from ..modes import parse_mode
from ..registry import CommandError, Options, Run, command


def is_directory(process: Process, path: str, follow: bool = True) -> bool:
    """Whether it is one. False where nothing is there."""
    try:
        return stat.S_ISDIR(process.stat(path, follow_symlinks=follow).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def inside(target: str, name: str) -> str:
    """``target/name``, for the last part of ``name``."""
    return os.path.join(target, os.path.basename(name.rstrip("/")))


@command("mkdir [-p] [-m MODE] DIRECTORY...", "make directories (-p: with those above)", options="pm:", least=1)
def mkdir(run: Run, options: Options, words: list[str]) -> None:
    process = run.process
    for path in words:
        with run.telling(path):
            if "p" in options:
                above = os.path.dirname(path.rstrip("/"))
                if above:
                    process.makedirs(above, exist_ok=True)
            try:
                process.mkdir(path)
            except FileExistsError:
                if "p" not in options or not is_directory(process, path):
                    raise
                continue
            if "m" in options:
                before = process.stat(path).st_mode
                process.chmod(path, parse_mode(options["m"], before, process.program.umask))


@command("rmdir DIRECTORY...", "remove empty directories", least=1)
def rmdir(run: Run, options: Options, words: list[str]) -> None:
    for path in words:
        with run.telling(path):
            run.process.rmdir(path)


@command("rm [-r] [-f] PATH...", "remove files (-r: directories; -f: what is not there is no error)", options="rRf")
def rm(run: Run, options: Options, words: list[str]) -> None:
    recursive = "r" in options or "R" in options
    for path in words:
        with run.telling(path):
            if os.path.basename(path.rstrip("/")) in ("", ".", ".."):
                raise CommandError(f"{path} itself is not removed")
            try:
                st = run.process.lstat(path)
            except FileNotFoundError:
                if "f" not in options:
                    raise
                continue
            if not stat.S_ISDIR(st.st_mode):
                run.process.unlink(path)
            elif recursive:
                _remove_tree(run, path)
            else:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def _remove_tree(run: Run, path: str) -> None:
    """What cannot be removed is told; the directories above it then stay, and that is not told again."""
    failed = run.status
    run.status = 0
    for name in sorted(os.fsdecode(name) for name in run.process.listdir(path)):
        inner = os.path.join(path, name)
        with run.telling(inner):
            if stat.S_ISDIR(run.process.lstat(inner).st_mode):
                _remove_tree(run, inner)
            else:
                run.process.unlink(inner)
    if not run.status:
        run.status = failed
        run.process.rmdir(path)


@command("mv SOURCE... TARGET", "rename, or move into a directory", least=2)
def mv(run: Run, options: Options, words: list[str]) -> None:
    *sources, target = words
    into = is_directory(run.process, target)
    if len(sources) > 1 and not into:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), target)
    for path in sources:
        with run.telling(path):
            run.process.rename(path, inside(target, path) if into else target)


@command(
    "ln [-s] [-f] TARGET NAME",
    "make a link, or a symbolic one (-f: in place of what is there)",
    options="sf",
    least=2,
    most=2,
)
def ln(run: Run, options: Options, words: list[str]) -> None:
    target, name = words
    if is_directory(run.process, name):
        name = inside(name, target)
    with run.telling(name):
        if "f" in options:
            try:
                run.process.unlink(name)
            except FileNotFoundError:
                pass
        if "s" in options:
            run.process.symlink(target, name)
        else:
            run.process.link(target, name)
