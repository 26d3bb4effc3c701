"""The least that a kernel's half in Python can do: no queue, no cache, no check, no waiting but for the one answer.

What it takes for an ``fstat`` is what any kernel's half in Python takes at least: a GETATTR packed, sent over the socket,
its answer received and unpacked, an ``os.stat_result`` made of that. The rest of ours is what a kernel does besides.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from typing import Any

from fusewire.wire.codec import IN_HEADER_SIZE, OUT_HEADER_SIZE, Message, decode_reply, encode_request
from fusewire.wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, ROOT_ID, GetattrFlag, Opcode
from fusewire.wire.layouts import (
    ATTR_OUT,
    GETATTR_IN,
    IN_HEADER,
    OUT_HEADER,
    CreateIn,
    InitIn,
    OpenIn,
    ReleaseIn,
)  # fmt: skip

ROOM = 1 << 21  # bytes, of a socket's buffer and of a message
NANO = 1_000_000_000


class Bare:
    """A program's calls on the files right below ``/mnt``, each a request or two to the daemon that ``command`` is."""

    def __init__(self, command: list[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in self._socket, theirs:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
            words = [word.replace("{fd}", f"/dev/fd/{theirs.fileno()}") for word in command]
            self._daemon = subprocess.Popen(words, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
        self._buffer = memoryview(bytearray(ROOM))
        self._unique = 0
        self._files: dict[int, tuple[int, int]] = {}  # node and handle
        self._ask(Opcode.INIT, 0, InitIn(KERNEL_VERSION, KERNEL_MINOR_VERSION))

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *exc: object) -> None:
        """The daemon ends with its socket."""
        self._socket.close()
        self._daemon.wait(timeout=10)

    def _ask(self, opcode: Opcode, nodeid: int, *structs: Any, name: bytes = b"") -> Message:
        """Raises OSError as the daemon answers."""
        self._unique += 2
        message = Message(structs, (name,) if name else ())
        self._socket.send(encode_request(opcode, message, unique=self._unique, nodeid=nodeid))
        size = self._socket.recv_into(self._buffer)
        header, answer = decode_reply(opcode, self._buffer[:size])
        if header.error:
            raise OSError(-header.error, os.strerror(-header.error), name)
        return answer

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """Numbers files as they come."""
        name = os.fsencode(os.path.basename(path))
        if flags & os.O_CREAT:
            entry, opened = self._ask(Opcode.CREATE, ROOT_ID, CreateIn(flags, stat.S_IFREG | mode), name=name).structs
        else:
            (entry,) = self._ask(Opcode.LOOKUP, ROOT_ID, name=name).structs
            (opened,) = self._ask(Opcode.OPEN, entry.nodeid, OpenIn(flags)).structs
        fd = self._unique
        self._files[fd] = entry.nodeid, opened.fh
        return fd

    def close(self, fd: int) -> None:
        nodeid, fh = self._files.pop(fd)
        self._ask(Opcode.RELEASE, nodeid, ReleaseIn(fh))

    def stat(self, path: str) -> os.stat_result:
        fd = self.open(path, os.O_RDONLY)
        try:
            return self.fstat(fd)
        finally:
            self.close(fd)

    def fstat(self, fd: int) -> os.stat_result:
        """What is measured."""
        nodeid, fh = self._files[fd]
        self._unique = unique = self._unique + 2
        length = IN_HEADER_SIZE + GETATTR_IN.size
        header = IN_HEADER.pack_fields(length, Opcode.GETATTR, unique, nodeid, 0, 0, 0, 0, 0)
        self._socket.send(header + GETATTR_IN.pack_fields(GetattrFlag.FH, 0, fh))
        buffer = self._buffer
        self._socket.recv_into(buffer)
        _, error, _ = OUT_HEADER.unpack_fields(buffer)
        if error:
            raise OSError(-error, os.strerror(-error))
        (
            _, _, _, ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec,
            mode, nlink, uid, gid, rdev, blksize, _,
        ) = ATTR_OUT.unpack_fields(buffer, OUT_HEADER_SIZE)  # fmt: skip
        return os.stat_result(
            (
                mode, ino, 0, nlink, uid, gid, size, atime, mtime, ctime,
                atime + atimensec / NANO, mtime + mtimensec / NANO, ctime + ctimensec / NANO,
                atime * NANO + atimensec, mtime * NANO + mtimensec, ctime * NANO + ctimensec,
                blksize, blocks, rdev,
            )
        )  # fmt: skip
