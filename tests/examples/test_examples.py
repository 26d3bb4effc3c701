"""Each example, on our own kernel half, and mounted as a user would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import real_mount

from fusewire import Kernel, Process

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from clock import ZONES, Clock  # noqa: E402
from hello import Hello  # noqa: E402
from json_tree import JsonTree  # noqa: E402

DOCUMENT = {"name": "wire", "tags": ["fuse", "python"], "size": 3, "deep": {"a": {"b": None}}, "a/b": 1, "": 2}


def read(process: Process, path: str) -> str:
    fd = process.open(path, os.O_RDONLY)
    try:
        return process.read(fd, 4096).decode()
    finally:
        process.close(fd)


def test_hello_says_hello() -> None:
    with Kernel() as kernel:
        kernel.mount(Hello(), "/")
        process = kernel.process()
        assert process.listdir("/") == ["hello"]
        assert read(process, "/hello") == "hello, wire\n"
        with pytest.raises(FileNotFoundError):
            process.stat("/other")


def test_the_clock_shows_the_time_of_every_zone() -> None:
    with Kernel() as kernel:
        kernel.mount(Clock(), "/")
        process = kernel.process()
        assert process.listdir("/") == [os.fsdecode(zone) for zone in ZONES]
        times = {zone: read(process, "/" + zone) for zone in process.listdir("/")}
        assert all(re.fullmatch(r"\d\d:\d\d:\d\d\n", time) for time in times.values())
        assert times["UTC"][:2] != times["Tokyo"][:2]


def test_a_json_document_is_a_tree() -> None:
    with Kernel() as kernel:
        kernel.mount(JsonTree(DOCUMENT), "/")
        process = kernel.process()
        assert process.listdir("/") == ["name", "tags", "size", "deep"]
        assert read(process, "/name") == "wire\n"
        assert read(process, "/tags/1") == "python\n"
        assert read(process, "/deep/a/b") == "null\n"
        assert process.stat("/tags").st_ino == process.stat("/deep/../tags").st_ino
        with pytest.raises(NotADirectoryError):
            process.listdir("/name")


@pytest.mark.real
@pytest.mark.parametrize(
    ("program", "path", "contents"),
    [
        ("from hello import *; fusewire.run(Hello(), sys.argv[1])", "hello", r"hello, wire\n"),
        ("from clock import *; fusewire.run(Clock(), sys.argv[1])", "UTC", r"\d\d:\d\d:\d\d\n"),
        (f"from json_tree import *; fusewire.run(JsonTree({DOCUMENT!r}), sys.argv[1])", "tags/0", r"fuse\n"),
    ],
    ids=["hello", "clock", "json"],
)
def test_an_example_is_mounted_and_read_by_cat(mountpoint: Path, program: str, path: str, contents: str) -> None:
    with real_mount(mountpoint, f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); {program}") as mounted:
        assert re.fullmatch(contents, mounted.run("cat", path).stdout)
        subprocess.run(["ls", "-lR", str(mountpoint)], check=True, timeout=20, capture_output=True)
