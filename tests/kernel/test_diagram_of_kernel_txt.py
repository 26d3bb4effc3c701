"""The unlink diagram of kernel.txt, step by step, against the events of a run under cached entries."""

from __future__ import annotations
import __future__

import ast
import inspect
import itertools
import sys
import textwrap
from typing import Any

import pytest

from fusewire import Kernel
from fusewire.filesystems import MemoryFS
from fusewire.inspect import Event
from fusewire.kernel.queue.connection import Connection
from fusewire.kernel.queue.device import Device

CALLER = [
    ">sys_unlink()",
    ">fuse_unlink()",
    "[get request from fc->unused_list]",
    ">request_send()",
    "[queue req on fc->pending]",
    "[wake up fc->waitq]",
    ">request_wait_answer()",
    "[sleep on req->waitq]",
    "[woken up]",
    "<request_wait_answer()",
    "<request_send()",
    "[add request to fc->unused_list]",
    "<fuse_unlink()",
    "<sys_unlink()",
]
DAEMON = [
    ">sys_read()",
    ">fuse_dev_read()",
    ">request_wait()",
    "[sleep on fc->waitq]",
    "[woken up]",
    "<request_wait()",
    "[remove req from fc->pending]",
    "[copy req to read buffer]",
    "[add req to fc->processing]",
    "<fuse_dev_read()",
    "<sys_read()",
    "[perform unlink]",
    ">sys_write()",
    ">fuse_dev_write()",
    "[look up req in fc->processing]",
    "[remove from fc->processing]",
    "[copy write buffer to req]",
    "[wake up req->waitq]",
    "<fuse_dev_write()",
    "<sys_write()",
]
# What kernel.txt leaves out ("everything in this description is greatly simplified").
UNTOLD = ("inode semaphore", "queue forget")


def unlink_under_trace() -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """The caller's lines, the daemon's, and both in the order of time; the entry is cached and valid."""
    with Kernel(trace=True) as kernel:
        kernel.advance(1)
        mount = kernel.mount(MemoryFS({"file": b""}), "/mnt/fuse")
        rm = kernel.process("rm")
        rm.stat("/mnt/fuse/file")
        assert kernel.events is not None
        events = list(kernel.events)
        asleep = max(i for i, e in enumerate(events) if e.text == "sys_read" and e.line[0] == ">")
        start = len(events)
        rm.unlink("/mnt/fuse/file")
        events = list(kernel.events)
        shown = [e for e in events[asleep:start] if e.pid == mount.daemon.pid] + events[start:]
    caller = [e for e in shown if e.pid == rm.pid and _told(e)]
    after_unlink = next(i for i, e in enumerate(shown) if e.text == "sys_write" and e.line[0] == "<")
    daemon = [e for e in shown[: after_unlink + 1] if e.pid == mount.daemon.pid]
    both = [("caller" if e.pid == rm.pid else "daemon", e.line) for e in shown]
    lines = [e.line for e in caller]
    # The FORGET that ends the file's life wakes a reader once more.
    if lines.count("[wake up fc->waitq]") == 2:
        del lines[len(lines) - 1 - lines[::-1].index("[wake up fc->waitq]")]
    return lines, [e.line for e in daemon], both


def _told(event: Event) -> bool:
    return not any(word in event.text for word in UNTOLD)


def test_the_callers_column_is_that_of_kernel_txt() -> None:
    caller, _, _ = unlink_under_trace()
    assert caller == CALLER


def test_the_daemons_column_is_that_of_kernel_txt() -> None:
    _, daemon, _ = unlink_under_trace()
    assert daemon == DAEMON


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("daemon", "[sleep on fc->waitq]"), ("caller", ">sys_unlink()")),
        (("caller", "[wake up fc->waitq]"), ("daemon", "[woken up]")),
        (("daemon", "<sys_read()"), ("daemon", "[perform unlink]")),
        (("daemon", "[wake up req->waitq]"), ("caller", "[woken up]")),
        (("daemon", "[copy write buffer to req]"), ("caller", "[woken up]")),
    ],
)
def test_what_crosses_the_columns_comes_in_the_diagrams_order(before: tuple[str, str], after: tuple[str, str]) -> None:
    _, _, both = unlink_under_trace()
    assert both.index(before) < both.index(after)


def _function(owner: type, name: str) -> ast.AsyncFunctionDef | ast.FunctionDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(owner, name)))))
    function = tree.body[0]
    assert isinstance(function, (ast.AsyncFunctionDef, ast.FunctionDef))
    return function


def _pairs(owner: type, name: str, *words: str) -> list[tuple[int, int]]:
    """Every two statements of a method that the diagram shows: those with one of ``words``."""
    body = _function(owner, name).body
    told = [i for i, statement in enumerate(body) if any(word in ast.unparse(statement) for word in words)]
    assert len(told) == len(words)
    return list(itertools.combinations(told, 2))


def _swapped(owner: type, name: str, one: int, two: int) -> Any:
    """The method compiled anew with two of its statements changed about."""
    function = _function(owner, name)
    body = function.body
    body[one], body[two] = body[two], body[one]
    tree = ast.fix_missing_locations(ast.Module([function], []))
    namespace: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    exec(compile(tree, "swapped", "exec", flags), vars(sys.modules[owner.__module__]), namespace)
    return namespace[name]


@pytest.mark.parametrize(
    ("owner", "name", "one", "two"),
    [
        (owner, name, one, two)
        for owner, name, words in [
            (Connection, "request_send", ("queue_pending", "wake_up", "request_wait_answer")),
            (Device, "read_now", ("_begin_reading", "copy_whole", "_end_reading")),
            (Device, "write_now", ("_begin_writing", "copy_whole", "_end_writing")),
            (Device, "_begin_writing", ("look up", "processing.remove")),
        ]
        for one, two in _pairs(owner, name, *words)
    ],
)
def test_two_lines_of_the_queue_changed_about_do_not_go_unnoticed(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, one: int, two: int
) -> None:
    monkeypatch.setattr(owner, name, _swapped(owner, name, one, two))
    try:
        caller, daemon, _ = unlink_under_trace()
    except Exception:
        return  # it does not even run
    assert (caller, daemon) != (CALLER, DAEMON)
