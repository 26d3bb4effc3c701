"""A daemon that lies: every answer may be mutated before the kernel's half gets it.

Behind it stands an honest session. A lie that the kernel's half refuses leaves its request unanswered, so the honest answer
follows; a lie that it takes is what its caller has to live with. Some answers come twice, under a wrong number, or not at
all until the next request; between them come notifications about anything.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from ..kernel.queue import Call
from ..kernel.vfs.syscalls import sys_exit, sys_read, sys_write
from ..transport.eventloop import EventLoop
from ..transport.inprocess import answer_now
from ..transport.readloop import Next, after_read
from ..wire.codec import OUT_HEADER_SIZE
from ..wire.flags import NotifyCode, Opcode
from ..wire.layouts import IN_HEADER, OUT_HEADER, OutHeader

if TYPE_CHECKING:
    from ..daemon import Session
    from ..drive import Mount
    from ..kernel.vfs import ProgramTask

EXTREMES = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)


class Liar:
    """Answers for ``session``, mutating each answer with probability ``share``. ``told`` counts the lies by what became of
    them: taken, or refused with which errno."""

    def __init__(self, session: Session, rng: random.Random, share: float = 0.7) -> None:
        self.session = session
        self.rng = rng
        self.share = share
        self.told: Counter[str] = Counter()
        self.loop = EventLoop()  # for async handlers

    async def serve(self, task: ProgramTask, fd: int, mount: Mount) -> None:
        """A worker, for :meth:`Kernel.mount_with`: read, lie, and make good for what was refused; until the mount is gone."""
        fc = mount.connection
        buffer = memoryview(bytearray(self.session.buffer_size))
        while not task.dying:
            try:
                size = await sys_read(task, fd, buffer)
            except OSError as error:
                if after_read(error) is Next.AGAIN:
                    continue
                break
            header = IN_HEADER.unpack(buffer)
            answer = await Call(answer_now, self.session, buffer[:size], self.loop)
            if answer is None:
                continue
            honest = b"".join(answer)
            if header.opcode != Opcode.INIT and self.rng.random() < self.share:
                for lie in self._lies(honest):
                    await self._write(task, fd, lie)
            if any(header.unique in device.processing.requests for device in fc.devices):
                await self._write(task, fd, honest, lie=False)
        self.loop.close()
        await sys_exit(task)

    async def _write(self, task: ProgramTask, fd: int, message: bytes, lie: bool = True) -> None:
        try:
            await sys_write(task, fd, (message,))
        except OSError as error:
            if lie:
                self.told[f"errno {error.errno}"] += 1
        else:
            self.told["taken"] += lie

    def _lies(self, honest: bytes) -> list[bytes]:
        rng = self.rng
        header, body = OUT_HEADER.unpack(honest), honest[OUT_HEADER_SIZE:]
        unique, error = header.unique, header.error
        match rng.randrange(10):
            case 0:
                error = rng.choice([-1, -2, -22, -38, -4, -511, -512, -4096, 1, 5, 0x7FFFFFFF, -0x80000000])
                body = rng.choice([b"", body])
            case 1:
                unique = rng.choice([unique + 1, unique + 2, unique - 2, unique ^ 1 << 63, *EXTREMES]) & (1 << 64) - 1
            case 2:
                length = rng.choice([0, 1, 15, 16, 17, len(honest) - 1, len(honest) + 1, *EXTREMES[3:6]])
                return [OUT_HEADER.pack(OutHeader(length & 0xFFFFFFFF, error, unique)) + body]
            case 3:
                body = body[: rng.randrange(len(body) + 1)]
            case 4:
                body += rng.randbytes(rng.choice([1, 8, 100, 5000]))
            case 5:
                return [honest, honest]
            case 6:
                return [honest[: rng.randrange(len(honest))]]
            case 7:
                return [self._notification()]
            case 8:
                body = rng.randbytes(len(body))
            case _:
                body = self._extreme(body)
        return [OUT_HEADER.pack(OutHeader(OUT_HEADER_SIZE + len(body), error, unique)) + body]

    def _extreme(self, body: bytes) -> bytes:
        """One number in it is another, where a number may stand."""
        changed = bytearray(body)
        for _ in range(self.rng.randrange(1, 4)):
            width = self.rng.choice([1, 4, 8])
            if len(body) >= width:
                at = self.rng.randrange(0, len(body) - width + 1, width)
                changed[at : at + width] = (self.rng.choice(EXTREMES) & (1 << 8 * width) - 1).to_bytes(width, "little")
        return bytes(changed)

    def _notification(self) -> bytes:
        """About anything at all; RESEND too, which is no lie but a daemon's right."""
        rng = self.rng
        code = rng.choice([*NotifyCode, 0, 99])
        body = b"".join(rng.choice(EXTREMES[:3] + EXTREMES[5:]).to_bytes(8, "little") for _ in range(rng.randrange(6)))
        body += rng.choice([b"", b"f\0", b"name", b"\0", b"a/b\0"])
        return OUT_HEADER.pack(OutHeader(OUT_HEADER_SIZE + len(body), int(code), 0)) + body
