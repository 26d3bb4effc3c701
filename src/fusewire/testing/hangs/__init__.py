"""Deadlocks on a real mount: the scenarios that ``testing.scenarios`` has on our kernel half, made on Linux and observed.

``daemons`` are the programs that hang, each a process of its own; ``hang`` starts them and a caller, looks at them through
/proc and fusectl, strikes, and cleans up whatever they did; ``drawn`` makes events for the diagram of what was seen.
"""

from .drawn import Drawing
from .hang import Blow, Hang, Look, Program, why_not

__all__ = ["Blow", "Drawing", "Hang", "Look", "Program", "why_not"]
