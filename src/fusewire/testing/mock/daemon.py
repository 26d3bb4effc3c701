"""The mock daemon: it reads requests from a kernel's half, compares them with what is expected, and does what was said.

It runs under every driver. Under ``inline`` a caller whose request is held gets ``Deadlock``, for nobody could answer it any
more; on threads it waits for the test to answer.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...drive import Kernel
from ...drive.inline import Inline
from ...drive.mount import Mount, Options
from ...wire.codec import encode_reply
from ...wire.errno import Errno
from ...wire.flags import KERNEL_MINOR_VERSION, KERNEL_VERSION, InitFlag, Opcode
from ...wire.layouts import InitOut
from .answers import check_answer, encode_answer
from .asked import Asked
from .expect import Expect, Expectation, Step
from .notify import Notify
from .verdict import Verdict, why_unexpected
from .worker import Worker

if TYPE_CHECKING:
    from ...kernel.queue import Connection
    from ...kernel.vfs import ProgramTask

MAX_WRITE = 1 << 17
PATIENCE = 5.0  # seconds that verify() waits for what is missing, on threads
_OPTIONS = Options.__annotations__.keys()
_SUCCEED = frozenset({Opcode.FLUSH, Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.DESTROY})
_IGNORED = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})


class MockDaemon:
    """A daemon at ``path`` of ``kernel`` that does what a test says.

    ``expect`` is what is to come: requests that are not expected, and expectations that do not come true, fail
    :meth:`verify`. ``default`` is what is answered besides, however often it comes; FLUSH, RELEASE, RELEASEDIR and DESTROY
    succeed, and FORGET and INTERRUPT are taken note of, unless something is said about them. ``notify`` tells the kernel's
    half something unasked. ``requests`` are all that came, in their order.

    What it grants in INIT are fields of :class:`InitOut` by keyword: ``flags`` (InitFlag, all 64 bits), ``max_write`` in bytes,
    ``max_background``, ``minor``, ``time_gran`` in nanoseconds, ...; options of the mount are those of :class:`Kernel.mount`.
    ``workers`` tasks read requests. With ``mounted=False`` it waits for :meth:`mount_now`, so that ``expect.init()`` can say
    what INIT is answered. A context manager: at its end, if nothing else failed, it verifies.
    """

    def __init__(
        self,
        kernel: Kernel,
        path: str = "/",
        *,
        workers: int = 1,
        comm: str = "daemon",
        mounted: bool = True,
        **given: Any,
    ) -> None:
        unknown = given.keys() - _OPTIONS - set(InitOut._fields)
        if unknown:
            raise TypeError(f"{', '.join(sorted(unknown))}: neither an option of a mount nor a field of INIT's answer")
        self.kernel = kernel
        self.path = path
        self.workers = workers
        self.comm = comm
        self.requests: list[Asked] = []
        self.fd = -1
        self._options: Any = {name: value for name, value in given.items() if name in _OPTIONS}
        self._granted = _granted({name: value for name, value in given.items() if name not in _OPTIONS})
        self._expected: list[Expectation] = []
        self._defaults: list[Expectation] = []
        self._sequence: list[Expectation] | None = None
        self._changed = threading.Condition()
        self._mount: Mount | None = None
        self.verdict = Verdict(self._expected, self.requests)
        self.expect = Expect(self, self._expected, any_times=False)
        self.default = Expect(self, self._defaults, any_times=True)
        self.notify = Notify(self)
        self._worker = Worker(self)
        if mounted:
            self.mount_now()

    def __enter__(self) -> MockDaemon:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.verify()

    # -- its life -------------------------------------------------------------------------------------------------

    def mount_now(self) -> Mount:
        """Mount it; returns once INIT is dealt with."""
        self._mount = self.kernel.mount_with(
            self._serve, self.path, workers=self.workers, comm=self.comm, **self._options
        )
        self.settle()
        return self._mount

    @property
    def mount(self) -> Mount:
        """Raises RuntimeError before it is mounted."""
        if self._mount is None:
            raise RuntimeError("the mock daemon is not mounted yet: mount_now()")
        return self._mount

    @property
    def connection(self) -> Connection:
        return self.mount.connection

    def kill(self) -> None:
        """It dies as by SIGKILL: what it has in its hands ends with ECONNABORTED, what comes later with ENOTCONN."""
        self.mount.daemon.kill(signal.SIGKILL)
        if self.kernel.driver.current is None:
            self.kernel.driver.settle(self.mount.workers, PATIENCE)

    @property
    def names(self) -> list[str]:
        """The operations that came, in their order."""
        return [asked.opcode.name for asked in self.requests]

    def came(self, name: str) -> list[Asked]:
        """The requests of one operation that came: ``came("read")``."""
        return [asked for asked in self.requests if asked.opcode.name == name.upper()]

    # -- what is to come --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def in_order(self) -> Iterator[None]:
        """What is expected in this block has to come in the order in which it is written."""
        self._sequence = []
        try:
            yield
        finally:
            self._sequence = None

    def add(self, expectation: Expectation, to: list[Expectation]) -> None:
        """For :class:`Expect`."""
        with self._changed:
            if self._sequence is not None:
                expectation.before = list(self._sequence)
                self._sequence.append(expectation)
            to.append(expectation)

    def verify(self) -> None:
        """Has everything come that was expected, and nothing else? Raises AssertionError that says what did not."""
        if self._mount is not None:
            self.settle()
            with contextlib.suppress(TimeoutError):
                self.wait_for(lambda: self.verdict.complete, "what is missing", PATIENCE)
            text = self.verdict.text(alive=self.connection.connected)
        else:
            text = "the mock daemon was never mounted" if self._expected else ""
        if text:
            raise AssertionError(text)

    # -- answering from outside ---------------------------------------------------------------------------------------

    def answer(self, asked: Asked | Expectation, *parts: Any, **fields: Any) -> None:
        """Answer a request that was held, as :meth:`Expectation.reply` does. Raises OSError when the kernel's half refuses
        the answer: ENOENT where nobody waits for it any more, EINVAL where it does not fit."""
        asked = asked.wait() if isinstance(asked, Expectation) else asked
        check_answer(asked.opcode, parts, fields)
        asked.answered = True
        self.write(encode_answer(asked.opcode, asked.unique, parts, fields, asked.dialect, asked.probe))

    def answer_error(self, asked: Asked | Expectation, number: int) -> None:
        """Answer a request that was held with an errno. Raises as :meth:`answer`."""
        asked = asked.wait() if isinstance(asked, Expectation) else asked
        asked.answered = True
        self.write(encode_reply(asked.opcode, asked.unique, error=number))

    def write(self, message: bytes) -> None:
        """Write ``message`` to the daemon's descriptor, from the test or from within :meth:`Expectation.do`. Raises OSError."""
        self.mount.daemon.write(self.fd, message)

    # -- waiting --------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Until it has dealt with all that was asked so far: on threads RELEASE and FORGET may still be on their way."""
        end = time.monotonic() + PATIENCE
        while not self._idle() and time.monotonic() < end:
            with self._changed:
                self._changed.wait(0.002)

    def _idle(self) -> bool:
        if self._inline is not None:
            if self._inline.current is None:
                self._inline.quiesce()
            return True
        fc = self.connection
        with self.kernel.driver.locked():
            copying = any(device.io for device in fc.devices)
            return not (self._worker.busy or copying or fc.request_pending) or not fc.connected

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Raises TimeoutError: under ``inline`` at once, where nobody can go on."""
        with self._changed:
            if self._inline is None:
                met = self._changed.wait_for(condition, timeout)
            else:
                self._idle()
                met = condition()
        if not met:
            raise TimeoutError(f"waited in vain for {what}; {self.verdict.history()}")

    @property
    def _inline(self) -> Inline | None:
        return self.kernel.driver if isinstance(self.kernel.driver, Inline) else None

    async def _serve(self, task: ProgramTask, fd: int, mount: Mount) -> None:
        task.opaque = self._inline is None  # the test itself, on a thread of its own, may answer
        self.fd = fd
        self._mount = mount
        await self._worker.serve(task)

    # -- what to do about a request -----------------------------------------------------------------------------------

    def meet(self, asked: Asked) -> list[Step]:
        """What is done about a request that came. For :class:`Worker`, in user mode."""
        with self._changed:
            self.requests.append(asked)
            expectation = self._find(asked)
            if expectation is not None:
                expectation.asked.append(asked)
            self._changed.notify_all()
        if expectation is None:
            return self._by_itself(asked)
        if expectation.steps and expectation.steps[-1].kind not in ("do", "wrong"):
            return expectation.steps
        return expectation.steps + self._implied(asked, expectation)

    def _find(self, asked: Asked) -> Expectation | None:
        """None where nothing was said about it."""
        met = [one for one in self._expected if not one.differs(asked)]
        for one in met:
            if not one.saturated and all(before.satisfied for before in one.before):
                return one
        if not met:
            for one in reversed(self._defaults):
                if not one.differs(asked):
                    return one
        return None

    def _by_itself(self, asked: Asked) -> list[Step]:
        said = any(not one.differs(asked) for one in self._expected)
        if not said and asked.opcode is Opcode.INIT:
            return [Step("reply", fields=self._granted)]
        if not said and asked.opcode in _IGNORED:
            return []
        if not said and asked.opcode in _SUCCEED:
            return [Step("reply")]
        self.verdict.unexpected.append((asked, why_unexpected(asked, self._expected)))
        return [Step("error", number=Errno.EIO)] if asked.answerable else []

    def _implied(self, asked: Asked, expectation: Expectation) -> list[Step]:
        """What is done where nobody said how it is answered."""
        if not asked.answerable or any(step.kind == "wrong" and not step.number for step in expectation.steps):
            return []
        reply = asked.row.reply
        if not reply.structs and not reply.data:
            return [Step("reply")]
        return [Step("do", function=functools.partial(_has_no_answer, expectation))]


def _has_no_answer(expectation: Expectation, asked: Asked) -> None:
    if not asked.answered:
        raise AssertionError(f"nothing says how {expectation} is answered")


def _granted(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of INIT's answer."""
    flags = InitFlag(given.pop("flags", 0))
    if flags >> 32:
        flags |= InitFlag.INIT_EXT
    fields = {
        "major": KERNEL_VERSION,
        "minor": KERNEL_MINOR_VERSION,
        "max_write": MAX_WRITE,
        "time_gran": 1,
        "flags": flags & 0xFFFFFFFF,
        "flags2": flags >> 32,
    }
    return fields | given
