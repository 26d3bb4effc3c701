"""``fusewire explore``: a scenario in every order, or in many by chance; what goes wrong is drawn and can be had again."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from ..inspect import Diagram, EventStream
from ..testing.explore import Finding, Report, explore, replay, sample
from ..testing.run import Scenario, Scene
from ..testing.scenarios import SCENARIOS
from ..testing.stuck import STEP_SECONDS, Blocked
from . import completion
from .mount import find


@click.command(name="explore")
@click.argument("scenario", shell_complete=completion.one_of(SCENARIOS))
@click.option("--exhaustive", is_flag=True, help="Every schedule with at most so many preemptions (the default).")
@click.option(
    "--preemptions",
    default=2,
    show_default=True,
    type=click.IntRange(0),
    help="How often a task may be stopped that could go on.",
)
@click.option("--schedules", type=click.IntRange(1), help="So many schedules by chance instead.")
@click.option("--seed", default=0, show_default=True, help="What chance begins with.")
@click.option("--replay", "schedule", help="One schedule only, as an earlier exploration told it.")
@click.option(
    "--step-seconds",
    default=STEP_SECONDS,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="The longest that one step may take.",
)
@click.option("--steps", default=10_000, show_default=True, type=click.IntRange(1), help="The most steps of one run.")
def explore_command(
    scenario: str,
    exhaustive: bool,
    preemptions: int,
    schedules: int | None,
    seed: int,
    schedule: str | None,
    step_seconds: float,
    steps: int,
) -> None:
    """Run a scenario in every order; exit status 1 when something is found.

    SCENARIO is queue, locked, unlink, unlink_link, pool, kamikaze, or module:function for one of your own.
    """
    if sum((exhaustive, schedules is not None, schedule is not None)) > 1:
        raise click.UsageError("--exhaustive, --schedules and --replay exclude each other")
    console = Console(highlight=False, soft_wrap=True)
    chosen: Scenario = SCENARIOS[scenario] if scenario in SCENARIOS else find(scenario)
    if schedule is not None:
        raise SystemExit(_show(console, chosen, schedule, steps, step_seconds))
    report = _run(console, chosen, preemptions, schedules, seed, steps, step_seconds)
    console.print(escape(str(report)))
    for found in report.findings:
        _tell(console, chosen, found, steps, step_seconds, scenario)
    raise SystemExit(bool(report.findings))


def _run(
    console: Console,
    scenario: Scenario,
    preemptions: int,
    schedules: int | None,
    seed: int,
    steps: int,
    step_seconds: float,
) -> Report:
    columns = TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("exploring", total=schedules)

        def tell(run: int, states: int) -> None:
            if not run % 50:
                progress.update(task, completed=run, description=f"{run} schedules, {states} states")

        if schedules is not None:
            return sample(
                scenario, schedules=schedules, seed=seed, limit=steps, step_seconds=step_seconds, progress=tell
            )
        return explore(scenario, preemptions=preemptions, limit=steps, step_seconds=step_seconds, progress=tell)


def _tell(console: Console, scenario: Scenario, found: Finding, steps: int, step_seconds: float, name: str) -> None:
    console.print()
    _show(console, scenario, found.schedule, steps, step_seconds)
    console.print(f"\nAgain: fusewire explore {escape(name)} --replay {escape(repr(found.schedule))}")


def _show(console: Console, scenario: Scenario, schedule: str, steps: int, step_seconds: float) -> int:
    """Draw one run and say how it ended; returns the exit status."""
    events = EventStream()
    scenes: list[Scene] = []

    def begun(scene: Scene) -> None:
        events.clear()  # what set the scene is not what is shown
        scenes.append(scene)

    status, words = 0, "Nothing goes wrong under this schedule."
    try:
        replay(scenario, schedule, limit=steps, step_seconds=step_seconds, events=events, begun=begun)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--replay") from None
    except (Exception, Blocked) as error:
        status, words = 1, f"{type(error).__name__}: {error}"
    columns = scenes[0].columns or {event.comm: [event.pid] for event in events}
    console.print(escape(Diagram(columns).render(events)))
    console.print(f"\n[bold]{escape(words)}[/bold]")
    return status
