"""A scenario that waits outside the kernel's half, or goes round and round in one step: said so, with the place."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import wait_until

from fusewire.kernel.queue import Task
from fusewire.testing import Blocked, Report, Scene, Scheduled, explore, replay, sample
from fusewire.testing.run import Scenario
from fusewire.testing.scenarios import rm

SECONDS = 0.3


def sleeps() -> None:
    time.sleep(3600)


def waits_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def reads_a_pipe() -> None:
    reading, writing = os.pipe()
    try:
        os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)


def waits_for_an_event() -> None:
    threading.Event().wait()


def goes_round_and_round() -> None:
    while True:
        pass


def swallows_every_error() -> None:
    while True:
        try:
            time.sleep(3600)
        except Exception:
            pass


BLOCKING = [sleeps, waits_for_a_lock, reads_a_pipe, waits_for_an_event, goes_round_and_round, swallows_every_error]


def scenario_of(what: Callable[[], None]) -> Scenario:
    """Two tasks; the second does it in its second step."""

    async def body(task: Task) -> None:
        await task.point("before")
        if task.pid == 2:
            what()

    def scenario(driver: Scheduled) -> Scene:
        for pid in (1, 2):
            task = Task(pid, "one", driver.wake)
            driver.tasks.append(task)
            driver.begin(task, body(task))
        return Scene(driver)

    return scenario


def line_of(function: Callable[[], None]) -> str:
    """A pattern for any line of it."""
    first = function.__code__.co_firstlineno
    numbers = "|".join(str(first + n) for n in range(9))
    return rf"{re.escape(__file__)}:({numbers}) \(body > {function.__name__}( > \w+)*\)"


@pytest.mark.parametrize("what", BLOCKING, ids=lambda what: what.__name__)
def test_a_step_that_blocks_outside_is_a_finding_with_the_place(what: Callable[[], None]) -> None:
    (found,) = explore(scenario_of(what), step_seconds=SECONDS).findings
    assert isinstance(found.error, Blocked)
    assert re.search(line_of(what), str(found.error))
    assert str(found.error).startswith("one:2 waits for something outside the kernel's half")
    with pytest.raises(Blocked, match=line_of(what)):
        replay(scenario_of(what), found.schedule, step_seconds=SECONDS)


def test_chance_finds_it_too() -> None:
    (found,) = sample(scenario_of(sleeps), schedules=5, step_seconds=SECONDS).findings
    assert isinstance(found.error, Blocked)


def test_the_exploration_goes_on_after_it() -> None:
    report = explore(scenario_of(sleeps), step_seconds=SECONDS, stop_at=3, hashing=False)
    assert [type(found.error) for found in report.findings] == [Blocked] * len(report.findings)
    assert len({found.schedule for found in report.findings}) == len(report.findings) > 1


def test_a_scene_that_does_not_come_to_be_is_said_so() -> None:
    def scenario(driver: Scheduled) -> Scene:
        waits_for_a_lock()
        return Scene(driver)

    with pytest.raises(Blocked, match="the scenario waits for something outside"):
        explore(scenario, step_seconds=SECONDS)


@pytest.mark.parametrize("what", [sleeps, goes_round_and_round], ids=lambda what: what.__name__)
def test_in_another_thread_it_is_raised_and_what_is_blocked_is_left_behind(what: Callable[[], None]) -> None:
    raised: list[BaseException] = []
    let_go = threading.Event()

    def until_let_go() -> None:
        while not let_go.is_set():
            if what is sleeps:
                let_go.wait()

    def body() -> None:
        try:
            explore(scenario_of(until_let_go), step_seconds=SECONDS, hashing=False)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    let_go.set()
    assert isinstance(raised[0], Blocked)
    assert f"{__file__}:" in str(raised[0])
    wait_until(lambda: all(one.name != "fusewire explorer" for one in threading.enumerate()))


def test_in_another_thread_an_exploration_ends_as_it_does_here() -> None:
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(explore(rm, preemptions=1)))
    thread.start()
    thread.join(60)
    here = explore(rm, preemptions=1)
    assert (reports[0].schedules, reports[0].states, reports[0].findings) == (here.schedules, here.states, ())


def test_what_no_signal_ends_is_logged_with_the_place(caplog: pytest.LogCaptureFixture) -> None:
    over = threading.Event()

    def deaf() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMAX - 4})
        try:
            over.wait(30)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGRTMAX - 4})

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            over.set()

    logger, hears = logging.getLogger("fusewire.testing"), Hears()
    logger.addHandler(hears)
    try:
        explore(scenario_of(deaf), step_seconds=0.1, hashing=False)
    finally:
        logger.removeHandler(hears)
    assert "no signal ends it" in caplog.text
    assert "deaf" in caplog.text


def test_none_is_for_ever_and_the_signal_is_given_back() -> None:
    number = signal.SIGRTMAX - 4
    before = signal.getsignal(number)
    explore(rm, preemptions=0, step_seconds=None)
    explore(rm, preemptions=0)
    assert signal.getsignal(number) is before
    assert all("explorer" not in thread.name for thread in threading.enumerate())


def test_slow_steps_that_come_to_their_end_are_no_finding() -> None:
    def slow() -> None:
        time.sleep(SECONDS / 3)

    assert not explore(scenario_of(slow), step_seconds=SECONDS).findings


def test_the_command_draws_it_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "from fusewire.testing.scenarios import FileScene\n"
        "async def sleepy(task, header):\n"
        "    time.sleep(3600)\n"
        "def scenario(driver):\n"
        "    scene = FileScene(driver, 'detach', 1, sleepy)\n"
        "    from fusewire.kernel.vfs.syscalls import sys_unlink\n"
        "    scene.program('rm', lambda task: sys_unlink(task, b'/file'))\n"
        "    return scene\n"
    )
    shown = subprocess.run(
        [sys.executable, "-m", "fusewire", "explore", "mine:scenario", "--step-seconds", str(SECONDS)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert shown.returncode == 1, shown.stderr
    assert "1 findings" in shown.stdout
    assert "Blocked: daemon:2 waits for something outside the kernel's half" in shown.stdout
    assert "mine.py:4 (" in shown.stdout
