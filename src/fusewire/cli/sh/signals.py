"""Ctrl-C ends the running command, and the shell lives on; SIGTERM and SIGHUP end both.

A command runs on a thread of its own and the main thread waits, since it is there that Python handles signals: it then sends
SIGINT to the command's process on our kernel half, where it is fatal, and no wait of that process outlasts it.

Those threads block the terminal's signals, and so does what they start: Ctrl-C reaches every program in the terminal's
foreground, and is meant for the command, not for the daemon behind it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from ...mounting import GLANCE

T = TypeVar("T")
FROM_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal came: ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """Who is told about a signal: the command that runs, or whoever waits for the next one."""

    def __init__(self) -> None:
        self._stop: Callable[[], object] | None = None
        self._got = 0

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """For so long signals come here. Only the main thread may, elsewhere nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
        try:
            for number in before:
                signal.signal(number, self._handle)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stop is None:
            raise Stopped(number)
        if not self._got or number in ENDING:
            first, self._got = not self._got, number
            if first:
                self._stop()

    def run(self, function: Callable[[], T], stop: Callable[[], object]) -> T:
        """Call ``function`` on a thread of its own. A signal calls ``stop``, once, which has to make it return.

        Returns or raises what it does, or raises :class:`Stopped` when a signal came meanwhile.
        """
        done = threading.Event()
        outcome: list[Any] = []

        def work() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, FROM_THE_TERMINAL)
            try:
                outcome.extend((function(), None))
            except BaseException as error:
                outcome.extend((None, error))
            finally:
                done.set()

        self._got = 0
        self._stop = stop
        try:
            threading.Thread(target=work, name="fusewire sh", daemon=True).start()
            while not done.wait(GLANCE):
                pass
        finally:
            self._stop = None
        if self._got:
            raise Stopped(self._got)
        result, error = outcome
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]
