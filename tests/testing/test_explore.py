"""The explorer: what it finds, what it proves, that its short cuts are sound, and what it says of scenarios that are none."""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import signal
from typing import Any

import pytest

from fusewire import Kernel
from fusewire.filesystems import MemoryFS
from fusewire.kernel.queue import LINUX, Connection, Device, Mode, Request, State, Task, WaitQueue
from fusewire.kernel.queue.request import RequestList
from fusewire.kernel.vfs.syscalls import sys_unlink
from fusewire.testing import Endless, Nondeterministic, Outside, Scene, Scheduled, Stuck, explore, replay, sample
from fusewire.testing.fingerprint import OWN, SETTLED
from fusewire.testing.run import Run, Scenario
from fusewire.testing.scenarios import SCENARIOS, FileScene, QueueScene, locked, pool, queue, unlink, unlink_link
from fusewire.testing.schedule import at_random

fingerprint = importlib.import_module("fusewire.testing.fingerprint")

FOREIGN = ("builtins", "functools", "weakref", "_weakrefset")
PARENT = (
    'daemon:2 waits on inode semaphore for "/", which only rm:4 could end;\n'
    "rm:4 waits on req->waitq, which only daemon:2 could end."
)

# -- what it finds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (unlink, PARENT),
        (unlink_link, PARENT.replace('"/"', '"file"')),
        (pool, PARENT.replace('inode semaphore for "/"', "fc->unused_list")),
    ],
)
def test_the_deadlock_of_a_scenario_is_found_named_and_replayed(scenario: Scenario, words: str) -> None:
    report = explore(scenario)
    (found,) = report.findings
    assert isinstance(found.error, Stuck)
    assert str(found.error) == words
    with pytest.raises(Stuck) as again:
        replay(scenario, found.schedule)
    assert str(again.value) == words


def test_chance_finds_it_too_and_its_schedule_replays() -> None:
    (found,) = sample(unlink, schedules=100).findings
    with pytest.raises(Stuck):
        replay(unlink, found.schedule)


def test_with_several_workers_each_that_serves_the_daemons_own_request_sinks_too() -> None:
    """The caller is interrupted; then a worker has the semaphore and waits for the next one, as long as any remain."""

    def scenario(driver: Scheduled) -> FileScene:
        scene = unlink(driver, workers=3)
        rm = scene.callers[0]
        rm.handlers[signal.SIGINT] = lambda number: None

        async def ctrl_c() -> None:
            rm.kill(signal.SIGINT)

        driver.go()
        driver.begin(scene.kernel.process("ctrl-c")._main, ctrl_c())
        return scene

    findings = explore(scenario, stop_at=1000).findings
    assert findings
    for found in findings:
        assert isinstance(found.error, Stuck)
        (cycle,) = found.error.found
        assert all(task.startswith("daemon") for task in cycle.tasks)


# -- what it proves ------------------------------------------------------------------------------------------------


def _finish(scene: Any, tasks: list[Any], helpers: list[Any]) -> None:
    """Let ``tasks`` go on until they cannot. A page that is being copied is finished by whoever copies it."""
    driver = scene.driver
    for _ in range(1000):
        ready = [task for task in tasks if task.pid in driver.ready]
        if not ready and any(req.locked for req in scene.fc.unused_list.in_use):
            ready = [task for task in helpers if task.pid in driver.ready]
        if not ready:
            return
        driver.advance_task(ready[0])
    raise AssertionError("it takes more than finitely many steps")


def a_fatal_signal_ends_its_wait(scene: Any) -> None:
    for task in scene.callers:
        task.kill(signal.SIGKILL)
        _finish(scene, [task], scene.workers)
        assert task not in scene.driver._coroutines, f"{task!r} was killed and still waits"


def a_fatal_signal_ends_a_workers_wait(scene: Any) -> None:
    for task in scene.workers:
        task.kill(signal.SIGKILL)
        _finish(scene, [task], [])
        assert task not in scene.driver._coroutines, f"{task!r} was killed and still waits"


def an_abort_ends_all_waits(scene: Any) -> None:
    scene.fc.abort(scene.callers[0])
    _finish(scene, scene.callers, scene.workers)
    for task in scene.callers:
        assert task not in scene.driver._coroutines, f"{task!r} still waits after an abort"


PROBES = (a_fatal_signal_ends_its_wait, a_fatal_signal_ends_a_workers_wait, an_abort_ends_all_waits)


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        (functools.partial(unlink, signals=True), 2),
        (functools.partial(unlink_link, signals=True), 1),
        (pool, 2),
        (SCENARIOS["kamikaze"], 2),
        (functools.partial(queue, callers=1, workers=1), 2),
        pytest.param(queue, 1, marks=pytest.mark.slow),
    ],
    ids=["unlink", "unlink_link", "pool", "kamikaze", "queue", "queue-2-2"],
)
def test_from_every_state_a_fatal_signal_ends_one_wait_and_an_abort_all_with_no_step_of_the_daemon(
    scenario: Scenario, preemptions: int
) -> None:
    report = explore(scenario, preemptions=preemptions, probes=PROBES, stop_at=10_000)
    assert report.states > 10
    others = [found for found in report.findings if not isinstance(found.error, Stuck)]
    assert not others  # stuck is only who waits at the end of the scenario


