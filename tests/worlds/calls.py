"""A step of a program, done by ``os`` or by what is used like it; and the tree that is there at the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import Any, NamedTuple

from vocabulary import XATTRS, Step, payload

from fusewire.wire.layouts import FileLock

RENAME_WHITEOUT = 4
AT_STATX_DONT_SYNC = 0x4000
SETTABLE = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME | os.O_PATH  # of what F_GETFL says
CAN_BECOME = os.getuid() == 0  # then a program changes its user, too
NOWHERE = 987  # a descriptor that is none


class Place:
    """Where one process of a program stands in one world: who makes its system calls, and what its descriptors are called."""

    def __init__(self, system: Any, home: int) -> None:
        self.system = system
        self.home = home
        self.fds: dict[int, int] = {}
        self.maps: dict[int, Map] = {}

    def forked(self, system: Any) -> Place:
        """A child's."""
        child = Place(system, self.home)
        child.fds, child.maps = dict(self.fds), dict(self.maps)
        return child

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


class Map(NamedTuple):
    """What is mapped: where, how much, and a descriptor of the file."""

    address: int
    length: int
    fd: int


def perform(place: Place, step: Step) -> object:
    """What a call results in: a value that can be compared, or the name of its error."""
    watch = step.watch and not _untimed(step)
    before = stamps(place) if watch else {}
    try:
        result = _perform(place, step.call.removesuffix(" here"), step.args)
    except OSError as error:
        result = os.strerror(error.errno or 0)
    except ValueError as error:
        result = type(error).__name__
    if not watch:
        return result
    after = stamps(place)
    return result, {what: _changed(before[what], after[what]) for what in before.keys() & after.keys()}


def _untimed(step: Step) -> bool:
    """A page that was written to gives its file a time when the kernel wants it to. ext4 makes a whiteout before it looks
    whether the rename can be done, and an attribute that is set to what it is is not changed for it."""
    if step.call.startswith("rename"):
        return bool(step.args[-1] & RENAME_WHITEOUT)
    return step.call in ("map", "setxattr", "fsetxattr", "setfacl", "removexattr")


def stamps(place: Place) -> dict[object, tuple[int, int, int]]:
    """When what is open was changed, and the working directory."""
    found: dict[object, os.stat_result] = {slot: place.system.fstat(fd) for slot, fd in place.fds.items()}
    with contextlib.suppress(PermissionError):
        found["."] = place.system.stat(".")
    return {what: (st.st_ino, st.st_mtime_ns, st.st_ctime_ns) for what, st in found.items()}


