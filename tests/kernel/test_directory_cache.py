"""FOPEN_CACHE_DIR: the listing of a directory is asked for once, until something changes in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from cached import Recorded, World, world

from fusewire import Opened
from fusewire.wire.flags import FOpenFlag, InvalEntryFlag, NotifyCode
from fusewire.wire.layouts import NotifyInvalEntryOut, NotifyInvalInodeOut

NAMES = [f"name-{number:03}" for number in range(300)]


class Listed(Recorded):
    """``opendir_flags`` is what OPENDIR answers."""

    opendir_flags = FOpenFlag.CACHE_DIR | FOpenFlag.KEEP_CACHE

    def __init__(self) -> None:
        super().__init__({f"d/{name}": b"" for name in NAMES})

    def opendir(self, ino: int, flags: int) -> Opened:
        return Opened(super().opendir(ino, flags), self.opendir_flags)


def reads(w: World) -> int:
    return sum(name.startswith("READDIR") for name in w.filesystem.names())


def test_the_second_listing_asks_for_nothing_but_the_open() -> None:
    with world(Listed()) as w:
        assert sorted(w.process.listdir("/d")) == NAMES
        w.process.stat("/d")  # its atime changed
        w.filesystem.names()
        assert sorted(w.process.listdir("/d")) == NAMES
        assert w.filesystem.names() == ["OPENDIR", "RELEASEDIR"]


@pytest.mark.parametrize("flags", [FOpenFlag(0), FOpenFlag.CACHE_DIR])
def test_without_both_flags_each_listing_is_asked_for(flags: FOpenFlag) -> None:
    filesystem = Listed()
    filesystem.opendir_flags = flags
    with world(filesystem) as w:
        for _ in range(2):
            assert sorted(w.process.listdir("/d")) == NAMES
            assert reads(w)


def inode_of(w: World) -> int:
    return w.process.stat("/d").st_ino


CHANGES: dict[str, Callable[[World], Any]] = {
    "mkdir": lambda w: w.process.mkdir("/d/new"),
    "create": lambda w: w.process.close(w.process.open("/d/new", os.O_CREAT | os.O_WRONLY)),
    "unlink": lambda w: w.process.unlink("/d/name-000"),
    "rename": lambda w: w.process.rename("/d/name-000", "/d/renamed"),
    "inval inode": lambda w: w.tell(NotifyCode.INVAL_INODE, NotifyInvalInodeOut(inode_of(w), 0, 0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_it_asked_for_again(change: str) -> None:
    with world(Listed()) as w:
        w.process.listdir("/d")
        CHANGES[change](w)
        w.filesystem.names()
        now = w.process.listdir("/d")
        assert reads(w)
        assert sorted(now) == sorted(entry.decode() for entry in w.filesystem._directory(1).find(b"d").links)  # type: ignore[attr-defined]


def test_a_name_that_the_daemon_invalidates_has_it_asked_for_again() -> None:
    with world(Listed()) as w:
        w.process.listdir("/d")
        w.process.stat("/d/name-001")
        out = NotifyInvalEntryOut(inode_of(w), 8, InvalEntryFlag.EXPIRE_ONLY)
        w.tell(NotifyCode.INVAL_ENTRY, out, names=(b"name-001",))
        w.filesystem.names()
        w.process.listdir("/d")
        assert reads(w)


def test_a_changed_mtime_has_it_asked_for_again() -> None:
    with world(Listed()) as w:
        w.process.listdir("/d")
        node = w.filesystem._directory(1).find(b"d")
        node.mtime_ns += 10**9
        w.kernel.advance(2)
        w.process.stat("/d")
        w.filesystem.names()
        w.process.listdir("/d")
        assert reads(w)


def test_half_a_listing_is_not_taken_for_a_whole_one() -> None:
    with world(Listed()) as w:
        with w.process.scandir("/d") as entries:
            next(entries)
        w.filesystem.names()
        assert sorted(w.process.listdir("/d")) == NAMES
        assert reads(w)