def test_a_signal_that_does_not_help_is_found_in_the_states_where_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = Connection._leaving_mode

    def deaf(fc: Connection, req: Request) -> Mode:
        return Mode.UNINTERRUPTIBLE if req.state is State.ORPHANED else leaving(fc, req)

    monkeypatch.setattr(Connection, "_leaving_mode", deaf)
    scene = functools.partial(queue, callers=1, workers=2, aborts=0)
    found = explore(scene, preemptions=1, probes=PROBES, stop_at=1000).findings
    assert any("was killed and still waits" in str(one.error) for one in found)


def test_a_probe_that_fails_everywhere_hides_no_state() -> None:
    def fails(scene: Any) -> None:
        raise AssertionError("everywhere")

    scenario = functools.partial(unlink, signals=True)
    probed = explore(scenario, preemptions=1, probes=[fails], stop_at=10_000)
    assert probed.schedules == explore(scenario, preemptions=1).schedules
    assert len(probed.findings) == probed.states
    assert probed.complete


def test_a_run_that_ends_before_its_time_leaves_the_exploration_incomplete() -> None:
    async def fails(task: Task) -> None:
        await task.point("here")
        raise AssertionError("before the others came to their end")

    report = explore(lambda driver: One(driver, fails), stop_at=1000)
    assert report.findings
    assert not report.complete


def test_under_linux_there_is_a_state_in_which_a_fatal_signal_does_not_help() -> None:
    def while_it_waits(scene: Any) -> None:
        if scene.callers[0].sleep is not None:
            a_fatal_signal_ends_its_wait(scene)

    found = explore(functools.partial(unlink, policy="linux"), probes=[while_it_waits]).findings
    assert any(str(one.error).startswith("rm:4 was killed and still waits") for one in found)


def test_under_linux_an_abort_ends_every_wait_all_the_same() -> None:
    report = explore(functools.partial(queue, policy=LINUX, callers=1, workers=1), probes=[an_abort_ends_all_waits])
    assert report.complete


@pytest.mark.parametrize("preemptions", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_answer_is_copied_into_memory_that_has_become_anothers(preemptions: int) -> None:
    report = explore(locked, preemptions=preemptions)
    assert report.complete, report.findings
    assert report.states > 100


def test_without_the_locked_flag_the_explorer_finds_the_corruption(monkeypatch: pytest.MonkeyPatch) -> None:
    import fusewire.kernel.queue.copy as copying

    monkeypatch.setattr(copying, "lock_request", copying.check_given_up)
    (found,) = explore(locked, preemptions=1).findings
    assert "got garbage" in str(found.error)
    with pytest.raises(AssertionError, match="got garbage"):
        replay(locked, found.schedule)


def test_the_queue_with_a_signal_a_kill_and_an_abort_never_loses_a_request() -> None:
    report = explore(functools.partial(queue, callers=2, workers=1), preemptions=0)
    assert report.complete, report.findings


@pytest.mark.parametrize("preemptions", [0, *(pytest.param(most, marks=pytest.mark.slow) for most in (1, 2))])
def test_two_callers_two_workers_a_signal_a_kill_and_an_abort(preemptions: int) -> None:
    report = explore(queue, preemptions=preemptions)
    print(report)
    assert report.complete, report.findings


# -- that its short cuts are sound -----------------------------------------------------------------------------------


def _states(scenario: Scenario, preemptions: int, hashing: bool) -> tuple[set[int], set[str]]:
    """Every state that is reached, and everything that is found."""
    seen: set[int] = set()
    report = explore(
        scenario,
        preemptions=preemptions,
        hashing=hashing,
        stop_at=10**9,
        probes=[lambda scene: seen.add(hash(_readable(scene)))],
    )
    return seen, {str(found.error) for found in report.findings}


def _readable(scene: Any) -> str:
    """The state in words of its own, without the fingerprint."""
    fc = scene.fc
    tasks = [
        (repr(task), task.sleep.what if task.sleep else "", task.exited, task.dying, tuple(task.pending_signals))
        for task in scene.driver.tasks
    ]
    requests = sorted(
        (req.unique, req.state.name, req.locked, req.aborted, req.detached, repr(req.caller), repr(req.reader))
        for req in fc.unused_list.in_use
    )
    back = sorted(getattr(scene, "back", ()))
    ready = sorted(map(repr, scene.driver.ready.values()))
    return repr((tasks, requests, back, ready, fc.connected, fc.num_waiting, list(fc.interrupts), list(fc.forgets)))


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [
        (unlink, 2),
        (functools.partial(unlink, signals=True), 1),
        (pool, 2),
        (functools.partial(queue, callers=1, workers=1, kills=0, aborts=0), 2),
        (functools.partial(queue, callers=2, workers=1, signals=0, kills=0, aborts=0), 1),
    ],
)
def test_with_hashing_it_sees_the_very_states_and_finds_what_a_plain_search_does(
    scenario: Scenario, preemptions: int
) -> None:
    assert _states(scenario, preemptions, hashing=True) == _states(scenario, preemptions, hashing=False)


