"""A request that came to a mock daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...wire.codec import decode_request
from ...wire.flags import Opcode
from ...wire.render import render_request
from ...wire.table import OPERATIONS, Dialect
from .shapes import fields_of

if TYPE_CHECKING:
    from .daemon import MockDaemon


class Asked:
    """One request, as it was on the wire. ``opcode``, ``unique``, ``nodeid``, ``uid``, ``gid``, ``pid`` are its header's;
    every field of its body is an attribute by its name there: ``asked.fh``, ``asked.offset``, ``asked.name``, ``asked.data``.
    Where a body has a field of the header's name (INTERRUPT's ``unique``), it is in ``fields``."""

    def __init__(self, daemon: MockDaemon, raw: bytes, dialect: Dialect) -> None:
        self.daemon = daemon
        self.raw = raw
        self.dialect = dialect
        header, message = decode_request(raw, dialect)
        self.header = header
        self.message = message
        self.opcode = Opcode(header.opcode)
        self.unique = header.unique
        self.nodeid = header.nodeid
        self.uid, self.gid, self.pid = header.uid, header.gid, header.pid
        self.row = OPERATIONS[header.opcode]
        self.fields = fields_of(self.row.request, message)
        self.answered = False

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{self.__dict__.get('opcode')!r} has no field {name!r}; it has {', '.join(fields)}")

    def __repr__(self) -> str:
        return f"<{self.text}>"

    @property
    def text(self) -> str:
        """The request in one line."""
        return render_request(self.raw, self.dialect)

    @property
    def probe(self) -> bool:
        """It asks how long the answer would be (GETXATTR and LISTXATTR of size 0)."""
        return self.row.probe is not None and not self.fields["size"]

    @property
    def answerable(self) -> bool:
        """An answer is due; INTERRUPT may be answered, but need not."""
        return self.row.replies and self.opcode is not Opcode.INTERRUPT

    def reply(self, *parts: Any, **fields: Any) -> None:
        """Answer it now: see :meth:`MockDaemon.answer`."""
        self.daemon.answer(self, *parts, **fields)

    def error(self, number: int) -> None:
        """Answer it now with an errno. Raises OSError as :meth:`MockDaemon.answer`."""
        self.daemon.answer_error(self, number)
