"""The names of a message's fields, by the table of ``wire`` and nothing else: from names to a message, and back.

A struct's fields have its C names; those of a nested struct stay in it (``attr``, ``lk``, ``st``). Names, items and data are
called as the table calls them.
"""

from __future__ import annotations

from typing import Any

from ...wire.codec import Message
from ...wire.flags import NotifyCode, Opcode
from ...wire.table import OPERATIONS, Body

OPERATION_NAMES = {row.opcode.name.lower(): row.opcode for row in OPERATIONS.values()}
NOTIFICATION_NAMES = {code.name.lower(): code for code in NotifyCode}
HEADER_FIELDS = ("uid", "gid", "pid")
ITEMS = "items"


def opcode_of(name: str) -> Opcode:
    """``"lookup"`` -> ``Opcode.LOOKUP``. Raises AttributeError."""
    try:
        return OPERATION_NAMES[name]
    except KeyError:
        raise AttributeError(f"FUSE has no operation {name!r}") from None


def field_names(body: Body) -> list[str]:
    """What may be said of such a message, in the order of the wire."""
    names = [field for layout in body.structs for field in layout.cls._fields]
    names += body.names
    if body.items is not None:
        names.append(ITEMS)
    if body.data:
        names.append(body.data)
    return names


def fields_of(body: Body, message: Message) -> dict[str, Any]:
    """The message's fields by name."""
    fields: dict[str, Any] = {}
    for value in message.structs:
        fields |= value._asdict()
    fields |= zip(body.names, message.names, strict=True)
    if body.items is not None:
        fields[ITEMS] = message.items
    if body.data:
        fields[body.data] = message.data
    return fields


def build(body: Body, what: str, given: dict[str, Any]) -> Message:
    """A message with these fields, and zero for those not given. Raises TypeError for a field that it does not have."""
    check_fields(body, what, given)
    structs = tuple(
        layout.cls(**{name: given[name] for name in layout.cls._fields if name in given}) for layout in body.structs
    )
    names = tuple(given.get(name, b"") for name in body.names)
    return Message(structs, names, tuple(given.get(ITEMS, ())), bytes(given.get(body.data, b"")))


def check_fields(body: Body, what: str, given: dict[str, Any], also: tuple[str, ...] = ()) -> None:
    """Raises TypeError for a name that is none of the message's."""
    known = field_names(body)
    for name in given:
        if name not in known and name not in also:
            has = ", ".join(known) or "no fields at all"
            raise TypeError(f"{what} has no field {name!r}; it has {has}")