@pytest.mark.parametrize("scenario", [queue, functools.partial(unlink, signals=True), pool, SCENARIOS["kamikaze"]])
def test_what_the_fingerprint_takes_for_settled_never_changes_in_a_run(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: dict[tuple[int, str], Any] = {}
    looked_into: list[Any] = []  # and so kept: no address is used twice

    def reader(kind: type) -> Any:
        read = make_reader(kind)
        names = [name for cls in kind.__mro__ for name in (*SETTLED.get(cls, ()), *OWN.get(cls, ())) if name != "free"]

        def looking(one: Any, add: Any) -> Any:
            looked_into.append(one)
            for name in names:
                value = getattr(one, name, None)
                if value is not None:  # made when it is first asked for, or never
                    known = first.setdefault((id(one), name), value)
                    assert known is value or known == value, f"{kind.__name__}.{name} was {known}, is {value}"
            return read(one, add)

        return looking

    make_reader = fingerprint._reader
    monkeypatch.setattr(fingerprint, "_reader", reader)
    builtin = {kind: read for kind, read in fingerprint._READERS.items() if kind.__module__ in FOREIGN}
    monkeypatch.setattr(fingerprint, "_READERS", builtin)
    for seed in range(20):
        run, choose = Run(scenario, 1000), at_random(seed)
        while run.driver.ready:
            run.state()
            run.go(choose([run.driver.ready[pid] for pid in sorted(run.driver.ready)]).pid)
        run.driver.close()
    assert {type(one) for one in looked_into} >= {Connection, Device, Request, RequestList, WaitQueue}


async def _one(task: Task) -> int:
    await task.point("x")
    return 1


class Race(Scene):
    """Two that race, and two more that begin when both have come by: so that there is a choice to remember."""

    def __init__(self, driver: Scheduled, first: Any, second: Any, wrong: Any) -> None:
        super().__init__(driver, self)
        self.n: Any = 0
        self.kept: Any = None
        self.came = 0
        self.wrong = wrong
        self._pid = 0
        for body in (first, second):
            self.begin(body)

    def begin(self, body: Any) -> None:
        self._pid += 1
        task = Task(self._pid, "racer", self.driver.wake)
        self.driver.tasks.append(task)
        self.driver.begin(task, body(self, task))

    def both(self) -> None:
        self.came += 1
        if self.came == 2:
            for _ in range(2):
                self.begin(_idle)

    def end(self) -> None:
        if self.wrong(self):
            raise AssertionError("it went wrong")


async def _idle(scene: Race, task: Task) -> None:
    await task.point("idle")
    await task.point("idle again")


async def _adds_in_two_steps(scene: Race, task: Task) -> None:
    scene.both()
    scene.n += await _one(task)  # n was read before


async def _adds(scene: Race, task: Task) -> None:
    scene.n += 1
    scene.both()


def _keeps(value: Any) -> Any:
    async def keeps(scene: Race, task: Task) -> None:
        scene.kept = value()
        scene.both()

    return keeps


def _kept(value: Any) -> Any:
    return lambda scene: value(scene.kept)


def _set_attribute(name: str) -> Any:
    def make() -> Any:
        box = type("Box", (), {})
        _BOXES.setdefault("box", box)
        made = _BOXES["box"]()
        setattr(made, name, 1)
        return made

    return make


_BOXES: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        (_adds_in_two_steps, _adds, lambda scene: scene.n != 2),
        (_keeps(lambda: -1), _keeps(lambda: -2), _kept(lambda kept: kept == -2)),
        (_keeps(lambda: 7), _keeps(lambda: 2**64 - 1 + 7), _kept(lambda kept: kept != 7)),
        (_keeps(lambda: True), _keeps(lambda: 1), _kept(lambda kept: kept is True)),
        (_keeps(lambda: OSError(5, "")), _keeps(lambda: OSError(22, "")), _kept(lambda kept: kept.errno == 22)),
        (_keeps(_set_attribute("l")), _keeps(_set_attribute("r")), _kept(lambda kept: hasattr(kept, "r"))),
        (_keeps(lambda: lambda x=1: x), _keeps(lambda: lambda x=2: x), _kept(lambda kept: kept() == 2)),
    ],
    ids=["read and written back", "-1 and -2", "2**64 - 1 apart", "True and 1", "errno", "names", "defaults"],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_states_that_differ_in_little_are_not_taken_for_the_same(
    first: Any, second: Any, wrong: Any, swapped: bool
) -> None:
    one, other = (second, first) if swapped else (first, second)

    def scenario(driver: Scheduled) -> Scene:
        return Race(driver, one, other, wrong)

    plain = {str(found.error) for found in explore(scenario, hashing=False, stop_at=10**6).findings}
    assert plain
    assert {str(found.error) for found in explore(scenario, stop_at=10**6).findings} == plain


