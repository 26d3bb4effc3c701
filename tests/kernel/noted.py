"""A memory filesystem that notes what it was asked."""

from __future__ import annotations

from typing import Any

from fusewire.filesystems import MemoryFS
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import IN_HEADER


class Noted(MemoryFS):
    """``asked`` has what :meth:`note` keeps of each message from INIT on: the name of its opcode."""

    def __init__(self, files: Any) -> None:
        super().__init__(files)
        self.asked: list[Any] = []

    def init(self, granted: Any) -> None:
        super().init(granted)
        handle = self.session.handle

        def noted(message: Any) -> Any:
            self.note(bytes(message))
            return handle(message)

        self.session.handle = noted  # type: ignore[method-assign]

    def note(self, message: bytes) -> None:
        self.asked.append(Opcode(IN_HEADER.unpack(message).opcode).name)
