"""The table of inodes, and what all operations share: finding one, making one, letting one go, and who may keep a set-ID bit.

One lock guards every inode. It is held for as long as one operation takes, never while waiting for anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading

from ...daemon import Attributes, Granted, InitFlag, Operations, Settings, current_request, posix_acl
from . import acl, pages
from .nodes import INODE, Directory, File, Node, xattr_charge

ROOT = 1
SUID_SGID = stat.S_ISUID | stat.S_ISGID
CAPABILITY = b"security.capability"
LEAST_METADATA = 1 << 20  # bytes


class Inodes(Operations):
    """What the operations stand on. ``nodes``: every inode by its number; a number is never used again."""

    # The kernel checks ACLs (then we apply the umask, which a default ACL replaces), leaves it to us to clear set-ID bits,
    # and may keep what it has read: nothing changes here but what it changes itself.
    settings = Settings(
        flags=InitFlag.POSIX_ACL
        | InitFlag.DONT_MASK
        | InitFlag.HANDLE_KILLPRIV_V2
        | InitFlag.ATOMIC_O_TRUNC
        | InitFlag.CACHE_SYMLINKS
        | InitFlag.EXPORT_SUPPORT
        | InitFlag.EXPLICIT_INVAL_DATA,
        refused=InitFlag.AUTO_INVAL_DATA,
    )

    def __init__(self, size: int | None) -> None:
        if size is None:
            size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self._lock = threading.Lock()
        self._space = pages.Space(size // pages.PAGE)
        self._metadata = pages.Space(max(size // 2, LEAST_METADATA))
        self._metadata.take(INODE)
        self._last = ROOT
        self._kernel_checks = False
        self._linkable: set[int] = set()  # files of O_TMPFILE, which have no name but may be given one
        self.nodes: dict[int, Node] = {ROOT: Directory(ROOT, stat.S_IFDIR | 0o755, os.getuid(), os.getgid())}

    def init(self, granted: Granted) -> None:
        # POSIX_ACL implies default_permissions: then chmod(2) has lost a set-group-ID bit that is not the caller's to set.
        self._kernel_checks = bool(granted.flags & InitFlag.POSIX_ACL)

    def getattr(self, ino: int, fh: int | None) -> Attributes:
        node = self.nodes.get(ino)
        return node if node is not None else self._node(ino)

    def forget(self, ino: int, nlookup: int) -> None:
        with self._lock:
            node = self.nodes.get(ino)
            if node is not None:
                node.nlookup -= nlookup
                self._drop_if_unused(node)

    # -- finding ----------------------------------------------------------------------------------------------------

    def _node(self, ino: int) -> Node:
        try:
            return self.nodes[ino]
        except KeyError:
            raise OSError(errno.ESTALE, "the inode is gone") from None

    def _directory(self, ino: int) -> Directory:
        node = self._node(ino)
        if not isinstance(node, Directory):
            raise NotADirectoryError
        return node

    def _file(self, ino: int) -> File:
        node = self._node(ino)
        if isinstance(node, File):
            return node
        if isinstance(node, Directory):
            raise IsADirectoryError
        raise OSError(errno.EINVAL, "not a regular file")

    # -- making and letting go ------------------------------------------------------------------------------------

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _adopt(self, node: Node, parent: Directory, mode: int, umask: int) -> None:
        """Make a new inode the caller's, with the permissions of ``mode`` as ``parent``'s default ACL and the caller's
        umask leave them. A set-group-ID directory hands its group on, and to directories the bit."""
        if parent.mode & stat.S_ISGID:
            node.gid = parent.gid
            if isinstance(node, Directory):
                mode |= stat.S_ISGID
        default = parent.xattrs.get(posix_acl.DEFAULT) if parent.xattrs else None
        if default is None:
            node.mode |= stat.S_IMODE(mode) & ~umask
        else:
            self._inherit(node, default, stat.S_IMODE(mode))

    def _inherit(self, node: Node, default: bytes, mode: int) -> None:
        access = acl.inherited(acl.parse(default), mode)
        node.mode |= mode & ~0o777 | acl.permissions(access)
        xattrs = {}
        if not acl.is_minimal(access):
            xattrs[posix_acl.ACCESS] = posix_acl.pack(access)
        if isinstance(node, Directory):
            xattrs[posix_acl.DEFAULT] = default
        node.xattrs = xattrs or None
        node.charge += sum(xattr_charge(*pair) for pair in xattrs.items())

    def _unlinked(self, node: Node) -> None:
        """One name fewer leads to ``node``; a directory has but one."""
        node.nlink = 0 if isinstance(node, Directory) else node.nlink - 1
        self._drop_if_unused(node)

    def _drop_if_unused(self, node: Node) -> None:
        if node.nlookup <= 0 and node.nlink <= 0 and self.nodes.pop(node.ino, None) is not None:
            self._linkable.discard(node.ino)
            self._metadata.give(node.charge)
            if isinstance(node, File):
                pages.free(node, self._space)

    # -- extended attributes ----------------------------------------------------------------------------------------

    def _put_xattr(self, node: Node, name: bytes, value: bytes) -> None:
        """Raises OSError(ENOSPC); then nothing has changed."""
        there = node.xattrs.get(name) if node.xattrs else None
        more = xattr_charge(name, value) - (0 if there is None else xattr_charge(name, there))
        self._metadata.take(more)
        node.charge += more
        if node.xattrs is None:
            node.xattrs = {}
        node.xattrs[name] = value

    def _drop_xattr(self, node: Node, name: bytes) -> None:
        """It is gone, if it was there."""
        value = node.xattrs.pop(name, None) if node.xattrs else None
        if value is None:
            return
        charge = xattr_charge(name, value)
        node.charge -= charge
        self._metadata.give(charge)
        if not node.xattrs:
            node.xattrs = None

    # -- set-ID bits ------------------------------------------------------------------------------------------------

    def _kill_privileges(self, node: Node) -> None:
        """What a write or a change of owner takes from a program. Without group execution, the set-group-ID bit was
        mandatory locking's once, and stays."""
        node.mode &= ~stat.S_ISUID
        if node.mode & stat.S_IXGRP:
            node.mode &= ~stat.S_ISGID
        self._drop_xattr(node, CAPABILITY)

    def _written(self, node: Node, kill: bool) -> None:
        """Contents were changed: capabilities go in any case, set-ID bits where the caller may not keep them (``kill``)."""
        node.touch()
        if kill:
            self._kill_privileges(node)
        else:
            self._drop_xattr(node, CAPABILITY)

    @staticmethod
    def _may_set_gid(node: Node) -> bool:
        """Whether the caller may set the set-group-ID bit: root, or one of its group."""
        request = current_request()
        if request.uid == 0 or request.gid == node.gid:
            return True
        with contextlib.suppress(ProcessLookupError):
            return node.gid in request.groups
        return False