def test_who_goes_round_in_a_circle_is_found_with_hashing_too() -> None:
    async def spins(scene: Race, task: Task) -> None:
        while True:
            await task.point("again")

    found = explore(lambda driver: Race(driver, spins, spins, lambda scene: False), stop_at=1000).findings
    assert found
    assert all(isinstance(one.error, Endless) for one in found)
    assert "comes back to the same state" in str(found[0].error)


def test_a_filesystem_of_python_can_be_explored() -> None:
    class Two(Scene):
        def __init__(self, driver: Scheduled) -> None:
            kernel = Kernel(driver)
            self.mount = kernel.mount(MemoryFS({"f": b""}), "/")
            self.fc = self.mount.connection
            driver.go()
            for _ in range(2):
                task = kernel.process("rm")._main
                driver.begin(task, sys_unlink(task, b"/f"))
            super().__init__(driver, self.fc, self.mount.sb.inodes)

    report = explore(Two, preemptions=0)
    assert report.complete, report.findings


def test_the_same_state_reached_twice_has_the_same_fingerprint_and_another_has_not() -> None:
    def state(steps: int) -> int:
        run = Run(queue, 1000)
        for _ in range(steps):
            run.go(run.default())
        state = run.state()
        run.driver.close()
        return state

    states = [state(steps) for steps in range(12)]
    assert states == [state(steps) for steps in range(12)]
    assert len(set(states)) == 12


# -- what is no scenario ----------------------------------------------------------------------------------------------


class One(Scene):
    """One task that does what it is told."""

    def __init__(self, driver: Scheduled, body: Any) -> None:
        task = Task(1, "one", driver.wake)
        driver.tasks.append(task)
        driver.begin(task, body(task))
        super().__init__(driver)


def test_a_scenario_that_never_ends_is_said_so_with_the_place() -> None:
    async def body(task: Task) -> None:
        while True:
            await task.point("again")

    (found,) = explore(lambda driver: One(driver, body), limit=50).findings
    assert isinstance(found.error, Endless)
    assert "more than 50 steps" in str(found.error)
    assert "test_explore.py" in str(found.error)


def test_a_scenario_that_waits_for_something_outside_is_said_so_with_the_place() -> None:
    async def body(task: Task) -> None:
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="no running event loop"):
        replay(lambda driver: One(driver, body), "")


def test_a_foreign_awaitable_is_named() -> None:
    class Foreign:
        def __await__(self) -> Any:
            yield "something else"

    async def body(task: Task) -> None:
        await Foreign()

    (found,) = explore(lambda driver: One(driver, body)).findings
    assert isinstance(found.error, Outside)
    assert "'something else'" in str(found.error)
    assert "test_explore.py" in str(found.error)


def test_a_scenario_that_is_not_deterministic_is_said_so() -> None:
    runs = itertools.count()

    def scenario(driver: Scheduled) -> Scene:
        return queue(driver, callers=1 + next(runs) % 2, workers=1)

    with pytest.raises(Nondeterministic, match="something but the schedule decides"):
        explore(scenario)


@pytest.mark.parametrize("schedule", ["x", "7", "7B", "b7", "1a 2", "-1a"])
def test_a_text_that_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match="no part of a schedule"):
        replay(unlink, schedule)


def test_a_schedule_of_another_scenario_is_refused() -> None:
    with pytest.raises(Nondeterministic, match="not a schedule of this scenario"):
        replay(unlink, "0z")


def test_every_named_scenario_is_deterministic() -> None:
    for scenario in SCENARIOS.values():
        explore(scenario, preemptions=1, max_schedules=50, stop_at=1000)


def test_the_pieces_of_a_scene_are_what_they_are_called() -> None:
    scene = queue(Scheduled())
    assert isinstance(scene, QueueScene)
    assert [task.comm for task in scene.callers + scene.workers] == ["caller", "caller", "worker", "worker"]
    scene.driver.go()
    scene.check()
    scene.end()
    scene.driver.close()
    assert not [req for req in scene.fc.unused_list.in_use if req.state is State.PENDING]
