"""A step of a program, done by ``os`` or by what is used like it; and the tree that is there at the end."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import struct
from typing import Any

from vocabulary import Step, payload

from fusewire.testing.conformance.world import Os
from fusewire.wire.layouts import FileLock

FLOCK = struct.Struct("hhqqi4x")
F_OFD_GETLK, F_OFD_SETLK = 36, 37  # <linux/fcntl.h>
OFFSET_MAX = (1 << 63) - 1
CAN_BECOME = os.getuid() == 0  # then a program changes its user, too
NOWHERE = 987  # a descriptor that is none


class Linux(Os):
    """This machine's system calls, where ``os`` has them under other names than ``Process``, or not at all."""

    def mmap(self, fd: int, size: int, flags: int) -> mmap.mmap:
        return mmap.mmap(fd, size, flags=flags)

    def setlk(self, fd: int, *lock: int, ofd: bool = False) -> None:
        fcntl.fcntl(fd, F_OFD_SETLK if ofd else fcntl.F_SETLK, _flock(*lock))

    def getlk(self, fd: int, *lock: int, ofd: bool = False) -> FileLock:
        answer = fcntl.fcntl(fd, F_OFD_GETLK if ofd else fcntl.F_GETLK, _flock(*lock))
        type, _, start, length, pid = FLOCK.unpack(answer)
        return FileLock(start, start + length - 1 if length else OFFSET_MAX, type, pid)


def _flock(type: int, start: int = 0, length: int = 0, whence: int = 0) -> bytes:
    return FLOCK.pack(type, whence, start, length, 0)


class Place:
    """Where one process of a program stands in one world: who makes its system calls, and what its descriptors are called."""

    def __init__(self, system: Any, home: int, fds: dict[int, int] | None = None) -> None:
        self.system = system
        self.home = home
        self.fds: dict[int, int] = dict(fds or {})

    def fd(self, slot: int) -> int:
        return self.fds.get(slot, NOWHERE)

    def at(self, slot: int | None) -> int | None:
        return None if slot is None else self.fd(slot)

    def put(self, slot: int, fd: int) -> None:
        """It has that name now; what had it is closed."""
        old = self.fds.pop(slot, None)
        self.fds[slot] = fd
        if old is not None:
            self.system.close(old)


def perform(place: Place, step: Step) -> object:
    """What a call results in: a value that can be compared, or the name of its error."""
    try:
        return _perform(place, step.call.removesuffix(" here"), step.args)
    except OSError as error:
        return os.strerror(error.errno or 0)
    except ValueError as error:
        return type(error).__name__


