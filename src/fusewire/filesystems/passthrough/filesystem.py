"""The mirror as a whole, and its open files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterable

from ...daemon import (
    Attributes,
    DirEntry,
    Entry,
    Granted,
    InitFlag,
    Lock,
    Opened,
    OpenInFlag,
    WriteFlag,
    current_request,
)
from . import syscalls
from .backing import Backing
from .descriptors import Descriptor, OpenFiles
from .directory import Stream
from .locks import Locks
from .nodes import File, Node, check_name, open_at
from .tree import Tree, has_suid_or_sgid

# Of the caller's open flags, what the file behind is opened with. The rest the kernel has dealt with: O_DIRECT would want
# our buffers aligned, O_APPEND would send the writes of a memory mapping to the end (see ``write``).
_OPEN_FLAGS = os.O_ACCMODE | os.O_SYNC | os.O_NOATIME | os.O_TRUNC
# A member of a Flag costs more to combine than a number. CACHE: from the page cache, and so at its offset whatever the flags.
_WRITE_CACHE, _WRITE_KILL_SUIDGID = int(WriteFlag.CACHE), int(WriteFlag.KILL_SUIDGID)
# ioctl_iflags(2), ioctl_fsgetxattr(2): flags, version and project of an inode. The size is the argument's, in bytes.
_IOCTL_SIZES = {0x80086601: 8, 0x40086602: 8, 0x80087601: 8, 0x801C581F: 28, 0x401C5820: 28}


class PassthroughFS(Tree):
    """The directory ``source``, mirrored.

    Nothing above ``source`` is reached, whatever is renamed meanwhile. New files belong to the caller, where the daemon may
    act as others (CAP_SETUID and CAP_SETGID: root); the kernel checks permissions, as with ``default_permissions``.
    Reads and writes are FUSE passthrough where the kernel and our privileges allow; the logger ``fusewire.passthrough``
    says at debug level which it is. Threads that serve it get a umask and working directory of their own (``caller``).

    ``entry_timeout`` and ``attr_timeout`` (seconds) say how soon changes made on the host itself are seen.
    Other filesystems mounted below ``source`` are shown, their files by other inode numbers than their own (``numbers``); a
    directory that the mirror itself is mounted on gives ELOOP. What the kernel remembers of them keeps them from being
    unmounted.
    Each inode that the kernel remembers takes a descriptor. The soft limit is raised to the hard one, and when that comes
    near, the kernel is asked to forget (7.45, Linux 6.18); where it does not, calls fail with ENFILE at the limit.
    Raises OSError where ``source`` is missing, cannot be opened, or is no directory.
    """

    def __init__(self, source: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        super().__init__(source)
        self._fhs = itertools.count(1)
        self._streams: OpenFiles[Stream] = OpenFiles()
        self._locks = Locks()

    def init(self, granted: Granted) -> None:
        """Find out what the kernel can."""
        super().init(granted)
        self._backing = Backing(self.session, self._identity, bool(granted.flags & InitFlag.PASSTHROUGH))

    def destroy(self) -> None:
        """Give every descriptor back; what a handler still uses, it does when it leaves."""
        self._locks.close()
        self._streams.clear()
        self._files.clear()
        super().destroy()

    # -- files ----------------------------------------------------------------------------------------------------

    def open(self, ino: int, flags: int) -> Opened:
        node = self._nodes[ino]
        if node.kind != stat.S_IFREG:
            # The kernel opens FIFOs, sockets and devices itself; opened here, they would be the host's.
            raise OSError(errno.ENXIO, "not a regular file")
        kill = flags & os.O_TRUNC and current_request().args.open_flags & OpenInFlag.KILL_SUIDGID
        with self._identity.without_fsetid() if kill else contextlib.nullcontext():
            fd = open_at(node.path, flags & _OPEN_FLAGS)
        return self._opened(node, fd, flags)

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> tuple[Entry, Opened]:
        directory = self._nodes[parent]
        check_name(name)
        new = flags & _OPEN_FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            fd = self._as_caller(lambda: open_at(name, new, stat.S_IMODE(mode), directory.fd))
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            return self._open_existing(directory, name, flags)
        return self._created(directory, fd, flags)

    def _open_existing(self, directory: Node, name: bytes, flags: int) -> tuple[Entry, Opened]:
        """The kernel thought there was no such file, so it has checked nothing: the host does, for the caller."""
        entry = self._look(directory, name)
        node = self._nodes[entry.ino or 0]
        try:
            if node.kind != stat.S_IFREG:
                raise FileExistsError(errno.EEXIST, "something else was made there meanwhile")
            fd = self._as_caller(lambda: open_at(node.path, flags & _OPEN_FLAGS))
            return Entry(Attributes.of(os.fstat(fd), node.ino), node.nodeid), self._opened(node, fd, flags)
        except OSError:
            self.forget(node.nodeid, 1)
            raise

    def tmpfile(self, parent: int, mode: int, flags: int) -> tuple[Entry, Opened]:
        directory = self._nodes[parent]
        unnamed = flags & (_OPEN_FLAGS & ~os.O_TRUNC | os.O_EXCL) | os.O_TMPFILE
        fd = self._as_caller(lambda: open_at(b".", unnamed, stat.S_IMODE(mode), directory.fd))
        return self._created(directory, fd, flags)

    def _created(self, directory: Node, fd: int, flags: int) -> tuple[Entry, Opened]:
        try:
            entry = self._refer(open_at(b"/proc/self/fd/%d" % fd, os.O_PATH), directory.mount)
        except OSError:
            os.close(fd)
            raise
        return entry, self._opened(self._nodes[entry.ino or 0], fd, flags)

    def _opened(self, node: Node, fd: int, flags: int) -> Opened:
        fh = next(self._fhs)
        self._files[fh] = File(fd, node, bool(flags & os.O_APPEND))
        return self._backing.attach(node, fh)

    def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:
        file = self._files[fh]
        return os.pread(file.fd, size, offset)

    def write(self, ino: int, fh: int, offset: int, data: memoryview) -> int:
        file = self._files[fh]
        if file.appends or has_suid_or_sgid(os.fstat(file.fd)):
            return self._write_with_care(file, offset, data)
        return os.pwrite(file.fd, data, offset)

    def _write_with_care(self, file: File, offset: int, data: memoryview) -> int:
        """The kernel's offset of an appending write is where it thought the end was; the host knows better."""
        flags = current_request().args.write_flags
        append = file.appends and not flags & _WRITE_CACHE
        with self._identity.without_fsetid() if flags & _WRITE_KILL_SUIDGID else contextlib.nullcontext():
            return os.pwritev(file.fd, [data], offset, os.RWF_APPEND if append else 0)

    def flush(self, ino: int, fh: int) -> None:
        """Also releases the POSIX locks of the process that closed the file."""
        node = self._nodes[ino]
        if node.lock_files:
            self._locks.release(node, current_request().args.lock_owner)
        file = self._files[fh]
        try:
            twin = os.dup(file.fd)
        except OSError as error:
            if error.errno == errno.EMFILE:
                return
            raise
        os.close(twin)  # what the host reports at close (quota, NFS), it reports now

    def release(self, ino: int, fh: int, flags: int) -> None:
        node = self._files.pop(fh).node  # closed with this, unless an interrupted call still uses it
        self._backing.detach(node)
        self._locks.wake()

    def fsync(self, ino: int, fh: int, datasync: bool) -> None:
        file = self._files[fh]
        (os.fdatasync if datasync else os.fsync)(file.fd)

    def fallocate(self, ino: int, fh: int, mode: int, offset: int, length: int) -> None:
        file = self._files[fh]
        with self._as_writer():
            syscalls.fallocate(file.fd, mode, offset, length)

    def lseek(self, ino: int, fh: int, offset: int, whence: int) -> int:
        if offset >> 63:  # the kernel passes on what is negative; the host has an error for it
            offset -= 1 << 64
        file = self._files[fh]
        return os.lseek(file.fd, offset, whence)

    def copy_file_range(
        self, ino_in: int, fh_in: int, off_in: int, ino_out: int, fh_out: int, off_out: int, length: int, flags: int
    ) -> int:  # fmt: skip
        if flags:
            raise OSError(errno.EINVAL, "copy_file_range has no flags")
        source, target = self._files[fh_in], self._files[fh_out]
        with self._as_writer():
            return os.copy_file_range(source.fd, target.fd, length, off_in, off_out)

    def ioctl(
        self, ino: int, fh: int, cmd: int, arg: int, data: memoryview, out_size: int, flags: int
    ) -> tuple[int, bytes]:
        """Those of lsattr, chattr and their like; another command may mean anything to the host, and is refused."""
        size = _IOCTL_SIZES.get(cmd)
        if size is None:
            raise OSError(errno.ENOTTY, "not an ioctl that is passed on")
        opened: Descriptor = self._streams.get(fh) or self._files[fh]
        buffer = bytearray(bytes(data).ljust(size, b"\0"))
        result = fcntl.ioctl(opened.fd, cmd, buffer)
        return result, bytes(buffer[:out_size])

    # -- locks ----------------------------------------------------------------------------------------------------

    def getlk(self, ino: int, fh: int, lock: Lock) -> Lock | None:
        return self._locks.get(self._nodes[ino], lock)

    async def setlk(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:  # type: ignore[override]
        await self._locks.set(self._nodes[ino], lock, wait)

    async def flock(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:  # type: ignore[override]
        await self._locks.flock(self._files[fh], lock.type, wait)

    # -- directories ----------------------------------------------------------------------------------------------

    def opendir(self, ino: int, flags: int) -> Opened:
        node = self._nodes[ino]
        stream = Stream(open_at(node.path, os.O_RDONLY | os.O_DIRECTORY))
        fh = next(self._fhs)
        self._streams[fh] = stream
        return Opened(fh)

    def readdir(self, ino: int, fh: int, offset: int) -> Iterable[DirEntry]:
        entries = self._streams[fh].read(offset)
        for name, child, kind, behind in self._nodes.listed(self._nodes[ino], entries):
            yield DirEntry(name, child, kind << 12, behind)

    def readdirplus(self, ino: int, fh: int, offset: int) -> Iterable[DirEntry]:
        directory = self._nodes[ino]
        for name, number, kind, cookie in self._nodes.listed(directory, self._streams[fh].read(offset)):
            entry = None
            if name not in (b".", b".."):
                with contextlib.suppress(
                    OSError
                ):  # removed meanwhile, or no descriptor left: the kernel asks by itself
                    entry = self._look(directory, name)
                    number = entry.attributes.ino  # of a mountpoint, the host lists what is beneath
            yield DirEntry(name, number, kind << 12, cookie, entry)

    def releasedir(self, ino: int, fh: int, flags: int) -> None:
        del self._streams[fh]  # closed with this, unless an interrupted call still uses it

    def fsyncdir(self, ino: int, fh: int, datasync: bool) -> None:
        stream = self._streams[fh]
        (os.fdatasync if datasync else os.fsync)(stream.fd)
