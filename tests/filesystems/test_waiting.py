"""Waiting until something has changed: what ``wake`` has to bear."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

from fusewire.filesystems.waiting import Waiters


@pytest.fixture
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_whoever_begins_to_wait_just_as_others_are_woken_does_no_harm(thresholds: None) -> None:
    waiters = Waiters()
    loop = asyncio.new_event_loop()
    armed: list[bool] = []

    class Garbage:
        """Its end lets another thread run, one that begins to wait."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if armed:
                armed.clear()
                thread = threading.Thread(target=lambda: waiters._waiting.add((loop, asyncio.Event())))
                thread.start()
                thread.join()

    for threshold in range(1, 40):  # at which of all allocations in there the collector starts
        waiters._waiting.clear()
        waiters._waiting.add((loop, asyncio.Event()))
        gc.collect()
        Garbage()
        armed.append(True)
        gc.set_threshold(threshold, 1000, 1000)
        waiters.wake()
        gc.set_threshold(700, 10, 10)
        armed.clear()
    loop.close()
