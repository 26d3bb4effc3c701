"""The request queue: connection, requests, device, wait queues, semaphores and the wait-for graph.

It knows nothing of paths or files, and is small enough to explore every interleaving of it.
"""

from .connection import Connection
from .control import Control, RequestInfo
from .device import Device
from .policy import DETACH, LINUX, POLICIES, Policy
from .request import Args, Request, State
from .task import Call, Deadlock, Handler, Interrupted, Mode, Point, Sleep, Task, traced
from .wait import Semaphore, WaitQueue
from .waits import can_go_on, wait_graph

__all__ = [
    "DETACH",
    "LINUX",
    "POLICIES",
    "Args",
    "Call",
    "Connection",
    "Control",
    "Deadlock",
    "Device",
    "Handler",
    "Interrupted",
    "Mode",
    "Point",
    "Policy",
    "Request",
    "RequestInfo",
    "Semaphore",
    "Sleep",
    "State",
    "Task",
    "WaitQueue",
    "can_go_on",
    "traced",
    "wait_graph",
]
