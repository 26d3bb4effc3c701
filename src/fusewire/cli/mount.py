"""``fusewire mount`` and ``fusewire unmount``."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from ..daemon import Operations
from ..linux import MountError, MountOptions, mounts
from ..mounting import Mounted
from ..running import run_mounted
from . import completion
from .background import detached, occupy_standard_descriptors
from .completion import FILESYSTEMS
from .logs import log_to

STANDARD = ("/dev/fd/0", "/dev/fd/1", "/dev/fd/2")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def load(words: tuple[str, ...]) -> Operations:
    """A filesystem from the command line: ``memory [SIZE]``, ``passthrough SRC`` or ``package.module:factory ARGUMENTS``.

    Raises click.ClickException, one line that says what is wrong.
    """
    name, *arguments = words
    factory = _factory(name)
    try:
        filesystem = factory(*arguments)
    except click.ClickException:
        raise
    except OSError as error:
        raise click.ClickException(f"{name}: {error}") from None
    except Exception as error:
        raise click.ClickException(f"{name}: the factory raised {type(error).__name__}: {error}") from error
    if not isinstance(filesystem, Operations):
        raise click.ClickException(f"{name} made a {type(filesystem).__name__}, which is no fusewire.Operations")
    return filesystem


def _factory(name: str) -> Callable[..., Any]:
    _module, colon, _attribute = name.partition(":")
    if not colon:
        if name == "memory":
            return _memory
        if name == "passthrough":
            from ..filesystems import PassthroughFS

            return PassthroughFS
        raise click.ClickException(
            f"there is no filesystem {name!r}: {', '.join(FILESYSTEMS)}, or package.module:factory for one of your own"
        )
    return find(name)


def _memory(size: str | None = None, *more: str) -> Operations:
    from ..filesystems import MemoryFS

    if more:
        raise click.ClickException(f"memory takes a size, and nothing more: {' '.join(more)!r}")
    return MemoryFS(size=None if size is None else _bytes(size))


def _bytes(size: str) -> int:
    """As tmpfs has it: bytes, or 64k, 64M, 1g."""
    found = re.fullmatch(r"([0-9]+)([kmgt]?)", size, re.IGNORECASE | re.ASCII)
    if found is None or not int(found[1]):
        raise click.ClickException(f"memory: {size!r} is no size: say bytes, or 64k, 64M, 1g")
    return int(found[1]) * _UNITS[found[2].lower()]


def find(name: str) -> Callable[..., Any]:
    """What ``package.module:attribute`` names. Raises click.ClickException, one line that says what is wrong."""
    module, _colon, attribute = name.partition(":")
    if not all((*module.split("."), *attribute.split("."))):
        raise click.ClickException(f"{name!r} is not known here: say module:function for one of your own")
    found = _imported(module)
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise click.ClickException(f"{module} has no {attribute}") from None
    except Exception as error:  # a module may load what it has when that is asked for
        raise click.ClickException(f"{name} cannot be had: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise click.ClickException(f"{name} is a {type(found).__name__} and cannot be called")
    return found  # type: ignore[no-any-return]


def _imported(module: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except (ImportError, SyntaxError) as error:
        what = f"{type(error).__name__}: " if isinstance(error, SyntaxError) else ""
        raise click.ClickException(f"{module} cannot be imported: {what}{error}") from None
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise click.ClickException(
            f"{module} cannot be imported: {type(error).__name__}: {error} ({at.filename}, line {at.lineno})"
        ) from error


@click.command()
@click.argument(
    "filesystem",
    nargs=-1,
    required=True,
    metavar="FILESYSTEM [ARGUMENTS]... MOUNTPOINT",
    shell_complete=completion.filesystems,
)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, and log to standard error.")
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="OPTIONS",
    help="Mount options: ro,allow_other,max_read=65536,...",
    shell_complete=completion.options,
)
@click.option("--trace", is_flag=True, help="Every message in a line, both directions, with latency; implies -f.")
@click.option("--debug", is_flag=True, help="Log more.")
@click.option("--log", metavar="FILE", type=click.Path(), help="Log to a file, at its end.")
def mount(
    filesystem: tuple[str, ...],
    foreground: bool,
    options: tuple[str, ...],
    trace: bool,
    debug: bool,
    log: str | None,
) -> None:
    """Mount a filesystem.

    FILESYSTEM is memory [SIZE], passthrough SOURCE, or package.module:factory for one of your own, whose arguments are
    words. Without -f it goes into the background once the mount answers; until then what goes wrong is said here, and what
    is logged goes to syslog.
    """
    if len(filesystem) < 2:
        raise click.UsageError("a filesystem and a mountpoint are needed")
    *words, mountpoint = filesystem
    occupy_standard_descriptors()
    try:
        given = mountpoint.startswith("/dev/fd/")
        named = MountOptions() if given else MountOptions(fsname=" ".join(words))
        chosen = MountOptions.parse(",".join(options), named)
        if foreground or trace:
            log_to(log, foreground=True, debug=debug)
            _serve(load(tuple(words)), mountpoint, chosen, trace)
        else:
            if mountpoint in STANDARD:
                raise click.ClickException(
                    f"{mountpoint} is /dev/null in the background: say -f, or give a number above 2"
                )
            path = mountpoint if given or not mountpoint else os.path.abspath(mountpoint)

            def start(stop: Callable[[], bool]) -> Mounted:
                log_to(log, foreground=False, debug=debug)
                return Mounted(load(tuple(words)), path, chosen, stop=stop)

            detached(start)
    except MountError as error:
        raise click.ClickException(str(error)) from None


def _serve(operations: Operations, mountpoint: str, options: MountOptions, trace: bool) -> None:
    trace_to = _print_line if trace else None
    run_mounted(lambda stop: Mounted(operations, mountpoint, options, trace=trace_to, stop=stop))


def _print_line(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@click.command()
@click.argument("mountpoint", shell_complete=completion.directories)
@click.option("-l", "--lazy", is_flag=True, help="Take it out of the tree now; it ends when nobody uses it any more.")
@click.option("-F", "--force", is_flag=True, help="Abort the connection first: whoever waits for it is freed.")
def unmount(mountpoint: str, lazy: bool, force: bool) -> None:
    """Unmount a FUSE filesystem."""
    if not mountpoint:
        raise click.ClickException("the mountpoint is empty: say which directory")
    try:
        mountpoint = mounts.resolve(mountpoint)
        mounts.connection_number(mountpoint)
        if force:
            mounts.unmount_at_any_price(mountpoint)
        else:
            mounts.unmount(mountpoint, lazy=lazy)
    except MountError as error:
        raise click.ClickException(str(error)) from None
