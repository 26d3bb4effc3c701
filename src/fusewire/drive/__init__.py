"""Who runs the kernel's half, and its face to users: ``Kernel`` and ``Process``.

``inline`` runs everything on one thread, deterministically; ``threads`` lets callers and daemons be real threads.
"""

from ..kernel.queue import Deadlock
from .carrier import DaemonError
from .driver import Buried, Driver
from .inline import Inline
from .kernel import Kernel
from .mount import Mount
from .process import Process
from .threads import Threads

__all__ = ["Buried", "DaemonError", "Deadlock", "Driver", "Inline", "Kernel", "Mount", "Process", "Threads"]
