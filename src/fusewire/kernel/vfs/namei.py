"""From a path to a dentry: component by component, over mounts and ``..``."""

from __future__ import annotations

from ...wire.errno import Errno
from .inode import Dentry, Inode
from .program import ProgramTask

NAME_MAX = 255
PATH_MAX = 4096


def error(number: Errno, path: bytes, why: str) -> OSError:
    """An OSError whose text says why, and whose ``filename`` is the path."""
    return OSError(int(number), why, path)


def inode_of(dentry: Dentry, path: bytes) -> Inode:
    """Raises ENOENT for a dentry that says that nothing is there."""
    if dentry.inode is None:
        raise error(Errno.ENOENT, path, "No such file or directory")
    return dentry.inode


async def lookup(task: ProgramTask, path: bytes) -> Dentry:
    """The dentry of ``path``, which must exist. Raises ENOENT, ENOTDIR, ENAMETOOLONG and what the daemon answers."""
    parent, name, directory = await lookup_parent(task, path)
    dentry = await step(task, parent, name, path)
    if directory and not inode_of(dentry, path).is_dir:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    inode_of(dentry, path)
    return dentry


async def lookup_parent(task: ProgramTask, path: bytes) -> tuple[Dentry, bytes, bool]:
    """The directory that the last component of ``path`` is in, that component, and whether a ``/`` stands behind it.

    For the root the component is ``.``.
    """
    if not path:
        raise error(Errno.ENOENT, path, "the path is empty")
    if len(path) >= PATH_MAX:
        raise error(Errno.ENAMETOOLONG, path, "File name too long")
    if b"\0" in path:
        raise ValueError("embedded null byte")
    dentry = crossed(task.program.root if path.startswith(b"/") else task.program.cwd)
    names = [name for name in path.split(b"/") if name]
    if not names:
        return dentry, b".", True
    for name in names[:-1]:
        dentry = await step(task, dentry, name, path)
        if not inode_of(dentry, path).is_dir:
            raise error(Errno.ENOTDIR, path, "Not a directory")
    return dentry, names[-1], path.endswith(b"/")


async def step(task: ProgramTask, parent: Dentry, name: bytes, path: bytes) -> Dentry:
    """One component further; a mountpoint leads to what is mounted there."""
    if not inode_of(parent, path).is_dir:
        raise error(Errno.ENOTDIR, path, "Not a directory")
    if name == b".":
        return parent
    if name == b"..":
        return _up(task, parent)
    if len(name) > NAME_MAX:
        raise error(Errno.ENAMETOOLONG, path, "File name too long")
    return crossed(await inode_of(parent, path).sb.lookup(task, parent, name))


def crossed(dentry: Dentry) -> Dentry:
    """What is seen at ``dentry``: the root of what is mounted there, if anything."""
    while dentry.mounted is not None:
        dentry = dentry.mounted
    return dentry


def _up(task: ProgramTask, dentry: Dentry) -> Dentry:
    if dentry is crossed(task.program.root):
        return dentry
    if dentry.parent is not None:
        return crossed(dentry.parent)
    covered = None if dentry.inode is None else dentry.inode.sb.mountpoint_dentry
    return dentry if covered is None else _up(task, covered)
