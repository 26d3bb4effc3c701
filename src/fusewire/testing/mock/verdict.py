"""Whether all that was expected of the kernel's half came, and nothing else; and the text that says what did not."""

from __future__ import annotations

from ...wire.flags import Opcode
from .asked import Asked
from .expect import Expectation

SHOWN = 30  # requests of the history


class Verdict:
    """What is wrong so far. ``unexpected``: requests, each with the reason."""

    def __init__(self, expected: list[Expectation], requests: list[Asked]) -> None:
        self.expected = expected
        self.requests = requests
        self.unexpected: list[tuple[Asked, str]] = []
        self._problems: list[str] = []

    def problem(self, text: str) -> None:
        """Something else that is wrong."""
        self._problems.append(text)

    def raised(self, asked: Asked, error: BaseException) -> None:
        """What the test said to do about a request raised."""
        self._problems.append(f"{asked.text}: {type(error).__name__}: {error}")

    @property
    def complete(self) -> bool:
        """Nothing is missing."""
        return all(one.satisfied for one in self.expected)

    def text(self, alive: bool) -> str:
        """Empty where nothing is wrong. ``alive``: what is held could still be answered."""
        parts = []
        if self.unexpected:
            lines = [
                line for asked, why in self.unexpected for line in (f"  {asked.text}", f"    {why}") if line.strip()
            ]
            parts.append("came, and was not expected:\n" + "\n".join(lines))
        missing = [one for one in self.expected if not one.satisfied]
        if missing:
            parts.append(
                "was expected, and did not come:\n" + "\n".join(f"  {one} ({one.how_often})" for one in missing)
            )
        problems = list(self._problems)
        if alive:
            problems += [f"{asked.text} is held, and was not answered" for asked in self._held()]
        if problems:
            parts.append("went wrong:\n" + "\n".join(f"  {problem}" for problem in problems))
        return "\n".join([*parts, self.history()]) if parts else ""

    def _held(self) -> list[Asked]:
        return [
            asked
            for one in self.expected
            if one.steps and one.steps[-1].kind == "hold"
            for asked in one.asked
            if not asked.answered
        ]

    def history(self) -> str:
        """The last requests that came."""
        came = [asked for asked in self.requests if asked.opcode is not Opcode.INIT]
        if not came:
            return "nothing came" if not self.requests else "nothing came but INIT"
        left_out = len(came) - SHOWN
        lines = [f"  ... {left_out} before"] if left_out > 0 else []
        return "what came:\n" + "\n".join(lines + [f"  {asked.text}" for asked in came[-SHOWN:]])


def why_unexpected(asked: Asked, expected: list[Expectation]) -> str:
    """In what way a request is not what was expected."""
    same = [one for one in expected if not one.differs(asked)]
    for one in same:
        early = [before for before in one.before if not before.satisfied]
        if early and not one.saturated:
            return f"too early: {early[0]} is to come first"
    if same:
        return (
            f"{same[0]} was {same[0].how_often.replace('came', 'and has come')} before this one"
            if same[0].most
            else (f"{same[0]} is expected never")
        )
    near = [(one.differs(asked), one) for one in expected if one.opcode is asked.opcode]
    if not near:
        return "nothing was expected of this operation" if expected else "nothing was expected"
    differs, one = min(near, key=lambda pair: len(pair[0]))
    return f"nearest to it is {one}: {', '.join(differs)}"
