"""fusermount3: the setuid helper that mounts and unmounts for ordinary users, and hands the descriptor over by a socket."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess

from .options import MountError, MountOptions


def program() -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which("fusermount3") or shutil.which("fusermount")


def mount(path: str, options: MountOptions) -> int:
    """Mount; returns the descriptor of /dev/fuse. Raises :class:`MountError` with the helper's own words."""
    if not (options.nosuid and options.nodev):
        raise MountError(
            errno.EPERM, f"suid and dev on {path}: only root may use them, fusermount3 would leave them out"
        )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        helper = subprocess.Popen(
            [_program(), "-o", options.words(), "--", path],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
        )
        theirs.close()
        _, fds, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
        _, words = helper.communicate(timeout=30)
    if not fds:
        raise MountError(errno.EPERM, _explain(path, words))
    os.set_inheritable(fds[0], False)
    return fds[0]


def unmount(path: str, *, lazy: bool) -> None:
    """Unmount. Raises :class:`MountError`."""
    command = [_program(), "-u", *(["-z"] if lazy else []), "--", path]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="surrogateescape", timeout=60
    )
    if done.returncode:
        busy = "busy" in done.stderr
        raise MountError(
            errno.EBUSY if busy else errno.EPERM,
            f"{path} was not unmounted: {done.stderr.strip() or 'fusermount3 failed'}",
        )


def _program() -> str:
    found = program()
    if found is None:
        raise MountError(errno.ENOENT, "fusermount3 is not installed (Debian: apt install fuse3)")
    return found


def _explain(path: str, words: str) -> str:
    words = words.strip()
    if "user_allow_other" in words:
        return f"allow_other on {path}: only root may use it, until root adds the line 'user_allow_other' to /etc/fuse.conf"
    return f"mounting on {path} failed: {words or 'fusermount3 gave no descriptor and no reason'}"
