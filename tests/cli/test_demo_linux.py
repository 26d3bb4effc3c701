"""``fusewire demo`` on Linux: what hangs, in what, and what ends it, each as it was observed; and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until

from fusewire.linux import mounts, proc, tracefs
from fusewire.testing.hangs import Hang, Look, hang

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No mount and no directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert list(tmp_path.iterdir()) == []


def demo(scenario: str) -> str:
    command = [sys.executable, "-m", "fusewire", "demo", scenario, "--on", "linux"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def where(look: Look, hang: Hang) -> dict[str, tuple[str, str]]:
    """By role, or a thread's own name: the state and the function that each of those that wait sleeps in."""
    roles = {program.process.pid: program.role for program in hang.programs}
    return {
        (roles[task.pid] if task.comm == "worker" else task.comm): (task.state, task.wchan)
        for task in look.stuck.values()
    }


# -- Scenario 1 --------------------------------------------------------------------------------------------------------


def test_scenario_1_hangs_both_and_no_signal_ends_it_but_an_abort_does() -> None:
    with Hang("unlink") as hang:
        rm = hang.call("rm", "@/file")
        look = hang.settled()
        assert where(look, hang) == {"rm": ("S", "request_wait_answer"), "worker": ("D", "do_unlinkat")}
        (cycle,) = hang.deadlocks(look)
        assert [wait.enders for wait in cycle.waits] == [{cycle.tasks[1]}, {cycle.tasks[0]}]
        assert hang.send(signal.SIGINT, rm).freed == []
        assert where(hang.look(), hang)["rm"] == ("D", "request_wait_answer")
        assert hang.send(signal.SIGKILL, rm).freed == []
        assert hang.send(signal.SIGKILL, *hang.workers).freed == []
        ended = hang.abort()
        assert not ended.after.stuck
        assert set(ended.ends.values()) == {"killed by SIGINT", "killed by SIGKILL"}


def test_with_several_workers_each_sinks_when_the_one_before_it_is_freed_as_long_as_one_is_left_to_read() -> None:
    with Hang("unlink", workers=4) as hang:
        hang.call("rm", "@/file")
        hang.settled()
        blows = list(hang.kill_while_any_remain())
        for blow in blows[:3]:  # the caller, and the first two of four
            assert len(blow.freed) == len(blow.sunk) == len(blow.ends) == 1
            assert blow.sunk[0].where == "D in do_unlinkat"
        last_two, all_of_them, abort = blows[3:]
        assert last_two.freed == all_of_them.freed == []
        assert len(abort.freed) == len(abort.ends) == 2
        assert not abort.after.stuck


# -- Scenario 2 --------------------------------------------------------------------------------------------------------


def test_scenario_2_hangs_both_threads_and_only_a_fatal_signal_ends_it() -> None:
    with Hang("kamikaze") as hang:
        look = hang.settled()
        assert where(look, hang) == {
            "thread 1": ("S", "request_wait_answer"),
            "thread 2": ("D", "folio_wait_bit_common"),
        }
        assert "fuse_copy_fill" in look.stuck[hang.workers[0].process.pid].stack
        assert hang.deadlocks(look)
        assert hang.send(signal.SIGINT, *hang.workers).freed == []
        killed = hang.send(signal.SIGKILL, *hang.workers)
        assert len(killed.freed) == 2
        assert list(killed.ends.values()) == ["killed by SIGKILL"]


def test_an_abort_ends_scenario_2_with_sigbus_for_the_page_fault() -> None:
    with Hang("kamikaze") as hang:
        hang.settled()
        assert list(hang.abort().ends.values()) == ["killed by SIGBUS"]


# -- a pool of one -----------------------------------------------------------------------------------------------------


def test_a_daemon_that_needs_the_only_background_slot_waits_for_itself_beside_an_idle_worker() -> None:
    with Hang("pool", workers=2) as hang:
        cat = hang.call("cat", "@/file")
        look = hang.settled()
        assert sorted(where(look, hang).values()) == [("D", "folio_wait_bit_common"), ("D", "fuse_get_req")]
        assert hang.deadlocks(look)[0].waits[-1].enders == {hang.deadlocks(look)[0].waits[-1].task}
        assert [task.comm for task in hang.send(signal.SIGINT, cat).freed] == ["cat"]
        assert hang.send(signal.SIGINT, *hang.workers).freed == []
        freed = hang.allow_background(2)
        assert [task.comm for task in freed.freed] == ["worker"]
        assert freed.ends == {}  # and the daemon serves on


# -- req->locked -------------------------------------------------------------------------------------------------------


