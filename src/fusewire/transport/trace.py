"""Every message of a channel as a line, both directions, with latency."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..inspect.events import EventStream
from ..wire.codec import without_resend
from ..wire.flags import Opcode
from ..wire.layouts import IN_HEADER, OUT_HEADER
from ..wire.render import render_reply, render_request
from .readers import Channel

if TYPE_CHECKING:
    from ..daemon.session import Answer


_UNANSWERED = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY, Opcode.INTERRUPT)


class Traced:
    """A channel that shows what passes through the one beneath it. ``show`` gets one line a message.

    ``-> `` is the kernel's request, with the caller's pid; ``<- `` our answer, with the microseconds since the request was
    read; ``<! `` a notification, or an answer that the kernel refused.
    """

    def __init__(self, channel: Channel, show: Callable[[str], None]) -> None:
        self._channel = channel
        self._to = show
        self._asked: dict[int, tuple[int, bool, float]] = {}
        self._lock = threading.Lock()

    def _show(self, line: str) -> None:
        with contextlib.suppress(Exception):  # nobody sees it (stderr closed, a disk that is full); the mount goes on
            self._to(line)

    @property
    def events(self) -> EventStream | None:
        return self._channel.events

    @events.setter
    def events(self, events: EventStream | None) -> None:
        self._channel.events = events

    def receive(self, buffer: memoryview) -> int:
        """As the channel's own."""
        size = self._channel.receive(buffer)
        message = buffer[:size]
        if size >= IN_HEADER.size:
            header = IN_HEADER.unpack(message)
            # GETXATTR and LISTXATTR with size 0 ask for a length: their answer has another shape.
            probe = header.opcode in (Opcode.GETXATTR, Opcode.LISTXATTR) and not any(message[40:44])
            with self._lock:
                if header.opcode not in _UNANSWERED:
                    self._asked[without_resend(header.unique)] = header.opcode, probe, time.perf_counter()
            self._show(f"-> {render_request(message)} pid={header.pid}")
        return size

    def send(self, answer: Answer) -> None:
        """As the channel's own."""
        raw = b"".join(answer)
        header = OUT_HEADER.unpack(raw)
        with self._lock:
            opcode, probe, since = self._asked.pop(without_resend(header.unique), (0, False, 0.0))
        line = render_reply(opcode, raw, probe=probe)
        took = f" {(time.perf_counter() - since) * 1e6:.0f} us" if since else ""
        try:
            self._channel.send(answer)
        except OSError as error:
            self._show(f"<! {line}{took} refused: {error.strerror}")
            raise
        self._show(f"{'<-' if header.unique else '<!'} {line}{took}")
