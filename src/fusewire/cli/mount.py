"""``fusewire mount`` and ``fusewire unmount``."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from ..daemon import Operations
from ..linux import MountError, MountOptions, mounts
from ..mounting import Mounted, run_mounted
from .background import detached

FILESYSTEMS = ("memory", "passthrough")


def load(words: tuple[str, ...]) -> Operations:
    """A filesystem from the command line: ``memory``, ``passthrough SRC`` or ``package.module:factory ARGUMENTS``.

    Raises click.ClickException, one line that says what is wrong.
    """
    name, *arguments = words
    factory = _factory(name)
    try:
        filesystem = factory(*arguments)
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
            from ..filesystems import MemoryFS

            return MemoryFS
        if name == "passthrough":
            from ..filesystems import PassthroughFS

            return PassthroughFS
        raise click.ClickException(
            f"there is no filesystem {name!r}: {', '.join(FILESYSTEMS)}, or package.module:factory for one of your own"
        )
    return find(name)


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
    except Exception as error:  # of the module itself; or the name is none
        raise click.ClickException(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
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
@click.argument("filesystem", nargs=-1, required=True, metavar="FILESYSTEM [ARGUMENTS]... MOUNTPOINT")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, and log to standard error.")
@click.option(
    "-o", "options", multiple=True, metavar="OPTIONS", help="Mount options: ro,allow_other,max_read=65536,..."
)
@click.option("--trace", is_flag=True, help="Every message in a line, both directions, with latency; implies -f.")
def mount(filesystem: tuple[str, ...], foreground: bool, options: tuple[str, ...], trace: bool) -> None:
    """Mount a filesystem.

    FILESYSTEM is memory, passthrough SOURCE, or package.module:factory for one of your own, whose arguments are words.
    Without -f it goes into the background once the mount answers; until then what goes wrong is said here.
    """
    if len(filesystem) < 2:
        raise click.UsageError("a filesystem and a mountpoint are needed")
    *words, mountpoint = filesystem
    try:
        given = mountpoint.startswith("/dev/fd/")
        named = MountOptions() if given else MountOptions(fsname=" ".join(words))
        chosen = MountOptions.parse(",".join(options), named)
        if foreground or trace:
            _log_to_stderr()
            _serve(load(tuple(words)), mountpoint, chosen, trace)
        else:
            path = mountpoint if given or not mountpoint else os.path.abspath(mountpoint)
            detached(lambda: Mounted(load(tuple(words)), path, chosen))
    except MountError as error:
        raise click.ClickException(str(error)) from None


def _serve(operations: Operations, mountpoint: str, options: MountOptions, trace: bool) -> None:
    run_mounted(lambda: Mounted(operations, mountpoint, options, trace=_print_line if trace else None))


def _print_line(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


@click.command()
@click.argument("mountpoint")
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
