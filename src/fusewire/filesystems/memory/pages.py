"""A file's contents: pages of 4 KiB in a dictionary. A page that is not there is a hole; a file of holes takes no memory.

Rules. A page may be shorter than 4 KiB: what is missing at its end is zero. ``RESERVED`` is a page that was allocated and
never written. No byte behind the end of a file is anything but zero. Whoever calls holds the filesystem's lock.
"""

from __future__ import annotations

import errno

from .nodes import File, error

PAGE = 4096
SHIFT = 12
MASK = PAGE - 1
ZEROS = bytes(PAGE)
RESERVED = b""
SECTORS = PAGE // 512  # st_blocks counts these

Data = bytes | bytearray | memoryview


class Space:
    """A limit: ``capacity`` pages (of contents) or bytes (of all else) may be taken, ``used`` are."""

    __slots__ = ("capacity", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0

    @property
    def free(self) -> int:
        """What may still be taken."""
        return max(0, self.capacity - self.used)

    def take(self, count: int) -> None:
        """Raises OSError(ENOSPC) when there are not so many; then none is taken."""
        if count > self.capacity - self.used:
            raise no_space()
        self.used += count

    def give(self, count: int) -> None:
        """They are free again."""
        self.used -= count


def no_space() -> OSError:
    return error(errno.ENOSPC)


# -- reading -------------------------------------------------------------------------------------------------------


def read(file: File, offset: int, size: int) -> bytes | bytearray:
    """At most ``size`` bytes from ``offset``; fewer at the end of the file."""
    end = min(offset + size, file.size)
    if offset >= end:
        return b""
    first = offset >> SHIFT
    last = (end - 1) >> SHIFT
    if first == last:
        return _read_page(file, first, offset & MASK, end - (first << SHIFT))
    pages = [_whole(file.pages.get(number, ZEROS)) for number in range(first, last + 1)]
    pages[0] = pages[0][offset & MASK :]
    pages[-1] = pages[-1][: end - (last << SHIFT)]
    return b"".join(pages)


def _read_page(file: File, number: int, start: int, stop: int) -> bytes | bytearray:
    data = file.pages.get(number, RESERVED)[start:stop]
    missing = stop - start - len(data)
    return data + bytes(missing) if missing else data


def _whole(page: bytes | bytearray) -> bytes | bytearray:
    return page if len(page) == PAGE else page.ljust(PAGE, b"\0")


# -- writing -------------------------------------------------------------------------------------------------------


def write(file: File, space: Space, offset: int, data: Data) -> int:
    """Write ``data`` at ``offset``; returns how many bytes there was room for. Raises OSError(ENOSPC) for none."""
    size = len(data)
    start = offset & MASK
    if start + size <= PAGE:
        if size:
            _write_page(file, space, offset >> SHIFT, start, data)
    else:
        size = _room(file, space, offset, size)
        _write_pages(file, space, offset, data[:size])
    if offset + size > file.size and size:
        file.size = offset + size
    return size


def _write_page(file: File, space: Space, number: int, start: int, data: Data) -> None:
    """``data`` fits into the page."""
    page = file.pages.get(number)
    if not isinstance(page, bytearray):
        if page is None:
            space.take(1)
        page = bytearray(start)
        _put(file, {number: page})
    elif start > len(page):
        page.extend(bytes(start - len(page)))
    page[start : start + len(data)] = data


def _write_pages(file: File, space: Space, offset: int, data: Data) -> None:
    """There is room for all of it. Whole pages are made anew, which is faster than looking at what is there."""
    head = min(-offset & MASK, len(data))
    tail = max(head, len(data) - ((offset + len(data)) & MASK))
    if head:
        _write_page(file, space, offset >> SHIFT, offset & MASK, data[:head])
    if tail > head:
        before = len(file.pages)
        number = (offset + head) >> SHIFT
        _put(file, {number + i: bytearray(data[at : at + PAGE]) for i, at in enumerate(range(head, tail, PAGE))})
        space.used += len(file.pages) - before
    if tail < len(data):
        _write_page(file, space, (offset + tail) >> SHIFT, 0, data[tail:])


def _room(file: File, space: Space, offset: int, size: int) -> int:
    """How many of ``size`` bytes at ``offset`` can be written. Raises OSError(ENOSPC) for none."""
    first, behind = offset >> SHIFT, (offset + size + MASK) >> SHIFT
    free = space.free
    if free >= behind - first:
        return size
    for number in range(first, behind):
        if number not in file.pages:
            if not free:
                size = (number << SHIFT) - offset
                break
            free -= 1
    if size <= 0:
        raise no_space()
    return size


def _put(file: File, pages: dict[int, bytearray] | dict[int, bytes]) -> None:
    """Pages become the file's; whether there is room for them is settled."""
    if file.pages is File.NO_PAGES:
        file.pages = {}
    file.pages.update(pages)
    file.blocks = len(file.pages) * SECTORS


# -- allocating and freeing ----------------------------------------------------------------------------------------


def truncate(file: File, space: Space, size: int) -> None:
    """Make the file ``size`` bytes long; what is added is a hole."""
    if size <= file.size:
        first = (size + MASK) >> SHIFT
        _drop(file, space, first, max(file.allocated, (file.size + MASK) >> SHIFT))
        file.allocated = 0
        page = file.pages.get(size >> SHIFT)
        if isinstance(page, bytearray):
            del page[size & MASK :]
    file.size = size


def allocate(file: File, space: Space, offset: int, length: int) -> None:
    """Have memory for a range, so that no write to it finds none. Raises OSError(ENOSPC); then nothing has changed."""
    first, behind = offset >> SHIFT, (offset + length + MASK) >> SHIFT
    if behind - first - len(file.pages) > space.free:
        raise no_space()
    missing = [number for number in range(first, behind) if number not in file.pages]
    space.take(len(missing))
    _put(file, dict.fromkeys(missing, RESERVED))
    file.allocated = max(file.allocated, behind)


def punch_hole(file: File, space: Space, offset: int, length: int) -> None:
    """Zero a range; pages that lie in it whole are given back."""
    _zero_edges(file, offset, length)
    _drop(file, space, (offset + MASK) >> SHIFT, (offset + length) >> SHIFT)


def zero_range(file: File, space: Space, offset: int, length: int) -> None:
    """Zero a range and have memory for it. Raises OSError(ENOSPC); then nothing has changed."""
    allocate(file, space, offset, length)
    _zero_edges(file, offset, length)
    for number in _allocated(file, (offset + MASK) >> SHIFT, (offset + length) >> SHIFT):
        file.pages[number] = RESERVED


def _zero_edges(file: File, offset: int, length: int) -> None:
    """Zero what a range covers of pages that do not lie in it whole."""
    end = offset + length
    first, last = offset >> SHIFT, end >> SHIFT
    if first == last:
        _zero(file, first, offset & MASK, end & MASK)
        return
    if offset & MASK:
        _zero(file, first, offset & MASK, PAGE)
    _zero(file, last, 0, end & MASK)


def _zero(file: File, number: int, start: int, stop: int) -> None:
    page = file.pages.get(number)
    if isinstance(page, bytearray):
        stop = min(stop, len(page))
        page[start:stop] = bytes(max(0, stop - start))


def free(file: File, space: Space) -> None:
    """The file is gone: give back what it took."""
    space.give(len(file.pages))
    file.pages = File.NO_PAGES


def _drop(file: File, space: Space, first: int, behind: int) -> None:
    numbers = _allocated(file, first, behind)
    for number in numbers:
        del file.pages[number]
    space.give(len(numbers))
    file.blocks = len(file.pages) * SECTORS


def _allocated(file: File, first: int, behind: int) -> list[int]:
    """The pages that are there, of those from ``first`` to before ``behind``: by whichever of the two is shorter."""
    if behind - first < len(file.pages):
        return [number for number in range(first, behind) if number in file.pages]
    return [number for number in file.pages if first <= number < behind]


# -- where data is -------------------------------------------------------------------------------------------------


def next_data(file: File, offset: int) -> int:
    """Where data begins, at ``offset`` or behind. Raises OSError(ENXIO) for nowhere."""
    number, behind = offset >> SHIFT, (file.size + MASK) >> SHIFT
    if offset < file.size:
        if number in file.pages:
            return offset
        # Step through short holes; over a long one, look at what there is.
        for near in range(number + 1, min(behind, number + len(file.pages) + 2)):
            if near in file.pages:
                return near << SHIFT
        far = min((page for page in file.pages if number < page < behind), default=None)
        if far is not None:
            return far << SHIFT
    raise error(errno.ENXIO)


def next_hole(file: File, offset: int) -> int:
    """Where a hole begins, at ``offset`` or behind; the end of the file is one. Raises OSError(ENXIO) behind that."""
    if offset >= file.size:
        raise error(errno.ENXIO)
    number = offset >> SHIFT
    if number not in file.pages:
        return offset
    while number in file.pages:
        number += 1
    return min(number << SHIFT, file.size)
