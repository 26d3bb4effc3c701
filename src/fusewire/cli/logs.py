"""Where the daemon's log goes: standard error in the foreground, syslog in the background, or a file."""

from __future__ import annotations

import logging
import logging.handlers
import os

import click

SYSLOG = "/dev/log"


def log_to(file: str | None, *, foreground: bool, debug: bool) -> None:
    """From now on. Where there is no syslog, what is logged in the background is lost. Raises click.ClickException for a file
    that cannot be written."""
    handler: logging.Handler
    if file:
        try:
            handler = logging.FileHandler(file)
        except OSError as error:
            raise click.ClickException(f"log {file} cannot be written: {error.strerror}") from None
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    elif foreground:
        handler, form = logging.StreamHandler(), "%(levelname)s %(name)s: %(message)s"
    else:
        if not os.path.exists(SYSLOG):
            return
        handler = logging.handlers.SysLogHandler(SYSLOG, logging.handlers.SysLogHandler.LOG_DAEMON)
        form = f"fusewire[{os.getpid()}]: %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(form))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
