"""``fusewire demo deadlock|kamikaze|pool|locked``: scenarios of the explorer, drawn, named and cured."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..inspect import Diagram, EventStream
from ..kernel.queue import State, Task
from ..testing.explore import explore, replay
from ..testing.run import Scene, Stuck
from ..testing.scenarios import FileScene, kamikaze, locked, pool, unlink
from ..testing.schedule import Scheduled


def show_deadlock(console: Console) -> None:
    """Scenario 1 of ``kernel.txt``."""
    scene = _deadlock(console, "Scenario 1: the daemon unlinks a file of its own mount", unlink)
    _cure(console, scene, "The cure: the caller is interrupted", *scene.callers)
    console.print(f"\nThe caller is free. The daemon was single threaded:\n{escape(_words(scene))}\n")
    _cure(console, scene, "So the daemon is killed as well", scene.workers[0], number=signal.SIGKILL)
    console.print("\nNobody waits any more.")


def show_kamikaze(console: Console) -> None:
    """Scenario 2 of ``kernel.txt``."""
    scene = _deadlock(console, "Scenario 2: the answer is written from the very page that it is to fill", kamikaze)
    thread_2 = scene.workers[0]
    _cure(console, scene, "The cure: the wait of the page fault is interrupted", thread_2)
    console.print("\nThe write failed with EINTR, the READ ended with EIO: the page is free, and nobody waits.")


def show_pool(console: Console) -> None:
    """The third deadlock."""
    scene = _deadlock(console, "A pool of one request, and a daemon that asks its own mount", pool)
    _cure(
        console,
        scene,
        "The caller is interrupted: it is free; its request is the daemon's, and so is the slot",
        *scene.callers,
    )
    console.print(f"\n{escape(_words(scene))}\n")
    _cure(console, scene, "So the daemon is interrupted as well", scene.workers[0])
    console.print("\nIt answers the request that it had read, and the slot is free.")


def show_locked(console: Console) -> None:
    """``req->locked``: the explorer looks for a caller that has to wait until its page is copied."""
    console.print("[bold]== req->locked: a caller is interrupted while its answer is copied[/bold]\n")
    ways = explore(_until_someone_waits_for_a_page, preemptions=1, stop_at=100).findings
    found = min(ways, key=lambda way: (len(way.schedule.split()), way.schedule))  # the simplest to read
    events = EventStream()
    scene = replay(locked, found.schedule, events=events)
    console.print(escape(Diagram(scene.columns).render(events)))
    console.print(
        "\nThe interrupted caller slept on req->locked until the page was copied: its memory was the writer's until then."
        f"\nThe schedule, found by trying: {found.schedule!r} (fusewire explore locked --replay ...)"
    )


class _Seen(Exception):
    """What was looked for."""


def _until_someone_waits_for_a_page(driver: Scheduled) -> Scene:
    scene = locked(driver)
    check: Callable[[], None] = scene.check

    def look() -> None:
        check()
        for req in scene.fc.unused_list.in_use:
            waits = req.caller is not None and req.caller.sleep is not None and req.caller.sleep.what == "req->locked"
            if waits and req.state is State.WRITING:
                raise _Seen

    scene.check = look  # type: ignore[method-assign]
    return scene


def _deadlock(console: Console, title: str, scenario: Callable[[Scheduled], Any]) -> FileScene:
    """Let it run until nobody can go on; draw it, and say who waits for whom."""
    console.print(f"[bold]== {escape(title)}[/bold]\n")
    driver = Scheduled(events=EventStream())
    scene: FileScene = scenario(driver)
    assert driver.events is not None
    driver.events.clear()
    driver.go()
    console.print(escape(Diagram(scene.columns).render(driver.events)))
    console.print(f"\n[bold]*DEADLOCK*[/bold]\n{escape(_words(scene))}\n")
    return scene


def _words(scene: FileScene) -> str:
    return str(Stuck(scene.driver.graph().deadlocks()))


def _cure(console: Console, scene: FileScene, title: str, *tasks: Task, number: int = signal.SIGINT) -> None:
    """Send them a signal, which they handle if they can, and draw what follows."""
    console.print(f"[bold]== {escape(title)}[/bold]\n")
    events = scene.driver.events
    assert events is not None
    events.clear()
    for task in tasks:
        task.handlers[signal.SIGINT] = lambda number: None
        task.kill(number)
    scene.driver.go()
    console.print(escape(Diagram(scene.columns).render(events)))
