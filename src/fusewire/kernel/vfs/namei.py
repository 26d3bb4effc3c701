"""From a path to a dentry: component by component, over mounts, symbolic links and ``..``, as fs/namei.c goes.

While every component is cached and may be searched nothing is awaited and nothing held, as in Linux's RCU walk. Where the
daemon has to be asked, whoever asks holds what it asks about.
"""

from __future__ import annotations

import errno
import os

from ...wire.errno import Errno
from .files import DeviceFile
from .inode import BAD, DEAD, Dentry, Inode
from .permission import MAY_EXEC, MAY_WRITE, check_sticky
from .program import ProgramTask

PATH_MAX = 4096
MAX_LINKS = 40
AT_FDCWD = -100
ROOT = b"/"  # stands for the last component of a path that has none


def error(number: Errno, path: bytes, why: str) -> OSError:
    """An OSError whose text says why, and whose ``filename`` is the path."""
    return OSError(int(number), why, path)


def absent(path: bytes) -> OSError:
    return error(Errno.ENOENT, path, "No such file or directory")


def not_a_directory(path: bytes) -> OSError:
    return error(Errno.ENOTDIR, path, "Not a directory")


def is_a_directory(path: bytes) -> OSError:
    return error(Errno.EISDIR, path, "Is a directory")


def inode_of(dentry: Dentry, path: bytes) -> Inode:
    """Raises ENOENT for a dentry that says that nothing is there."""
    if dentry.inode is None:
        raise absent(path)
    return dentry.inode


class Nameidata:
    """A walk under way. ``dentry``: where it stands; ``names``: what is still to go, last first; ``slash``: a ``/`` stands
    behind the last; ``links``: symbolic links followed."""

    __slots__ = ("dentry", "links", "names", "path", "slash", "task")

    def __init__(self, task: ProgramTask, path: bytes, dirfd: int) -> None:
        if not path:
            raise error(Errno.ENOENT, path, "the path is empty")
        if len(path) >= PATH_MAX:
            raise error(Errno.ENAMETOOLONG, path, "File name too long")
        if b"\0" in path:
            raise ValueError("embedded null byte")
        self.task = task
        self.path = path
        self.links = 0
        self.dentry = start_of(task, path, dirfd)
        self._push(path, [])

    def _push(self, path: bytes, behind: list[bytes]) -> None:
        """Walk ``path``, and then what is left ``behind``."""
        names = path.split(b"/")
        if not behind:
            self.slash = not names[-1]
        if b"" in names:
            names = [name for name in names if name]
        names.reverse()
        self.names = behind + names

    async def parent(self) -> bytes:
        """Walk up to the last component, which is returned; ``dentry`` is then the directory that it is in."""
        await self._walk(1)
        return self.names.pop() if self.names else ROOT

    async def whole(self, follow: bool) -> Dentry:
        """Walk to the end. Raises ENOENT."""
        while True:
            await self._walk(0)
            inode = inode_of(self.dentry, self.path)
            if not inode.is_link or not (follow or self.slash):
                break
            at = self.dentry
            assert at.parent is not None
            self.dentry = at.parent
            await self.follow_link(inode)
        if self.slash and not inode.is_dir:
            raise not_a_directory(self.path)
        if inode.state & BAD:
            raise error(Errno.EIO, self.path, "the daemon lied about it")
        return self.dentry

    async def _walk(self, leave: int) -> None:
        """Go on until ``leave`` components are left. Symbolic links on the way are followed, one at the end is not."""
        task = self.task
        names = self.names
        dentry = self.dentry
        while len(names) > leave:
            inode = dentry.inode
            if inode is None:
                raise absent(self.path)
            if not inode.is_dir:
                raise not_a_directory(self.path)
            sb = inode.sb
            if not sb.may_walk(task, inode):
                await self._search(dentry, inode)
            name = names.pop()
            if name == b".":
                continue
            if name == b"..":
                dentry = self.dentry = up(task, dentry)
                continue
            child = sb.cached(dentry, name)
            if child is None:
                child = await self._lookup(dentry, name)
            while child.mounted is not None:
                child = child.mounted
            inode = child.inode
            if inode is not None and names and inode.is_link:
                await self.follow_link(inode)
                names = self.names
                dentry = self.dentry
                continue
            dentry = self.dentry = child
        if leave:
            inode = inode_of(dentry, self.path)
            if not inode.is_dir:
                raise not_a_directory(self.path)
            if names and not inode.sb.may_walk(task, inode):
                await self._search(dentry, inode)
                inode_of(dentry, self.path)  # it may have been removed meanwhile, and nobody else held it

    async def _search(self, dentry: Dentry, inode: Inode) -> None:
        dentry.get()
        try:
            await inode.sb.permission(self.task, inode, MAY_EXEC)
        except OSError as failed:
            raise with_path(failed, self.path) from None
        finally:
            dentry.put(self.task)

    async def _lookup(self, parent: Dentry, name: bytes) -> Dentry:
        sb = inode_of(parent, self.path).sb
        if len(name) > sb.name_max:
            raise error(Errno.ENAMETOOLONG, self.path, "File name too long")
        try:
            return await sb.lookup(self.task, parent, name)
        except OSError as failed:
            raise with_path(failed, self.path) from None

    async def follow_link(self, inode: Inode) -> None:
        """Go where a symbolic link in ``dentry`` leads, and then on. Raises ELOOP."""
        self.links += 1
        if self.links > MAX_LINKS:
            raise error(Errno.ELOOP, self.path, "Too many levels of symbolic links")
        try:
            target = await inode.sb.readlink(self.task, inode)
        except OSError as failed:
            raise with_path(failed, self.path) from None
        if not target:
            raise absent(self.path)
        if target.startswith(b"/"):
            self.dentry = crossed(self.task.program.root)
        slash = self.slash
        self._push(target, self.names)
        self.slash = self.slash or slash


