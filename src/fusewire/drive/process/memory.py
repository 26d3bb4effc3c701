"""A process's memory: mmap and its kin, and reading and writing it by address."""

from __future__ import annotations

from ...kernel.vfs import UserMemory
from ...kernel.vfs import syscalls as sc
from ...kernel.vfs.address_space import MAP_SHARED, PROT_READ, PROT_WRITE
from .base import Caller
from .files import Data


class Mapping:
    """``length`` bytes of a process at ``address``: what mmap(2) returned. Indexed and sliced as Python's mmap objects are."""

    def __init__(self, process: MemoryCalls, address: int, length: int) -> None:
        self.process = process
        self.address = address
        self.length = length

    def __repr__(self) -> str:
        return f"<Mapping {self.address:#x}, {self.length} bytes>"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, where: int | slice) -> int | bytes:
        if isinstance(where, slice):
            start, stop, step = where.indices(self.length)
            if step != 1:
                return self[:][where]  # type: ignore[index]
            return self.process.load(self.address + start, max(0, stop - start))
        return self.process.load(self.address + self._at(where), 1)[0]

    def __setitem__(self, where: int | slice, value: int | Data) -> None:
        if isinstance(where, slice):
            start, stop, step = where.indices(self.length)
            if step != 1 or not isinstance(value, (bytes, bytearray, memoryview)) or len(value) != max(0, stop - start):
                raise IndexError("a slice is assigned as many bytes as it has, one after the other")
            self.process.store(self.address + start, value)
        elif isinstance(value, int):
            self.process.store(self.address + self._at(where), bytes((value,)))
        else:
            raise TypeError("a byte is an int")

    def _at(self, index: int) -> int:
        if not -self.length <= index < self.length:
            raise IndexError("mmap index out of range")
        return index % self.length

    def memory(self, start: int = 0, length: int | None = None) -> UserMemory:
        """A part of it as a buffer for system calls, to be faulted in by them."""
        return self.process.user_memory(self.address + start, self.length - start if length is None else length)

    def flush(self) -> None:
        """msync(2): what was written goes to the file."""
        self.process.msync(self.address, self.length)

    def madvise(self, option: int, start: int = 0, length: int | None = None) -> None:
        """As mmap.madvise(): MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED."""
        self.process.madvise(self.address + start, self.length - start if length is None else length, option)

    def close(self) -> None:
        """munmap(2)."""
        self.process.munmap(self.address, self.length)


class MemoryCalls(Caller):
    """``mmap`` and what is done with what it returns. What cannot be touched raises ``SegmentationFault`` or ``BusError``,
    which are OSErrors with EFAULT."""

    def mmap(
        self,
        fd: int,
        length: int,
        prot: int = PROT_READ | PROT_WRITE,
        flags: int = MAP_SHARED,
        offset: int = 0,
        *,
        address: int = 0,
    ) -> Mapping:
        """mmap(2), with the values of Python's ``mmap.PROT_*`` and ``MAP_*``; ``fd`` -1 for MAP_ANONYMOUS."""
        return Mapping(self, self._call(sc.sys_mmap, address, length, prot, flags, fd, offset), length)

    def munmap(self, address: int, length: int) -> None:
        """munmap(2)."""
        self._call(sc.sys_munmap, address, length)

    def msync(self, address: int, length: int, flags: int = sc.MS_SYNC) -> None:
        """msync(2)."""
        self._call(sc.sys_msync, address, length, flags)

    def madvise(self, address: int, length: int, advice: int) -> None:
        """madvise(2), with the values of Python's ``mmap.MADV_*``."""
        self._call(sc.sys_madvise, address, length, advice)

    def mprotect(self, address: int, length: int, prot: int) -> None:
        """mprotect(2)."""
        self._call(sc.sys_mprotect, address, length, prot)

    def load(self, address: int, length: int = 1) -> bytes:
        """Read memory, faulting in what is not there."""
        return self._call(sc.load, address, length)

    def store(self, address: int, data: Data) -> None:
        """Write memory, faulting in what is not there."""
        self._call(sc.store, address, data)

    def user_memory(self, address: int, length: int) -> UserMemory:
        """Memory as a buffer for ``readinto``, ``write`` and their kin: the system call faults it in."""
        return UserMemory(self.program.mm, address, length)