def _perform(place: Place, name: str, args: tuple[Any, ...]) -> object:
    do = place.system
    match name, args:
        case "open", (slot, path, flags, mode, at):
            return place.put(slot, do.open(path, flags, mode, dir_fd=place.at(at)))
        case "close", (slot,):
            return do.close(place.fds.pop(slot, NOWHERE))
        case "dup", (slot, to):
            return place.put(to, do.dup(place.fd(slot)))
        case "fstat", (slot,):
            return shown(do.fstat(place.fd(slot)))
        case "stat", (path, at, follow):
            return shown(do.stat(path, dir_fd=place.at(at), follow_symlinks=follow))
        case (("mkdir" | "mknod"), (path, mode, at)):
            return getattr(do, name)(path, mode, dir_fd=place.at(at))
        case (("rmdir" | "unlink" | "readlink"), (path, at)):
            return getattr(do, name)(path, dir_fd=place.at(at))
        case "rename", (path, other, at, to):
            return do.rename(path, other, src_dir_fd=place.at(at), dst_dir_fd=place.at(to))
        case "link", (path, other, at, to):
            return do.link(path, other, src_dir_fd=place.at(at), dst_dir_fd=place.at(to))
        case "symlink", (target, path, at):
            return do.symlink(target, path, dir_fd=place.at(at))
        case "utime", (path, times):
            do.utime(path, times)
            return [int(do.stat(path).st_atime), int(do.stat(path).st_mtime)]
        case "access", (path, mode, at):
            return do.access(path, mode, dir_fd=place.at(at))
        case (("listdir" | "listxattr"), (path,)):
            return sorted(getattr(do, name)(path))
        case "copy_file_range", (slot, to, *rest):
            return do.copy_file_range(place.fd(slot), place.fd(to), *rest)
        case "write", (slot, data):
            return do.write(place.fd(slot), payload(data))
        case "pwrite", (slot, data, offset):
            return do.pwrite(place.fd(slot), payload(data), offset)
        case "setxattr", (path, attribute, data, flags):
            return do.setxattr(path, attribute, payload(data), flags)
        case "map", (slot, flags, offset, data):
            return through_memory(place, slot, flags, offset, payload(data))
        case "chown", (_, -1, -1):
            return None
        case "home", ():
            return do.fchdir(place.home)
        case "become", ((uid, gid),):
            return become(do, uid, gid)
        case "lseek", (slot, *rest):
            if slot in place.fds and stat.S_ISDIR(do.fstat(place.fds[slot]).st_mode):
                return None
            return do.lseek(place.fd(slot), *rest)
        case (("chdir" | "umask" | "truncate" | "chmod" | "chown" | "getxattr" | "removexattr"), _):
            return getattr(do, name)(*args)
        case _, (slot, *rest):
            return getattr(do, name)(place.fd(slot), *rest)
    raise AssertionError(name)


def through_memory(place: Place, slot: int, flags: int, at: int, data: bytes) -> object:
    """Map the file, see what is there, change it. Behind its end nothing is touched: that kills."""
    fd = place.fd(slot)
    st = place.system.fstat(fd)
    if not stat.S_ISREG(st.st_mode) or not st.st_size:
        return None
    at %= st.st_size
    data = data[: st.st_size - at]
    memory = place.system.mmap(fd, st.st_size, flags=flags)
    before = bytes(memory[at : at + len(data)])
    memory[at : at + len(data)] = data
    after = place.system.pread(fd, len(data), at) == data
    memory.close()
    return before, after


def become(system: Any, uid: int, gid: int) -> None:
    """The effective ids; back to root first, which alone may choose."""
    if CAN_BECOME:
        system.seteuid(0)
        system.setgroups([gid + 1])
        system.setegid(gid)
        system.seteuid(uid)


def shown(st: os.stat_result) -> tuple[object, ...]:
    size = None if stat.S_ISDIR(st.st_mode) else st.st_size
    return oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size


def whole_tree(place: Place) -> dict[str, object]:
    """All that is there, with contents and attributes, as root sees it where there is one."""
    become(place.system, 0, 0)
    place.system.fchdir(place.home)
    return tree(place.system, "..")


def tree(system: Any, top: str) -> dict[str, object]:
    found: dict[str, object] = {}
    try:
        names = system.listdir(top)
    except PermissionError as failed:  # an ordinary user's program may have shut itself out
        return {top: failed.errno}
    for name in sorted(names):
        path = f"{top}/{name}"
        try:
            st = system.stat(path, follow_symlinks=False)
        except PermissionError as failed:
            found[path] = failed.errno
            continue
        found[path] = shown(st)
        if stat.S_ISDIR(st.st_mode):
            found |= tree(system, path)
        elif stat.S_ISLNK(st.st_mode):
            found[path] = system.readlink(path)
        elif stat.S_ISREG(st.st_mode):
            found[path] = (found[path], contents(system, path))
    return found


def contents(system: Any, path: str) -> bytes | int | None:
    try:
        fd = system.open(path, os.O_RDONLY)
    except PermissionError as failed:
        return failed.errno
    try:
        data: bytes = system.read(fd, 1 << 20)
        return data
    finally:
        system.close(fd)
