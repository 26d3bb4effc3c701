"""Names: looking up, making, removing, linking, renaming."""

from __future__ import annotations

import errno
import os
import stat

from ...daemon import Entry, FOpenFlag, Opened, current_request
from .inodes import Inodes
from .nodes import NAME, Directory, File, Node, Symlink, check_length, error

# rename(2), <linux/fs.h>
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
OPENED = Opened(0, FOpenFlag.KEEP_CACHE)  # a file's contents change only by the kernel that caches them


class Names(Inodes):
    """Operations on a directory and a name."""

    def lookup(self, parent: int, name: bytes) -> Entry:
        with self._lock:
            directory = self.nodes.get(parent)
            link = directory.links.get(name) if isinstance(directory, Directory) else None
            node = link.node if link is not None else self._find_special(parent, name)
            node.nlookup += 1
            return Entry(node)

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        request = current_request()
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        with self._lock:
            directory = self._directory_for(parent, name)
            number = self._number()
            if kind == stat.S_IFREG:
                node: Node = File(number, kind, request.uid, request.gid)
            else:
                node = Node(number, kind, request.uid, request.gid, rdev)
            self._adopt(node, directory, mode, request.umask)
            return self._added(directory, name, node)

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> tuple[Entry, Opened]:
        request = current_request()
        with self._lock:
            directory = self._directory_for(parent, name)
            node = File(self._number(), stat.S_IFREG, request.uid, request.gid)
            self._adopt(node, directory, mode, request.umask)
            node.opens = 1
            return self._added(directory, name, node), OPENED

    def tmpfile(self, parent: int, mode: int, flags: int) -> tuple[Entry, Opened]:
        request = current_request()
        with self._lock:
            node = File(self._number(), stat.S_IFREG, request.uid, request.gid)
            self._adopt(node, self._directory(parent), mode, request.umask)
            self._metadata.take(node.charge)
            node.nlink = 0
            node.opens = 1
            self.nodes[node.ino] = node
            if not flags & os.O_EXCL:
                self._linkable.add(node.ino)
            return self._granted(node), OPENED

    def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
        request = current_request()
        with self._lock:
            directory = self._directory_for(parent, name)
            node = Directory(self._number(), stat.S_IFDIR, request.uid, request.gid, directory)
            self._adopt(node, directory, mode, request.umask)
            return self._added(directory, name, node)

    def symlink(self, parent: int, name: bytes, target: bytes) -> Entry:
        request = current_request()
        with self._lock:
            directory = self._directory_for(parent, name)
            gid = directory.gid if directory.mode & stat.S_ISGID else request.gid
            return self._added(directory, name, Symlink(self._number(), request.uid, gid, target))

    def link(self, ino: int, newparent: int, newname: bytes) -> Entry:
        with self._lock:
            directory = self._directory_for(newparent, newname)
            node = self._node(ino)
            if isinstance(node, Directory):
                raise error(errno.EPERM)
            if node.nlink == 0 and ino not in self._linkable:
                raise FileNotFoundError
            self._metadata.take(NAME)
            self._linkable.discard(ino)
            directory.add(newname, node)
            node.nlink += 1
            node.ctime_ns = directory.ctime_ns
            return self._granted(node)

    def unlink(self, parent: int, name: bytes) -> None:
        with self._lock:
            directory = self._directory(parent)
            if isinstance(directory.find(name), Directory):
                raise IsADirectoryError
            self._remove(directory, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        with self._lock:
            directory = self._directory(parent)
            node = directory.find(name)
            if not isinstance(node, Directory):
                raise NotADirectoryError
            if node.links:
                raise error(errno.ENOTEMPTY)
            self._remove(directory, name)

    # -- renaming -------------------------------------------------------------------------------------------------

    def rename(self, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
            raise error(errno.EINVAL)
        if flags & RENAME_EXCHANGE and flags != RENAME_EXCHANGE:
            raise error(errno.EINVAL)
        with self._lock:
            source, target = self._directory(parent), self._directory(newparent)
            if flags & RENAME_EXCHANGE:
                self._exchange(source, name, target, newname)
            else:
                self._move(source, name, target, newname, flags)

    def _move(self, source: Directory, name: bytes, target: Directory, newname: bytes, flags: int) -> None:
        node = source.find(name)
        check_length(newname)
        _check_not_inside(node, target)
        if target.nlink == 0:
            raise FileNotFoundError
        there = target.links.get(newname)
        if there is not None:
            if flags & RENAME_NOREPLACE:
                raise FileExistsError
            if there.node is node:
                return  # POSIX: two names of one file, and nothing happens
            _check_replaceable(node, there.node)
        if flags & RENAME_WHITEOUT:
            source.replace(name, self._whiteout(source))
        else:
            source.remove(name)
        if there is None:
            target.add(newname, node)
        else:
            old = target.replace(newname, node)
            old.ctime_ns = target.ctime_ns
            self._metadata.give(NAME)
            self._unlinked(old)
        node.ctime_ns = target.ctime_ns

    def _exchange(self, source: Directory, name: bytes, target: Directory, newname: bytes) -> None:
        one, other = source.find(name), target.find(newname)
        _check_not_inside(one, target)
        _check_not_inside(other, source)
        source.replace(name, other)
        target.replace(newname, one)
        one.ctime_ns = other.ctime_ns = target.ctime_ns

    def _whiteout(self, directory: Directory) -> Node:
        """What union filesystems leave where a name was: the character device 0, 0."""
        request = current_request()
        node = Node(self._number(), stat.S_IFCHR, request.uid, request.gid)
        self._adopt(node, directory, 0, 0)
        self._metadata.take(node.charge + NAME)
        self.nodes[node.ino] = node
        return node

    # -- helpers ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _granted(node: Node) -> Entry:
        node.nlookup += 1
        return Entry(node)

    def _find_special(self, parent: int, name: bytes) -> Node:
        """``.`` and ``..`` are looked up by file handles only (EXPORT_SUPPORT): the kernel knows them. ``.`` is asked of any
        inode that it has forgotten."""
        if name == b".":
            return self._node(parent)
        directory = self._directory(parent)
        if name == b"..":
            return directory.parent
        return directory.find(name)

    def _directory_for(self, parent: int, name: bytes) -> Directory:
        """The directory, in which ``name`` can be made."""
        directory = self._directory(parent)
        check_length(name)
        if name in directory.links:
            raise FileExistsError
        if directory.nlink == 0:
            raise FileNotFoundError
        return directory

    def _added(self, directory: Directory, name: bytes, node: Node) -> Entry:
        """A new inode, in place."""
        self._add(directory, name, node)
        return self._granted(node)

    def _add(self, directory: Directory, name: bytes, node: Node) -> None:
        self._metadata.take(node.charge + NAME)
        self.nodes[node.ino] = node
        directory.add(name, node)

    def _remove(self, directory: Directory, name: bytes) -> None:
        node = directory.remove(name)
        self._metadata.give(NAME)
        node.ctime_ns = directory.ctime_ns
        self._unlinked(node)


def _check_not_inside(node: Node, target: Directory) -> None:
    """A directory cannot become its own descendant. Raises OSError(EINVAL)."""
    if not isinstance(node, Directory):
        return
    while target is not node:
        if target.parent is target:
            return
        target = target.parent
    raise error(errno.EINVAL)


def _check_replaceable(node: Node, old: Node) -> None:
    """Directories replace empty directories, and other things other things."""
    if not isinstance(old, Directory):
        if isinstance(node, Directory):
            raise NotADirectoryError
    elif not isinstance(node, Directory):
        raise IsADirectoryError
    elif old.links:
        raise error(errno.ENOTEMPTY)
