"""Copying between a request and a program's memory, page by page, with ``req->locked``.

While a page is copied the request is locked, and neither an interruption nor an abort may take the caller's memory away.
Between pages it is unlocked: there the program's page may have to be faulted in, which may sleep. Whoever finds, on
locking again, that the request was aborted meanwhile stops with ENOENT and touches nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE
from .request import Request
from .task import Call, Task

Memory = bytes | bytearray | memoryview


LARGE = 1 << 18  # bytes, some 20 microseconds: what is longer is copied outside the kernel's lock


def at_once(task: Task, size: int) -> bool:
    """Whether ``size`` bytes are copied with nobody coming between: then :func:`copy_whole` does."""
    return size <= LARGE and not task.points


def copy_whole(task: Task, req: Request, pieces: Iterable[Memory], into: memoryview, what: str) -> int:
    """Copy ``pieces`` one after the other into ``into``, and tell so in the words ``what``; returns the bytes copied."""
    if task.events is not None:
        task.step(what, req.unique)
    check_given_up(req)
    at = 0
    for piece in pieces:
        end = at + len(piece)
        into[at:end] = piece
        at = end
    return at


async def copy_pages(task: Task, req: Request, pieces: Iterable[Memory], into: memoryview, what: str) -> int:
    """As :func:`copy_whole`, page by page; with no points to stop at, piece by piece and outside the kernel's lock.
    Raises OSError(ENOENT) on an abort."""
    check_given_up(req)
    task.step(what, req.unique)
    at = 0
    try:
        for piece in pieces:
            page = PAGE_SIZE if task.points else max(len(piece), 1)
            for start in range(0, len(piece), page):
                unlock_request(req)
                await task.point("between pages")
                lock_request(req)
                end = min(start + page, len(piece))
                if end - start > PAGE_SIZE:
                    await Call(_copy, into, at, piece[start:end])
                else:
                    _copy(into, at, piece[start:end])
                at += end - start
    finally:
        unlock_request(req)
    check_given_up(req)
    return at


def _copy(into: memoryview, at: int, chunk: Memory) -> None:
    into[at : at + len(chunk)] = chunk


def lock_request(req: Request) -> None:
    """Raises OSError(ENOENT) when the request was aborted while it was unlocked."""
    check_given_up(req)
    req.locked = True


def check_given_up(req: Request) -> None:
    if req.aborted:
        raise OSError(int(Errno.ENOENT), f"request {req.unique} was given up during the copy")


def unlock_request(req: Request) -> None:
    """Whoever waits to take the request away may do so now."""
    if req.locked:
        req.locked = False
        req.unlocked.wake_all()
