"""Where the log goes, in the foreground and in the background."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fusewire.cli import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, and afterwards as it was."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield root
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_in_the_background_it_goes_to_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SYSLOG", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(logs.SYSLOG)
        syslog.settimeout(20)
        logs.log_to(None, foreground=False, debug=False)
        logging.getLogger("fusewire.daemon").debug("too small")
        logging.getLogger("fusewire.daemon").error("a handler raised")
        said = syslog.recv(4096)
    assert said.startswith(b"<27>fusewire[")  # daemon.err
    assert b"]: ERROR fusewire.daemon: a handler raised" in said


def test_where_there_is_no_syslog_the_daemon_goes_on_without(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SYSLOG", str(tmp_path / "none"))
    before = root.handlers[:]
    logs.log_to(None, foreground=False, debug=False)
    assert root.handlers == before


def test_a_file_is_added_to_and_has_the_small_things_under_debug(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    logs.log_to(str(file), foreground=False, debug=True)
    logging.getLogger("fusewire.passthrough").debug("no FUSE passthrough")
    before, line = file.read_text().splitlines()
    assert before == "before"
    assert line.endswith(" DEBUG fusewire.passthrough: no FUSE passthrough")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException) as caught:
        logs.log_to(str(tmp_path), foreground=True, debug=False)
    assert caught.value.message == f"log {tmp_path} cannot be written: Is a directory"
