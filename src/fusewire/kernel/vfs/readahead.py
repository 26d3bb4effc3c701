"""Reading ahead: how much, and from where on, as mm/readahead.c decides it.

A window of ``size`` pages is read at ``start``; when a reader comes to the first of its last ``async_size`` pages (that page is
marked), the next window is read while it goes on. Windows grow as long as a file is read from front to back.
"""

from __future__ import annotations

from .page_cache import PageCache

MMAP_LOTSAMISS = 100


class Readahead:
    """Of one open file. ``prev`` is the page that was read last; ``mmap_miss`` how many more faults than hits its mappings had
    lately, by pages; ``scale`` how much more than others it reads ahead (POSIX_FADV_SEQUENTIAL), ``random`` that it does not
    (POSIX_FADV_RANDOM)."""

    __slots__ = ("async_size", "mmap_miss", "prev", "random", "scale", "size", "start")

    def __init__(self) -> None:
        self.start = self.size = self.async_size = 0
        self.prev = -1
        self.mmap_miss = 0
        self.scale = 1
        self.random = False

    def on_fault(self, index: int, limit: int) -> tuple[int, int, int | None] | None:
        """``do_sync_mmap_readahead``: mapped memory is touched at page ``index``, which is not there: the window is around it.
        None where that has not paid: what is touched is all over the file."""
        self.mmap_miss = min(self.mmap_miss + 1, 10 * MMAP_LOTSAMISS)
        if self.mmap_miss > MMAP_LOTSAMISS:
            return None
        self.start, self.size, self.async_size = max(0, index - limit // 2), limit, limit // 4
        return self.start, self.size, self._mark()

    def hit(self, pages: int) -> None:
        """Pages that were there when mapped memory was touched."""
        self.mmap_miss = max(0, self.mmap_miss - pages)

    def on_miss(self, cache: PageCache, index: int, wanted: int, limit: int) -> tuple[int, int, int | None]:
        """``page_cache_sync_ra``: page ``index`` is not there, ``wanted`` are asked for, and ``limit`` is the most of one
        window. Returns the first page to read, how many, and which of them is to be marked."""
        if index and wanted <= limit and not 0 <= index - self.prev <= 1:
            before = self._history(cache, index, limit)
            if before <= wanted:  # here and there: what is asked for, and no more
                return index, wanted, None
            self.start, self.size, self.async_size = index, min(before + wanted, limit), 1
        else:
            self.start = index
            self.size = _first(wanted, limit)
            self.async_size = self.size - wanted if self.size > wanted else self.size
        if self.async_size == self.size:  # the next window would begin at once: this one takes it along
            more = self._grown(limit)
            if self.size + more <= limit:
                self.async_size = more
                self.size += more
            else:
                self.size, self.async_size = limit, limit // 2
        return self.start, self.size, self._mark()

    def on_mark(self, cache: PageCache, index: int, wanted: int, limit: int) -> tuple[int, int, int | None] | None:
        """``page_cache_async_ra``: a reader came to the marked page ``index``. None: nothing is to be read."""
        if index == self.start + self.size - self.async_size:
            self.start += self.size
            self.size = self._grown(limit)
        else:
            start = next((at for at in range(index + 1, index + 1 + limit) if at not in cache.pages), None)
            if start is None:
                return None
            self.start, self.size = start, start - index + wanted
            self.size = self._grown(limit)
        self.async_size = self.size
        return self.start, self.size, self._mark()

    def _mark(self) -> int | None:
        return self.start + self.size - self.async_size if self.async_size else None

    def _grown(self, limit: int) -> int:
        """``get_next_ra_size``."""
        if self.size < limit // 16:
            return 4 * self.size
        return min(2 * self.size, limit) if self.size <= limit // 2 else limit

    @staticmethod
    def _history(cache: PageCache, index: int, limit: int) -> int:
        """How many pages before ``index`` are cached without a gap."""
        count = 0
        while count < limit and index - count - 1 in cache.pages:
            count += 1
        return count


def _first(wanted: int, limit: int) -> int:
    """``get_init_ra_size``."""
    size = 1 << (wanted - 1).bit_length()
    if size <= limit // 32:
        return 4 * size
    return 2 * size if size <= limit // 4 else limit
