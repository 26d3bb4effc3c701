"""execve(2), as fs/exec.c and fs/binfmt_script.c have it: which files are opened and read, and what a program keeps.

A file is taken to be a program by its first bytes alone; nothing is run. It is held open, and nobody can open it for writing,
until the program ends or becomes another.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from typing import NamedTuple

from ....wire.errno import Errno
from .. import namei
from ..address_space import put_exec_file
from ..files import O_LARGEFILE, File, put_file
from ..permission import MAY_EXEC, MAY_OPEN
from ..program import Cred, ProgramTask
from .base import syscall
from .mmap import exit_mmap
from .open import close_all
from .process import sys_exit

FMODE_EXEC = 0x20  # in the flags of OPEN: the file is opened to be run
BINPRM_BUF_SIZE = 256  # bytes by which a program is known
ELF = b"\x7fELF"
_SCRIPT = re.compile(rb"[ \t]*(?P<name>[^ \t]*)(?P<after>[ \t]*)(?P<argument>.*)", re.DOTALL)
_NAME_ENDS = re.compile(rb"[^ \t][ \t\n]|\0")  # else there is more of it
_DEEPEST = 5  # interpreters of interpreters
_CAPABILITIES = 24  # bytes of security.capability


class Binprm(NamedTuple):
    """``linux_binprm``: what a program is about to become. ``file`` is held, ``scripts`` are the files that led to it; ``cred``
    is what it runs as."""

    file: File
    scripts: tuple[File, ...]
    argv: tuple[bytes, ...]
    cred: Cred


@syscall
async def sys_execve(task: ProgramTask, path: bytes, argv: tuple[bytes, ...], comm: str) -> None:
    """The program becomes what is in the file. Raises EACCES, ENOEXEC, ETXTBSY, ELOOP for too many interpreters, ENOENT also
    for one that is not there: then the program is as it was."""
    bprm = await _search_binary_handler(task, path, argv)
    try:
        await begin_new_exec(task, comm, bprm)
    finally:
        if task.program.mm.exe_file is not bprm.file:
            await put_exec_file(task, bprm.file)
        for script in reversed(bprm.scripts):
            await put_file(task, script)


async def _search_binary_handler(task: ProgramTask, path: bytes, argv: tuple[bytes, ...]) -> Binprm:
    """Open the file, follow its ``#!`` line, and see what it is."""
    interp = path
    opened = [await _do_open_execat(task, path)]
    argv = argv or (b"",)
    try:
        while not (head := await _prepare_binprm(task, opened[-1])).startswith(ELF):
            name, argument = _interpreter(head)
            argv = (name, *argument, interp, *argv[1:])
            interp = name
            opened.append(await _do_open_execat(task, name))
            if len(opened) > _DEEPEST + 1:
                raise OSError(int(Errno.ELOOP), "Too many levels of interpreters")
        cred = await _bprm_creds(task, opened[-1])
    except BaseException as failed:
        for file in reversed(opened):
            await put_exec_file(task, file)
        if isinstance(failed, OSError):
            raise OSError(failed.errno, failed.strerror, path) from None
        raise
    for script in opened[:-1]:
        script.inode.allow_write()
    return Binprm(opened[-1], tuple(opened[:-1]), argv, cred)


async def _do_open_execat(task: ProgramTask, path: bytes) -> File:
    """A file that may be run, and that nobody writes to. Raises EACCES, ETXTBSY."""
    dentry = task.hold(await namei.lookup(task, path))
    inode = namei.inode_of(dentry, path)
    if not inode.is_reg:
        raise namei.error(Errno.EACCES, path, "Permission denied: no regular file")
    await namei.may(task, inode, MAY_EXEC | MAY_OPEN, path)
    file = await inode.sb.open(task, dentry, os.O_RDONLY | O_LARGEFILE | FMODE_EXEC)
    try:
        inode.deny_write()
    except OSError:
        await put_file(task, file)
        raise
    return file


async def _prepare_binprm(task: ProgramTask, file: File) -> bytes:
    head = memoryview(bytearray(BINPRM_BUF_SIZE))
    return bytes(head[: await file.ops.read(task, file, head, 0)])


def _interpreter(head: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """``load_script``: who is to run a script, and the one argument that its first line gives it. A NUL ends the line, too, but
    what is blank before it belongs to the argument; behind a short file there are NULs. Raises ENOEXEC, EACCES for no name."""
    if not head.startswith(b"#!"):
        raise OSError(int(Errno.ENOEXEC), "Exec format error")
    text = head[2:].ljust(BINPRM_BUF_SIZE - 2, b"\0")
    line, nul, _ = text[:-1].partition(b"\0")
    line, newline, _ = line.partition(b"\n")
    if newline or not nul:
        nul = b""
        line = line.rstrip(b" \t")
    found = _SCRIPT.fullmatch(line)
    assert found is not None
    if not _NAME_ENDS.search(text) or not (found["name"] or nul):
        raise OSError(int(Errno.ENOEXEC), "Exec format error")
    if not found["name"]:
        raise PermissionError(int(Errno.EACCES), "Permission denied: an empty path is the working directory")
    return found["name"], (found["argument"],) if found["after"] else ()


async def _bprm_creds(task: ProgramTask, file: File) -> Cred:
    """What set-ID bits make of who runs it. The daemon is asked for its capabilities, which are not modelled."""
    inode, cred = file.inode, task.cred
    try:
        await inode.sb.getxattr(task, inode, b"security.capability", _CAPABILITIES)
    except OSError as failed:
        if failed.errno not in (Errno.ENODATA, Errno.EOPNOTSUPP):
            raise
    if inode.mode & stat.S_ISUID:
        cred = cred._replace(uid=inode.attr.uid)
    if inode.mode & stat.S_ISGID and inode.mode & stat.S_IXGRP:
        cred = cred._replace(gid=inode.attr.gid)
    return cred._replace(suid=cred.uid, sgid=cred.gid)


@syscall
async def begin_new_exec(task: ProgramTask, comm: str, bprm: Binprm | None = None) -> None:
    """The point of no return. Its other threads end; its memory goes, and those of its descriptors that are marked so, and
    what handled signals: those that are pending find it without. What is ignored stays so."""
    program = task.program
    await _de_thread(task)
    await exit_mmap(task)
    if bprm is not None:
        program.mm.exe_file, program.argv, program.cred = bprm.file, bprm.argv, bprm.cred
    await close_all(task, program.files, sorted(program.files.cloexec))
    for number in [number for number, handler in program.handlers.items() if callable(handler)]:
        del program.handlers[number]
    program.comm = task.comm = comm
    pending, task.pending_signals = task.pending_signals, []
    for number in pending:
        task.kill(number)


async def _de_thread(task: ProgramTask) -> None:
    for other in list(task.program.tasks):
        if other is task or other.exited:
            continue
        if other.worker or other.doing:
            other.kill(signal.SIGKILL)
        else:
            await sys_exit(other)
