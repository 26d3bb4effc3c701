"""Mounting and unmounting for FUSE: mount(2) where it is permitted, the setuid helper fusermount3 otherwise.

Errors say what happened, to what, and what to do; whatever fails leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import fusermount
from .fusectl import Control
from .options import MountError, MountOptions

MNT_FORCE, MNT_DETACH = 1, 2
DEV_FUSE = "/dev/fuse"
MOUNTINFO = Path("/proc/self/mountinfo")


def open_device() -> int:
    """A descriptor of /dev/fuse. Raises :class:`MountError`."""
    try:
        return os.open(DEV_FUSE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(error.errno, _why_no_device(error)) from None


def _why_no_device(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"{DEV_FUSE} is not there: load the module (modprobe fuse), or give the container the device"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"no permission to open {DEV_FUSE}: run as root,{_join(DEV_FUSE)} or have root run 'chmod 666 {DEV_FUSE}'"
        )
    return f"{DEV_FUSE} cannot be opened: {error.strerror}"


def _join(path: str) -> str:
    """Being in the group that owns it helps where it may read and write, and is not root's own."""
    try:
        found = os.stat(path)
        name = grp.getgrgid(found.st_gid).gr_name
    except (KeyError, OSError):
        return ""
    helps = found.st_mode & 0o060 == 0o060 and found.st_gid != 0
    return f" or join the group that owns it ({name})," if helps else ""


def resolve(path: str) -> str:
    """``path`` as mountinfo will have it, symlinks followed. Does not touch a FUSE mount that is there: it may hang."""
    for _ in range(40):  # as many links as the kernel follows
        where, name = os.path.split(path.rstrip("/"))
        if name in ("", ".", ".."):
            break
        path = os.path.join(os.path.realpath(where), name)
        if mount_at(path) is not None or not os.path.islink(path):
            return path
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return os.path.realpath(path)


