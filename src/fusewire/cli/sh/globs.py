"""Patterns: ``*``, ``?`` and ``[...]`` against the filesystem. A name that begins with a dot wants a dot in the pattern."""

from __future__ import annotations

import fnmatch
import os
import re

from ...drive import Process
from .parser import MAGIC, Word

_LITERAL = re.compile(r"\[([*?\[])\]")


def expand(process: Process, word: Word) -> list[str]:
    """The paths that ``word`` stands for, sorted; the word itself where it is no pattern, or nothing matches it."""
    if not word.magic:
        return [word.text]
    found = _expand(process, "/" if word.pattern.startswith("/") else "", word.pattern.strip("/").split("/"))
    if word.pattern.endswith("/"):
        found = [path + "/" for path in found if _is_directory(process, path)]
    return sorted(found, key=os.fsencode) or [word.text]


def _expand(process: Process, base: str, parts: list[str]) -> list[str]:
    """Every path below ``base`` (empty: the working directory) that ``parts`` match, one name each."""
    part, *rest = parts
    if not part:
        return _expand(process, base, rest) if rest else [base]
    literal = _LITERAL.sub(r"\1", part)
    if MAGIC.isdisjoint(_LITERAL.sub("", part)):
        path = base + literal
        if rest:
            return _expand(process, path + "/", rest) if _is_directory(process, path) else []
        return [path] if _exists(process, path) else []
    matches = re.compile(fnmatch.translate(part), re.DOTALL).match
    try:
        names = [os.fsdecode(name) for name in process.listdir(base or ".")]
    except OSError:  # not a directory, or not ours to read: nothing in it matches
        return []
    hidden = part.startswith(".")
    paths = [base + name for name in names if matches(name) and name.startswith(".") <= hidden]
    if not rest:
        return paths
    return [found for path in paths if _is_directory(process, path) for found in _expand(process, path + "/", rest)]


def _is_directory(process: Process, path: str) -> bool:
    try:
        return (process.stat(path).st_mode & 0o170000) == 0o040000
    except OSError:
        return False


def _exists(process: Process, path: str) -> bool:
    try:
        process.lstat(path)
    except OSError:
        return False
    return True
