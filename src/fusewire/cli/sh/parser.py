"""From text to commands: ``;``, newline and ``&&`` between them, quotes and backslashes as in sh, ``>`` and ``>>``, comments.

There are no pipes, variables or substitutions. A ``$`` is a ``$``; what would be a pipe in sh is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAGIC = frozenset("*?[")
BLANK = frozenset(" \t")
UNSUPPORTED = {"|": "a pipe", "<": "input from a file", "&": "running in the background", "`": "command substitution"}
OPERATORS = frozenset(";\n>&|<")


class ShellSyntaxError(ValueError):
    """What was written is no command."""


class Unfinished(ShellSyntaxError):
    """More lines could make it a command: a quote is open, or a backslash ends the text."""


@dataclass(slots=True)
class Word:
    """``text`` is what it says; ``pattern`` the same for fnmatch, quoted characters made literal; ``magic``: it is a glob."""

    text: str = ""
    pattern: str = ""
    magic: bool = False

    def add(self, character: str, quoted: bool) -> None:
        self.text += character
        if quoted and character in MAGIC:
            self.pattern += f"[{character}]"
        else:
            self.pattern += character
            self.magic = self.magic or character in MAGIC


@dataclass(slots=True)
class Command:
    """``words`` with the command's name first; ``target`` where its output goes, None: to the terminal; ``append``: to its end;
    ``if_ok``: to be run only if the one before succeeded."""

    words: list[Word] = field(default_factory=list)
    target: Word | None = None
    append: bool = False
    if_ok: bool = False


def parse(text: str) -> list[Command]:
    """The commands in ``text``. Raises :class:`ShellSyntaxError`; :class:`Unfinished` where more text could complete it."""
    return _Parser(text).run()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.commands: list[Command] = []
        self.command = Command()
        self.redirect = ""  # a ``>`` or ``>>`` whose target is to come

    def run(self) -> list[Command]:
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in BLANK:
                self.at += 1
            elif self.text.startswith("\\\n", self.at):  # the line goes on
                self.at += 2
            elif character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif character in OPERATORS:
                self._operator(character)
            else:
                self._take(self._word())
        self._end("")
        if self.commands and self.commands[-1].if_ok and not self.commands[-1].words:
            raise Unfinished("nothing follows &&")
        return [command for command in self.commands if command.words or command.target]

    def _operator(self, character: str) -> None:
        if self.text.startswith("&&", self.at):
            if not self.command.words:
                raise ShellSyntaxError("nothing stands before &&")
            self.at += 2
            self._end("&&")
            self.command.if_ok = True
            while self.at < len(self.text) and self.text[self.at] in " \t\n":
                self.at += 1
            if self.at == len(self.text):
                raise Unfinished("nothing follows &&")
        elif character == ">":
            if self.redirect:
                raise ShellSyntaxError(f"no file is named after {self.redirect}")
            self.redirect = ">>" if self.text.startswith(">>", self.at) else ">"
            self.at += len(self.redirect)
        elif character in UNSUPPORTED:
            raise ShellSyntaxError(
                f"{character} ({UNSUPPORTED[character]}) is not supported; quote it to mean the character"
            )
        else:
            self.at += 1
            self._end(character)

    def _end(self, separator: str) -> None:
        """The command ends here."""
        if self.redirect:
            raise ShellSyntaxError(f"no file is named after {self.redirect}")
        if self.command.if_ok and not self.command.words and separator:
            raise ShellSyntaxError(f"nothing stands between && and {separator!r}")
        self.commands.append(self.command)
        self.command = Command()

    def _take(self, word: Word) -> None:
        if not self.redirect:
            self.command.words.append(word)
            return
        if self.command.target is not None:
            raise ShellSyntaxError("output goes to one file, not to two")
        self.command.target, self.command.append = word, self.redirect == ">>"
        self.redirect = ""

    def _word(self) -> Word:
        word = Word()
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in BLANK or character in OPERATORS:
                break
            self.at += 1
            if character == "'":
                end = self.text.find("'", self.at)
                if end < 0:
                    raise Unfinished("a ' is not closed")
                for one in self.text[self.at : end]:
                    word.add(one, True)
                self.at = end + 1
            elif character == '"':
                self._double_quoted(word)
            elif character == "\\":
                if self.at == len(self.text):
                    raise Unfinished("a backslash ends the text")
                if self.text[self.at] != "\n":
                    word.add(self.text[self.at], True)
                self.at += 1
            elif character == "`":
                raise ShellSyntaxError(f"` ({UNSUPPORTED['`']}) is not supported; quote it to mean the character")
            else:
                word.add(character, False)
        return word

    def _double_quoted(self, word: Word) -> None:
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character == '"':
                return
            if character == "\\" and self.text[self.at : self.at + 1] in ('"', "\\", "$", "`", "\n"):
                if self.text[self.at] != "\n":
                    word.add(self.text[self.at], True)
                self.at += 1
            else:
                word.add(character, True)
        raise Unfinished('a " is not closed')
