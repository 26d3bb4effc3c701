"""What a command is: its name, its options, and what it is given when it runs."""

from __future__ import annotations

import contextlib
import getopt
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from ...drive import Deadlock, Process

if TYPE_CHECKING:
    from rich.console import Console


class UsageError(ValueError):
    """The command was not written as it is to be. Ends with status 2."""


class CommandError(Exception):
    """The command cannot go on, for a reason that is no OSError's."""


class OutputGone(Exception):
    """Nobody reads our standard output any more."""


@dataclass(slots=True)
class Options:
    """The options that were given: ``"r" in options``, and ``options["m"]`` for the value of ``-m``."""

    given: dict[str, str]

    def __contains__(self, letter: str) -> bool:
        return letter in self.given

    def __getitem__(self, letter: str) -> str:
        return self.given[letter]

    def get(self, letter: str, default: str) -> str:
        return self.given.get(letter, default)


@dataclass(slots=True)
class Run:
    """A command that runs: as ``process``, with its output to ``out``. ``pretty``: that is a terminal, ``width`` columns wide.

    ``messages``: where errors and progress are shown. ``status`` is what it will end with.
    """

    name: str
    process: Process
    out: IO[bytes]
    pretty: bool
    messages: Console
    status: int = 0
    keep: bool = False  # the shell goes on as this process: it has another working directory
    leave: bool = False  # the shell ends
    previous: str = field(default="/")  # the working directory before this one

    @property
    def width(self) -> int:
        return self.messages.width

    def print(self, text: str = "", end: str = "\n") -> None:
        """A line of output. Names that are no UTF-8 come out as the bytes they are."""
        self.out.write(os.fsencode(text + end))

    def fail(self, message: str) -> None:
        """Say what went wrong, and go on; the status will be 1."""
        self.messages.print(f"{self.name}: {printable(message)}", markup=False, highlight=False, soft_wrap=True)
        self.status = 1

    @contextlib.contextmanager
    def telling(self, path: str = "") -> Iterator[None]:
        """An OSError, or a CommandError, is told and the command goes on with what is next. ``path``: what it is about."""
        try:
            yield
        except CommandError as error:
            self.fail(str(error))
        except OSError as error:
            if not self.process.alive:  # it was killed: nothing is next
                raise
            self.fail(describe(error, path))


def describe(error: OSError, path: str = "") -> str:
    """What happened, to what."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    what = " -> ".join(names) or path
    if isinstance(error, Deadlock):
        text = error.words
    else:  # the kernel half's own words say which request it was: the errno's are what everybody knows
        text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return f"{what}: {text}" if what else text


def printable(text: str) -> str:
    """``text`` for a terminal: control characters, and bytes that are no UTF-8, as ``\\x1b`` and the like."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that os.fsdecode could not decode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


Body = Callable[[Run, Options, list[str]], None]


@dataclass(frozen=True, slots=True)
class Command:
    """``usage`` begins with its name; ``options`` are getopt's (None: every word is its own); ``least`` and ``most`` say how
    many words it takes."""

    name: str
    usage: str
    summary: str
    options: str | None
    least: int
    most: int | None
    body: Body

    def __call__(self, run: Run, words: list[str]) -> None:
        """Raises UsageError, and what the command itself does."""
        try:
            given, rest = ([], words) if self.options is None else getopt.gnu_getopt(words, self.options)
        except getopt.GetoptError as error:
            raise UsageError(f"{error}; usage: {self.usage}") from None
        if len(rest) < self.least or (self.most is not None and len(rest) > self.most):
            raise UsageError(f"usage: {self.usage}")
        self.body(run, Options({letter[1:]: value for letter, value in given}), rest)


COMMANDS: dict[str, Command] = {}


def command(
    usage: str,
    summary: str,
    *,
    options: str | None = "",
    least: int = 0,
    most: int | None = None,
) -> Callable[[Body], Body]:
    """Make a function a command of the shell."""

    def register(body: Body) -> Body:
        name = usage.split()[0]
        COMMANDS[name] = Command(name, usage, summary, options, least, most, body)
        return body

    return register
