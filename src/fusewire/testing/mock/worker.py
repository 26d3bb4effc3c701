"""What a mock daemon's tasks do: read a request, have it compared with what is expected, do what was said."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...kernel.queue import Call
from ...kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from ...transport.readloop import Next, after_read
from ...wire.codec import encode_reply
from ...wire.errno import Errno, error_name
from ...wire.flags import InitFlag, Opcode
from ...wire.layout import ProtocolError
from ...wire.layouts import IN_HEADER, OUT_HEADER, InitOut, OutHeader
from ...wire.table import LATEST, Dialect
from .answers import NANO, encode_answer
from .asked import Asked
from .expect import Step

if TYPE_CHECKING:
    from ...kernel.vfs import ProgramTask
    from .daemon import MockDaemon

BUFFER = (1 << 20) + 8192  # bytes: a WRITE of 1 MiB and its headers
_GONE = frozenset({Errno.ENODEV, Errno.ECONNABORTED, Errno.EPERM})


class Worker:
    """Serves for ``daemon``, by any number of tasks. ``busy`` is how many requests they have in their hands."""

    def __init__(self, daemon: MockDaemon) -> None:
        self.daemon = daemon
        self.busy = 0

    async def serve(self, task: ProgramTask) -> None:
        """Until the mount is gone. Sets ``busy`` while a request is in its hands."""
        buffer = memoryview(bytearray(BUFFER))
        while not task.dying:
            try:
                size = await sys_read(task, self.daemon.fd, buffer)
            except OSError as error:
                if after_read(error) is Next.AGAIN:
                    continue
                if after_read(error) is Next.FAIL:
                    self.daemon.verdict.problem(f"reading a request failed: {error}")
                break
            self.busy += 1
            try:
                await self._handle(task, bytes(buffer[:size]))
            finally:
                self.busy -= 1
        await sys_exit(task)

    async def _handle(self, task: ProgramTask, raw: bytes) -> None:
        fc = self.daemon.connection
        dialect = fc.dialect if fc.initialized else LATEST
        try:
            asked = Asked(self.daemon, raw, dialect)
        except ProtocolError as error:
            self.daemon.verdict.problem(f"a request that is not FUSE: {error}")
            unique = IN_HEADER.unpack(raw).unique
            await self._write(task, OUT_HEADER.pack(OutHeader(OUT_HEADER.size, -Errno.EIO, unique)))
            return
        steps = await Call(self.daemon.meet, asked)
        for step in steps:
            if not await self._do(task, asked, step):
                break

    async def _do(self, task: ProgramTask, asked: Asked, step: Step) -> bool:
        """Whether there is anything more to do about it."""
        match step.kind:
            case "do":
                assert step.function is not None
                failed = await Call(self._guarded, step.function, asked)
                if failed:
                    await self._answer(task, asked, self._failure(asked))
                return not failed
            case "reply" | "late":
                message = await Call(self._encode, asked, step)
                if step.kind == "late":
                    self._later(asked, message, step.seconds)
                else:
                    await self._answer(task, asked, message)
            case "error":
                await self._answer(task, asked, encode_reply(asked.opcode, asked.unique, error=step.number))
            case "wrong":
                await self._tell_wrong(task, asked, step)
            case "never":
                asked.answered = True
            case "die":
                asked.answered = True
                await Call(self.daemon.kill)
        return True

    def _guarded(self, function: Callable[[Asked], Any], asked: Asked) -> bool:
        """Whether it failed."""
        try:
            function(asked)
        except Exception as error:
            self.daemon.verdict.raised(asked, error)
            return True
        return False

    def _failure(self, asked: Asked) -> bytes:
        return encode_reply(asked.opcode, asked.unique, error=Errno.EIO)

    def _encode(self, asked: Asked, step: Step) -> bytes:
        parts = step.parts
        dialect = _init_dialect(parts, step.fields) if asked.opcode is Opcode.INIT else asked.dialect
        try:
            if step.function is not None:
                parts = (step.function(asked),)
            return encode_answer(asked.opcode, asked.unique, parts, step.fields, dialect, asked.probe)
        except Exception as error:
            self.daemon.verdict.raised(asked, error)
            return self._failure(asked)

    async def _answer(self, task: ProgramTask, asked: Asked, message: bytes) -> None:
        asked.answered = True
        number = await self._write(task, message)
        if number and number != Errno.ENOENT and number not in _GONE:  # ENOENT: the caller has left
            self.daemon.verdict.problem(f"the answer to {asked.text} was refused with {error_name(number)}")

    async def _tell_wrong(self, task: ProgramTask, asked: Asked, step: Step) -> None:
        number = await self._write(task, _wrong(asked.unique, **step.fields))
        if number != step.number:
            got, wanted = (error_name(one) if one else "taken" for one in (number, step.number))
            self.daemon.verdict.problem(f"a wrong answer to {asked.text} was {got}, where {wanted} was expected")
        elif not number:
            asked.answered = True

    async def _write(self, task: ProgramTask, message: bytes) -> int:
        """The errno of write(2), or 0. ``task`` is one of the daemon's."""
        try:
            await sys_write(task, self.daemon.fd, (message,))
        except OSError as error:
            return error.errno or 0
        return 0

    def _later(self, asked: Asked, message: bytes, seconds: float) -> None:
        """The kernel's lock is held."""
        driver = self.daemon.kernel.driver
        daemon = self.daemon.mount.daemon

        def ring() -> None:
            if daemon.alive:
                task = daemon._new_task(self.daemon.kernel._next_pid())
                driver.start(task, self._answer_late(task, asked, message))

        driver.call_at(driver.now() + int(seconds * NANO), ring)

    async def _answer_late(self, task: ProgramTask, asked: Asked, message: bytes) -> None:
        await self._answer(task, asked, message)
        await sys_exit(task)


def _init_dialect(parts: tuple[Any, ...], fields: dict[str, Any]) -> Dialect:
    """INIT's answer has the length that daemons of its minor send."""
    minor = parts[0].minor if parts and isinstance(parts[0], InitOut) else fields.get("minor", 0)
    return Dialect(minor, InitFlag(0))


def _wrong(
    right: int,
    raw: bytes | None,
    unique: int | Callable[[int], int] | None,
    length: int | Callable[[int], int] | None,
    error: int,
    body: bytes,
) -> bytes:
    if raw is not None:
        return raw
    size = OUT_HEADER.size + len(body)
    return OUT_HEADER.pack(OutHeader(_changed(size, length), error, _changed(right, unique))) + body


def _changed(right: int, said: int | Callable[[int], int] | None) -> int:
    if said is None:
        return right
    return said(right) if callable(said) else said
