"""What a mock daemon tells unasked, by the table of ``wire``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...wire.codec import encode_notification
from ...wire.flags import InvalEntryFlag, NotifyCode
from ...wire.layouts import OUT_HEADER, ForgetIn, OutHeader
from ...wire.table import NOTIFICATIONS, Body
from .shapes import ITEMS, NOTIFICATION_NAMES, build

if TYPE_CHECKING:
    from .daemon import MockDaemon


class Notify:
    """``daemon.notify.inval_inode(2, off=0, len=0)``: a method for each notification, its fields as on the wire.

    The first argument is the struct's first field (the node), the next ones names, or data, or (PRUNE) nodes. Lengths and
    counts are filled in unless given. Each returns when the kernel's half has taken it and raises the OSError of its write():
    ENOENT for what is not cached, EINVAL, ENOTDIR, EBUSY, ENOTEMPTY.
    """

    def __init__(self, daemon: MockDaemon) -> None:
        self._daemon = daemon

    def __getattr__(self, name: str) -> Callable[..., None]:
        code = NOTIFICATION_NAMES.get(name)
        if code is None:
            raise AttributeError(f"FUSE has no notification {name!r}; it has {', '.join(NOTIFICATION_NAMES)}")

        def notify(*args: Any, **fields: Any) -> None:
            self._daemon.write(_encode(code, args, fields))

        return notify

    def __dir__(self) -> list[str]:
        return [*NOTIFICATION_NAMES, "expire_entry", "raw"]

    def expire_entry(self, parent: int, name: bytes) -> None:
        """INVAL_ENTRY with EXPIRE_ONLY: the name is to be looked up again, and stays where it is."""
        self.inval_entry(parent, name, flags=InvalEntryFlag.EXPIRE_ONLY)

    def raw(self, code: int, body: bytes = b"") -> None:
        """Any code with any body."""
        self._daemon.write(OUT_HEADER.pack(OutHeader(OUT_HEADER.size + len(body), code, 0)) + body)


def _encode(code: NotifyCode, args: tuple[Any, ...], fields: dict[str, Any]) -> bytes:
    body = NOTIFICATIONS[code]
    positional = _positions(code, body)
    if len(args) > len(positional):
        raise TypeError(f"{code.name} takes {', '.join(positional) or 'no arguments'} by position, not {args!r}")
    given = dict(zip(positional, args, strict=False)) | fields
    if ITEMS in given:
        given[ITEMS] = tuple(ForgetIn(nodeid) for nodeid in given[ITEMS])
    counted = {"namelen": "name", "size": body.data, "count": ITEMS}
    known = body.structs[0].cls._fields if body.structs else ()
    for length, of in counted.items():
        if length in known and of in given:
            given.setdefault(length, len(given[of]))
    return encode_notification(code, build(body, code.name, given))


def _positions(code: NotifyCode, body: Body) -> list[str]:
    """The fields that are given by position."""
    rest = [*body.names, *([ITEMS] if body.items is not None else []), *([body.data] if body.data else [])]
    if code is NotifyCode.PRUNE or not body.structs:
        return rest
    return [body.structs[0].cls._fields[0], *rest]
