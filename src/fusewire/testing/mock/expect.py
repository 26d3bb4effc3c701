"""What is expected of the kernel's half: which requests, how often, in which order, and what happens then."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...wire.flags import Opcode
from ...wire.table import OPERATIONS
from .answers import check_answer
from .asked import Asked
from .shapes import HEADER_FIELDS, OPERATION_NAMES, check_fields, opcode_of

if TYPE_CHECKING:
    from .daemon import MockDaemon

FOREVER = 1 << 62


class Step(NamedTuple):
    """One thing that is done about a request. ``kind``: do, reply, error, wrong, late, hold, never, die."""

    kind: str
    parts: tuple[Any, ...] = ()
    fields: dict[str, Any] = {}  # noqa: RUF012
    number: int = 0  # an errno
    seconds: float = 0.0
    function: Callable[[Asked], Any] | None = None


class Expectation:
    """A request that is to come, and what is done then. ``asked`` are those that came.

    Each method returns the expectation. :meth:`do` and :meth:`wrong` may come several times, in their order; the last thing
    said is one of :meth:`reply`, :meth:`error`, :meth:`reply_late`, :meth:`hold`, :meth:`never` and :meth:`die`. With none
    of them an operation whose answer has no body succeeds, and one that takes no answer gets none.
    """

    def __init__(self, daemon: MockDaemon, name: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        self.daemon = daemon
        self.opcode = opcode_of(name)
        self.wanted = _wanted(self.opcode, args, fields)
        self.least = self.most = 1
        self.asked: list[Asked] = []
        self.steps: list[Step] = []
        self.before: list[Expectation] = []  # those that are to have come first

    # -- how often ------------------------------------------------------------------------------------------------

    def times(self, least: int, most: int | None = None) -> Expectation:
        """So often, or from ``least`` to ``most`` times. 0: not at all."""
        self.least, self.most = least, least if most is None else most
        return self

    def any_times(self) -> Expectation:
        """However often, and perhaps never."""
        return self.times(0, FOREVER)

    @property
    def satisfied(self) -> bool:
        return len(self.asked) >= self.least

    @property
    def saturated(self) -> bool:
        return len(self.asked) >= self.most

    # -- what is done ---------------------------------------------------------------------------------------------

    def do(self, function: Callable[[Asked], Any]) -> Expectation:
        """Call it with the request, in the daemon's user mode, before anything that comes after. What it raises fails the
        test."""
        return self._step(Step("do", function=function))

    def reply(self, *parts: Any, **fields: Any) -> Expectation:
        """Answer with structs of the wire (``entry(2)``), data (``b"..."``), the answer's fields by name (``size=3``), or what
        a function of the request returns. Raises TypeError for what is no answer to the operation."""
        return self._step(self._answer("reply", parts, fields))

    def error(self, number: int) -> Expectation:
        """Answer with an errno."""
        return self._step(Step("error", number=number))

    def reply_late(self, seconds: float, *parts: Any, **fields: Any) -> Expectation:
        """As :meth:`reply`, after so many seconds of the kernel half's clock (the virtual one under ``inline``)."""
        return self._step(self._answer("late", parts, fields)._replace(seconds=seconds))

    def hold(self) -> Expectation:
        """Leave it unanswered until the test answers it: ``expectation.wait().reply(...)``."""
        return self._step(Step("hold"))

    def never(self) -> Expectation:
        """Leave it unanswered for good."""
        return self._step(Step("never"))

    def die(self) -> Expectation:
        """The daemon is killed with the request in its hands."""
        return self._step(Step("die"))

    def wrong(
        self,
        *,
        raw: bytes | None = None,
        unique: int | Callable[[int], int] | None = None,
        length: int | Callable[[int], int] | None = None,
        error: int = 0,
        body: bytes = b"",
        refused: int = 0,
    ) -> Expectation:
        """Write something that is no right answer: ``body`` as bytes behind a header with this ``unique``, this ``length``
        (each as it should be unless given, or a function of that) and this ``error`` (as it stands on the wire: negated); or
        ``raw`` bytes. ``refused`` is the errno that its write() must get, 0: it is taken."""
        fields = {"raw": raw, "unique": unique, "length": length, "error": error, "body": body}
        return self._step(Step("wrong", fields=fields, number=refused))

    def _answer(self, kind: str, parts: tuple[Any, ...], fields: dict[str, Any]) -> Step:
        if len(parts) == 1 and not fields and callable(parts[0]):
            return Step(kind, function=parts[0])
        check_answer(self.opcode, parts, fields)
        return Step(kind, parts, fields)

    def _step(self, step: Step) -> Expectation:
        if self.steps and self.steps[-1].kind not in ("do", "wrong"):
            raise TypeError(f"{self} is answered already; a second answer is for a second expectation")
        self.steps.append(step)
        return self

    # -- what came ------------------------------------------------------------------------------------------------

    def wait(self, count: int = 1, timeout: float = 20.0) -> Asked:
        """The ``count``-th request that met it, once it has come. Raises TimeoutError (after ``timeout`` seconds on threads;
        under ``inline`` when nobody is left who could send it)."""
        self.daemon.wait_for(lambda: len(self.asked) >= count, f"{self} to come", timeout)
        return self.asked[count - 1]

    def differs(self, asked: Asked) -> list[str]:
        """In what the request is another one than this: nothing where it is the same."""
        if asked.opcode is not self.opcode:
            return [f"it is {asked.opcode.name}"]
        out = []
        for name, wanted in self.wanted.items():
            got = asked.fields.get(name, getattr(asked, name))
            if not (wanted(got) if callable(wanted) else wanted == got):
                out.append(f"{name} is {got!r}" if callable(wanted) else f"{name} is {got!r}, not {wanted!r}")
        return out

    def __str__(self) -> str:
        parts = [self.opcode.name]
        for name, value in self.wanted.items():
            parts.append(
                f"{name}=<what {getattr(value, '__name__', value)} takes>" if callable(value) else f"{name}={value!r}"
            )
        return " ".join(parts)

    @property
    def how_often(self) -> str:
        """``expected once, came never``."""
        if self.most == FOREVER:
            expected = "any number of times" if not self.least else f"{_times(self.least)} at least"
        elif self.most == self.least:
            expected = _times(self.least)
        else:
            expected = f"{self.least} to {self.most} times"
        return f"expected {expected}, came {_times(len(self.asked))}"


