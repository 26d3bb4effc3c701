"""How a C struct of the protocol is declared once and packed, unpacked and measured from that.

A layout is a ``NamedTuple`` whose annotations are the C types of ``<linux/fuse.h>``. The compiler below turns it into
one precompiled :class:`struct.Struct` (little-endian as FUSE is spoken on the hosts we support), nested structs included.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_type_hints

__all__ = ["Buffer", "Layout", "ProtocolError", "i32", "i64", "spare", "u8", "u16", "u32", "u64"]

u8 = Annotated[int, "B"]
u16 = Annotated[int, "H"]
u32 = Annotated[int, "I"]
u64 = Annotated[int, "Q"]
i32 = Annotated[int, "i"]
i64 = Annotated[int, "q"]
Buffer = bytes | bytearray | memoryview


class spare(NamedTuple):
    """The marker of an array of reserved bytes: ``Annotated[bytes, spare(44)]``."""

    size: int


class ProtocolError(ValueError):
    """A message that is not FUSE: too short, too long, a name without its NUL, an unknown code."""


T = TypeVar("T")
_new: Any = tuple.__new__
_compiled: dict[type, Layout[Any]] = {}


class Layout(Generic[T]):
    """A compiled layout: ``size`` in bytes, :meth:`pack` and :meth:`unpack`.

    ``offsets`` maps each field to its offset in bytes; tests compare it with the C compiler's.
    """

    __slots__ = (
        "_inner",
        "_struct",
        "cls",
        "make",
        "name",
        "offsets",
        "pack",
        "pack_fields",
        "size",
        "unpack_fields",
    )

    size: int

    def __init__(self, cls: type[T], name: str) -> None:
        self.cls = cls
        _compiled[cls] = self
        self.name = name
        hints = get_type_hints(cls, include_extras=True)
        self.offsets: dict[str, int] = {}
        self._inner: list[tuple[int, int, Callable[[Any], Any]]] = []  # position, count, constructor
        codes = "<"
        position = 0
        for field, hint in hints.items():
            self.offsets[field] = struct.calcsize(codes)
            code = _code(hint)
            inner = _compiled.get(hint)
            if inner is not None:
                count = len(struct.unpack(inner.format, bytes(inner.size)))
                self._inner.append((position, count, inner.make))
                position += count
            else:
                position += 1
            codes += code
        self._struct = struct.Struct(codes)
        self.size = self._struct.size
        self.make: Callable[[Any], T] = self._constructor()
        self.pack: Callable[[T], bytes] = self._packer()
        # For hot paths: the fields of nested structs in one row, with no object made of them.
        self.pack_fields: Callable[..., bytes] = self._struct.pack
        self.unpack_fields: Callable[..., tuple[Any, ...]] = self._struct.unpack_from

    @property
    def format(self) -> str:
        """The :mod:`struct` format, byte order included."""
        return self._struct.format

    def unpack(self, buffer: Buffer, offset: int = 0) -> T:
        """Read one struct at ``offset`` (bytes). Raises :class:`ProtocolError` when the buffer ends before it."""
        try:
            return self.make(self._struct.unpack_from(buffer, offset))
        except struct.error:
            raise ProtocolError(
                f"{self.name} takes {self.size} bytes, {max(0, len(buffer) - offset)} are there"
            ) from None

    def unpack_short(self, buffer: Buffer) -> T:
        """Read a struct whose tail an older peer did not send: what is missing is zero (7.12 and newer)."""
        if len(buffer) >= self.size:
            return self.unpack(buffer)
        return self.make(self._struct.unpack(bytes(buffer).ljust(self.size, b"\0")))

    def _constructor(self) -> Callable[[Any], T]:
        # As cls._make, with no frame of Python's: a struct has as many values as fields.
        plain: Callable[[Any], T] = partial(_new, self.cls)
        if not self._inner:
            return plain
        inner = self._inner
        if len(inner) == 1:
            first, length, make_inner = inner[0]
            behind = first + length

            if behind == len(self._struct.unpack(bytes(self.size))):
                return lambda values: plain(values[:first] + (make_inner(values[first:]),))  # noqa: RUF005  (a star costs more)

            def one_nested(values: tuple[Any, ...]) -> T:
                return plain((*values[:first], make_inner(values[first:behind]), *values[behind:]))

            return one_nested

        def nested(values: tuple[Any, ...]) -> T:
            out = list(values)
            for position, count, make in reversed(inner):
                out[position : position + count] = [make(values[position : position + count])]
            return plain(out)

        return nested

    def _packer(self) -> Callable[[T], bytes]:
        pack = self._struct.pack
        if not self._inner:
            return lambda value: pack(*value)  # type: ignore[misc]
        return lambda value: pack(*_flat(value))


def _flat(value: Any) -> list[Any]:
    out: list[Any] = []
    for item in value:
        if isinstance(item, tuple):
            out.extend(_flat(item))
        else:
            out.append(item)
    return out


def _code(hint: Any) -> str:
    inner = _compiled.get(hint)
    if inner is not None:
        return str(inner.format[1:])
    mark = hint.__metadata__[0]
    return f"{mark.size}s" if isinstance(mark, spare) else str(mark)
