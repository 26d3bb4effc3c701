"""The ``fusewire`` command: one file a subcommand. Errors are one line on standard error and exit status 1."""

from __future__ import annotations

import click

from .._version import __version__
from .demo import demo
from .mount import mount, unmount
from .sh import sh


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusewire")
def main() -> None:
    """FUSE, both halves, in Python."""


for command in (demo, mount, sh, unmount):
    main.add_command(command)
