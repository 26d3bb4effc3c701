"""What the shell completes: filesystems, directories and mount options."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from ..linux.options import known_words

FILESYSTEMS = ("memory", "passthrough")
Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def filesystems(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The filesystem first; then directories: those it takes, and the mountpoint."""
    if context.params.get(parameter.name or ""):
        return directories(context, parameter, incomplete)
    return one_of(FILESYSTEMS)(context, parameter, incomplete)


def directories(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completed by the shell itself."""
    return [CompletionItem(incomplete, type="dir")]


def options(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last word of a list with commas."""
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + word) for word in known_words() if word.startswith(last)]


def one_of(words: Iterable[str]) -> Completion:
    """One of these."""
    return lambda context, parameter, incomplete: [
        CompletionItem(word) for word in words if word.startswith(incomplete)
    ]
