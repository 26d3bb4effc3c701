"""What changes the process itself: chdir, chroot, fork, exit; and mount and umount. As fs/open.c, fs/namespace.c and
kernel/{fork,exit}.c have it."""

from __future__ import annotations

from ....wire.errno import Errno
from .. import namei
from ..files import DeviceFile, path_get, path_put
from ..inode import Dentry
from ..permission import MAY_CHDIR, MAY_EXEC
from ..program import Cred, Program, ProgramTask
from ..super import Super
from .base import invalid, syscall
from .mmap import exit_mmap
from .open import close_all

MNT_DETACH = 2


# -- where paths begin -------------------------------------------------------------------------------------------------


@syscall
async def sys_chdir(task: ProgramTask, path: bytes) -> None:
    """Raises ENOENT, ENOTDIR, EACCES."""
    dentry = await _directory(task, path)
    _replace(task, "cwd", dentry)


@syscall
async def sys_fchdir(task: ProgramTask, fd: int) -> None:
    """Raises EBADF, ENOTDIR, EACCES."""
    file = task.program.files.path(fd)
    if not file.inode.is_dir:
        raise OSError(int(Errno.ENOTDIR), "Not a directory")
    task.hold(file.dentry)
    await namei.may(task, file.inode, MAY_EXEC | MAY_CHDIR, b"")
    _replace(task, "cwd", file.dentry)


@syscall
async def sys_chroot(task: ProgramTask, path: bytes) -> None:
    """Raises EPERM for all but root; ENOENT, ENOTDIR, EACCES."""
    dentry = await _directory(task, path)
    if not task.cred.capable:
        raise namei.error(Errno.EPERM, path, "Operation not permitted")
    _replace(task, "root", dentry)


async def _directory(task: ProgramTask, path: bytes) -> Dentry:
    dentry = task.hold(await namei.lookup(task, path))
    if not dentry.positive.is_dir:
        raise namei.not_a_directory(path)
    await namei.may(task, dentry.positive, MAY_EXEC | MAY_CHDIR, path)
    return dentry


def _replace(task: ProgramTask, what: str, dentry: Dentry) -> None:
    path_get(dentry)
    old = getattr(task.program, what)
    setattr(task.program, what, dentry)
    path_put(task, old)


# -- credentials -------------------------------------------------------------------------------------------------------


def set_ids(cred: Cred, which: str, real: int, effective: int, saved: int) -> Cred:
    """setresuid(2) (``which`` is "uid") and setresgid(2): -1 leaves one as it is. Raises EPERM."""
    old = (getattr(cred, "r" + which), getattr(cred, which), getattr(cred, "s" + which))
    new = [now if asked == -1 else asked for asked, now in zip((real, effective, saved), old, strict=True)]
    if not cred.capable and any(one not in old for one in new):
        raise PermissionError(int(Errno.EPERM), "Operation not permitted")
    if which == "uid":
        return cred._replace(ruid=new[0], uid=new[1], suid=new[2])
    return cred._replace(rgid=new[0], gid=new[1], sgid=new[2])


def set_id(cred: Cred, which: str, number: int) -> Cred:
    """setuid(2) and setgid(2): all three for root, for others the effective one, which must be the real or the saved."""
    if number < 0:
        raise invalid(f"{which} {number}")
    if cred.capable:
        return set_ids(cred, which, number, number, number)
    if number not in (getattr(cred, "r" + which), getattr(cred, "s" + which)):
        raise PermissionError(int(Errno.EPERM), "Operation not permitted")
    return set_ids(cred, which, -1, number, -1)


def set_groups(cred: Cred, groups: tuple[int, ...]) -> Cred:
    """setgroups(2). Raises EPERM."""
    if not cred.capable:
        raise PermissionError(int(Errno.EPERM), "Operation not permitted")
    return cred._replace(groups=groups)


# -- life --------------------------------------------------------------------------------------------------------------


def fork(program: Program, tgid: int) -> Program:
    """fork(2): a process with one thread to come, and with the same open files."""
    child = Program(tgid, program.comm, Cred(*program.cred), program.root)  # the same, but of its own: File.cred
    path_put(None, child.cwd)
    child.cwd = path_get(program.cwd)
    child.umask = program.umask
    child.handlers = dict(program.handlers)
    child.files = program.files.copy()
    child.mm = program.mm.copy()
    child.argv = program.argv
    return child


async def sys_exit(task: ProgramTask) -> None:
    """A thread of the program ends; with the last one every descriptor is closed and flushed, and its places let go."""
    program = task.program
    if task.exited or task not in program.tasks:
        return
    program.tasks.remove(task)
    for opened in program.files.table.values():
        if isinstance(opened, DeviceFile) and opened.device.attached:
            opened.device.connection.reader_gone(task)
    try:
        if not program.tasks:
            await exit_mmap(task)
            await close_all(task, program.files, list(program.files.table))
            path_put(task, program.cwd)
            path_put(task, program.root)
    finally:
        task.exited = True


# -- mounting ----------------------------------------------------------------------------------------------------------


@syscall
async def sys_mount(task: ProgramTask, path: bytes, sb: Super) -> None:
    """Put ``sb`` over the directory ``path``. Raises ENOENT, ENOTDIR."""
    dentry = task.hold(await namei.lookup(task, path))
    if not dentry.positive.is_dir:
        raise namei.not_a_directory(path)
    cover(dentry, sb)


def cover(dentry: Dentry, sb: Super) -> None:
    """Mount ``sb`` there: over whatever is mounted there already."""
    dentry = path_get(namei.crossed(dentry))
    dentry.mounted = sb.root
    sb.mountpoint_dentry = dentry


def uncover(task: ProgramTask, sb: Super) -> None:
    """Take ``sb`` out of the tree, if it is still in it."""
    covered, sb.mountpoint_dentry = sb.mountpoint_dentry, None
    if covered is None:
        return
    covered.mounted = sb.root.mounted  # what was mounted over it moves down
    if covered.mounted is not None:
        above = covered.mounted.positive.sb
        above.mountpoint_dentry = path_get(covered)
        sb.root.mounted = None
        path_put(task, sb.root)
    path_put(task, covered)


@syscall
async def sys_umount(task: ProgramTask, sb: Super, flags: int = 0) -> None:
    """Raises EBUSY while someone uses it, EINVAL for what is not mounted. With MNT_DETACH it is taken out of the tree at
    once, and ends with its last user."""
    if sb.mountpoint_dentry is None:
        raise invalid("it is not mounted")
    if sb.users and not flags & MNT_DETACH:
        raise OSError(int(Errno.EBUSY), "Device or resource busy")
    uncover(task, sb)
    sb.detached = True
    if not sb.users:
        sb.shutdown(task)


@syscall
async def sys_remount(task: ProgramTask, sb: Super, read_only: bool) -> None:
    """Raises EBUSY for a filesystem on which files are open for writing."""
    if read_only and sb.writers:
        raise OSError(int(Errno.EBUSY), "files are open for writing")
    sb.read_only = read_only
