"""The state of a run as one number: two states with the same number have the same futures.

Everything that a step can depend on is in it: for each task its coroutine's frames, how far each has come, every local
variable and what an expression has worked out so far, and all that can be reached from there. Objects count by what they
hold and by who else holds them, not by their address. What only looks back (events, counters of steps) is left out.
"""

from __future__ import annotations

import enum
import functools
import gc
import itertools
import marshal
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import dropwhile
from operator import attrgetter
from typing import Any

from ..drive import Driver, Kernel, Process
from ..inspect.events import EventStream
from ..kernel.queue import Connection, Device, Policy, Request, Semaphore, Sleep, Task, WaitQueue
from ..kernel.queue.background import Background
from ..kernel.queue.pool import RequestPool
from ..kernel.queue.request import RequestList
from ..kernel.queue.timeouts import Timeouts
from ..wire.layout import Layout
from .invariants import QueueInvariants

_ATOMS = (type(None), bool, int, float, str, bytes)
# What these hold that matters is reached through tasks and roots.
_LOOKS_BACK = (EventStream, Driver, Kernel, Process, QueueInvariants)
_CONSTANT = (enum.Enum, Layout, Policy)  # each is the same object in every run
# What an object has from the moment it is made, and what is known from its place: the same in every run.
SETTLED: dict[type, frozenset[str]] = {
    Task: frozenset({"comm", "events", "on_wake", "points", "worker"}),
    Sleep: frozenset({"enders"}),
    WaitQueue: frozenset({"name"}),
    Semaphore: frozenset({"connection", "name"}),
    Request: frozenset({"asleep"}),
    RequestList: frozenset({"_added", "_removed", "by"}),
    RequestPool: frozenset({"connection", "free", "limit", "reserve"}),  # of those that are free: see fingerprint()
    Background: frozenset({"connection"}),
    Timeouts: frozenset({"call_at", "clock", "connection"}),
    Connection: frozenset({"call_at", "clock", "idle", "notify", "number", "policy"}),
    Device: frozenset({"connection", "take_back", "unread"}),
}
# Containers that an object never changes for others, and nobody else has.
OWN: dict[type, tuple[str, ...]] = {
    Task: ("handlers", "pending_signals"),
    WaitQueue: ("waiters",),
    Semaphore: ("waiters",),
    RequestList: ("requests",),
    Background: ("bg_queue", "owed"),
    Timeouts: ("deadlines",),
    Connection: ("devices", "entering", "forgets", "interrupts", "lock_waiters"),
    Device: ("io",),
}
# And those whose order only those see who look on: how they are to be ordered instead.
UNORDERED: dict[type, tuple[str, Callable[[Any], Any]]] = {
    RequestPool: ("in_use", attrgetter("key")),
    Connection: ("readers", attrgetter("pid")),
}


def fingerprint(roots: Iterable[Any]) -> int:
    """The state that can be reached from ``roots``."""
    tokens: list[Any] = []
    add = tokens.append
    seen: dict[int, int] = {}
    # All that was reached, to be looked at one after the other. Locals are made when they are asked for: what was seen stays
    # here, or its address might be used again before we end.
    reached = list(roots)
    pools: list[RequestPool] = []
    reach, reader_of, known_at = reached.extend, _READERS.get, seen.get
    for one in reached:
        kind = one.__class__
        if kind in _ATOM_KINDS:
            add(one)
            continue
        address = id(one)
        known = known_at(address)
        if known is not None:
            add((known,))
            continue
        reader = reader_of(kind)
        if reader is None:
            reader = _READERS[kind] = _reader(kind)
        if kind is RequestPool:
            pools.append(one)
        seen[address] = len(seen)
        add(id(kind))
        parts = reader(one, add)
        if parts:
            add(len(parts))
            reach(parts)
    for pool in pools:
        # A request on fc->unused_list is as new, and counts only where somebody else still has it; the last is taken first.
        tokens += dropwhile(lambda known: known is None, [known_at(id(req)) for req in pool.free])
    # As bytes: the hash of -1 is that of -2, and True equals 1. Version 0 writes what is equal always the same.
    return hash(marshal.dumps(tokens, 0))


Reader = Callable[[Any, Callable[[Any], None]], Collection[Any]]


def _reader(kind: type) -> Reader:
    if issubclass(kind, _LOOKS_BACK):
        return lambda one, add: []
    if issubclass(kind, _CONSTANT):
        return _itself
    if issubclass(kind, type):
        return _itself
    for base in (int, float, str, bytes):
        if issubclass(kind, base):
            return functools.partial(_more_than, base)
    if issubclass(kind, BaseException):
        return lambda one, add: [one.args, one.__dict__, one.__cause__, one.__context__]
    if issubclass(kind, (tuple, list, deque)):
        return lambda one, add: one
    if issubclass(kind, dict):
        return lambda one, add: [part for item in one.items() for part in item]
    if issubclass(kind, (set, frozenset)):
        return lambda one, add: sorted(one, key=repr)
    return _object_reader(kind)


