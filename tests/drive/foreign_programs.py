"""Programs of others that the tests put behind our kernel half, and a few lines that use them."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import need

from fusewire import Process

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")


@functools.cache
def example(name: str) -> str:
    """One of libfuse's examples, compiled; its path."""
    need("gcc", "pkg-config")
    if not (EXAMPLES / f"{name}.c").exists():
        pytest.skip("libfuse3-dev is needed")
    program = _folder() / name
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "fuse3"], text=True).split()
    # One of them takes the protocol from libfuse's own copy of the header.
    (_folder() / "fuse_kernel.h").write_text("#include <linux/fuse.h>\n")
    subprocess.run(["gcc", f"-I{_folder()}", "-o", program, EXAMPLES / f"{name}.c", *flags], check=True, timeout=60)
    return str(program)


@functools.cache
def _folder() -> Path:
    holder = tempfile.TemporaryDirectory(prefix="fusewire-examples-")
    example.holder = holder  # type: ignore[attr-defined]  # lives as long as the tests do
    path = Path(holder.name)
    path.chmod(0o755)
    return path


def read(process: Process, path: str) -> bytes:
    """The whole file."""
    fd = process.open(path, os.O_RDONLY)
    try:
        data = b""
        while piece := process.read(fd, 1 << 20):
            data += piece
        return data
    finally:
        process.close(fd)


def write_and_remove(process: Process, folder: str) -> None:
    """All that a filesystem that can be written is asked for."""
    data = os.urandom(1_500_000)
    fd = process.open(f"{folder}/new", os.O_CREAT | os.O_RDWR, 0o640)
    assert process.write(fd, data) == len(data)
    assert process.pread(fd, len(data), 0) == data
    process.close(fd)
    assert read(process, f"{folder}/new") == data
    process.mkdir(f"{folder}/dir")
    assert {"dir", "new"} <= set(process.listdir(folder))
    process.truncate(f"{folder}/new", 5)
    assert process.stat(f"{folder}/new").st_size == 5
    process.unlink(f"{folder}/new")
    process.rmdir(f"{folder}/dir")


SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
"""


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[Callable[[Path], list[str]]]:
    """An sshd of the tests' own; gives the command that mounts a directory from it."""
    need("sshd", "sshfs", "ssh-keygen")
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        pytest.skip(f"ssh works for users with a name, and {os.geteuid()} has none")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True, timeout=60)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "config").write_text(SSHD.format(port=port, folder=folder))
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program is not None
    server = subprocess.Popen([program, "-D", "-e", "-f", folder / "config"], stderr=(folder / "log").open("wb"))
    try:
        _wait_for_port(port, server, folder / "log")
        options = "StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,BatchMode=yes,LogLevel=ERROR"
        options += f",IdentityFile={folder}/user"
        yield lambda served: ["sshfs", "-f", "-p", str(port), "-o", options, f"127.0.0.1:{served}", "{fd}"]
    finally:
        server.terminate()
        server.wait(20)


def _wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"sshd ended: {log.read_text()}")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.02)
    raise TimeoutError("sshd does not listen")


BEGIN = """
import os, socket, struct, sys, time
sock = socket.socket(fileno=int(sys.argv[1].rsplit("/", 1)[1]))
DIRECTORY = struct.pack("=QIIQQQQQQIIIIIIIIII", 1000, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
def message():
    return sock.recv(1 << 21) or sys.exit()
def read():
    return struct.unpack_from("=IIQ", message())[2]
def answer(unique, body=b"", error=0):
    return struct.pack("=IiQ", 16 + len(body), error, unique) + body
def init(unique, major=7, error=0, minor=31, max_write=4096, more=b""):
    body = struct.pack("=IIIIHHIIHH32s", major, minor, 0, 0, 0, 0, max_write, 0, 0, 0, b"") + more
    return answer(unique, b"" if error else body, error)
"""


def python(program: str, *arguments: str) -> list[str]:
    """A daemon of a few lines. ``sock`` is its socket, ``message`` reads a request and ``read`` its number, ``init`` makes an
    answer to INIT, and ``answer`` any; ``DIRECTORY`` is one to GETATTR."""
    return [sys.executable, "-c", BEGIN + textwrap.dedent(program), "{fd}", *arguments]
