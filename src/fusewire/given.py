"""A descriptor that someone else mounted, or connected: ``/dev/fd/N`` in a mountpoint's place."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from dataclasses import replace

from .linux.options import MountError, MountOptions
from .linux.privileges import become
from .transport.devfuse import DevFuse
from .transport.sockets import Seqpacket, Stream

Given = DevFuse | Seqpacket | Stream
_FUSE_DEVICE = os.makedev(10, 229)
_FD_PATH = re.compile(r"/dev/fd/(\d+)$")


def is_descriptor(path: str) -> bool:
    """Whether ``path`` names a descriptor of ours, and not a mountpoint."""
    return _FD_PATH.match(path) is not None


def given_channel(path: str) -> Given | None:
    """The descriptor that ``/dev/fd/N`` names: /dev/fuse, mounted by someone else, or a connected socket."""
    match = _FD_PATH.match(path)
    if match is None:
        return None
    fd = int(match[1])
    try:
        found = os.fstat(fd)
    except OSError as error:
        raise MountError(error.errno, f"{path}: descriptor {fd} is not open") from None
    if not stat.S_ISSOCK(found.st_mode):
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _FUSE_DEVICE:
            raise MountError(errno.EINVAL, f"{path} is neither /dev/fuse nor a connected socket")
        os.set_inheritable(fd, False)
        return DevFuse(fd)
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(True)
    if sock.type == socket.SOCK_SEQPACKET:
        return Seqpacket(sock)
    if sock.type == socket.SOCK_STREAM:
        return Stream(sock)
    sock.detach()
    raise MountError(errno.EINVAL, f"{path} is a socket that is neither SOCK_SEQPACKET nor SOCK_STREAM")


def become_whoever_serves(channel: Given, path: str, options: MountOptions) -> None:
    """Of all options that is the one left when someone else mounts. Raises :class:`MountError`; the descriptor stays the
    caller's."""
    others = replace(options, user="").chosen()
    try:
        if others:
            raise MountError(
                errno.EINVAL,
                f"{path} is not mounted by us: give {', '.join(others)} to whoever mounts it; setuid= applies",
            )
        if options.user:
            become(options.user)
    except MountError:
        if not isinstance(channel, DevFuse):
            channel.socket.detach()
        raise
