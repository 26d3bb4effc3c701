"""mmap, munmap, msync, mprotect, and what a program does with its memory: as mm/mmap.c and mm/msync.c have it."""

from __future__ import annotations

from ....wire.errno import Errno
from ....wire.flags import PAGE_SIZE
from ...queue.copy import Memory, copy_from_user, copy_to_user
from ..address_space import (
    MADV_DONTNEED,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_WRITE,
    TASK_SIZE,
    UserMemory,
    Vma,
    put_exec_file,
    put_vma,
)
from ..files import File
from ..program import ProgramTask
from .base import fdget, invalid, syscall, use

MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4


@syscall
async def sys_mmap(
    task: ProgramTask, addr: int, length: int, prot: int, flags: int, fd: int = -1, offset: int = 0
) -> int:
    """The address of ``length`` bytes of the file from ``offset`` on, or of zeros (MAP_ANONYMOUS). Raises EINVAL, EBADF,
    EACCES, ENODEV, ENOMEM."""
    kind = flags & (MAP_SHARED | MAP_PRIVATE)
    if length <= 0 or offset % PAGE_SIZE or offset < 0 or kind not in (MAP_SHARED, MAP_PRIVATE):
        raise invalid(f"mmap of {length} bytes at {offset}")
    length += -length % PAGE_SIZE
    mm = task.program.mm
    if flags & MAP_FIXED:
        if addr % PAGE_SIZE:
            raise invalid(f"address {addr:#x}")
        if not PAGE_SIZE <= addr <= TASK_SIZE - length:
            raise OSError(int(Errno.ENOMEM), "Cannot allocate memory")
    shared = kind == MAP_SHARED
    file = None
    if not flags & MAP_ANONYMOUS:
        file = fdget(task, fd)
        _check(file, prot, shared)
        await file.inode.sb.mmap(task, file, shared)
    replaced: list[Vma] = []
    if flags & MAP_FIXED:
        replaced = mm.isolate(addr, addr + length)
    elif not addr or addr % PAGE_SIZE or not 0 < addr <= TASK_SIZE - length or mm.within(addr, addr + length):
        addr = mm.unmapped_area(length)
    mm.insert(Vma(addr, addr + length, prot, shared, file, offset // PAGE_SIZE))
    await _put_vmas(task, replaced)  # which may take a while: nobody else gets the place meanwhile
    return addr


def _check(file: File, prot: int, shared: bool) -> None:
    if not file.readable or (shared and prot & PROT_WRITE and not file.writable):
        raise PermissionError(int(Errno.EACCES), "Permission denied: it was not opened so")
    if not file.inode.is_reg:
        raise OSError(int(Errno.ENODEV), "No such device: it cannot be mapped")


@syscall
async def sys_munmap(task: ProgramTask, addr: int, length: int) -> None:
    """What was mapped there is mapped no longer. Raises EINVAL."""
    start, end = _range(addr, length)
    await _unmap(task, start, end)


def _is_nothing(addr: int, length: int) -> bool:
    """No bytes: msync, mprotect and madvise then have nothing to do, wherever that is."""
    return length == 0 and not addr % PAGE_SIZE


def _range(addr: int, length: int) -> tuple[int, int]:
    if addr % PAGE_SIZE or length <= 0 or not 0 <= addr <= TASK_SIZE - length:
        raise invalid(f"{length} bytes at {addr:#x}")
    return addr, addr + length + -length % PAGE_SIZE


async def _unmap(task: ProgramTask, start: int, end: int) -> None:
    await _put_vmas(task, task.program.mm.isolate(start, end))


async def _put_vmas(task: ProgramTask, vmas: list[Vma]) -> None:
    for vma in vmas:
        try:
            await put_vma(task, vma)
        except OSError:
            continue  # munmap(2) has no way to tell


async def exit_mmap(task: ProgramTask) -> None:
    """The program's memory ends with it, or with its exec."""
    await _unmap(task, 0, TASK_SIZE)
    file, task.program.mm.exe_file = task.program.mm.exe_file, None
    if file is not None:
        await put_exec_file(task, file)


@syscall
async def sys_msync(task: ProgramTask, addr: int, length: int, flags: int = MS_SYNC) -> None:
    """What was written there goes to the file, and is durable. Raises EINVAL, ENOMEM for what is not mapped."""
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or (flags & MS_ASYNC and flags & MS_SYNC):
        raise invalid(f"msync with flags {flags:#x}")
    if _is_nothing(addr, length):
        return
    start, end = _range(addr, length)
    mapped = task.program.mm.within(start, end)
    if flags & MS_SYNC:
        # All are held before the first wait: another thread may unmap the rest meanwhile.
        for file in [use(task, vma.file) for vma in mapped if vma.file is not None and vma.shared]:
            await file.inode.sb.fsync(task, file, False)
    _check_mapped(mapped, start, end)


def _check_mapped(mapped: list[Vma], start: int, end: int) -> None:
    for vma in mapped:
        if vma.start > start:
            break
        start = max(start, vma.end)
    if start < end:
        raise OSError(int(Errno.ENOMEM), f"nothing is mapped at {start:#x}")


@syscall
async def sys_mprotect(task: ProgramTask, addr: int, length: int, prot: int) -> None:
    """What a program may do there. Raises EACCES where the file was not opened so, EINVAL, ENOMEM."""
    if _is_nothing(addr, length):
        return
    start, end = _range(addr, length)
    mm = task.program.mm
    mapped = mm.within(start, end)
    _check_mapped(mapped, start, end)
    for vma in mapped:
        if vma.file is not None:
            _check(vma.file, prot, vma.shared)
    for vma in mm.isolate(start, end):
        vma.prot = prot
        mm.insert(vma)


@syscall
async def sys_madvise(task: ProgramTask, addr: int, length: int, advice: int) -> None:
    """How a program is going to touch its memory. Raises EINVAL, ENOMEM for what is not mapped."""
    if advice not in (MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED):
        raise invalid(f"advice {advice}")
    if _is_nothing(addr, length):
        return
    start, end = _range(addr, length)
    mm = task.program.mm
    mapped = mm.within(start, end)
    if advice in (MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL):
        for vma in mm.isolate(start, end):
            vma.advice = advice
            mm.insert(vma)
    elif advice == MADV_WILLNEED:
        for vma, file in [(vma, use(task, vma.file)) for vma in mapped if vma.file is not None]:  # as for msync
            lo, hi = max(start, vma.start), min(end, vma.end)
            await file.inode.sb.willneed(task, file, vma.index(lo), (hi - lo) // PAGE_SIZE)
    else:
        for vma in mapped:
            vma.zap(start, end)
    _check_mapped(mapped, start, end)


# -- in user mode ----------------------------------------------------------------------------------------------------


async def load(task: ProgramTask, addr: int, length: int) -> bytes:
    """The program reads its memory. Raises :class:`SegmentationFault`, :class:`BusError`, InterruptedError."""
    return await copy_from_user(task, (UserMemory(task.program.mm, addr, length),))


async def store(task: ProgramTask, addr: int, data: Memory) -> None:
    """The program writes to its memory. Raises as :func:`load`."""
    await copy_to_user(task, UserMemory(task.program.mm, addr, len(data)), data)
