"""Answers that the kernel did not take, because their callers have left: what they granted is taken back.

Locks are not. Whoever waited for one may have been killed, and its file be released, so that ``fh`` is another file's by now;
or it lives, and holds what it got by an earlier or later request of the same owner, which cannot be told apart. Linux itself
waits for the answer, and sends an INTERRUPT meanwhile; with a kernel that does neither, such a lock is held until it is given
up by its owner, or the file is closed.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NamedTuple

from ..wire.codec import decode_out_header, iter_direntplus
from ..wire.flags import Opcode
from ..wire.layout import Buffer
from ..wire.layouts import ENTRY_OUT, OPEN_OUT
from .encode import HEADER_SIZE, Answer
from .request import Seat, _current, read_header

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger("fusewire.daemon")
PATIENCE = 5.0  # seconds that a thread waits for the event loop to have taken back what it is to

_GRANTS_ENTRY = frozenset(
    {Opcode.LOOKUP, Opcode.MKNOD, Opcode.MKDIR, Opcode.SYMLINK, Opcode.LINK, Opcode.CREATE, Opcode.TMPFILE}
)
_RELEASES = {
    Opcode.OPEN: "release", Opcode.CREATE: "release", Opcode.TMPFILE: "release", Opcode.OPENDIR: "releasedir",
}  # fmt: skip
_GRANTS = _GRANTS_ENTRY | _RELEASES.keys() | {Opcode.READDIRPLUS}


class Step(NamedTuple):
    """One call of the filesystem's."""

    name: str
    nodeid: int
    method: Callable[..., Any]
    args: tuple[int, ...]


def take_back(session: Session, message: Buffer, answer: Answer) -> None:
    """Give the filesystem back what ``answer`` to ``message`` granted: an open file by ``release``, then the reference of an
    entry by ``forget`` (an open file outlives no inode). Their ``current_request()`` is ``message``.

    What is ``async`` runs where the async handlers do; a thread waits for it (a few seconds), that event loop's own does not.
    """
    steps = list(_steps(session, message, answer))
    if not steps:
        return
    seat = Seat(session, memoryview(bytes(message)))  # its buffer is used anew
    seat.header = read_header(message)
    if any(inspect.iscoroutinefunction(step.method) for step in steps):
        _run_async(session, _later(seat, steps))
        return
    token = _current.set(seat)
    try:
        for step in steps:
            try:
                step.method(*step.args)
            except Exception as error:
                _tell(step, error)
    finally:
        _current.reset(token)


def _steps(session: Session, message: Buffer, answer: Answer) -> Iterator[Step]:
    _, opcode, _, nodeid, _ = read_header(message)
    if opcode not in _GRANTS:
        return
    whole = b"".join(answer)
    body = whole[HEADER_SIZE:]
    if decode_out_header(whole).error or not body:
        return
    operations, made = session.operations, 0
    if opcode == Opcode.READDIRPLUS:
        for name, _, entry in iter_direntplus(body):
            if entry.nodeid and name not in (b".", b".."):
                yield Step("forget", entry.nodeid, operations.forget, (entry.nodeid, 1))
    if opcode in _GRANTS_ENTRY:
        made = nodeid = ENTRY_OUT.unpack(body).nodeid
        body = body[ENTRY_OUT.size :]
    release = _RELEASES.get(Opcode(opcode))
    if release is not None:
        yield Step(release, nodeid, getattr(operations, release), (nodeid, OPEN_OUT.unpack(body).fh, 0))
    if made:
        yield Step("forget", made, operations.forget, (made, 1))


async def _later(seat: Seat, steps: list[Step]) -> None:
    _current.set(seat)
    for step in steps:
        try:
            result = step.method(*step.args)
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            _tell(step, error)


def _run_async(session: Session, work: Coroutine[Any, Any, None]) -> None:
    loop = session.loop
    if loop is None or loop.is_closed():  # no async handler has run yet, or the session is over
        asyncio.run(work)
        return
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        task = loop.create_task(work)
        session.taking_back.add(task)  # the loop itself does not keep it
        task.add_done_callback(session.taking_back.discard)
        return
    try:
        asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)
    except TimeoutError:
        log.warning("what an answer granted that nobody took is not taken back yet: its release takes long")
    except (RuntimeError, CancelledError):
        work.close()  # the loop is closed, or about to be: destroy comes, and ends all that is open


def _tell(step: Step, error: Exception) -> None:
    log.error("%s(node %d) raised", step.name, step.nodeid, exc_info=error)
