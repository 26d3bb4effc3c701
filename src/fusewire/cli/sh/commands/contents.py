"""Contents of files: cat, echo, touch, truncate, cp, put, get."""

from __future__ import annotations

import os

from ..copying import CHUNK, Copier
from ..modes import parse_size
from ..registry import Options, Run, UsageError, command


@command("cat FILE...", "write out what is in files", least=1)
def cat(run: Run, options: Options, words: list[str]) -> None:
    for path in words:
        with run.telling(path):
            fd = run.process.open(path, os.O_RDONLY)
            try:
                while data := run.process.read(fd, CHUNK):
                    run.out.write(data)
            finally:
                run.process.close(fd)


@command("echo [-n] [WORD]...", "write words; with > FILE or >> FILE into a file", options=None)
def echo(run: Run, options: Options, words: list[str]) -> None:
    bare = words[:1] == ["-n"]
    run.print(" ".join(words[bare:]), end="" if bare else "\n")


@command("touch [-c] FILE...", "make files, or set their times to now (-c: make none)", options="c", least=1)
def touch(run: Run, options: Options, words: list[str]) -> None:
    for path in words:
        with run.telling(path):
            try:
                run.process.utime(path)
            except FileNotFoundError:
                if "c" not in options:
                    run.process.close(run.process.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


@command("truncate -s SIZE FILE...", "cut or stretch files to SIZE bytes (4K, 1M, ...)", options="s:", least=1)
def truncate(run: Run, options: Options, words: list[str]) -> None:
    if "s" not in options:
        raise UsageError("usage: truncate -s SIZE FILE...")
    size = parse_size(options["s"])
    for path in words:
        with run.telling(path):
            fd = run.process.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                run.process.ftruncate(fd, size)
            finally:
                run.process.close(fd)


@command("cp [-r] [-p] SOURCE... TARGET", "copy (-r: directories; -p: mode, owner, times)", options="rpaR", least=2)
def cp(run: Run, options: Options, words: list[str]) -> None:
    recursive = any(letter in options for letter in "rRa")
    preserve = "p" in options or "a" in options
    Copier(run, run.process, run.process, recursive=recursive, preserve=preserve).copy_all(words[:-1], words[-1])


@command("put [-r] [-p] HOSTFILE... PATH", "copy from this machine into the filesystem", options="rp", least=2)
def put(run: Run, options: Options, words: list[str]) -> None:
    copier = Copier(run, os, run.process, recursive="r" in options, preserve="p" in options)
    copier.copy_all(words[:-1], words[-1])


@command("get [-r] [-p] PATH... HOSTFILE", "copy from the filesystem to this machine", options="rp", least=2)
def get(run: Run, options: Options, words: list[str]) -> None:
    copier = Copier(run, run.process, os, recursive="r" in options, preserve="p" in options)
    copier.copy_all(words[:-1], words[-1])
