"""The wait-for graph of Linux's kernel half, observed: from the functions that each task sleeps in, as /proc shows them.

Linux does not say which lock a task waits for, nor who has read a request. What is taken for granted is told by the tables
below; a sleep that they do not know may be ended by something we cannot see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ..inspect.graph import WaitGraph, Waiting
from .proc import Seen

IDLE = frozenset({"fuse_dev_do_read", "fuse_dev_do_poll"})
FOR_DIRECTORY = frozenset({"do_unlinkat", "do_rmdir", "filename_create", "walk_component", "lookup_slow"})
HOLDS_DIRECTORY = frozenset(
    {"vfs_unlink", "vfs_rmdir", "vfs_mkdir", "vfs_mknod", "vfs_create", "vfs_symlink", "vfs_link"}
)
FOR_PAGE = frozenset({"folio_wait_bit_common", "__folio_lock", "__folio_lock_killable"})
FILLS_PAGE = frozenset({"fuse_read_folio", "fuse_readahead"})


def observed(tasks: Iterable[Seen], serving: Collection[int]) -> WaitGraph:
    """Who waits for whom among ``tasks``, all those of one mount: its callers, and the daemon's, of which the threads
    ``serving`` read requests."""
    tasks = list(tasks)
    # A request that an idle reader has not taken has been read by another; with no idle reader, any of them may serve it.
    servers = frozenset(task.name for task in tasks if task.tid in serving and not idle(task))
    graph = _Observed(tasks, servers)
    return WaitGraph((graph.wait(task) for task in tasks if task.asleep), [t.name for t in tasks if not t.asleep])


def idle(task: Seen) -> bool:
    """Whether it sleeps for a request, or outside of FUSE altogether."""
    innermost = next((frame for frame in task.stack if "fuse" in frame), "")
    return task.asleep and (innermost in IDLE or not _concerns_fuse(task.stack))


def _concerns_fuse(stack: tuple[str, ...]) -> bool:
    """A lock and a page of a FUSE mount are waited for in functions that are not FUSE's own."""
    return any("fuse" in frame for frame in stack) or (bool(stack) and stack[0] in FOR_DIRECTORY | FOR_PAGE)


class _Observed:
    def __init__(self, tasks: list[Seen], servers: frozenset[str]) -> None:
        self.tasks = tasks
        self.servers = servers

    def wait(self, task: Seen) -> Waiting:
        what, enders = self._what(task)
        return Waiting(
            task.name,
            f"{what} ({task.where})",
            enders,
            opaque=not enders and not idle(task),
            idle=idle(task),
        )

    def _what(self, task: Seen) -> tuple[str, frozenset[str]]:
        stack = task.stack
        if "request_wait_answer" in stack:
            asks = next((frame for frame in stack if frame.startswith("fuse_")), "its request")
            return f"the answer to {asks}()", self.servers
        if "fuse_get_req" in stack:
            return "a slot for a background request", self.servers
        if stack and stack[0] in FOR_DIRECTORY:
            return "the directory's inode lock", self._who(task, lambda frames: not HOLDS_DIRECTORY.isdisjoint(frames))
        if stack and stack[0] in FOR_PAGE:
            # A page that readahead asked for is nobody's but the daemon's to unlock.
            fills = self._who(
                task, lambda frames: not FILLS_PAGE.isdisjoint(frames) and "request_wait_answer" in frames
            )
            return "a locked page", fills or self.servers
        if "handle_userfault" in stack:
            return "a page that userfaultfd is to bring", frozenset()
        return "something outside of FUSE", frozenset()

    def _who(self, task: Seen, holds: Callable[[tuple[str, ...]], bool]) -> frozenset[str]:
        return frozenset(other.name for other in self.tasks if other is not task and holds(other.stack))
