"""The notifier thread: the only one that writes notifications.

The kernel works inside that write, and may take a directory's lock whose holder waits for a reader: a reader that wrote it
itself would sleep in D state until someone aborts the connection.
"""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future


class NotifierThread:
    """Writes notifications one after the other. ``write`` takes one whole message."""

    def __init__(self, write: Callable[[tuple[bytes]], None]) -> None:
        self._write = write
        self._queue: queue.SimpleQueue[tuple[bytes, Future[None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def send(self, message: bytes) -> Future[None]:
        """Queue a notification; the future tells what the kernel said. Raises OSError(ENODEV) after :meth:`close`,
        RuntimeError where Linux gives no thread."""
        result: Future[None] = Future()
        with self._lock:  # also while it is queued: behind what ends the thread nobody would write it
            if self._closed:
                raise OSError(errno.ENODEV, "the mount is gone")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="fusewire notifier", daemon=True)
                thread.start()
                self._thread = thread
            self._queue.put((message, result))
        return result

    def close(self) -> None:
        """No more: what is queued is still written (and refused, once the connection is gone)."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            message, result = item
            if not result.set_running_or_notify_cancel():
                continue
            try:
                self._write((message,))
            except Exception as error:  # whatever it is, the next one is to be written
                result.set_exception(error)
            else:
                result.set_result(None)
