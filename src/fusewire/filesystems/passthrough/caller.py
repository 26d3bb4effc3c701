"""Acting as the caller, for as long as one system call takes, in one thread.

Rules. The changes are the thread's own (setfsuid, setfsgid, the raw setgroups, capset; the umask once unshare has made it
so), they are undone in ``finally``, and nothing inside starts a thread or a process, which would inherit them.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import syscalls


class _Own(NamedTuple):
    """Who this process is. ``privileged``: whether it may act as other users at all."""

    uid: int
    gid: int
    groups: list[int]
    effective: int
    permitted: int
    inheritable: int

    @classmethod
    def look(cls) -> _Own:
        return cls(os.geteuid(), os.getegid(), os.getgroups(), *syscalls.capabilities())

    @property
    def privileged(self) -> bool:
        return self.has(syscalls.CAP_SETUID) and self.has(syscalls.CAP_SETGID)

    def has(self, capability: int) -> bool:
        return bool(self.effective & 1 << capability)


class Identity:
    """The daemon's own identity, to put others on over it.

    A daemon may give up its privileges while it serves (``MountOptions.user``): then it is another, and is looked at anew;
    whole, because other threads go by it meanwhile.
    """

    def __init__(self) -> None:
        self._last = _Own.look()

    def _own(self) -> _Own:
        own = self._last
        if os.geteuid() != own.uid:
            own = self._last = _Own.look()
        return own

    @contextlib.contextmanager
    def caller(self, uid: int, gid: int, groups: Sequence[int]) -> Iterator[None]:
        """Make and open files as this user: the host checks permissions and sets owners for it.

        A daemon without privileges stays who it is.
        """
        own = self._own()
        if not own.privileged or (uid == own.uid and gid == own.gid):
            yield
            return
        try:
            syscalls.setgroups(groups)
            syscalls.setfsgid(gid)
            syscalls.setfsuid(uid)  # last: it gives up capabilities
            yield
        finally:
            own = self._own()
            syscalls.setfsuid(own.uid)
            syscalls.setfsgid(own.gid)
            if own.privileged:
                syscalls.setgroups(own.groups)

    @contextlib.contextmanager
    def without_fsetid(self) -> Iterator[None]:
        """Change contents as someone whom no set-user-ID bit survives: the host clears it, atomically with the change."""
        own = self._own()
        if not own.has(syscalls.CAP_FSETID):
            yield
            return
        try:
            syscalls.set_capabilities(own.effective & ~(1 << syscalls.CAP_FSETID), own.permitted, own.inheritable)
            yield
        finally:
            own = self._own()
            syscalls.set_capabilities(own.effective, own.permitted, own.inheritable)


_thread = threading.local()
_umask_lock = threading.Lock()


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    """Make files under this umask. The host applies it, because the host knows whether a default ACL overrides it.

    A umask belongs to the whole process, until a thread has asked for one of its own (and a working directory with it).
    Where a sandbox forbids that, threads take turns.
    """
    own = getattr(_thread, "has_own_umask", None)
    if own is None:
        own = _thread.has_own_umask = _unshared()
    with contextlib.nullcontext() if own else _umask_lock:
        before = os.umask(mask)
        try:
            yield
        finally:
            os.umask(before)


def _unshared() -> bool:
    try:
        syscalls.unshare_fs()
    except OSError:
        return False
    return True


_EXT_GROUPS = 32  # enum fuse_ext_type of <linux/fuse.h>


def parent_group(extensions: bytes) -> list[int]:
    """The directory's group, where the caller is in it without its being its main group: InitFlag.CREATE_SUPP_GROUP has the
    kernel tell, as an extension of the request (struct fuse_ext_header, then fuse_supp_groups)."""
    start = 0
    while start + 8 <= len(extensions):
        size, kind = struct.unpack_from("=II", extensions, start)
        if kind == _EXT_GROUPS:
            (count,) = struct.unpack_from("=I", extensions, start + 8)
            return list(struct.unpack_from(f"={count}I", extensions, start + 12))
        start += max(size, 8)
    return []
