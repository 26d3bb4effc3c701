"""The conformance suite on our own filesystems, mountless and mounted, and on a plain directory, which says what is right."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MEMORY_FOR_ALL, real_mount

from fusewire.filesystems import MemoryFS, PassthroughFS
from fusewire.testing.conformance import conformance


@contextlib.contextmanager
def passthrough() -> Iterator[PassthroughFS]:
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield PassthroughFS(path)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A plain directory that every user may reach."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def mounted() -> Iterator[Path]:
    """The memory filesystem on a real mount, that every user may reach."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        path = Path(above) / "mnt"
        path.mkdir()
        with real_mount(path, MEMORY_FOR_ALL, 600) as mount:
            yield mount.path


test_memory = conformance(MemoryFS)
test_passthrough = conformance(passthrough)
test_a_plain_directory = conformance(fixture="directory")
test_a_real_mount = pytest.mark.real(conformance(fixture="mounted"))
