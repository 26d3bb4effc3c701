"""The terminal's side: a prompt, line editing, history, completion. The standard library's readline does it."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

from ...drive import Process
from .parser import ShellSyntaxError, Unfinished, parse
from .registry import COMMANDS, printable
from .shell import Shell, quote
from .signals import Stopped

try:
    import readline
except ImportError:  # an interpreter without it: lines can be typed, not edited
    readline = None  # type: ignore[assignment]

HISTORY = 2000  # lines
DELIMITERS = " \t\n;&>"


class Terminal:
    """Reads commands until ``exit``, or the end of input."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.completer = Completer(shell)

    def run(self) -> None:
        with _line_editing(self.completer.complete):
            text = ""
            while not self.shell.left:
                try:
                    text += input("> " if text else self._prompt()) + "\n"
                    parse(text)
                except EOFError:
                    print()
                    return
                except Unfinished:
                    continue
                except ShellSyntaxError as error:
                    self.shell.say(str(error))
                    text = ""
                    continue
                except Stopped as stopped:
                    _only_an_interrupt(stopped)
                    text = ""
                    continue
                try:
                    self.shell.execute(text)
                except Stopped as stopped:
                    _only_an_interrupt(stopped)
                text = ""

    def _prompt(self) -> str:
        return f"{printable(self.shell.process.getcwd())}> "


def _only_an_interrupt(stopped: Stopped) -> None:
    if stopped.number != signal.SIGINT:
        raise stopped
    print()


class Completer:
    """Commands in the first place, then the filesystem's paths, or this machine's where a command takes those."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.found: list[str] = []

    def complete(self, text: str, state: int) -> str | None:
        """As readline asks: the ``state``-th completion of ``text``; None when there are no more."""
        if state == 0:
            begin = readline.get_begidx()
            try:
                self.found = self.completions(readline.get_line_buffer()[:begin], text)
            except (OSError, Stopped):
                self.found = []
        return self.found[state] if state < len(self.found) else None

    def completions(self, before: str, text: str) -> list[str]:
        """What ``text`` could become, after ``before`` on the same line."""
        try:
            command = parse(before + "x")[-1]
        except ShellSyntaxError:  # within quotes: left to the user
            return []
        words = [word.text for word in command.words]
        if len(words) == 1 and command.target is None:
            return [name + " " for name in sorted(COMMANDS) if name.startswith(text)]
        known = COMMANDS.get(words[0]) if words else None
        typed = _unquoted(text)
        if known is not None and known.name == "help":
            return [name + " " for name in sorted(COMMANDS) if name.startswith(text)]
        if known is not None and command.target is None and self._is_the_hosts(known.name, words):
            return _paths(os.listdir, lambda path: os.path.isdir(path), typed)
        return self.shell.ask(lambda process: _paths(*_of(process), typed))

    @staticmethod
    def _is_the_hosts(name: str, words: list[str]) -> bool:
        """put's words, until the last, and get's last are paths of this machine; which is the last is known when it is there,
        so put's first and get's second and later ones are taken for them."""
        place = len([word for word in words[1:] if not word.startswith("-")])
        return place == 1 if name == "put" else name == "get" and place >= 2


def _of(process: Process) -> tuple[Callable[[str], list[str]], Callable[[str], bool]]:
    def names(path: str) -> list[str]:
        return [os.fsdecode(name) for name in process.listdir(path)]

    def is_directory(path: str) -> bool:
        with contextlib.suppress(OSError):
            return stat.S_ISDIR(process.stat(path).st_mode)
        return False

    return names, is_directory


def _paths(names: Callable[[str], list[str]], is_directory: Callable[[str], bool], typed: str) -> list[str]:
    directory, beginning = os.path.split(typed)
    prefix = typed[: len(typed) - len(beginning)]
    found = []
    for name in sorted(names(directory or ".")):
        if (
            name.startswith(beginning)
            and (beginning.startswith(".") or not name.startswith("."))
            and name.isprintable()
        ):
            path = prefix + name
            found.append(quote(path) + ("/" if is_directory(path) else " "))
    return found


def _unquoted(text: str) -> str:
    try:
        words = parse(text)[0].words if text else []
    except (ShellSyntaxError, IndexError):
        return text
    return words[0].text if words else ""


def history_file() -> Path:
    """Where lines are kept from one session to the next: $XDG_STATE_HOME/fusewire/history."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "fusewire" / "history"


@contextlib.contextmanager
def _line_editing(complete: Callable[[str, int], str | None]):  # type: ignore[no-untyped-def]
    if readline is None:
        yield
        return
    path = history_file()
    readline.set_completer(complete)
    readline.set_completer_delims(DELIMITERS)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    if not libedit:  # a completion brings its own blank or slash; and names may hold what is quoted
        readline.parse_and_bind("set completion-query-items 200")
    readline.set_history_length(HISTORY)
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
