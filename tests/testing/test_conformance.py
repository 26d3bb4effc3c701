"""The conformance suite on our own filesystems, mountless and mounted, and on a plain directory, which says what is right."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import MEMORY_FOR_ALL, real_mount

import fusewire
from fusewire.filesystems import MemoryFS, PassthroughFS
from fusewire.testing.conformance import FEATURES, conformance
from fusewire.testing.conformance.suite import behaviours
from fusewire.testing.conformance.world import mountless
from fusewire.wire.flags import FOpenFlag


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


class Poor(MemoryFS):
    """Has none of what can be left out."""

    def _refuse(self, *args: object) -> NoReturn:
        raise OSError(errno.ENOSYS, "not here")

    setxattr = getxattr = listxattr = removexattr = link = symlink = rename = fallocate = tmpfile = _refuse

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int) -> fusewire.Entry:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EPERM, "not here")
        return super().mknod(parent, name, mode, rdev)


test_a_filesystem_that_says_what_it_lacks = conformance(Poor, without=set(FEATURES) - {"locks", "chown", "punch hole"})


def outcome(name: str, factory: Callable[[], fusewire.Operations], without: Collection[str] = ()) -> str:
    """What the behaviour of this name ends with: "" when it holds."""
    (one,) = [one for one in behaviours(without) if one.name == name]
    with mountless(factory) as world:
        try:
            one.body(world)
        except (AssertionError, OSError) as error:
            return str(error) or type(error).__name__
    return ""


def test_there_are_behaviours_enough_and_each_is_named_once() -> None:
    names = [one.name for one in behaviours()]
    assert len(names) == len(set(names))
    assert len(names) >= 120


class Forgetful(MemoryFS):
    def unlink(self, parent: int, name: bytes) -> None:
        """Succeeds, and removes nothing."""


class WrongErrno(MemoryFS):
    def rmdir(self, parent: int, name: bytes) -> None:
        try:
            super().rmdir(parent, name)
        except OSError:
            raise PermissionError from None


class Shortens(MemoryFS):
    def read(self, ino: int, fh: int, offset: int, size: int) -> Any:
        """Loses what comes after the first answer."""
        return super().read(ino, fh, offset, size) if offset == 0 else b""

    # Direct I/O: what a program wrote would be read from the page cache.

    def open(self, ino: int, flags: int) -> fusewire.Opened:
        return fusewire.Opened(super().open(ino, flags).fh, FOpenFlag.DIRECT_IO)

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> Any:
        entry, opened = super().create(parent, name, mode, flags)
        return entry, fusewire.Opened(opened.fh, FOpenFlag.DIRECT_IO)


class Appends(MemoryFS):
    def write(self, ino: int, fh: int, offset: int, data: memoryview) -> int:
        """Writes at the end, always."""
        return super().write(ino, fh, self.nodes[ino].size, data)


@pytest.mark.parametrize(
    ("filesystem", "name"),
    [
        (Forgetful, "an unlinked file lives while it is open"),
        (WrongErrno, "rmdir removes an empty directory only"),
        (Shortens, "a large file is read back"),
        (Appends, "writing behind the end fills the gap with zeros"),
    ],
)
def test_a_filesystem_that_is_wrong_is_found_out(filesystem: type[MemoryFS], name: str) -> None:
    assert outcome(name, filesystem)
    assert not outcome(name, MemoryFS)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_that_is_declared_missing_and_is_there_is_found_out(feature: str) -> None:
    if feature == "chown" and os.getuid():
        pytest.skip("chown is refused to this user anyway")
    assert outcome(f"what needs {feature} is refused with an errno that says so", MemoryFS, [feature])


def test_a_refusal_with_a_misleading_errno_is_found_out() -> None:
    class Misleading(MemoryFS):
        def symlink(self, parent: int, name: bytes, target: bytes) -> fusewire.Entry:
            raise FileNotFoundError

    said = outcome("what needs symlinks is refused with an errno that says so", Misleading, ["symlinks"])
    assert said.startswith("ENOSYS or ENOTSUP or EPERM was to be expected, not ENOENT")


def test_what_is_asked_for_wrongly_is_said() -> None:
    with pytest.raises(
        ValueError, match="there is no feature 'links'; those that can be left out are xattr, hardlinks"
    ):
        conformance(MemoryFS, without={"links"})
    with pytest.raises(ValueError, match="there is no behaviour"):
        conformance(MemoryFS, xfail={"pigs fly": "they do not"})
    with pytest.raises(TypeError, match="give one of"):
        conformance()
    with pytest.raises(TypeError, match="give one of"):
        conformance(MemoryFS, path="/")
    with (
        pytest.raises(TypeError, match="which is no fusewire"),
        mountless(lambda: contextlib.nullcontext(3)),
    ):
        pass


def test_a_user_writes_two_lines_and_gets_a_test_for_each_behaviour(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from fusewire.filesystems import MemoryFS\nfrom fusewire.testing.conformance import conformance\n"
        "class Mine(MemoryFS):\n    def rmdir(self, parent, name):\n        raise PermissionError\n"
        "test_mine = conformance(Mine)\ntest_here = conformance(path='.')\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-k", "empty", "test_mine.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "FAILED test_mine.py::test_mine[rmdir removes an empty directory only]" in run.stdout
    assert "test_here" not in run.stdout.split("short test summary")[1]
    assert list(tmp_path.glob("conformance-*")) == []