def with_path(failed: OSError, path: bytes) -> OSError:
    """The same error, with the path that the caller gave."""
    if failed.filename is None:
        failed.filename = path
    return failed


def start_of(task: ProgramTask, path: bytes, dirfd: int = AT_FDCWD) -> Dentry:
    """Where the walk of ``path`` begins. Raises EBADF, ENOTDIR for a descriptor that is none of a directory."""
    if path.startswith(b"/"):
        return crossed(task.program.root)
    if dirfd == AT_FDCWD:
        return crossed(task.program.cwd)
    file = task.program.files.get(dirfd)
    if isinstance(file, DeviceFile) or not file.inode.is_dir:
        raise not_a_directory(path)
    return file.dentry


async def lookup(task: ProgramTask, path: bytes, dirfd: int = AT_FDCWD, follow: bool = True) -> Dentry:
    """The dentry of ``path``, which must exist. Raises ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG and what the daemon answers."""
    return await Nameidata(task, path, dirfd).whole(follow)


async def lookup_parent(task: ProgramTask, path: bytes, dirfd: int = AT_FDCWD) -> tuple[Dentry, bytes, bool]:
    """The directory that the last component of ``path`` is in, which is held; that component (``ROOT`` for none), and
    whether a ``/`` stands behind it."""
    walk = Nameidata(task, path, dirfd)
    name = await walk.parent()
    return task.hold(walk.dentry), name, walk.slash


async def lookup_last(task: ProgramTask, parent: Dentry, name: bytes, path: bytes, fresh: bool = False) -> Dentry:
    """What ``name`` in ``parent`` is, held: positive or negative, and not what is mounted there."""
    sb = parent.positive.sb
    if len(name) > sb.name_max:
        raise error(Errno.ENAMETOOLONG, path, "File name too long")
    try:
        return task.hold(await sb.lookup(task, parent, name, fresh))
    except OSError as failed:
        raise with_path(failed, path) from None


def crossed(dentry: Dentry) -> Dentry:
    """What is seen at ``dentry``: the root of what is mounted there, if anything."""
    while dentry.mounted is not None:
        dentry = dentry.mounted
    return dentry


def up(task: ProgramTask, dentry: Dentry) -> Dentry:
    """``..``: over the root of a mount to what it covers, and never above the program's root."""
    root = crossed(task.program.root)
    while dentry is not root:
        if dentry.parent is not None:
            return crossed(dentry.parent)
        covered = dentry.positive.sb.mountpoint_dentry
        if covered is None:
            return dentry
        dentry = covered
    return dentry


# -- what may be done to a name ------------------------------------------------------------------------------------


async def may_create(task: ProgramTask, parent: Dentry, path: bytes) -> None:
    """Raises EACCES, ENOENT in a directory that was removed."""
    directory = parent.positive
    if directory.state & DEAD:
        raise absent(path)
    await may(task, directory, MAY_WRITE | MAY_EXEC, path)


async def may_delete(task: ProgramTask, parent: Dentry, dentry: Dentry, path: bytes, directory: bool) -> None:
    """Raises ENOENT, EACCES, EPERM, ENOTDIR, EISDIR, EBUSY for the root of a mount or of a program."""
    inode = inode_of(dentry, path)
    await may(task, parent.positive, MAY_WRITE | MAY_EXEC, path)
    try:
        check_sticky(task.cred, parent.positive, inode)
    except OSError as failed:
        raise with_path(failed, path) from None
    if directory and not inode.is_dir:
        raise not_a_directory(path)
    if not directory and inode.is_dir:
        raise is_a_directory(path)
    if parent.positive.state & DEAD:
        raise absent(path)


async def may(task: ProgramTask, inode: Inode, mask: int, path: bytes) -> None:
    """Raises EACCES and what the daemon answers to ACCESS; EIO for an inode that the daemon lied about."""
    if inode.state & BAD:
        raise error(Errno.EIO, path, os.strerror(errno.EIO))
    try:
        await inode.sb.permission(task, inode, mask)
    except OSError as failed:
        raise with_path(failed, path) from None


def getcwd(task: ProgramTask) -> bytes:
    """The path of the working directory, from the program's root. Raises ENOENT for one that was removed."""
    root = crossed(task.program.root)
    dentry = crossed(task.program.cwd)
    parts: list[bytes] = []
    while dentry is not root:
        if dentry.parent is not None:
            if not dentry.hashed:
                raise absent(b"")
            parts.append(dentry.name)
            dentry = dentry.parent
            continue
        covered = dentry.positive.sb.mountpoint_dentry
        if covered is None:
            break
        dentry = covered
    return b"/" + b"/".join(reversed(parts))
