"""The memory of a program by its addresses: ``mm_struct`` and ``vm_area_struct`` of Linux, and the faults that fill it.

A mapping holds its file open. What of it is there is found in ``ptes``; what is not is faulted in when a program, or a system
call on its behalf (:class:`UserMemory`), touches it. A page that left the page cache is not there any more.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, cast

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE
from ..queue import Interrupted, Mode, Task, traced
from ..queue.copy import UserPages
from .files import File, put_file
from .page_cache import Copy, Page, PageCache

if TYPE_CHECKING:
    from .program import ProgramTask

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 0x10, 0x20
MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED = range(5)
TASK_SIZE = 1 << 47
FAULT_AROUND = 16  # pages that are mapped at once, where they are cached
_MMAP_BASE = 0x7F00_0000_0000


class SegmentationFault(OSError):
    """SIGSEGV, or EFAULT in a system call: nothing is mapped there, or not so."""

    def __init__(self, addr: int, why: str) -> None:
        super().__init__(int(Errno.EFAULT), f"Bad address {addr:#x}: {why}")


class BusError(OSError):
    """SIGBUS, or EFAULT in a system call: the file has no such page, or it could not be read."""

    def __init__(self, addr: int, why: object) -> None:
        super().__init__(int(Errno.EFAULT), f"Bus error at {addr:#x}: {why}")


class Vma:
    """Addresses from ``start`` to ``end`` that are mapped alike. ``file`` None: to no file; ``pgoff``: the page of the file
    at ``start``. ``ptes``: by page of the address, a page of the file or memory of the program's own. ``advice``: how it will
    be touched (MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL)."""

    __slots__ = ("advice", "end", "file", "pgoff", "prot", "ptes", "shared", "start")

    def __init__(self, start: int, end: int, prot: int, shared: bool, file: File | None, pgoff: int) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.shared = shared
        self.file = file
        self.pgoff = pgoff
        self.ptes: dict[int, Page | Copy | memoryview] = {}
        self.advice = MADV_NORMAL
        if file is not None:
            file.count += 1

    def index(self, addr: int) -> int:
        """The page of the file at ``addr``."""
        return (addr - self.start) // PAGE_SIZE + self.pgoff

    def part(self, start: int, end: int) -> Vma:
        """A mapping of its own, of a part of this one and with what is there of it."""
        new = Vma(start, end, self.prot, self.shared, self.file, self.index(start))
        new.advice = self.advice
        pages = range(start // PAGE_SIZE, end // PAGE_SIZE)
        if self.file is None and self.shared:
            new.ptes = self.ptes  # memory that processes share stays one
        else:
            new.ptes = {number: pte for number, pte in self.ptes.items() if number in pages}
        return new

    def duplicate(self, pte: Page | Copy | memoryview) -> Page | Copy | memoryview:
        """For a child: what is private it has of its own."""
        if isinstance(pte, Copy) and self.file is not None:
            return pte if pte.gone else Copy(self.file.inode.sb.page_cache(self.file.inode), pte.index, pte.memory)
        return memoryview(bytearray(pte)) if isinstance(pte, memoryview) else pte

    def zap(self, start: int, end: int) -> None:
        """Nothing is there any more between these addresses: it is faulted in anew, and what was the program's own is lost.
        Memory of no file that processes share stays."""
        if self.file is not None or not self.shared:
            for number in range(max(start, self.start) // PAGE_SIZE, min(end, self.end) // PAGE_SIZE):
                self.ptes.pop(number, None)


class AddressSpace:
    """Who maps what. ``vmas`` by their start; none overlap. ``exe_file`` is the file that runs."""

    def __init__(self) -> None:
        self.vmas: list[Vma] = []
        self.exe_file: File | None = None

    def find_vma(self, addr: int) -> Vma | None:
        """The mapping that ``addr`` is in."""
        at = bisect.bisect_right(self.vmas, addr, key=lambda vma: vma.start) - 1
        return self.vmas[at] if at >= 0 and addr < self.vmas[at].end else None

    def within(self, start: int, end: int) -> list[Vma]:
        """All mappings that have a part there."""
        return [vma for vma in self.vmas if vma.start < end and start < vma.end]

    def insert(self, vma: Vma) -> None:
        bisect.insort(self.vmas, vma, key=lambda one: one.start)

    def unmapped_area(self, length: int) -> int:
        """Where ``length`` bytes are free: below everything that is mapped, as Linux goes top down."""
        top = min((vma.start for vma in self.vmas), default=_MMAP_BASE)
        if top < length + PAGE_SIZE:
            raise OSError(int(Errno.ENOMEM), "Cannot allocate memory")
        return top - length

    def isolate(self, start: int, end: int) -> list[Vma]:
        """Mappings are cut at both ends: those between, taken out. What was cut is let go by :func:`put_vma`."""
        inside = []
        for vma in self.within(start, end):
            self.vmas.remove(vma)
            for lo, hi in ((vma.start, start), (end, vma.end)):
                if lo < hi:
                    self.insert(vma.part(lo, hi))
            if vma.start < start or end < vma.end:
                cut = vma.part(max(vma.start, start), min(vma.end, end))
                if vma.file is not None:
                    vma.file.count -= 1  # its parts have it
                vma = cut
            inside.append(vma)
        return inside

    def present(self, addr: int, *, write: bool) -> memoryview | None:
        """The memory from ``addr`` to the end of its page, if it is there and may be used so."""
        vma = self.find_vma(addr)
        if vma is None or not vma.prot & (PROT_WRITE if write else PROT_READ):
            return None
        pte = vma.ptes.get(addr // PAGE_SIZE)
        if isinstance(pte, Page):
            if pte.cache is None or not pte.uptodate or (write and not (vma.shared and pte.dirty)):
                return None  # it was taken away; or it is not ours to write, or clean: then the fault marks it
            pte.referenced = True
            pte = pte.memory
        elif isinstance(pte, Copy):
            pte = None if pte.gone else pte.memory
        return None if pte is None else pte[addr % PAGE_SIZE :]

    def copy(self) -> AddressSpace:
        """fork(2): what is shared stays so, of what is private each has its own."""
        new = AddressSpace()
        for vma in self.vmas:
            twin = vma.part(vma.start, vma.end)
            if not vma.shared:
                twin.ptes = {number: vma.duplicate(pte) for number, pte in vma.ptes.items()}
            new.vmas.append(twin)
        if self.exe_file is not None:
            self.exe_file.inode.deny_write()
            self.exe_file.count += 1
            new.exe_file = self.exe_file
        return new


class UserMemory(UserPages):
    """``length`` bytes at ``addr`` of a program: what a system call is given as a buffer. They need not be there."""

    def __init__(self, space: AddressSpace, addr: int, length: int) -> None:
        self.space = space
        self.addr = addr
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> UserMemory:
        start, end, _ = part.indices(self.length)
        return UserMemory(self.space, self.addr + start, max(0, end - start))

    async def get_user_page(self, task: Task, at: int, *, write: bool) -> memoryview:
        """``get_user_pages()``: the page is there when it returns, and stays whatever becomes of the mapping."""
        addr = self.addr + at
        memory = self.space.present(addr, write=write)
        while memory is None:
            await do_page_fault(cast("ProgramTask", task), self.space, addr, write)
            memory = self.space.present(addr, write=write)
        return memory[: self.length - at]


@traced()
async def do_page_fault(task: ProgramTask, space: AddressSpace, addr: int, write: bool) -> None:
    """Bring the page at ``addr`` in. Raises :class:`SegmentationFault`, :class:`BusError`, :class:`Interrupted`."""
    vma = space.find_vma(addr)
    if vma is None:
        raise SegmentationFault(addr, "nothing is mapped there")
    if not vma.prot & (PROT_WRITE if write else PROT_READ):
        raise SegmentationFault(addr, f"mapped without the right to {'write' if write else 'read'}")
    number = addr // PAGE_SIZE
    if vma.file is None:
        vma.ptes[number] = memoryview(bytearray(PAGE_SIZE))
        return
    file = vma.file
    file.count += 1  # whoever unmaps it meanwhile
    try:
        if not write and _filemap_map_pages(vma, file, number):
            return
        page = await _filemap_fault(task, vma, file, vma.index(addr))
        try:
            if write and not vma.shared:
                vma.ptes[number] = Copy(file.inode.sb.page_cache(file.inode), page.index, page.memory)  # on write
            else:
                if write:
                    await file.inode.sb.page_mkwrite(task, file, page)
                vma.ptes[number] = page
        finally:
            page.unlock(task)
        if not write:
            _filemap_map_pages(vma, file, number)
    except Interrupted:
        raise
    except OSError as failed:
        raise BusError(addr, failed.strerror) from failed
    finally:
        await put_file(task, file)


def _filemap_map_pages(vma: Vma, file: File, number: int) -> bool:
    """What is cached around a page that was touched for reading is there from now on; whether that page is. A page that is
    marked, whose next reader has more read ahead, is not: that reader is to fault."""
    cache = file.inode.pages
    if cache is None:
        return False
    first = max(number - number % FAULT_AROUND, vma.start // PAGE_SIZE)
    hits = 0
    for near in range(first, min(first + FAULT_AROUND, vma.end // PAGE_SIZE)):
        pte = vma.ptes.get(near)
        if isinstance(pte, memoryview) or (isinstance(pte, Copy) and not pte.gone):
            continue
        if isinstance(pte, Page) and pte.cache is not None and near != number:
            continue
        page = cache.pages.get(vma.index(near * PAGE_SIZE))
        if page is None or not page.uptodate or page.readahead or page.owner is not None:
            continue
        if page.index * PAGE_SIZE < file.inode.attr.size:
            vma.ptes[near] = page
            hits += 1
    if file.ra is not None:
        file.ra.hit(hits)
    mapped = vma.ptes.get(number)
    return isinstance(mapped, Page) and mapped.cache is cache and mapped.uptodate


async def _filemap_fault(task: ProgramTask, vma: Vma, file: File, index: int) -> Page:
    """The page, locked, and with what the file has there. Raises OSError behind the file's end, and where it is not read."""
    inode = file.inode
    if index * PAGE_SIZE < inode.attr.size:
        await inode.sb.fault_readahead(task, file, inode.sb.page_cache(inode), index, vma.advice)
    while True:
        if index * PAGE_SIZE >= inode.attr.size:
            raise OSError(int(Errno.EFAULT), "behind the end of the file")
        cache: PageCache = inode.sb.page_cache(inode)
        page = cache.find_or_create(task, index)
        await page.lock(task, fault_mode(page))
        try:
            if page.cache is cache and not page.uptodate:
                await inode.sb.readpage(task, file, page)
            if page.cache is cache and index * PAGE_SIZE < inode.attr.size:
                return page
        except BaseException:
            page.unlock(task)
            raise
        page.unlock(task)  # cut off while we slept


def fault_mode(page: Page) -> Mode:
    """Which signals end the wait for a page that is to be read: Linux's fatal ones, or any where every wait ends so."""
    fc = page.connection
    return Mode.INTERRUPTIBLE if fc is not None and fc.policy.semaphore is Mode.INTERRUPTIBLE else Mode.KILLABLE


async def put_exec_file(task: ProgramTask, file: File) -> None:
    """It is run no longer, and may be written to."""
    file.inode.allow_write()
    await put_file(task, file)


async def put_vma(task: ProgramTask, vma: Vma) -> None:
    """It is mapped no longer: what was written to a file goes to the daemon, and the file is let go."""
    file = vma.file
    if file is None:
        return
    try:
        if vma.shared and file.writable:
            await file.inode.sb.write_and_wait(task, file.inode)
    finally:
        await put_file(task, file)
