"""The wait-for graph that is read off the functions tasks sleep in."""

from __future__ import annotations

from fusewire.linux.proc import Seen
from fusewire.linux.waits import idle, observed

READS = ("fuse_dev_do_read", "fuse_dev_read", "vfs_read")
ASKS = ("request_wait_answer", "__fuse_simple_request", "fuse_unlink", "vfs_unlink", "do_unlinkat")


def task(tid: int, comm: str, state: str, *stack: str) -> Seen:
    return Seen(tid, tid, comm, state, stack[0] if stack else "", stack, 0)


def test_a_lock_is_waited_for_until_who_holds_it_has_its_answer() -> None:
    graph = observed(
        [task(1, "rm", "S", *ASKS), task(2, "daemon", "D", "do_unlinkat"), task(3, "daemon", "S", *READS)], [2, 3]
    )
    (found,) = graph.deadlocks()
    assert found.words() == (
        "rm:1 waits on the answer to fuse_unlink() (S in request_wait_answer), which only daemon:2 could end;\n"
        "daemon:2 waits on the directory's inode lock (D in do_unlinkat), which only rm:1 could end."
    )


def test_a_daemon_that_asks_itself_waits_for_itself() -> None:
    (found,) = observed([task(2, "daemon", "S", *ASKS)], [2]).deadlocks()
    assert "which only it itself could end" in found.words()


def test_a_worker_that_runs_may_still_answer() -> None:
    assert observed([task(1, "rm", "S", *ASKS), task(2, "daemon", "R")], [2]).deadlocks() == []


def test_a_request_that_no_worker_is_busy_with_is_no_deadlock_but_may_be_ended_by_what_is_not_seen() -> None:
    graph = observed([task(1, "rm", "S", *ASKS), task(2, "daemon", "S", *READS)], [2])
    assert graph.deadlocks() == []
    assert "which something else may end" in graph.waits["rm:1"].words()


def test_a_page_is_unlocked_by_who_fills_it() -> None:
    fills = ("request_wait_answer", "__fuse_simple_request", "fuse_do_readfolio", "fuse_read_folio", "filemap_fault")
    tasks = [task(1, "one", "S", *fills), task(2, "two", "D", "folio_wait_bit_common", "filemap_fault")]
    assert observed(tasks, [2]).waits["two:2"].enders == {"one:1"}


def test_who_sleeps_for_a_request_or_outside_of_fuse_is_idle() -> None:
    assert idle(task(1, "daemon", "S", *READS))
    assert idle(task(1, "sleep", "S", "hrtimer_nanosleep"))
    assert not idle(task(1, "rm", "S", *ASKS))
    assert not idle(task(1, "rm", "R"))


def test_a_reader_that_waits_for_a_page_while_it_copies_a_request_is_not_idle() -> None:
    copies = ("folio_wait_bit_common", "filemap_fault", "fuse_copy_fill", "fuse_copy_args", "fuse_dev_do_read")
    assert not idle(task(1, "daemon", "D", *copies))
