"""The answers that come later: those of ``async`` handlers, which an event loop runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..wire.errno import Errno
from .dispatch import Bound
from .encode import Answer
from .errors import error_answer, not_encoded, raised
from .request import Seat, _current

if TYPE_CHECKING:
    from .session import Session


class Later:
    """The answer of an ``async`` handler: run it on an event loop. ``request`` lets one interrupt it."""

    def __init__(self, session: Session, seat: Seat, bound: Bound, args: tuple[Any, ...]):
        assert seat.request is not None
        self.session = session
        self.request = seat.request
        self._seat = seat
        self._bound = bound
        self._args = args

    async def run(self) -> Answer:
        """The handler, to its end. When it is cancelled the caller gets EINTR."""
        unique, nodeid = self.request.unique, self.request.nodeid
        _current.set(self._seat)
        try:
            try:
                result = await self._bound.method(*self._args)
            except Exception as error:
                return raised(unique, nodeid, self._bound, error)
            try:
                return self._bound.encode(self.session.operations, result, unique, self._seat.buffer)
            except Exception as error:
                return not_encoded(unique, nodeid, self._bound, error)
        finally:
            self._finish()

    def interrupted(self) -> Answer:
        """The answer for a handler that was cancelled, or never begun."""
        self._finish()
        return error_answer(self.request.unique, Errno.EINTR)

    def failed(self) -> Answer:
        """The answer for a handler that ended in no way that has an answer: SystemExit."""
        self._finish()
        return error_answer(self.request.unique, Errno.EIO)

    def _finish(self) -> None:
        self.session.seats.discard(self._seat)
