"""What a signal does to a caller whose request is under way: a policy of the connection.

``detach`` is ``kernel.txt``'s: the caller leaves at once, wherever its request is; a late answer is dropped without
touching what was the caller's. ``linux`` is what Linux does: FUSE_INTERRUPT, then the wait for the answer; only a request
that no daemon has read yet is given up, and only for a fatal signal. The others are what is known of other kernels.
"""

from __future__ import annotations

from typing import NamedTuple

from .task import Mode


class Policy(NamedTuple):
    """``answer``: which signals end the wait for an answer once the daemon has read the request; ``unread``: before that;
    ``forced``: the wait for a forced request (FLUSH), which stays queued all the same; ``semaphore``: the wait for an inode
    semaphore; ``interrupt``: FUSE_INTERRUPT is sent; ``again``: once more where the daemon asks for that (EAGAIN);
    ``withdraw``: an unread request goes with its caller, and the daemon never sees it."""

    name: str
    unread: Mode
    answer: Mode
    forced: Mode
    semaphore: Mode
    interrupt: bool
    again: bool = True
    withdraw: bool = True


_ANY, _FATAL, _NONE = Mode.INTERRUPTIBLE, Mode.KILLABLE, Mode.UNINTERRUPTIBLE
DETACH = Policy("detach", unread=_ANY, answer=_ANY, forced=_FATAL, semaphore=_ANY, interrupt=False)
LINUX = Policy("linux", unread=_FATAL, answer=_NONE, forced=_NONE, semaphore=_NONE, interrupt=True)
FREEBSD = Policy("freebsd", unread=_ANY, answer=_NONE, forced=_NONE, semaphore=_NONE, interrupt=True)
STARNIX = Policy("starnix", unread=_ANY, answer=_NONE, forced=_NONE, semaphore=_NONE, interrupt=True, again=False)
DRAGONOS = Policy(
    "dragonos", unread=_ANY, answer=_ANY, forced=_FATAL, semaphore=_ANY, interrupt=True, withdraw=False
)  # fmt: skip
GVISOR = Policy(
    "gvisor", unread=_ANY, answer=_ANY, forced=_FATAL, semaphore=_ANY, interrupt=False, withdraw=False
)  # fmt: skip
POLICIES = {policy.name: policy for policy in (DETACH, LINUX, FREEBSD, STARNIX, DRAGONOS, GVISOR)}