def _changed(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """Which times of an inode are others now."""
    if before[0] != after[0]:
        return ""
    return "mtime " * (before[1] != after[1]) + "ctime" * (before[2] != after[2])


def _perform(place: Place, name: str, args: tuple[Any, ...]) -> object:
    do = place.system
    fd, at = place.fd, place.at
    match name, args:
        # -- descriptors
        case "open", (slot, path, flags, mode, dir):
            return place.put(slot, do.open(path, flags, mode, dir_fd=at(dir)))
        case "close", (slot,):
            return do.close(place.fds.pop(slot, NOWHERE))
        case "dup", (slot, to):
            return place.put(to, do.dup(fd(slot)))
        case "dup2", (slot, to):
            return to in place.fds and do.dup2(fd(slot), fd(to)) == fd(to)
        case "getfl", (slot,):
            return do.getfl(fd(slot)) & SETTABLE
        case "poll", (slot, events):
            return [found for _, found in do.poll([(fd(slot), events)], 0)]
        # -- contents
        case "write", (slot, data):
            return do.write(fd(slot), payload(data))
        case "pwrite", (slot, data, offset):
            return do.pwrite(fd(slot), payload(data), offset)
        case "writev", (slot, *data):
            return do.writev(fd(slot), [payload(one) for one in data])
        case (("lseek" | "seek data"), (slot, *rest)):
            if slot in place.fds and stat.S_ISDIR(do.fstat(fd(slot)).st_mode):
                return None
            return do.lseek(fd(slot), *rest)
        case "copy_file_range", (slot, to, *rest):
            return do.copy_file_range(fd(slot), fd(to), *rest)
        # -- memory
        case "map", (slot, flags, offset, data):
            return through_memory(place, slot, flags, offset, payload(data))
        case "mmap", (which, slot, length, prot, flags, offset):
            return remember(place, which, slot, length, prot, flags, offset)
        case (("load" | "store" | "msync" | "munmap"), (map, *rest)):
            return touch(place, name, map, *rest) if map in place.maps else None
        # -- locks
        case (("setlk" | "getlk"), (slot, *_, 1 | 2)) if slot in place.fds and stat.S_ISDIR(do.fstat(fd(slot)).st_mode):
            return None  # from an offset in a directory, or its end
        case "getlk", (slot, *lock):
            found = do.getlk(fd(slot), *lock)
            return found if found.type != fcntl.F_UNLCK else None
        # -- names
        case "stat", (path, dir, follow):
            return shown(do.stat(path, dir_fd=at(dir), follow_symlinks=follow))
        case (("mkdir" | "mknod"), (path, mode, dir)):
            return getattr(do, name)(path, mode, dir_fd=at(dir))
        case (("rmdir" | "unlink" | "readlink"), (path, dir)):
            return getattr(do, name)(path, dir_fd=at(dir))
        case "rename", (path, other, dir, to, flags):
            return do.rename(path, other, src_dir_fd=at(dir), dst_dir_fd=at(to), flags=flags)
        case "link", (path, other, dir, to, follow):
            return do.link(path, other, src_dir_fd=at(dir), dst_dir_fd=at(to), follow_symlinks=follow)
        case "link open file", (slot, path, dir):
            return do.link(fd(slot), path, dst_dir_fd=at(dir))
        case "symlink", (target, path, dir):
            return do.symlink(target, path, dir_fd=at(dir))
        case "access", (path, mode, dir, effective, follow):
            return do.access(path, mode, dir_fd=at(dir), effective_ids=effective, follow_symlinks=follow)
        case "scandir", (path,):
            with do.scandir(path) as entries:
                return sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries
                )
        case "list open directory", (slot,):
            return sorted(do.listdir(fd(slot)))
        # -- attributes
        case "fstat", (slot,):
            return shown(do.fstat(fd(slot)))
        case "statx", (path, mask, flags, dir, follow):
            found = do.statx(path, mask, flags=flags, dir_fd=at(dir), follow_symlinks=follow)
            asked = mask & (0x7FF if flags & AT_STATX_DONT_SYNC else 0xFFF)  # more may be there; the birth time may not
            return found.mask & asked, found.mode, found.nlink, found.uid, found.gid, found.rdev_major, found.rdev_minor
        case "statvfs", (path,):
            return do.statvfs(path).f_namemax
        case "chmod", (path, mode, dir):
            return do.chmod(path, mode, dir_fd=at(dir))
        case "chown" | "fchown", (_, -1, -1, *_):
            return None
        case "chown", (path, uid, gid, dir, follow):
            return do.chown(path, uid, gid, dir_fd=at(dir), follow_symlinks=follow)
        case "utime", (path, times, dir, follow):
            do.utime(path, **_ns(times), dir_fd=at(dir), follow_symlinks=follow)
            return times and do.stat(path, dir_fd=at(dir), follow_symlinks=follow).st_mtime_ns
        case "futimens", (slot, times):
            do.utime(fd(slot), **_ns(times))
            return times and do.fstat(fd(slot)).st_mtime_ns
        # -- extended attributes
        case "setxattr", (path, attribute, data, flags, follow):
            return do.setxattr(path, attribute, payload(data), flags, follow_symlinks=follow)
        case "fsetxattr", (slot, attribute, data, flags):
            return do.setxattr(fd(slot), attribute, payload(data), flags)
        case "setfacl", (path, attribute, value, follow):
            return do.setxattr(path, attribute, value, follow_symlinks=follow)
        case (("getxattr" | "removexattr"), (path, attribute, follow)):
            return getattr(do, name)(path, attribute, follow_symlinks=follow)
        case "fgetxattr", (slot, attribute):
            return do.getxattr(fd(slot), attribute)
        case "listxattr", (path, follow):
            return sorted(do.listxattr(path, follow_symlinks=follow))
        case "flistxattr", (slot,):
            return sorted(do.listxattr(fd(slot)))
        # -- the process
        case "home", ():
            return do.fchdir(place.home)
        case "getcwd", ():
            return do.getcwd().rpartition("/base")[2]
        case "become", ((uid, gid),):
            return become(do, uid, gid)
        case "become for good", ((uid, gid),):
            return become(do, uid, gid, for_good=True)
        case (("chdir" | "umask" | "truncate"), _):
            return getattr(do, name)(*args)
        case _, (slot, *rest):
            return getattr(do, name)(fd(slot), *rest)
    raise AssertionError(name)


