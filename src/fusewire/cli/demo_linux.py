"""``fusewire demo deadlock|kamikaze|pool|locked``, its other half: the same on a real mount, beside how ours takes it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape

from ..inspect import Diagram, Event
from ..kernel.queue import Task
from ..testing.hangs import Blow, Drawing, Hang, Look
from ..testing.scenarios import FileScene, kamikaze, pool, unlink
from ..testing.schedule import Scheduled

DAEMON = "FUSE filesystem daemon"
FATAL = frozenset({signal.SIGKILL})


class Step(NamedTuple):
    """What may end a deadlock: how it is done on Linux, and on our half where that has it."""

    name: str
    there: Callable[[Hang, Look], Blow]
    here: Callable[[FileScene], None] | None = None


class Story(NamedTuple):
    """A scenario, and the steps that are gone one after the other until nobody waits."""

    title: str
    scenario: str
    call: tuple[str, ...]
    steps: tuple[Step, ...]
    workers: int = 1
    here: Callable[[Scheduled], FileScene] | None = None
    note: str = ""


def _to_caller(number: signal.Signals) -> Step:
    return Step(
        f"{number.name} to the caller",
        lambda hang, look: hang.send(number, *hang.callers),
        lambda scene: _kill(scene.callers, number),
    )


def _to_daemon(number: signal.Signals) -> Step:
    """To those of the daemon that wait. It has a handler for all but SIGKILL, as the daemons on Linux have."""

    def there(hang: Hang, look: Look) -> Blow:
        waiting = {task.pid for task in look.stuck.values()}
        return hang.send(number, *(one for one in hang.workers if one.process.pid in waiting))

    def here(scene: FileScene) -> None:
        for worker in scene.workers:
            if number not in FATAL:
                worker.handlers[number] = lambda number: None
        _kill(scene.workers, number)

    return Step(f"{number.name} to the daemon", there, here)


def _kill(tasks: Iterable[Task], number: int) -> None:
    for task in tasks:
        if not task.exited:
            task.kill(number)


def _interruptible(driver: Scheduled) -> FileScene:
    """Scenario 2, whose reader handles SIGINT."""
    scene = kamikaze(driver)
    scene.callers[0].handlers[signal.SIGINT] = lambda number: None
    return scene


ABORT = Step("abort, by fusectl", lambda hang, look: hang.abort())
SLOT = Step("one more slot, by fusectl's max_background", lambda hang, look: hang.allow_background(2))
PAGE = Step("the missing page comes", lambda hang, look: hang.bring_page())

STORIES = {
    "deadlock": Story(
        "Scenario 1", "unlink", ("rm", "@/file"),
        (_to_caller(signal.SIGINT), _to_daemon(signal.SIGKILL), ABORT), here=unlink,
    ),
    "kamikaze": Story(
        "Scenario 2", "kamikaze", (), (_to_daemon(signal.SIGINT), _to_daemon(signal.SIGKILL), ABORT), here=kamikaze
    ),
    "pool": Story(
        "A pool of one: max_background", "pool", ("cat", "@/file"),
        (_to_caller(signal.SIGINT), _to_daemon(signal.SIGINT), SLOT, ABORT), workers=2, here=pool,
    ),
    "locked": Story(
        "The page that is copied from is missing", "locked", ("cat", "@/file"),
        (_to_caller(signal.SIGINT), _to_caller(signal.SIGKILL)._replace(here=None), ABORT, PAGE), here=_interruptible,
        note="Our half took it in Scenario 2, where an answer waits for a page in the same way: daemon:4 is the reader.",
    ),
}  # fmt: skip


def show_on_linux(console: Console, scenario: str) -> None:
    """Make it, draw it, name it, and strike until nobody waits; then the daemon of Scenario 1 with several workers."""
    _show(console, STORIES[scenario])
    if scenario == "deadlock":
        _show_workers(console)


def _show(console: Console, story: Story) -> None:
    _title(console, f"{story.title} on Linux {os.uname().release}")
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(contextlib.closing(_Ours(story.here))) if story.here else None
        hang = stack.enter_context(Hang(story.scenario, story.workers))
        picture = _Picture(console, hang)
        look = _begin(console, picture, story.call)
        _title(console, "What ends it")
        taken: list[tuple[str, str, str]] = []
        for step in story.steps:
            if look.stuck:
                blow = step.there(hang, look)
                taken.append((step.name, ours.take(step) if ours else "", _changed(blow)))
                look = blow.after
                picture.look(look)
        picture.draw()
        for name, here, there in taken:
            console.print(escape(f"\n{name}\n  Linux: {there}" + (f"\n  our half: {here}" if here else "")))
        _say_the_end(console, hang.blows, [name for name, _, _ in taken])
    if story.note:
        console.print(f"\n{escape(story.note)}")


class _Picture:
    """The diagram of a hang, in parts."""

    def __init__(self, console: Console, hang: Hang) -> None:
        self.console = console
        self.hang = hang
        self._drawing = Drawing(hang)
        self._events: list[Event] = []

    def look(self, look: Look) -> None:
        self._events += self._drawing.since(look)

    def draw(self) -> None:
        """What was looked at since the last time."""
        hang, events = self.hang, self._events
        self._events = []
        servers = [program.process.pid for program in hang.workers]
        if hang.callers:
            columns = {"program": [program.process.pid for program in hang.callers], DAEMON: servers}
        else:
            one = {event.pid for event in events} - set(servers)
            columns = {"Kamikaze filesystem thread 1": list(one), "thread 2": servers}
        self.console.print(escape(Diagram(columns).render(events)))
        if hang.trace is None:
            self.console.print("(who fell asleep when is not known here, where tracefs is not readable)")


def _begin(console: Console, picture: _Picture, call: tuple[str, ...]) -> Look:
    """Let it run until nobody moves; draw it, and say who waits for whom."""
    hang = picture.hang
    if call:
        hang.call(*call)
    look = hang.settled()
    picture.look(look)
    picture.draw()
    found = hang.deadlocks(look)
    console.print()
    if found:
        console.print("[bold]*DEADLOCK*[/bold]")
        console.print(escape("\n".join(one.words() for one in found)))
    else:
        waits = [wait.words() for wait in hang.graph(look).waits.values() if not wait.idle]
        console.print(escape(";\n".join(waits) + "." if waits else "Nobody waits."))
    return look


def _changed(blow: Blow) -> str:
    """What a blow did, in words."""
    gone = blow.ends
    words = [f"{task.name} is free" + (f" ({gone[task.pid]})" if task.pid in gone else "") for task in blow.freed]
    before, after = blow.before.stuck, blow.after.stuck
    words += [f"{task.name} waits now, {task.where}" for task in blow.sunk]
    words += [
        f"{task.name} still waits, now {task.where}"
        for tid, task in after.items()
        if tid in before and (before[tid].state, before[tid].wchan) != (task.state, task.wchan)
    ]
    return "; ".join(words if blow.freed else ["nobody is free", *words])


def _say_the_end(console: Console, blows: Sequence[Blow], names: Sequence[str]) -> None:
    if not blows:
        return  # nobody waited, and so said the graph
    stuck = blows[-1].after.stuck
    if stuck:
        console.print(f"\nStill waiting: {escape(', '.join(task.name for task in stuck.values()))}.")
        return
    ended = [name for blow, name in zip(blows, names, strict=True) if blow.freed]
    console.print(f"\nNobody waits any more. What it took: {escape('; '.join(ended))}.")


# -- several workers ---------------------------------------------------------------------------------------------------


def _show_workers(console: Console, workers: int = 4) -> None:
    """Each worker that reads the request of the one before it sinks as that did."""
    _title(console, f"Scenario 1 with {workers} serving workers, which answer an interrupted request with EINTR")
    with Hang("unlink", workers) as hang:
        picture = _Picture(console, hang)
        _begin(console, picture, ("rm", "@/file"))
        _title(console, "Killing them as long as any remain")
        for blow in hang.kill_while_any_remain():
            console.print(escape(f"{blow.name}\n  {_changed(blow)}\n"))
            picture.look(blow.after)
        picture.draw()
        _say_the_end(console, hang.blows, [blow.name for blow in hang.blows])


# -- our half ----------------------------------------------------------------------------------------------------------


class _Ours:
    """The same deadlock on our half, to take the same steps."""

    def __init__(self, scenario: Callable[[Scheduled], FileScene]) -> None:
        self.scene = scenario(Scheduled())
        self.scene.driver.go()

    def close(self) -> None:
        """Drop what still waits."""
        self.scene.driver.close()

    def _stuck(self) -> set[str]:
        return {wait.task for wait in self.scene.driver.graph().waits.values() if not wait.idle}

    def take(self, step: Step) -> str:
        """Do it; what it changed, in words."""
        before = self._stuck()
        if not before:
            return "nobody waited any more"
        if step.here is None:
            return ""
        step.here(self.scene)
        self.scene.driver.go()
        after = self._stuck()
        words = [f"{name} is free" for name in sorted(before - after)] or ["nobody is free"]
        return "; ".join([*words, *(f"{name} waits now" for name in sorted(after - before))])


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]== {escape(text)}[/bold]\n")
