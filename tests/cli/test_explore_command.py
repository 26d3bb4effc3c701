"""``fusewire explore`` and the scenarios of ``fusewire demo``."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner, Result

from fusewire.cli import main


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("unlink", 'daemon:2 waits on inode semaphore for "/", which only rm:4 could end'),
        ("unlink_link", 'daemon:2 waits on inode semaphore for "file", which only rm:4 could end'),
        ("pool", "daemon:2 waits on fc->unused_list, which only rm:4 could end"),
        ("kamikaze", 'daemon:2 waits on page 0 of "file", which only daemon:4 could end'),
    ],
)
def test_a_deadlock_is_drawn_named_and_its_schedule_replays_to_the_same(scenario: str, words: str) -> None:
    explored = run("explore", scenario)
    assert explored.exit_code == 1
    assert words in explored.output
    schedule = re.search(r"--replay '(.*)'", explored.output)
    assert schedule is not None
    again = run("explore", scenario, "--replay", schedule[1])
    assert again.exit_code == 1
    assert words in again.output
    assert again.output.strip() in explored.output


def test_chance_with_a_seed_tells_what_it_tried() -> None:
    result = run("explore", "locked", "--schedules", "50", "--seed", "3")
    assert result.exit_code == 0
    assert result.output.startswith("50 schedules")


def test_a_scenario_of_ones_own_is_found_by_its_name() -> None:
    result = run("explore", "fusewire.testing.scenarios:unlink", "--preemptions", "0")
    assert result.exit_code == 1
    assert "Stuck" in result.output


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["nonsense"], "'nonsense' is not known here"),
        (["no.such.module:x"], "no.such.module cannot be imported"),
        (["os:nothing"], "os has no nothing"),
        ([":x"], "':x' is not known here: say module:function"),
        (["unlink", "--replay", "x"], "no part of a schedule"),
        (["unlink", "--exhaustive", "--schedules", "3"], "exclude each other"),
        (["unlink", "--schedules", "0"], "not in the range"),
    ],
)
def test_wrong_arguments_are_one_clear_line(args: list[str], what: str) -> None:
    result = run("explore", *args)
    assert result.exit_code != 0
    assert what in result.output
    assert "Traceback" not in result.output


def test_a_schedule_of_another_scenario_is_said_so() -> None:
    assert "not a schedule of this scenario" in run("explore", "unlink", "--replay", "2z").output


def test_a_run_that_takes_too_many_steps_is_said_so() -> None:
    result = run("explore", "queue", "--preemptions", "0", "--steps", "5")
    assert result.exit_code == 1
    assert "Endless: more than 5 steps" in result.output


@pytest.mark.parametrize(
    ("scenario", "lines"),
    [
        (
            "kamikaze",
            ["[lock page]", '[sleep on page 0 of "file"]', "*DEADLOCK*", "[interrupted by signal]", "[unlock page]"],
        ),
        ("pool", ["[sleep on fc->unused_list]", "*DEADLOCK*", "<sys_unlink()", "[remove from fc->processing]"]),
        ("locked", ["[interrupted by signal]", "[sleep on req->locked]", "[woken up]"]),
    ],
)
def test_a_demo_draws_the_deadlock_and_the_cure_in_this_order(scenario: str, lines: list[str]) -> None:
    result = run("demo", scenario)
    assert result.exit_code == 0, result.output
    text = re.sub(r"\s*\|[\s|]*", " ", result.output)
    at = 0
    for line in lines:
        at = text.index(line, at) + len(line)


def test_a_negative_number_of_preemptions_is_refused() -> None:
    assert run("explore", "queue", "--preemptions", "-1").exit_code == 2
