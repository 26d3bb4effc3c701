"""After mounting: become another user, and tell systemd that we are ready."""

from __future__ import annotations

import errno
import logging
import os
import pwd
import socket

from .options import MountError

log = logging.getLogger("fusewire.linux")


def become(user: str) -> None:
    """Give up root for ``user`` (a name), with its groups, for good. Raises :class:`MountError`."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise MountError(errno.EINVAL, f"user {user!r} does not exist") from None
    try:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError:
        raise MountError(errno.EPERM, f"only root can become {user}") from None


def sd_notify(state: str) -> bool:
    """Tell systemd (``READY=1``, ``STOPPING=1``; sd_notify(3)); False where it did not ask for it, or, which is logged, cannot
    be reached."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    abstract = address[0] == "@"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), "\0" + address[1:] if abstract else address)
    except OSError as error:
        log.warning("systemd was not told %s at NOTIFY_SOCKET=%s: %s", state, address, error)
        return False
    return True
