"""The shell itself: each command is a process of its own on the kernel half, forked from the shell's, as it is with sh."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, TypeVar

from rich.console import Console

from ...drive import Mount, Process
from . import commands
from .globs import expand
from .parser import Command, ShellSyntaxError, Word, parse
from .registry import COMMANDS, CommandError, OutputGone, Run, UsageError, describe, printable
from .signals import Signals, Stopped

__all__ = ["Shell", "commands"]

T = TypeVar("T")
MISUSED, UNKNOWN, SIGNALLED = 2, 127, 128


class Output:
    """Standard output. Raises OutputGone when nobody reads it: a filesystem's own EPIPE is something else."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def write(self, data: bytes) -> int:
        try:
            return self.stream.write(data)
        except BrokenPipeError:
            raise OutputGone from None

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            raise OutputGone from None


class Shell:
    """A session on ``mount``, as ``process``. ``status`` is that of the first command that failed, else 0.

    ``stream``: where output goes; ``messages``: errors, and progress where it is a terminal.
    """

    def __init__(self, mount: Mount, process: Process, stream: BinaryIO, messages: Console, signals: Signals) -> None:
        self.mount = mount
        self.process = process
        self.out = Output(stream)
        self.pretty = stream.isatty()
        self.messages = messages
        self.signals = signals
        self.status = 0
        self.last = 0
        self.left = False
        self.previous = "/"
        self._told_of_end = False

    def execute(self, text: str) -> None:
        """Run the commands in ``text``. Raises ShellSyntaxError, of which nothing was run; Stopped, OutputGone."""
        for command in parse(text):
            if command.if_ok and self.last:
                continue
            self.last = self._command(command)
            if self.last and not self.status:
                self.status = self.last
            if self.left:
                return

    def misused(self, error: ShellSyntaxError) -> None:
        """What was written is no command."""
        self.say(str(error))
        self.status = self.status or MISUSED

    def say(self, text: str) -> None:
        """A message of the shell's own."""
        self.messages.print(f"fusewire sh: {printable(text)}", markup=False, highlight=False, soft_wrap=True)

    def ask(self, function: Callable[[Process], T]) -> T:
        """Call ``function`` with a process of its own, which a signal ends. Raises what it does, and Stopped."""
        child = self.process.fork()
        try:
            return self.signals.run(lambda: function(child), lambda: child.kill(signal.SIGINT))
        finally:
            child.exit()

    def _command(self, command: Command) -> int:
        """Run one; returns its status."""
        child = self.process.fork()
        run: Run | None = None
        try:
            run = self.signals.run(lambda: self._in(child, command), lambda: child.kill(signal.SIGINT))
        except Stopped as stopped:
            with contextlib.suppress(OutputGone):
                self.out.flush()
            if stopped.number != signal.SIGINT:
                raise
            self.last = SIGNALLED + signal.SIGINT
            self.status = self.status or self.last
            raise
        finally:
            if run is None or not run.keep:
                child.exit()
        if run.keep:
            self.process.exit()
            self.process, self.previous = child, run.previous
        if run.leave:
            self.left = True
            return self._leave(run.status)
        if run.status:
            self._tell_of_end()
        return run.status

    def _leave(self, status: int) -> int:
        if status < 0:
            return self.status
        self.status = status
        return status

    def _in(self, child: Process, command: Command) -> Run:
        """The command's own thread."""
        run = Run("", child, self.out, self.pretty and command.target is None, self.messages, previous=self.previous)  # type: ignore[arg-type]
        words = [path for word in command.words for path in expand(child, word)]
        name = words[0] if words else ""
        run.name = name or "fusewire sh"
        known = COMMANDS.get(name)
        if words and known is None:
            run.fail("there is no such command; help shows those that there are")
            run.status = UNKNOWN
            return run
        with self._reporting(run):
            with self._redirected(run, command.target, command.append):
                if known is not None:
                    known(run, words[1:])
            self.out.flush()
        return run

    @contextlib.contextmanager
    def _reporting(self, run: Run) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            run.fail(str(error))
            run.status = MISUSED
        except CommandError as error:
            run.fail(str(error))
        except OSError as error:
            if run.process.alive:
                run.fail(describe(error))
            else:
                run.status = SIGNALLED + signal.SIGINT
        except ValueError as error:  # as os has them: a NUL in a path
            run.fail(str(error))
            run.status = MISUSED
        except RecursionError:
            run.fail("directories lie too deep in one another")

    @contextlib.contextmanager
    def _redirected(self, run: Run, target: Word | None, append: bool) -> Iterator[None]:
        if target is None:
            yield
            return
        paths = expand(run.process, target)
        if len(paths) > 1:
            raise UsageError(f"{target.text} is more than one file: {' '.join(paths[:3])}")
        file: IO[bytes] = run.process.open_file(paths[0], "ab" if append else "wb")
        try:
            run.out = file
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                file.close()
            raise
        with run.telling(paths[0]):
            file.close()

    def _tell_of_end(self) -> None:
        """Something failed: perhaps since the program behind it all is gone, which is then said, once."""
        foreign = self.mount.foreign
        if foreign is None or self._told_of_end or not foreign.ended():
            return
        self._told_of_end = True
        words = getattr(foreign, "last_words", str)()
        self.say(f"{foreign.name} has ended" + (f"; it said: {words}" if words else ""))


def quote(text: str) -> str:
    """``text`` so that the parser takes it for one word and itself."""
    return "".join("\\" + one if one in " \t'\"\\;&|<>*?[#`" else one for one in text) or "''"