class Expect:
    """``daemon.expect``: a method for each operation of the wire, by its name there.

    ``expect.lookup(1, b"name")``, ``expect.write(2, fh=7, offset=0, data=b"abc")``: the node, then the names in their order,
    then fields by keyword, also ``uid``, ``gid`` and ``pid``. What is not said may be anything; a function says whether a
    value will do. A field that the operation does not have is a TypeError at once.
    """

    def __init__(self, daemon: MockDaemon, expectations: list[Expectation], any_times: bool) -> None:
        self._daemon = daemon
        self._expectations = expectations
        self._any_times = any_times

    def __getattr__(self, name: str) -> Callable[..., Expectation]:
        opcode_of(name)

        def expected(*args: Any, **fields: Any) -> Expectation:
            made = Expectation(self._daemon, name, args, fields)
            if self._any_times:
                made.any_times()
            self._daemon.add(made, self._expectations)
            return made

        return expected

    def __dir__(self) -> list[str]:
        return list(OPERATION_NAMES)


def _wanted(opcode: Opcode, args: tuple[Any, ...], fields: dict[str, Any]) -> dict[str, Any]:
    body = OPERATIONS[opcode].request
    positional = ["nodeid", *body.names]
    if len(args) > len(positional):
        raise TypeError(f"{opcode.name} takes {', '.join(positional)} by position, not {len(args)} arguments")
    given = dict(zip(positional, args, strict=False))
    check_fields(body, opcode.name, fields, (*HEADER_FIELDS, "nodeid"))
    both = given.keys() & fields.keys()
    if both:
        raise TypeError(f"{opcode.name} is given {', '.join(sorted(both))} twice")
    return given | fields


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