def check_mountpoint(path: str) -> int:
    """The mode of the mountpoint. Raises :class:`MountError` when it is missing, no directory, or a FUSE mount already, which
    is not touched: it may hang."""
    if mount_at(path) is not None:
        raise MountError(errno.EBUSY, _busy(path))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise MountError(errno.ENOENT, f"mountpoint {path} does not exist: make the directory first") from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountError(error.errno, _dead(path)) from None
        raise MountError(error.errno, f"mountpoint {path}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise MountError(errno.ENOTDIR, f"mountpoint {path} is not a directory")
    return mode


def _busy(path: str) -> str:
    return (
        f"mountpoint {path} is busy: a FUSE filesystem is mounted there already;"
        f" if its daemon is dead or hangs, run 'fusewire unmount --force {path}' and try again"
    )


def check_alone(path: str, number: int) -> None:
    """After a mount as connection ``number``: nobody else mounted there at the same time, and before us. Raises
    :class:`MountError`."""
    there = [row.number for row in _fuse_mounts() if row.target == path]
    if number in there[1:]:
        raise MountError(errno.EBUSY, _busy(path))


def connection_of(fd: int) -> int:
    """The number of the connection that a descriptor of /dev/fuse is mounted as; 0 before the mount, and where the kernel does
    not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
            if line.startswith("fuse_connection:"):
                return int(line.partition(":")[2])
    return 0


def _dead(path: str) -> str:
    """The dead mount is ``path``, or a directory above it."""
    path = os.path.abspath(path)
    while mount_at(path) is None and path != "/":
        path = os.path.dirname(path)
    return f"{path} is a dead mount, its daemon is gone: run 'fusewire unmount {path}' and try again"


def mount(path: str, options: MountOptions = MountOptions()) -> int:
    """Mount a FUSE filesystem; returns the descriptor of /dev/fuse that its requests are read from.

    Raises :class:`MountError`; then nothing is left behind.
    """
    mode = check_mountpoint(path)
    fd = open_device()
    try:
        attach(fd, path, mode, options)
    except MountError as error:
        os.close(fd)
        if may_use_helper(error):
            return fusermount.mount(path, options)
        raise
    return fd


def attach(fd: int, path: str, mode: int, options: MountOptions = MountOptions()) -> None:
    """mount(2) with a descriptor of /dev/fuse, on a mountpoint whose mode :func:`check_mountpoint` gave. Raises
    :class:`MountError`; the descriptor stays open."""
    kind = f"fuse.{options.subtype}" if options.subtype else "fuse"
    try:
        _mount(options.fsname, path, kind, options.mount_flags, options.data(fd, stat.S_IFMT(mode)))
    except OSError as error:
        raise MountError(error.errno, _why_not_mounted(path, error)) from None


def may_use_helper(error: MountError) -> bool:
    """Whether fusermount3 could do what mount(2) was not permitted."""
    return error.errno == errno.EPERM and os.geteuid() != 0 and fusermount.program() is not None


def _why_not_mounted(path: str, error: OSError) -> str:
    if error.errno == errno.EPERM:
        return (
            f"no permission to mount on {path}: install fusermount3 (Debian: apt install fuse3), run as root,"
            " or in a user namespace of your own: unshare -Urm"
        )
    if error.errno == errno.EBUSY:
        return f"mountpoint {path} is busy"
    return f"mounting on {path} failed: {error.strerror}"


def unmount(path: str, *, lazy: bool = False, force: bool = False) -> None:
    """umount2(2), or fusermount3 where that is not permitted. ``force`` aborts the connection first, which frees whoever
    waits for it. Raises :class:`MountError`."""
    flags = MNT_DETACH * lazy | MNT_FORCE * force
    if not _libc.umount2(os.fsencode(path), flags):
        return
    number = ctypes.get_errno()
    if number == errno.EPERM and os.geteuid() != 0 and fusermount.program() is not None:
        fusermount.unmount(path, lazy=lazy or force)
        return
    what = {
        errno.EBUSY: "busy: files are open or a program has its working directory there",
        errno.EINVAL: "not a mountpoint",
        errno.ENOENT: "no such directory",
        errno.EPERM: "no permission: run as root, or install fusermount3 (Debian: apt install fuse3)",
    }.get(number, os.strerror(number))
    raise MountError(number, f"{path} was not unmounted: {what}")


def unmount_at_any_price(path: str) -> None:
    """Unmount; while it is busy abort the connection and take the tree away. Whoever waits for the mount is freed."""
    try:
        unmount(path)
    except MountError as error:
        if error.errno != errno.EBUSY:
            raise
        number = mount_at(path)
        if number is not None:
            with contextlib.suppress(OSError):  # the file is the mounting user's
                Control(number).abort()
        try:
            unmount(path, force=True)
        except MountError:
            if mount_at(path) is not None:
                unmount(path, lazy=True)


def mount_at(path: str) -> int | None:
    """The connection's number of the FUSE mount that is seen at ``path``, None where there is none. Touches no mount."""
    found = _seen_at(path)
    return None if found is None else found.number


def points_of(number: int) -> list[str]:
    """Where connection ``number`` is mounted, in our mount namespace, and seen: bind mounts and moved ones too. What another
    mount covers is not among them."""
    seen = {row.target: row for row in _table()}
    return [target for target, row in seen.items() if row.is_fuse and row.number == number]


def covered(number: int) -> list[str]:
    """Where connection ``number`` is mounted beneath another mount."""
    return [row.target for row in _fuse_mounts() if row.number == number and mount_at(row.target) != number]


class _Row(NamedTuple):
    """A line of mountinfo; ``number``: the minor of st_dev, which is the connection's."""

    number: int
    mount_id: int
    target: str
    is_fuse: bool


def _table() -> Iterator[_Row]:
    """What is mounted in our namespace, the oldest first: what is mounted over another comes after it."""
    for line in filter(None, MOUNTINFO.read_bytes().split(b"\n")):  # the kernel escapes no other end of a line
        fields, _, rest = line.partition(b" - ")
        mount_id, _, device, _, target = fields.split(b" ")[:5]
        kind = rest.split(b" ")[0]
        is_fuse = kind in (b"fuse", b"fuseblk") or kind.startswith((b"fuse.", b"fuseblk."))
        yield _Row(int(device.partition(b":")[2]), int(mount_id), os.fsdecode(_unescape(target)), is_fuse)


def _fuse_mounts() -> Iterator[_Row]:
    return (row for row in _table() if row.is_fuse)


def _seen_at(path: str) -> _Row | None:
    """The FUSE mount that is seen at ``path``."""
    path = os.path.abspath(path)
    wanted = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    seen = {row.target: row for row in _table()}.get(wanted)
    return seen if seen is not None and seen.is_fuse else None


def identity(path: str) -> str:
    """What tells the mount at ``path`` from any other, earlier or later; empty where there is none.

    Connection numbers and mount ids are used anew as soon as they are free; the unique mount id (Linux 6.8) never is. Asks
    no daemon.
    """
    found = _seen_at(path)
    return "" if found is None else _identity(found)


def _identity(row: _Row) -> str:
    return f"{row.number}:{row.mount_id}:{_unique_mount_id(row.target)}"


def number_of(identity: str) -> int:
    """The connection's number."""
    return int(identity.partition(":")[0])


def find(identity: str) -> str | None:
    """Where the mount of this :func:`identity` is now: it moves with the directories above it. None where it is gone, or
    another mount covers it."""
    for row in _fuse_mounts():
        if identity.startswith(f"{row.number}:{row.mount_id}:") and _identity(row) == identity:
            return row.target
    return None


def _unique_mount_id(path: str) -> int:
    """statx(2) with STATX_MNT_ID_UNIQUE; 0 where the kernel does not know it."""
    at_fdcwd, no_follow, dont_sync, mask = -100, 0x100, 0x4000, 0x4000
    buffer = ctypes.create_string_buffer(256)
    if _libc.statx(at_fdcwd, os.fsencode(path), no_follow | dont_sync, mask, buffer):
        return 0
    (filled,) = struct.unpack_from("=I", buffer, 0)
    (mount_id,) = struct.unpack_from("=Q", buffer, 144)
    return int(mount_id) if filled & mask else 0


def connection_number(path: str) -> int:
    """The number of the connection behind a FUSE mount: the name of its fusectl directory. Raises :class:`MountError`."""
    number = mount_at(path)
    if number is None:
        raise MountError(errno.EINVAL, f"{path} is not a FUSE mount")
    return number


def _unescape(text: bytes) -> bytes:
    """mountinfo writes blanks, tabs, newlines and backslashes in octal."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), text)


_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    arguments = os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data)
    if _libc.mount(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