def test_a_caller_whose_answer_is_being_copied_is_freed_by_no_signal_but_by_an_abort() -> None:
    with Hang("locked") as hang:
        cat = hang.call("cat", "@/file")
        look = hang.settled()
        assert where(look, hang) == {"cat": ("S", "request_wait_answer"), "worker": ("D", "handle_userfault")}
        assert hang.deadlocks(look) == []  # the page may come
        assert hang.send(signal.SIGINT, cat).freed == []
        assert hang.send(signal.SIGKILL, cat).freed == []
        assert [task.comm for task in hang.abort().freed] == ["cat"]
        assert [task.comm for task in hang.bring_page().freed] == ["worker"]
        assert any("refused: ENOENT" in event.text for event in hang.told)


def test_a_caller_that_was_killed_is_gone_when_the_page_comes() -> None:
    with Hang("locked") as hang:
        cat = hang.call("cat", "@/file")
        hang.settled()
        hang.send(signal.SIGKILL, cat)
        came = hang.bring_page()
        assert {task.comm for task in came.freed} == {"cat", "worker"}
        assert came.ends == {cat.process.pid: "killed by SIGKILL"}
        assert any("done" in event.text and event.unique for event in hang.told)


# -- the demo ----------------------------------------------------------------------------------------------------------


def test_demo_deadlock_on_linux_names_the_cycle_and_says_what_ended_it() -> None:
    text = demo("deadlock")
    assert re.search(
        r"worker:\d+ waits on the directory's inode lock \(D in do_unlinkat\), which only rm:\d+ could end;", text
    )
    assert re.search(
        r"SIGINT to the caller\n  Linux: nobody is free; rm:\d+ still waits, now D .*\n  our half: rm:4 is free", text
    )
    assert "What it took: abort, by fusectl." in text
    assert text.count("*DEADLOCK*") == 2  # with one worker, and with several


@pytest.mark.parametrize(
    ("scenario", "took"),
    [
        ("kamikaze", "What it took: SIGKILL to the daemon."),
        ("pool", "What it took: SIGINT to the caller; one more slot, by fusectl's max_background."),
        ("locked", "What it took: abort, by fusectl; the missing page comes."),
    ],
)
def test_demo_on_linux_says_what_ended_it(scenario: str, took: str) -> None:
    text = demo(scenario)
    assert took in text
    assert re.search(r"^  our half: .*:\d+ is free", text, flags=re.MULTILINE)


def hang_and_fail(seen: list[Hang]) -> None:
    with Hang("unlink") as hang:
        seen.append(hang)
        hang.call("rm", "@/file")
        hang.settled()
        raise ZeroDivisionError


def test_whatever_hangs_is_freed_when_the_hang_is_left_by_an_error() -> None:
    seen: list[Hang] = []
    with pytest.raises(ZeroDivisionError):
        hang_and_fail(seen)
    assert all(program.process.poll() is not None for program in seen[0].programs)


def test_no_mount_is_left_of_a_demo_that_is_killed_while_its_mount_hangs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fusewire", "demo", "kamikaze", "--on", "linux"]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert shown.stdout is not None
    with shown.stdout:
        while "What ends it" not in shown.stdout.readline():
            assert shown.poll() is None
        shown.kill()
        shown.wait(timeout=20)
    wait_until(lambda: str(tmp_path) not in Path("/proc/mounts").read_text())
    (path,) = tmp_path.iterdir()
    path.rmdir()  # empty, and not a mount
    if tracefs.available():
        with tracefs.record([os.getpid()], ()):  # the next recording takes away what is left of that one
            assert not list((tracefs.ROOT / "instances").glob(f"fusewire-{shown.pid}-*"))


def test_a_task_is_seen_as_it_sleeps() -> None:
    sleeper = subprocess.Popen(["sleep", "600"])

    def sleeps() -> bool:
        seen = proc.see(sleeper.pid)
        return seen is not None and (seen.comm, seen.where) == ("sleep", "S in hrtimer_nanosleep")

    try:
        wait_until(sleeps)
    finally:
        sleeper.kill()
        sleeper.wait(timeout=10)
    assert proc.see(sleeper.pid) is None


def test_a_hang_that_is_interrupted_as_soon_as_it_is_mounted_leaves_no_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def interrupted(watcher: hang.AutoUnmount, identity: str) -> None:
        made.append(mounts.find(identity) or "")
        raise KeyboardInterrupt

    monkeypatch.setattr(hang.AutoUnmount, "mounted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Hang("unlink")
    assert made[0]
    assert not os.path.exists(made[0])
