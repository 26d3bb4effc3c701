"""Copying between a request and a program's memory, page by page, with ``req->locked``.

While a page is copied the request is locked, and neither an interruption nor an abort may take the caller's memory away.
Between pages it is unlocked: there the program's page may have to be faulted in, which may sleep. Whoever finds, on
locking again, that the request was aborted meanwhile stops with ENOENT and touches nothing more.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence

from ...wire.errno import Errno
from ...wire.flags import PAGE_SIZE
from .request import Request
from .task import Call, Task

Memory = bytes | bytearray | memoryview
_BUFFERS = (bytes, bytearray, memoryview)


class UserPages(abc.ABC):
    """A program's memory by its address: what of it is not there is faulted in, page by page."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def __getitem__(self, part: slice) -> UserPages: ...

    @abc.abstractmethod
    async def get_user_page(self, task: Task, at: int, *, write: bool) -> memoryview:
        """The memory from byte ``at`` to the end of its page, faulted in for reading or writing. Raises
        :class:`Interrupted`, and OSError(EFAULT) for what cannot be had."""


Source = Memory | UserPages
Into = bytearray | memoryview


LARGE = 1 << 18  # bytes, some 20 microseconds: what is longer is copied outside the kernel's lock


def copy_whole(task: Task, req: Request, pieces: Sequence[Memory], into: Into, what: str) -> None:
    """Copy ``pieces`` one after the other into ``into``, with nobody coming between, and tell so in the words ``what``."""
    if task.events is not None:
        task.step(what, req.unique)
    if req.aborted:
        check_given_up(req)
    if len(pieces) == 2 and len(pieces[1]) <= PAGE_SIZE:  # a header and a few bytes, as most requests are
        whole = b"".join(pieces)
        into[: len(whole)] = whole
        return
    at = 0
    for piece in pieces:
        end = at + len(piece)
        into[at:end] = piece
        at = end


async def copy_pages(
    task: Task, req: Request, pieces: Iterable[Source], into: memoryview | UserPages, what: str
) -> int:
    """As :func:`copy_whole`, page by page; with no points to stop at, piece by piece and outside the kernel's lock.
    Raises OSError(ENOENT) on an abort, and what faulting in raises."""
    check_given_up(req)
    task.step(what, req.unique)
    at = 0
    try:
        for piece in pieces:
            done = 0
            while done < len(piece):
                if at:
                    unlock_request(req)
                    check_given_up(req)  # whoever gave it up while it was locked left its end to us
                    await task.point("between pages")
                source = await get_user_page(task, piece, done, write=False)
                target = await get_user_page(task, into, at, write=True)
                lock_request(req)
                if task.points:
                    await task.point("page locked")
                size = min(len(source), len(target))
                if size > PAGE_SIZE:
                    await Call(_copy, target, 0, source[:size])
                else:
                    _copy(target, 0, source[:size])
                done += size
                at += size
    finally:
        unlock_request(req)
    check_given_up(req)
    return at


async def get_user_page(task: Task, memory: Source, at: int, *, write: bool) -> memoryview:
    """What can be copied at once from byte ``at`` on: of a program's memory a page, faulted in; of a buffer all, where
    nobody stops between pages."""
    if isinstance(memory, UserPages):
        return await memory.get_user_page(task, at, write=write)
    view = memoryview(memory)
    return view[at : at + PAGE_SIZE] if task.points else view[at:]


def plain(buffers: Iterable[Source]) -> bool:
    """Whether nothing of it can fault."""
    return all(isinstance(one, _BUFFERS) for one in buffers)


async def copy_from_user(task: Task, pieces: Sequence[Source]) -> bytes:
    """What a program has there, faulted in page by page."""
    parts = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            part = await get_user_page(task, piece, at, write=False)
            parts.append(bytes(part))
            at += len(part)
    return b"".join(parts)


async def copy_to_user(task: Task, into: memoryview | UserPages, data: Memory) -> int:
    """Into a program's memory, faulted in page by page; returns its length."""
    view, at = memoryview(data), 0
    while at < len(view):
        target = await get_user_page(task, into, at, write=True)
        size = min(len(target), len(view) - at)
        target[:size] = view[at : at + size]
        at += size
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
