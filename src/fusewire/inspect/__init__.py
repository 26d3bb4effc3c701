"""What happened and who waits for whom: one event type, one wait-for graph, one two-column diagram.

Everything here is fed by the line that did the work (our kernel half's, our daemon's, Linux's tracepoints), never by a guess.
"""

from .diagram import Column, Diagram
from .events import Event, EventStream, Kind
from .graph import Deadlocked, WaitGraph, Waiting

__all__ = [
    "Column",
    "Deadlocked",
    "Diagram",
    "Event",
    "EventStream",
    "Kind",
    "WaitGraph",
    "Waiting",
]
