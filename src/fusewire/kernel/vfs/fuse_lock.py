"""The FUSE operations on locks, ioctl and poll: ``fuse_file_lock``, ``fuse_file_ioctl``, ``fuse_file_poll``."""

from __future__ import annotations

import errno

from ...wire.errno import Errno
from ...wire.flags import InitFlag, IoctlFlag, LkFlag, Opcode, PollFlag
from ...wire.layouts import (
    IOCTL_IN,
    IOCTL_OUT,
    LK_IN,
    LK_OUT,
    POLL_IN,
    POLL_OUT,
    FileLock,
    IoctlIn,
    LkIn,
    PollIn,
)
from ..queue import WaitQueue, traced
from .files import File, put_file
from .fuse_space import FuseSpace
from .locks import F_UNLCK, OFFSET_MAX
from .program import ProgramTask
from .super import DEFAULT_POLLMASK

EPOLLERR = 0x8
IOC_WRITE, IOC_READ = 1, 2
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FILEATTR = {FS_IOC_GETFLAGS: 4, FS_IOC_SETFLAGS: 4, FS_IOC_FSGETXATTR: 28, FS_IOC_FSSETXATTR: 28}


class FuseLock(FuseSpace):
    """Locks: of files the daemon's where it asked for them in INIT, else and of directories this machine's. Poll handles are
    counted, never reused."""

    def _init_polls(self) -> None:
        self.poll_handles = 0
        self.polled: dict[int, WaitQueue] = {}

    # -- locks ------------------------------------------------------------------------------------------------------

    async def getlk(self, task: ProgramTask, file: File, lock: FileLock, owner: object) -> FileLock:
        if not self._asks_daemon(file, InitFlag.POSIX_LOCKS):
            return await super().getlk(task, file, lock, owner)
        body = LK_IN.pack(LkIn(file.fh, self.lock_owner(owner), lock))
        found = (await self.ask_for(task, Opcode.GETLK, file.inode.nodeid, LK_OUT, body)).lk
        if found.type != F_UNLCK and (found.start > OFFSET_MAX or found.end > OFFSET_MAX or found.end < found.start):
            raise OSError(int(Errno.EIO), f"the daemon answered a lock from {found.start} to {found.end}")
        return found

    async def setlk(self, task: ProgramTask, file: File, lock: FileLock, owner: object, wait: bool) -> None:
        if not self._asks_daemon(file, InitFlag.POSIX_LOCKS):
            await super().setlk(task, file, lock, owner, wait)
            return
        await self._setlk(task, file, lock, owner, wait, LkFlag(0))

    async def flock(self, task: ProgramTask, file: File, type: int, wait: bool) -> None:
        if not self._asks_daemon(file, InitFlag.FLOCK_LOCKS):
            await super().flock(task, file, type, wait)
            return
        file.flocked = True
        await self._setlk(task, file, FileLock(0, OFFSET_MAX, type), file, wait, LkFlag.FLOCK)

    def _asks_daemon(self, file: File, flag: InitFlag) -> bool:
        """``fuse_dir_operations`` has no locks."""
        return bool(self.flags & flag) and not file.inode.is_dir

    async def _setlk(
        self, task: ProgramTask, file: File, lock: FileLock, owner: object, wait: bool, flags: LkFlag
    ) -> None:
        pid = task.program.tgid if lock.type != F_UNLCK else 0
        body = LK_IN.pack(LkIn(file.fh, self.lock_owner(owner), lock._replace(pid=pid), flags))
        await self.ask(task, Opcode.SETLKW if wait else Opcode.SETLK, file.inode, body)

    # -- ioctl ------------------------------------------------------------------------------------------------------

    @traced("fuse_file_ioctl")
    async def ioctl(self, task: ProgramTask, file: File, cmd: int, arg: int, memory: bytearray | None) -> int:
        """Restricted: the size and direction of the data stand in ``cmd``; ``memory`` is what ``arg`` points to."""
        self.check_allowed(task)
        if cmd in _FILEATTR:
            return await self._fileattr(task, file, cmd, memory)
        if file.inode.is_dir and not self.flags & InitFlag.HAS_IOCTL_DIR:
            raise _no_ioctl()
        size = cmd >> 16 & 0x3FFF
        return await self._ioctl(task, file, file.fh, cmd, arg, memory, size)

    async def _fileattr(self, task: ProgramTask, file: File, cmd: int, memory: bytearray | None) -> int:
        """The flags of an inode: asked through a handle of the kernel's own."""
        if not (file.inode.is_reg or file.inode.is_dir):
            raise _no_ioctl()
        own = await self.open(task, file.dentry, 0)
        try:
            return await self._ioctl(task, file, own.fh, cmd, 0, memory, _FILEATTR[cmd])
        finally:
            await put_file(task, own)

    async def _ioctl(
        self, task: ProgramTask, file: File, fh: int, cmd: int, arg: int, memory: bytearray | None, size: int
    ) -> int:
        direction = cmd >> 30
        given = size if direction & IOC_WRITE else 0
        wanted = size if direction & IOC_READ else 0
        if (given or wanted) and (memory is None or len(memory) < size):
            raise OSError(int(Errno.EFAULT), f"ioctl {cmd:#x} is about {size} bytes of memory")
        flags = IoctlFlag.DIR if file.inode.is_dir else IoctlFlag(0)
        body = IOCTL_IN.pack(IoctlIn(fh, flags, cmd, arg, given, wanted))
        data = bytes(memory[:given]) if given and memory is not None else b""
        into = bytearray(IOCTL_OUT.size + wanted)
        try:
            answered = await self.ask_for_data(task, Opcode.IOCTL, file.inode.nodeid, into, body, data)
        except OSError as failed:
            if failed.errno == errno.ENOSYS:
                raise _no_ioctl() from None
            raise
        if answered < IOCTL_OUT.size:
            raise OSError(int(Errno.EIO), f"IOCTL answered {answered} bytes")
        out = IOCTL_OUT.unpack(into)
        if out.flags & IoctlFlag.RETRY:  # for CUSE alone: a filesystem does not get at a caller's memory
            raise OSError(int(Errno.EIO), "the daemon asked for other memory of the caller's")
        if out.result == -Errno.ENOSYS:
            raise _no_ioctl()
        if out.result < 0:
            raise OSError(-out.result, f"ioctl {cmd:#x} answered {out.result}")
        if wanted and memory is not None:
            memory[: answered - IOCTL_OUT.size] = into[IOCTL_OUT.size : answered]
        return out.result

    # -- poll -------------------------------------------------------------------------------------------------------

    async def poll(self, task: ProgramTask, file: File, events: int, notify: bool) -> int:
        """What is there of ``events`` (POLL*). ``notify``: someone waits for it."""
        if Opcode.POLL in self.missing:
            return DEFAULT_POLLMASK
        flags = PollFlag(0)
        if notify:
            flags = PollFlag.SCHEDULE_NOTIFY
            self._poll_queue(file)
        body = POLL_IN.pack(PollIn(file.fh, self._poll_handle(file), flags, events))
        try:
            return (await self.ask_for(task, Opcode.POLL, file.inode.nodeid, POLL_OUT, body)).revents
        except OSError as failed:
            if failed.errno == errno.ENOSYS:
                self.missing.add(Opcode.POLL)
                return DEFAULT_POLLMASK
            if failed.errno == errno.EINTR:
                raise
            return EPOLLERR

    def poll_queues(self, file: File) -> tuple[WaitQueue, ...]:
        return (self._poll_queue(file),)

    def _poll_queue(self, file: File) -> WaitQueue:
        """Who waits for events of ``file``; woken by NOTIFY_POLL with its handle."""
        return self.polled.setdefault(self._poll_handle(file), WaitQueue(f"events of node {file.inode.nodeid}"))

    def _poll_handle(self, file: File) -> int:
        if not file.poll_handle:
            self.poll_handles += 1
            file.poll_handle = self.poll_handles
        return file.poll_handle

    async def release(self, task: ProgramTask, file: File) -> None:
        self.polled.pop(file.poll_handle, None)
        await super().release(task, file)


def _no_ioctl() -> OSError:
    return OSError(int(Errno.ENOTTY), "Inappropriate ioctl for device")
