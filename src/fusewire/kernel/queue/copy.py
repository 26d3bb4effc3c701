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
from .task import Task

Memory = bytes | bytearray | memoryview


async def copy_pages(task: Task, req: Request, pieces: Iterable[Memory], into: memoryview, what: str) -> int:
    """Copy ``pieces`` one after the other into ``into``, and tell so in the words ``what``; returns the bytes copied.
    Raises OSError(ENOENT) on an abort."""
    check_given_up(req)
    task.step(what, req.unique)
    at = 0
    for piece in pieces:
        size = len(piece)
        # Without points nobody can come between two pages, so the whole piece is one of them.
        page = PAGE_SIZE if task.points else max(size, 1)
        for start in range(0, size, page):
            unlock_request(req)
            await task.point("between pages")
            lock_request(req)
            chunk = piece[start : start + page]
            into[at : at + len(chunk)] = chunk
            at += len(chunk)
    unlock_request(req)
    check_given_up(req)
    return at


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
