"""Names, inodes and attributes: what needs no open file."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import stat
import struct
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from ...daemon import (
    Attributes,
    Changes,
    Entry,
    Granted,
    InitFlag,
    Operations,
    Request,
    Settings,
    StatFS,
    Statx,
    current_request,
    posix_acl,
)
from . import syscalls
from .caller import Identity, parent_group, umask
from .descriptors import OpenFiles
from .nodes import File, Node, Nodes, check_name, open_at

log = logging.getLogger("fusewire.passthrough")
T = TypeVar("T")

_NODE_FLAGS = os.O_PATH | os.O_NOFOLLOW
# A mount is crossed; openat2(2) is not there, or a sandbox forbids it; a signal came; descriptors ran out.
_NOT_SO_SIMPLE = (errno.EXDEV, errno.ENOSYS, errno.EPERM, errno.EINTR, errno.EMFILE)
_PRUNED_AT_ONCE = 1024
_SUID_SGID = stat.S_ISUID | stat.S_ISGID


class Tree(Operations):
    """The half of the mirror that works on inodes. ``filesystem`` has the half that works on open files."""

    settings = Settings(
        flags=InitFlag.PASSTHROUGH
        | InitFlag.POSIX_ACL  # the host's ACLs count; this also turns default_permissions on
        | InitFlag.DONT_MASK
        | InitFlag.CREATE_SUPP_GROUP
        | InitFlag.HANDLE_KILLPRIV_V2
        | InitFlag.ATOMIC_O_TRUNC
        | InitFlag.CACHE_SYMLINKS,  # an inode's target never changes
        max_stack_depth=1,
    )

    def __init__(self, source: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        self.source = os.fsdecode(source)
        try:
            root = os.open(source, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            raise OSError(error.errno, f"cannot mirror {self.source}: {error.strerror}") from None
        self._nodes = Nodes(root)
        self._files: OpenFiles[File] = OpenFiles()
        self._identity = Identity()
        self._pruned: Future[None] | None = None

    # -- the session ----------------------------------------------------------------------------------------------

    def init(self, granted: Granted) -> None:
        """Raise the limit of descriptors."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._plenty = resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4 if granted.minor >= 45 else sys.maxsize
        self._umask_is_ours = bool(granted.flags & InitFlag.DONT_MASK)
        self._tells_groups = bool(granted.flags & InitFlag.CREATE_SUPP_GROUP)

    def destroy(self) -> None:
        """Give every descriptor back."""
        self._nodes.clear()

    # -- names ----------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Entry:
        return self._look(self._nodes[parent], check_name(name))

    def _look(self, parent: Node, name: bytes) -> Entry:
        """One component, no symbolic link followed: the descriptor it gives is the truth, and the name is done with."""
        try:
            fd, mount = syscalls.openat2(parent.fd, name, _NODE_FLAGS, syscalls.RESOLVE_NO_XDEV), parent.mount
        except OSError as error:
            if error.errno not in _NOT_SO_SIMPLE:
                raise
            fd, mount = self._cross(parent, name)
        return self._refer(fd, mount)

    def _cross(self, parent: Node, name: bytes) -> tuple[int, int]:
        """A name that another filesystem may be mounted on: a descriptor of what is seen there, and its mount.

        Not of our own mount: we would be asked about it while we answer, and it could not be unmounted any more.
        """
        fd = open_at(name, _NODE_FLAGS, dir_fd=parent.fd)
        try:
            device, mount = syscalls.mount_of(fd)
            if self.session.number and device == os.makedev(0, self.session.number):
                raise OSError(errno.ELOOP, "the mirror itself is mounted there")
        except OSError:
            os.close(fd)
            raise
        return fd, mount

    def _refer(self, fd: int, mount: int) -> Entry:
        """The entry of an O_PATH descriptor, reached by ``mount``."""
        try:
            st = os.fstat(fd)
        except OSError:
            os.close(fd)
            raise
        node = self._nodes.refer(fd, st, mount)
        if len(self._nodes) > self._plenty:
            self._make_room()
        return Entry(Attributes.of(st, node.ino), node.nodeid, attr_timeout=0.0 if has_suid_or_sgid(st) else None)

    def _make_room(self) -> None:
        """Descriptors run short: have the kernel forget inodes that it only remembers (7.45), some at a time. Raises nothing:
        whoever looked a name up has its reference, and is to hear of it."""
        pruned = self._pruned  # two threads may come at once
        if pruned is not None and not pruned.done():
            return
        try:
            if pruned is not None:
                pruned.result()
            idle = self._nodes.idle(_PRUNED_AT_ONCE)
            self._pruned = self.session.notify.prune(idle) if idle else None
        except FileNotFoundError:
            self._pruned = None  # it had forgotten them already
        except OSError as error:
            self._plenty = sys.maxsize
            log.debug("the kernel does not forget inodes when asked to: %s", error)
        except Exception as error:  # Linux gives no thread to ask from; the mount has ended meanwhile
            self._pruned = None
            log.debug("the kernel cannot be asked to forget inodes now: %r", error)

    def forget(self, ino: int, nlookup: int) -> None:
        self._nodes.forget(ino, nlookup)

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        directory = self._nodes[parent]
        check_name(name)
        self._as_caller(lambda: os.mknod(name, mode, rdev, dir_fd=directory.fd))
        return self._look(directory, name)

    def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
        directory = self._nodes[parent]
        check_name(name)
        self._as_caller(lambda: os.mkdir(name, stat.S_IMODE(mode), dir_fd=directory.fd))
        return self._look(directory, name)

    def symlink(self, parent: int, name: bytes, target: bytes) -> Entry:
        directory = self._nodes[parent]
        check_name(name)
        self._as_caller(lambda: os.symlink(target, name, dir_fd=directory.fd))
        return self._look(directory, name)

    def link(self, ino: int, newparent: int, newname: bytes) -> Entry:
        """Also gives a file of O_TMPFILE its name."""
        node, directory = self._nodes[ino], self._nodes[newparent]
        os.link(node.path, check_name(newname), dst_dir_fd=directory.fd, follow_symlinks=True)
        return self._refer(open_at(node.path, os.O_PATH), node.mount)

    def unlink(self, parent: int, name: bytes) -> None:
        directory = self._nodes[parent]
        os.unlink(check_name(name), dir_fd=directory.fd)

    def rmdir(self, parent: int, name: bytes) -> None:
        directory = self._nodes[parent]
        os.rmdir(check_name(name), dir_fd=directory.fd)

    def rename(self, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        old, new = self._nodes[parent], self._nodes[newparent]
        check_name(name)
        check_name(newname)
        if flags:
            syscalls.renameat2(old.fd, name, new.fd, newname, flags)
        else:
            os.rename(name, newname, src_dir_fd=old.fd, dst_dir_fd=new.fd)

    def readlink(self, ino: int) -> bytes:
        node = self._nodes[ino]
        return os.readlink(b"", dir_fd=node.fd)

    # -- attributes -----------------------------------------------------------------------------------------------

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        return self._attributes(self._nodes[ino])

    def _attributes(self, node: Node) -> Attributes:
        """The kernel may remember them, unless a write may change the mode: it does not notice when that clears a bit."""
        st = os.fstat(node.fd)
        if has_suid_or_sgid(st):
            with contextlib.suppress(OSError):  # not every transport takes notifications
                self.session.notify.inval_inode(node.nodeid, -1)
        return Attributes.of(st, node.ino)

    def setattr(self, ino: int, changes: Changes, fh: int | None) -> Attributes:
        node = self._nodes[ino]
        # The owner before the mode: a change of owner clears the set-user-ID bit, which the mode may set.
        if changes.uid is not None or changes.gid is not None:
            os.chown(node.path, _or_minus_one(changes.uid), _or_minus_one(changes.gid))
        if changes.mode is not None:
            os.chmod(node.path, stat.S_IMODE(changes.mode))
        if changes.size is not None:
            self._truncate(node, changes.size, fh, changes.kill_suidgid)
        atime = _time(changes.atime_ns, changes.atime_now)
        mtime = _time(changes.mtime_ns, changes.mtime_now)
        if atime != syscalls.OMIT or mtime != syscalls.OMIT:
            syscalls.utimensat(node.path, atime, mtime)
        return self._attributes(node)

    def _truncate(self, node: Node, size: int, fh: int | None, kill_suidgid: bool) -> None:
        file = None if fh is None else self._files[fh]
        with self._identity.without_fsetid() if kill_suidgid else contextlib.nullcontext():
            os.truncate(node.path if file is None else file.fd, size)

    def statx(self, ino: int, fh: int | None, flags: int, mask: int) -> Statx:
        node = self._nodes[ino]
        raw = syscalls.statx(node.fd, flags, mask & _STATX_KNOWN)
        fields = _STATX.unpack_from(raw)
        times = [fields[at : at + 3] for at in range(12, 24, 3)]
        return Statx(fields[0] & _STATX_KNOWN, *fields[1:12], *times, *fields[24:])._replace(ino=node.ino)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        node = self._nodes[ino]
        if name == posix_acl.ACCESS:
            # As the caller, with all groups: the host clears the set-group-ID bit for one who is not in the file's group.
            request = current_request()
            with self._identity.caller(request.uid, request.gid, _all_groups(request)):
                os.setxattr(node.path, name, value, flags)
        else:
            os.setxattr(node.path, name, value, flags)

    def getxattr(self, ino: int, name: bytes) -> bytes:
        node = self._nodes[ino]
        return os.getxattr(node.path, name)

    def listxattr(self, ino: int) -> Iterable[bytes]:
        node = self._nodes[ino]
        names = [os.fsencode(name) for name in os.listxattr(node.path)]
        if current_request().uid != 0:  # the host shows these to the privileged only, and that is us
            names = [name for name in names if not name.startswith(b"trusted.")]
        return names

    def removexattr(self, ino: int, name: bytes) -> None:
        node = self._nodes[ino]
        os.removexattr(node.path, name)

    def statfs(self, ino: int) -> StatFS:
        node = self._nodes[ino]
        st = os.fstatvfs(node.fd)
        return StatFS(
            st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree, st.f_bsize, st.f_namemax, st.f_frsize
        )  # fmt: skip

    # -- as the caller --------------------------------------------------------------------------------------------

    def _as_caller(self, call: Callable[[], T]) -> T:
        """Make something as the caller, under its umask.

        Of its supplementary groups the kernel tells the directory's, which decides who owns what is made. Others matter
        only to the directory's ACL: when the host refuses, once more with all of them, which take longer to find out.
        """
        request = current_request()
        message = request.message
        mask = message.structs[0].umask if message.structs and self._umask_is_ours else 0
        groups = parent_group(message.extensions)
        try:
            with umask(mask), self._identity.caller(request.uid, request.gid, groups):
                return call()
        except PermissionError as error:
            everything = _all_groups(request) if self._tells_groups and error.errno == errno.EACCES else ()
            if not everything:
                raise
        with umask(mask), self._identity.caller(request.uid, request.gid, everything):
            return call()

    def _as_writer(self) -> contextlib.AbstractContextManager[None]:
        """For requests that change contents and do not say whether that clears the set-user-ID bit: for all but root's."""
        return self._identity.without_fsetid() if current_request().uid else contextlib.nullcontext()


_STATX = struct.Struct("=IIQIIIHHQQQQ" + "qIi" * 4 + "IIII")  # struct statx, to stx_dev_minor
_STATX_KNOWN = 0xFFF  # STATX_BASIC_STATS and STATX_BTIME: all that struct fuse_statx has room for


def has_suid_or_sgid(st: os.stat_result) -> bool:
    """Whether it is a file with bits that a write clears."""
    return bool(st.st_mode & _SUID_SGID) and stat.S_ISREG(st.st_mode)


def _all_groups(request: Request) -> tuple[int, ...]:
    """The caller's supplementary groups; none of a process that cannot be seen."""
    try:
        return request.groups
    except ProcessLookupError:
        return ()


def _or_minus_one(number: int | None) -> int:
    return -1 if number is None else number


def _time(ns: int | None, now: bool) -> int:
    if ns is None:
        return syscalls.OMIT
    return syscalls.NOW if now else ns