def _ns(times: tuple[int, int] | None) -> dict[str, tuple[int, int]]:
    """For os.utime(): None is not what it takes for "now"."""
    return {} if times is None else {"ns": times}


def with_numbers(result: object, pids: list[int]) -> object:
    """The result, with the number of a process in place of its pid."""
    if isinstance(result, FileLock):
        return result._replace(pid=pids.index(result.pid) if result.pid in pids else -1)
    if isinstance(result, tuple):
        return tuple(with_numbers(part, pids) for part in result)
    return result


def through_memory(place: Place, slot: int, flags: int, at: int, data: bytes) -> object:
    """Map the file, see what is there, change it, and have it mapped no longer."""
    do = place.system
    st = do.fstat(place.fd(slot))
    if not stat.S_ISREG(st.st_mode) or not st.st_size:
        return None
    at %= st.st_size
    length = min(st.st_size, 1 << 20)
    data = data[: max(0, length - at)] or b"x"
    at = min(at, length - len(data))
    address = do.mmap(place.fd(slot), length, 3, flags).address
    before = do.load(address + at, len(data))
    do.store(address + at, data)
    after = do.pread(place.fd(slot), len(data), at) == data
    do.munmap(address, length)
    return before, after


def remember(place: Place, which: int, slot: int, length: int, prot: int, flags: int, offset: int) -> None:
    """Map a file for later."""
    do = place.system
    address = do.mmap(place.fd(slot), length, prot, flags, offset).address
    if which in place.maps:
        touch(place, "munmap", which)
    place.maps[which] = Map(address, length, do.dup(place.fd(slot)))


def touch(place: Place, name: str, which: int, at: int = 0, what: Any = None) -> object:
    """Do something with what is mapped."""
    do = place.system
    address, length, fd = place.maps[which]
    match name:
        case "load":
            return do.load(address + at, min(what, length - at)) if at < length else None
        case "store":  # never behind the end: what becomes of that POSIX does not say
            data = payload(what)[: max(0, min(length, do.fstat(fd).st_size) - at)]
            return do.store(address + at, data) if data else None
        case "msync":
            return do.msync(address, length)
    del place.maps[which]
    do.munmap(address, length)
    return do.close(fd)


def become(system: Any, uid: int, gid: int, *, for_good: bool = False) -> None:
    """The effective ids; back to root first, which alone may choose. ``for_good``: the real and the saved ones, too."""
    if CAN_BECOME:
        system.seteuid(0)
        system.setgroups([gid + 1])
        if for_good:
            system.setresgid(gid, gid, gid)
            system.setresuid(uid, uid, uid)
        else:
            system.setegid(gid)
            system.seteuid(uid)


def shown(st: os.stat_result) -> tuple[object, ...]:
    size = None if stat.S_ISDIR(st.st_mode) else st.st_size
    return oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size, st.st_rdev


def tree(system: Any, top: str) -> dict[str, object]:
    """All that is there, with contents and attributes."""
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
        found[path] = shown(st), xattrs(system, path)
        if stat.S_ISDIR(st.st_mode):
            found |= tree(system, path)
        elif stat.S_ISLNK(st.st_mode):
            found[path] = (found[path], system.readlink(path))
        elif stat.S_ISREG(st.st_mode):
            found[path] = (found[path], contents(system, path))
    return found


def xattrs(system: Any, path: str) -> dict[str, object]:
    names = [name for name in system.listxattr(path, follow_symlinks=False) if name in XATTRS]
    found: dict[str, object] = {}
    for name in names:
        try:
            found[name] = system.getxattr(path, name, follow_symlinks=False)
        except PermissionError as failed:
            found[name] = failed.errno
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
