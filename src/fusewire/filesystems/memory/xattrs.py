"""Extended attributes, and among them the POSIX ACLs, which change the mode."""

from __future__ import annotations

import errno
import stat
from time import time_ns

from ...daemon import current_request, posix_acl
from . import acl
from .inodes import Inodes
from .nodes import Directory, Node, Symlink, error

# setxattr(2), <linux/xattr.h> and <linux/limits.h>
XATTR_CREATE, XATTR_REPLACE = 1, 2
XATTR_NAME_MAX, XATTR_SIZE_MAX = 255, 65536


class ExtendedAttributes(Inodes):
    """Names of any kind; who may see and set which is the kernel's to say, but for listing ``trusted.``."""

    def getxattr(self, ino: int, name: bytes) -> bytes:
        value = (self._node(ino).xattrs or {}).get(name)
        if value is None:
            raise error(errno.ENODATA)
        return value

    def listxattr(self, ino: int) -> list[bytes]:
        hide = current_request().uid != 0
        with self._lock:
            return [name for name in self._node(ino).xattrs or () if not (hide and name.startswith(b"trusted."))]

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        if len(name) > XATTR_NAME_MAX:
            raise error(errno.ERANGE)
        if len(value) > XATTR_SIZE_MAX:
            raise error(errno.E2BIG)
        with self._lock:
            node = self._node(ino)
            exists = node.xattrs is not None and name in node.xattrs
            if flags & XATTR_CREATE and exists:
                raise FileExistsError
            if flags & XATTR_REPLACE and not exists:
                raise error(errno.ENODATA)
            if name == posix_acl.ACCESS:
                self._set_access_acl(node, value)
            else:
                if name == posix_acl.DEFAULT:
                    _check_default_acl(node, value)
                self._put_xattr(node, name, value)
            node.ctime_ns = time_ns()

    def removexattr(self, ino: int, name: bytes) -> None:
        with self._lock:
            node = self._node(ino)
            if node.xattrs is None or name not in node.xattrs:
                if name in (posix_acl.ACCESS, posix_acl.DEFAULT):  # where there is no list, it is done
                    return
                raise error(errno.ENODATA)
            self._drop_xattr(node, name)
            node.ctime_ns = time_ns()

    def _set_access_acl(self, node: Node, value: bytes) -> None:
        """The mode shows the list; one that says no more than the mode is not kept."""
        if isinstance(node, Symlink):
            raise error(errno.EOPNOTSUPP)
        access = acl.parse(value)
        if acl.is_minimal(access):
            self._drop_xattr(node, posix_acl.ACCESS)
        else:
            self._put_xattr(node, posix_acl.ACCESS, value)
        node.mode = node.mode & ~0o777 | acl.permissions(access)
        if node.mode & stat.S_ISGID and not self._may_set_gid(node):
            node.mode &= ~stat.S_ISGID


def _check_default_acl(node: Node, value: bytes) -> None:
    acl.parse(value)
    if not isinstance(node, Directory):
        raise PermissionError
