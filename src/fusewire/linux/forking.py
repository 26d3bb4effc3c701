"""What a child of fork() must not have: descriptors whose last copy, when it is closed, tells others of this process's end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

handing_over = threading.RLock()
"""Held from the making of such a descriptor until somebody who closes it in a child knows it: no fork comes between."""
_in_child: list[Callable[[], None]] = []


def in_child(close: Callable[[], None]) -> Callable[[], None]:
    """Have ``close`` called in every child. It must take no lock that another thread may hold."""
    _in_child.append(close)
    return close


def _after_fork() -> None:
    handing_over.release()
    for close in _in_child:
        close()


os.register_at_fork(before=handing_over.acquire, after_in_parent=handing_over.release, after_in_child=_after_fork)