def _object_reader(kind: type) -> Reader:
    """What an object holds, but for what is settled; what it keeps in containers of its own at once."""
    left_out = frozenset[str]().union(*(SETTLED.get(cls, ()) for cls in kind.__mro__))
    own = tuple(name for cls in kind.__mro__ for name in OWN.get(cls, ()))
    slots = [name for cls in kind.__mro__ for name in _slots(cls) if name not in ("__weakref__", "__dict__")]
    if kind.__dictoffset__ == 0 and not slots:
        return lambda one, add: [one.__reduce_ex__(2)]  # written in C, it says what it holds, or refuses
    unordered = [UNORDERED[cls] for cls in kind.__mro__ if cls in UNORDERED]
    left_out = left_out.union(own, (name for name, _ in unordered))
    get_own = _getter(own)
    fields = [name for name in slots if name not in left_out]
    get: Callable[[Any], tuple[Any, ...]] = _getter(fields)
    names: tuple[str, ...] = ()
    which = -1  # of all sets of names that there are

    def read(one: Any, add: Callable[[Any], None]) -> Collection[Any]:
        nonlocal get, names, which
        if has_dict and tuple(one.__dict__) != names:
            names = tuple(one.__dict__)
            get = _getter([*fields, *(name for name in names if name not in left_out)])
            which = _names.setdefault(names, len(_names))
        add(which)
        parts = get(one)
        for held in get_own(one):
            add(len(held))
            if held:
                parts += (
                    tuple(part for item in held.items() for part in item) if held.__class__ is dict else tuple(held)
                )
        for name, key in unordered:
            held = sorted(getattr(one, name), key=key)
            add(len(held))
            parts += tuple(held)
        return parts

    has_dict = kind.__dictoffset__ != 0
    return read


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """All of them at once; None for a slot that is empty."""
    if not names:
        return lambda one: ()
    get = attrgetter(*names)

    def read(one: Any) -> tuple[Any, ...]:
        try:
            found = get(one)
        except AttributeError:
            return tuple(getattr(one, name, None) for name in names)
        return found if len(names) > 1 else (found,)

    return read


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _coroutine(one: types.CoroutineType[Any, Any, Any], add: Callable[[Any], None]) -> list[Any]:
    return _frame(one, one.cr_frame, one.cr_await, add)


def _generator(one: types.GeneratorType[Any, Any, Any], add: Callable[[Any], None]) -> list[Any]:
    return _frame(one, one.gi_frame, one.gi_yieldfrom, add)


def _frame(one: Any, frame: types.FrameType | None, awaited: Any, add: Callable[[Any], None]) -> list[Any]:
    if frame is None:
        return []
    add(id(frame.f_code))
    add(frame.f_lasti)
    names = tuple(frame.f_locals)  # what they are comes with what else is on the stack
    add(_names.setdefault(names, len(_names)))
    held = gc.get_referents(one)[_HEADER:]
    if awaited.__class__ is _TRAP:  # the place tells
        del held[_place(held, awaited)]
    return held


def _place(found: list[Any], sought: object) -> int:
    """Where it is itself, and not what is equal to it; it is near the end."""
    at = len(found) - 1
    while found[at] is not sought:
        at -= 1
    return at


async def _sample(local: object) -> None:
    """Never begun."""


def _header() -> int:
    """How much there is before a coroutine's locals in what the collector of garbage sees of it. What follows is the stack."""
    local = object()
    sample: Any = _sample(local)
    tuple(sample.cr_frame.f_locals)
    try:
        return _place(gc.get_referents(sample), local)
    finally:
        sample.close()


_TRAP = type(iter(()))
_HEADER = _header()
_names: dict[tuple[str, ...], int] = {}


def _function(one: types.FunctionType, add: Callable[[Any], None]) -> list[Any]:
    add(id(one.__code__))
    return [one.__defaults__, one.__kwdefaults__, *(one.__closure__ or ())]


def _cell(one: types.CellType, add: Callable[[Any], None]) -> list[Any]:
    return [one.cell_contents] if _filled(one) else []


def _builtin(one: types.BuiltinFunctionType, add: Callable[[Any], None]) -> list[Any]:
    add(one.__name__)
    return [] if isinstance(one.__self__, types.ModuleType) else [one.__self__]


def _more_than(base: type, one: Any, add: Callable[[Any], None]) -> list[Any]:
    """A number or a text of a class of its own."""
    add(base(one))
    return [getattr(one, "__dict__", None)]


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _method(one: types.MethodType, add: Callable[[Any], None]) -> list[Any]:
    add(id(one.__func__))
    return [one.__self__]


def _partial(one: functools.partial[Any], add: Callable[[Any], None]) -> list[Any]:
    return [one.func, *one.args, *one.keywords.items()]


def _bytearray(one: bytearray, add: Callable[[Any], None]) -> list[Any]:
    add(hash(bytes(one)))
    return []


def _memoryview(one: memoryview, add: Callable[[Any], None]) -> list[Any]:
    if one.nbytes != len(one.obj):  # type: ignore[arg-type]
        add(bytes(one))  # which part of it
    return [one.obj]


def _itself(one: Any, add: Callable[[Any], None]) -> list[Any]:
    """One of a kind, and nothing in it changes."""
    add(id(one))
    return []


_ATOM_KINDS = frozenset(_ATOMS)
_READERS: dict[type, Reader] = {
    types.CoroutineType: _coroutine,
    types.FunctionType: _function,
    types.MethodType: _method,
    functools.partial: _partial,
    types.GeneratorType: _generator,
    types.CellType: _cell,
    types.BuiltinFunctionType: _builtin,
    types.ModuleType: _itself,
    type: _itself,
    weakref.ReferenceType: lambda one, add: [one()],
    itertools.count: lambda one, add: [repr(one)],  # from 3.14 on it does not say it otherwise
    type(threading.Lock()): lambda one, add: [one.locked()],
    weakref.WeakSet: lambda one, add: sorted(one, key=repr),
    bytearray: _bytearray,
    memoryview: _memoryview,
}
