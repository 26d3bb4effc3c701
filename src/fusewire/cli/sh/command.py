"""``fusewire sh``: options, the filesystem, where commands come from."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

import click
from rich.console import Console

from ...drive import DaemonError, Kernel, Mount
from .. import completion
from ..mount import load
from .parser import ShellSyntaxError, Unfinished, parse
from .registry import OutputGone
from .shell import SIGNALLED, Shell
from .signals import ENDING, Signals, Stopped

PATIENCE = 2.0  # seconds that handlers have to come back at the end
WORKERS = 4  # a handler that hangs leaves others to serve what is asked next


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument(
    "filesystem",
    nargs=-1,
    required=True,
    metavar="FILESYSTEM [ARGUMENTS]... | -- PROGRAM ... {fd}",
    shell_complete=completion.filesystems,
)
@click.option(
    "-c", "commands", metavar="COMMANDS", help="Run these and leave, with the status of the first that fails."
)
@click.option("--read-only", is_flag=True, help="Mount it read-only.")
def sh(filesystem: tuple[str, ...], commands: str | None, read_only: bool) -> None:
    """A shell on a filesystem that is not mounted: no root, no /dev/fuse.

    FILESYSTEM is memory [SIZE], passthrough SOURCE, or package.module:factory for one of your own, whose arguments are words;
    or, after --, a FUSE program of any language, with {fd} where its mountpoint would stand:

    \b
      fusewire sh memory
      fusewire sh -c 'tree; df' -- squashfuse_ll -f image.sqsh {fd}

    Commands come from -c, from standard input, or from you. `help` shows what there is.
    """
    signals = Signals()
    messages = Console(stderr=True, highlight=False)
    status = 0
    with signals.handled():
        try:
            with _kernel(messages) as kernel:
                mount = _mount(kernel, filesystem, read_only, signals)
                process = kernel.process("sh")
                process.umask(_own_umask())
                shell = Shell(mount, process, sys.stdout.buffer, messages, signals)
                _run(shell, commands)
                status = shell.status
        except Stopped as stopped:
            status = SIGNALLED + stopped.number
        except OutputGone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains once more
            status = SIGNALLED + signal.SIGPIPE
    sys.exit(status)


@contextlib.contextmanager
def _kernel(messages: Console) -> Iterator[Kernel]:
    """On threads: a handler that hangs is left behind, and Ctrl-C comes through."""
    kernel = Kernel("threads")
    try:
        yield kernel
    finally:
        # It ends the daemon, and takes seconds at most: nothing is to end that half-way.
        with _deaf():
            _close(kernel, messages)


def _close(kernel: Kernel, messages: Console) -> None:
    def close() -> None:
        try:
            kernel.close()
        except TimeoutError:
            hangs.append(True)

    hangs: list[bool] = []
    program = any(mount.foreign is not None for mount in kernel.mounts)
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(None if program else PATIENCE)  # a program has to be ended; a handler of ours ends with this process
    if hangs or closing.is_alive():
        messages.print("fusewire sh: a handler of the filesystem has not come back, and is left behind", soft_wrap=True)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """For so long signals change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDING)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _mount(kernel: Kernel, words: tuple[str, ...], read_only: bool, signals: Signals) -> Mount:
    """Ours, or a program's: one of its words has ``{fd}`` in it."""
    if any("{fd}" in word for word in words):

        def abort() -> None:
            for mount in kernel.mounts:
                mount.abort()

        try:
            return signals.run(lambda: kernel.mount_command(words, read_only=read_only), abort)
        except DaemonError as error:
            raise click.ClickException(str(error)) from None
    try:
        operations = load(words)
    except click.ClickException as error:
        if ":" not in words[0] and shutil.which(words[0]):
            raise click.ClickException(
                f"{words[0]} is a program: put {{fd}} where its mountpoint would stand among its arguments"
            ) from None
        raise error from None
    return kernel.mount(operations, workers=WORKERS, read_only=read_only)


def _own_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _run(shell: Shell, commands: str | None) -> None:
    if commands is not None:
        _script(shell, [commands])
    elif sys.stdin.isatty():
        from .interactive import Terminal

        Terminal(shell).run()
    else:
        _script(shell, sys.stdin)


def _script(shell: Shell, lines: list[str] | TextIO) -> None:
    """Line by line, as they come; a line that is unfinished goes on in the next."""
    text = ""
    for line in lines:
        text += line
        try:
            parse(text)
        except Unfinished:
            continue
        except ShellSyntaxError as error:
            shell.misused(error)
            return
        shell.execute(text)
        text = ""
        if shell.left:
            return
    if text:
        try:
            shell.execute(text)
        except ShellSyntaxError as error:
            shell.misused(error)
