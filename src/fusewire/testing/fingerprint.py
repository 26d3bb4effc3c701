"""The state of a run as one number: two states with the same number have the same futures.

Everything that a step can depend on is in it: for each task its coroutine's frames, how far each has come and every local
variable, and all that can be reached from there. Objects count by what they hold and by who else holds them, not by their
address. What only looks back (events, counters of steps) is left out.
"""

from __future__ import annotations

import enum
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

from ..drive import Driver, Kernel, Process
from ..inspect.events import EventStream
from ..kernel.queue import Policy
from ..wire.layout import Layout
from ..wire.table import Dialect

_ATOMS = (type(None), bool, int, float, str, bytes, type, types.BuiltinFunctionType, types.ModuleType)
_LOOKS_BACK = (EventStream, Driver, Kernel, Process)  # what they hold that matters is reached through tasks and roots
_CONSTANT = (enum.Enum, Layout, Policy, Dialect)  # each is the same object in every run
_fields: dict[type, tuple[str, ...]] = {}


def fingerprint(roots: Iterable[Any]) -> int:
    """The state that can be reached from ``roots``."""
    tokens: list[Any] = []
    add = tokens.append
    seen: dict[int, int] = {}
    # Locals are made when they are asked for: what was seen is kept, or its address might be used again before we end.
    keep: list[Any] = []
    stack = list(roots)
    stack.reverse()
    pop, extend, reader_of = stack.pop, stack.extend, _READERS.get
    while stack:
        one = pop()
        kind = one.__class__
        if kind in _ATOM_KINDS:
            add(one)
            continue
        address = id(one)
        known = seen.get(address)
        if known is not None:
            add(known)
            continue
        reader = reader_of(kind)
        if reader is None:
            reader = _READERS[kind] = _reader(kind)
        if reader is _itself:
            add(address)
            continue
        seen[address] = len(keep)
        keep.append(one)
        parts = reader(one, add)
        add(kind)
        add(len(parts))
        extend(parts)
    return hash(tuple(tokens))


Reader = Callable[[Any, Callable[[Any], None]], Collection[Any]]


def _reader(kind: type) -> Reader:
    if issubclass(kind, _LOOKS_BACK):
        return lambda one, add: []
    if issubclass(kind, _CONSTANT):
        return _itself
    if issubclass(kind, (tuple, list, deque)):
        return lambda one, add: one
    if issubclass(kind, dict):
        return lambda one, add: [part for item in one.items() for part in item]
    if issubclass(kind, (set, frozenset)):
        return lambda one, add: sorted(one, key=repr)
    return _object


def _object(one: Any, add: Callable[[Any], None]) -> list[Any]:
    kind = type(one)
    fields = _fields.get(kind)
    if fields is None:
        fields = _fields[kind] = tuple(
            name
            for cls in kind.__mro__
            for name in _slots(cls)
            if name not in ("__weakref__", "__dict__")
        )  # fmt: skip
    parts = [getattr(one, name, None) for name in fields]
    own = getattr(one, "__dict__", None)
    if own:
        parts.extend(own.values())
    elif not fields:
        parts.append(one.__reduce__())  # what is written in C says itself what it holds; a lock refuses, and rightly
    return parts


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _coroutine(one: types.CoroutineType[Any, Any, Any], add: Callable[[Any], None]) -> list[Any]:
    frame = one.cr_frame
    if frame is None:
        return []
    add(id(frame.f_code))
    add(frame.f_lasti)
    return [*frame.f_locals.values(), one.cr_await]


def _function(one: types.FunctionType, add: Callable[[Any], None]) -> list[Any]:
    add(id(one.__code__))
    return [cell.cell_contents for cell in one.__closure__ or () if _filled(cell)]


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _method(one: types.MethodType, add: Callable[[Any], None]) -> list[Any]:
    add(id(one.__func__))
    return [one.__self__]


def _memory(one: Any, add: Callable[[Any], None]) -> list[Any]:
    add(bytes(one))
    return []


def _itself(one: Any, add: Callable[[Any], None]) -> list[Any]:
    """One of a kind, and nothing in it changes."""
    add(id(one))
    return []


_ATOM_KINDS = frozenset(_ATOMS)
_READERS: dict[type, Reader] = {
    types.CoroutineType: _coroutine,
    types.FunctionType: _function,
    types.MethodType: _method,
    bytearray: _memory,
    memoryview: _memory,
}
