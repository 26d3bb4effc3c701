"""Into the background: the parent leaves with status 0 only once the mount answers, and says why not otherwise."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable

import click

from ..linux import MountError
from ..mounting import Mounted
from ..running import run_mounted

log = logging.getLogger("fusewire.cli")


def detached(start: Callable[[Callable[[], bool]], Mounted]) -> None:
    """Fork; the child mounts by ``start`` and serves it. Returns in the parent, when the mount is up.

    Raises click.ClickException with the child's reason when it is not.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = os.fsdecode(pipe.read())
        os.waitpid(child, 0)
        if said != "mounted":
            raise click.ClickException(said or "the daemon ended before it had mounted, and said nothing")
        return
    os.close(reading)
    os.setsid()
    if os.fork():  # never a session leader, so it never gets a terminal
        os._exit(0)
    _be_daemon(start, writing)


def occupy_standard_descriptors() -> None:
    """Whoever started us may have closed some of 0 to 2: a pipe or /dev/fuse would get that number, and be lost with it."""
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)
    os.close(null)


def _be_daemon(start: Callable[[Callable[[], bool]], Mounted], pipe: int) -> None:
    up = False

    def ready(mounted: Mounted) -> None:
        nonlocal up
        os.stat(mounted.path)  # it answers
        _leave_terminal()
        os.write(pipe, b"mounted")
        os.close(pipe)
        up = True

    status = 1
    try:
        run_mounted(start, ready)
        status = 0
    except BaseException as error:
        if up:  # nobody waits for us any more
            log.critical("the daemon ended", exc_info=error)
            return
        plain = isinstance(error, MountError | click.ClickException)
        with contextlib.suppress(OSError):
            os.write(pipe, os.fsencode(str(error) if plain else f"{type(error).__name__}: {error}"))
    finally:
        if sys.stdout is not None:  # closed when we were started
            sys.stdout.flush()
        os._exit(status)


def _leave_terminal() -> None:
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
