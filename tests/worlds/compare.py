"""Programs in several worlds at once. The last of the worlds is a plain directory: what happens there is what is expected."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from children import Nursery
from kernel_half import KINDS, WritingBack, kernel_half
from vocabulary import CALLS, WATCH, Step

SHOWN = 300  # characters of a result
LAST = 40  # steps that are shown


class Program(Protocol):
    """The processes of a program in one world."""

    def start(self, step: Step) -> None: ...

    def result(self, step: Step) -> object: ...

    def tree(self) -> object: ...


class Different(AssertionError):
    """The worlds are not the same after ``program``."""

    def __init__(self, program: Sequence[Step], results: dict[str, object]) -> None:
        lines = [f"{name:12} {repr(result)[:SHOWN]}" for name, result in results.items()]
        super().__init__("\n".join([f"after {len(program)} steps", *map(str, program[-LAST:]), *lines]))
        self.program = program


class Comparison:
    """One program, in each of the worlds. Raises :class:`Different`."""

    def __init__(self, programs: dict[str, Program], left_out: Collection[str]) -> None:
        self.programs = programs
        self.left_out = left_out
        self.done: list[Step] = []

    def step(self, step: Step) -> Any:
        """Do a step everywhere; all have to say the same, which is returned."""
        if step.call in self.left_out:
            return None
        if WATCH in self.left_out:
            step = step._replace(watch=False)
        self.done.append(step)
        for program in self.programs.values():
            program.start(step)
        return self._same({name: program.result(step) for name, program in self.programs.items()})

    def end(self) -> None:
        """What is left is to be the same, too."""
        self._same({name: program.tree() for name, program in self.programs.items()})

    def _same(self, results: dict[str, object]) -> Any:
        expected = list(results.values())[-1]
        if all(result == expected for result in results.values()):
            return expected
        if isinstance(expected, dict):
            results = {name: _rest(result, results) for name, result in results.items()}
        raise Different(self.done, results)


def _rest(tree: object, trees: dict[str, object]) -> object:
    """What of a tree is not the same in all."""
    assert isinstance(tree, dict)
    return {path: found for path, found in tree.items()
            if any(not isinstance(other, dict) or other.get(path) != found for other in trees.values())}  # fmt: skip


class Worlds:
    """Where programs are compared: ``kind`` of our kernel half, directories that are real mounts, and a plain one."""

    def __init__(self, kind: str, nurseries: dict[str, tuple[Nursery, Path]]) -> None:
        self.kind = kind
        self.nurseries = nurseries
        self.left_out: set[str] = set()
        if issubclass(KINDS[kind], WritingBack):
            self.left_out.add("seek data")  # the daemon does not know what is not written back yet
            if len(nurseries) > 1:
                self.left_out.add(WATCH)  # the kernel's own times are whole ticks
        if not all(_fine_times(path) for _, path in nurseries.values()):
            self.left_out.add(WATCH)
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def program(self) -> Iterator[Comparison]:
        """A program that is to begin."""
        name = f"w{next(self._numbers)}"
        with contextlib.ExitStack() as stack:
            programs: dict[str, Program] = {"kernel half": stack.enter_context(kernel_half(self.kind))}
            for world, (nursery, path) in self.nurseries.items():
                programs[world] = stack.enter_context(nursery.program(path / name))
            yield Comparison(programs, self.left_out)

    def compare(self, program: Sequence[Step]) -> None:
        """Run it. Raises :class:`Different`."""
        with self.program() as comparison:
            for step in program:
                comparison.step(step)
            comparison.end()

    def check(self, program: Sequence[Step]) -> None:
        """Run it; where the worlds differ, say so with the smallest program found that shows it."""
        try:
            self.compare(program)
        except Different as found:
            self.compare(self._simplest(self._shortest(found.program)))
            raise

    def _shortest(self, program: Sequence[Step]) -> Sequence[Step]:
        """Leave out what is not needed: ever smaller pieces."""
        size = len(program)
        while size:
            for start in reversed(range(0, len(program), size)):
                shorter = [*program[:start], *program[start + size :]]
                if self._differs(shorter):
                    program = shorter
            size //= 2
        return program

    def _simplest(self, program: Sequence[Step]) -> Sequence[Step]:
        """Each argument as simple as can be."""
        for number, step in enumerate(program):
            for simpler in _simpler(step):
                changed = [*program[:number], simpler(program[number]), *program[number + 1 :]]
                if changed[number] != program[number] and self._differs(changed):
                    program = changed
        return program

    def _differs(self, program: Sequence[Step]) -> bool:
        try:
            self.compare(program)
        except Different:
            return True
        return False


def _fine_times(path: Path) -> bool:
    """Whether each change gets a time of its own; else those within a clock tick are the same."""
    file = path / "times"
    stamps = {(file.write_bytes(b"x"), file.stat().st_mtime_ns)[1] for _ in range(20)}
    file.unlink()
    return len(stamps) == 20


def _simpler(step: Step) -> Iterator[Callable[[Step], Step]]:
    """Ways to make a step simpler."""
    yield lambda step: step._replace(watch=False)
    yield lambda step: step._replace(process=0)
    for place, domain in enumerate(CALLS[step.call].values()):
        yield lambda step: step._replace(args=(*step.args[:place], domain[0], *step.args[place + 1 :]))
