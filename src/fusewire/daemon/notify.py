"""Notifications: what a filesystem tells the kernel unasked. All nine of them, ranged where the protocol is.

Each is handed to the transport, which writes it from a thread of its own: written by a reader, INVAL_ENTRY would wait for a
directory lock whose holder waits for that very reader. The result comes as a :class:`concurrent.futures.Future`; waiting
for it in a handler is safe where another reader takes over, as those of ``fusewire.transport`` do.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from ..wire.codec import Message, encode_notification
from ..wire.errno import Errno
from ..wire.flags import InvalEntryFlag, NotifyCode
from ..wire.layouts import (
    NOTIFY_RETRIEVE_IN,
    ForgetIn,
    NotifyDeleteOut,
    NotifyInvalEntryOut,
    NotifyInvalInodeOut,
    NotifyPollWakeupOut,
    NotifyPruneOut,
    NotifyRetrieveOut,
    NotifyStoreOut,
)

Sink = Callable[[bytes], "Future[None]"]


class Notifier:
    """``session.notify``. Offsets and lengths are bytes. A future's exception is the kernel's errno: FileNotFoundError for
    what it had not cached (harmless), OSError(EINVAL) for what it does not take."""

    def __init__(self) -> None:
        self.sink: Sink | None = None  # set by the transport that serves the session
        self._retrieves: dict[int, Future[bytes]] = {}
        self._uniques = itertools.count(1)
        self._lock = threading.Lock()

    def poll(self, handle: int) -> Future[None]:
        """Something that a POLL with ``handle`` asked for has happened (7.11)."""
        return self._send(NotifyCode.POLL, NotifyPollWakeupOut(handle))

    def inval_inode(self, ino: int, offset: int = 0, length: int = 0) -> Future[None]:
        """Drop the cached attributes of ``ino``, and its pages from ``offset`` for ``length`` bytes (0: to the end).
        ``offset`` -1: the attributes only (7.12)."""
        return self._send(NotifyCode.INVAL_INODE, NotifyInvalInodeOut(ino, offset, length))

    def inval_entry(self, parent: int, name: bytes, *, expire_only: bool = False) -> Future[None]:
        """Drop a cached name (7.12); ``expire_only``: only have it looked up again at its next use (7.38)."""
        flags = InvalEntryFlag.EXPIRE_ONLY if expire_only else 0
        return self._send(NotifyCode.INVAL_ENTRY, NotifyInvalEntryOut(parent, len(name), flags), name)

    def delete(self, parent: int, child: int, name: bytes) -> Future[None]:
        """``name`` was removed: as inval_entry, and watchers of the directory are told (7.18)."""
        return self._send(NotifyCode.DELETE, NotifyDeleteOut(parent, child, len(name)), name)

    def store(self, ino: int, offset: int, data: bytes) -> Future[None]:
        """Put ``data`` into the page cache; may extend the file (7.15)."""
        return self._send(NotifyCode.STORE, NotifyStoreOut(ino, offset, len(data)), data=data)

    def retrieve(self, ino: int, offset: int, size: int) -> Future[bytes]:
        """What the page cache has of ``ino`` from ``offset``: at most ``size`` bytes (7.15)."""
        result: Future[bytes] = Future()
        with self._lock:
            unique = next(self._uniques)
            self._retrieves[unique] = result

        def sent(done: Future[None]) -> None:
            error = None if done.cancelled() else done.exception()
            if error is None or self._retrieves.pop(unique, None) is None:
                return
            if result.set_running_or_notify_cancel():
                result.set_exception(error)

        self._send(NotifyCode.RETRIEVE, NotifyRetrieveOut(unique, ino, offset, size)).add_done_callback(sent)
        return result

    def resend(self) -> Future[None]:
        """Have every request that was read and not answered sent again (7.40)."""
        return self._send(NotifyCode.RESEND)

    def inc_epoch(self) -> Future[None]:
        """All names cached so far are looked up again at their next use; takes no lock at all (7.44)."""
        return self._send(NotifyCode.INC_EPOCH)

    def prune(self, inos: Iterable[int]) -> Future[None]:
        """Drop these inodes from the cache where nobody uses them; FORGETs follow (7.45)."""
        items = tuple(ForgetIn(ino) for ino in inos)
        return self._emit(NotifyCode.PRUNE, Message((NotifyPruneOut(len(items)),), items=items))

    def retrieved(self, unique: int, body: memoryview) -> None:
        """The session's: NOTIFY_REPLY came for the retrieve ``unique``."""
        result = self._retrieves.pop(unique, None)
        if result is not None and result.set_running_or_notify_cancel():
            size = NOTIFY_RETRIEVE_IN.unpack(body).size
            result.set_result(bytes(body[NOTIFY_RETRIEVE_IN.size :][:size]))

    def close(self) -> None:
        """The session is over: nobody will answer."""
        self.sink = None
        while self._retrieves:
            try:
                _, result = self._retrieves.popitem()
            except KeyError:  # another thread took the last one
                return
            if result.set_running_or_notify_cancel():
                result.set_exception(OSError(int(Errno.ENODEV), "the session has ended"))

    def _send(self, code: NotifyCode, struct: object = None, *names: bytes, data: bytes = b"") -> Future[None]:
        structs = () if struct is None else (struct,)
        return self._emit(code, Message(structs, names, data=data))

    def _emit(self, code: NotifyCode, message: Message) -> Future[None]:
        raw = encode_notification(code, message)
        sink = self.sink  # once: close() may come meanwhile
        if sink is None:
            raise OSError(
                int(Errno.EOPNOTSUPP), f"{code.name} cannot be sent: nothing that takes notifications is served"
            )
        return sink(raw)
