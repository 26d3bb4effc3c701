"""The list of behaviours, and how it becomes tests."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import os
import stat
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

from .world import World, fails, here, mountless

Body = Callable[[World], None]
UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """``name`` is a sentence; ``needs``: the features it takes; ``root``: only root can find out."""

    name: str
    body: Body
    needs: frozenset[str]
    root: bool


BEHAVIOURS: list[Behaviour] = []
FAMILIES = tuple(
    f"{__package__}.{family}"
    for family in ("files", "space", "names", "paths", "links", "attributes", "permissions", "extended", "moving")
)


def behaviour(*needs: str, root: bool = False) -> Callable[[Body], Body]:
    """Make a function a behaviour of the suite: its name, read aloud, is what holds."""

    def register(body: Body) -> Body:
        BEHAVIOURS.append(Behaviour(body.__name__.replace("_", " "), body, frozenset(needs), root))
        return body

    return register


def _refused_xattr(w: World) -> None:
    path = w.make("f")
    fails(UNSUPPORTED, w.os.setxattr, path, "user.k", b"v")
    fails(UNSUPPORTED, w.os.getxattr, path, "user.k")


def _refused_link(w: World) -> None:
    path = w.make("f")
    fails(UNSUPPORTED, w.os.link, path, w / "g")
    assert not w.exists(w / "g")


def _refused_symlink(w: World) -> None:
    fails(UNSUPPORTED, w.os.symlink, "target", w / "l")
    assert not w.exists(w / "l")


def _refused_mknod(w: World) -> None:
    fails(UNSUPPORTED, w.os.mknod, w / "p", stat.S_IFIFO | 0o644)
    assert not w.exists(w / "p")


def _refused_rename(w: World) -> None:
    path = w.make("f", b"data")
    fails(UNSUPPORTED, w.os.rename, path, w / "g")
    assert w.contents(path) == b"data"


def _refused_rename_flags(w: World) -> None:
    path = w.make("f")
    fails((*UNSUPPORTED, errno.EINVAL), w.os.rename, path, w / "g", flags=1)
    assert w.exists(path)


def _refused_fallocate(w: World) -> None:
    with w.open(w.make("f"), os.O_RDWR) as fd:
        fails(UNSUPPORTED, w.os.fallocate, fd, 0, 0, 100)
        assert w.os.fstat(fd).st_size == 0


def _refused_punch(w: World) -> None:
    with w.open(w.make("f", b"data"), os.O_RDWR) as fd:
        fails(UNSUPPORTED, w.os.fallocate, fd, 3, 0, 4)
        assert w.os.pread(fd, 4, 0) == b"data"


def _refused_tmpfile(w: World) -> None:
    fails((*UNSUPPORTED, errno.EISDIR), w.os.open, w.base, os.O_TMPFILE | os.O_RDWR, 0o600)


def _refused_locks(w: World) -> None:
    with w.open(w.make("f"), os.O_RDWR) as fd:
        fails((*UNSUPPORTED, errno.ENOLCK), w.os.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _refused_chown(w: World) -> None:
    fails(UNSUPPORTED, w.os.chown, w.make("f"), 12, 34)


FEATURES: dict[str, Body] = {
    "xattr": _refused_xattr,
    "hardlinks": _refused_link,
    "symlinks": _refused_symlink,
    "special files": _refused_mknod,
    "rename": _refused_rename,
    "rename flags": _refused_rename_flags,
    "fallocate": _refused_fallocate,
    "punch hole": _refused_punch,
    "tmpfile": _refused_tmpfile,
    "locks": _refused_locks,
    "chown": _refused_chown,
}
"""What a filesystem may do without, by name; the bodies find out whether it then says so with an errno that fits."""

_IMPLIED = {"rename": {"rename flags"}, "fallocate": {"punch hole"}}


def behaviours(without: Collection[str] = ()) -> list[Behaviour]:
    """Those that a filesystem has to have. Raises ValueError for a feature that there is none of."""
    unknown = sorted(set(without) - set(FEATURES))
    if unknown:
        raise ValueError(f"there is no feature {unknown[0]!r}; those that can be left out are {', '.join(FEATURES)}")
    lacking = set(without).union(*(_IMPLIED.get(feature, set()) for feature in without))
    for family in FAMILIES:
        importlib.import_module(family)
    found = [one for one in BEHAVIOURS if not one.needs & lacking]
    found += [
        Behaviour(
            f"what needs {feature} is refused with an errno that says so",
            FEATURES[feature],
            frozenset(),
            feature == "chown",
        )
        for feature in sorted(without)
    ]
    return found


def conformance(
    filesystem: Callable[[], Any] | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    fixture: str | None = None,
    without: Collection[str] = (),
    xfail: dict[str, str] | None = None,
) -> Callable[..., None]:
    """Tests for a filesystem: a pytest test function, parametrised by behaviour. Bind it to a name that begins with ``test``.

    One of three says where they run. ``filesystem`` makes a fresh ``Operations`` for each test (or a context manager that gives
    one), which is then driven by our kernel half, with no mount. ``path`` is a directory, mounted or not; ``fixture``
    the name of a pytest fixture that is one. ``without`` names features that the filesystem does not have: calls that need
    them then have to fail with ENOSYS, EOPNOTSUPP or EPERM. ``xfail``: sentences that are known not to hold, each with the
    reason; a test of that name that passes is an error.

    Raises ValueError for an unknown feature or sentence, TypeError unless there is exactly one place to run.
    """
    import pytest

    if sum(place is not None for place in (filesystem, path, fixture)) != 1:
        raise TypeError("give one of: a factory of filesystems, path=, fixture=")
    pytest.register_assert_rewrite(*(family for family in FAMILIES if family not in sys.modules))
    chosen = behaviours(without)
    reasons = dict(xfail or {})
    unknown = sorted(set(reasons) - {one.name for one in chosen})
    if unknown:
        raise ValueError(f"there is no behaviour {unknown[0]!r}")
    params = [
        pytest.param(
            one,
            id=one.name,
            marks=[pytest.mark.xfail(strict=True, reason=reasons[one.name])] if one.name in reasons else [],
        )
        for one in chosen
    ]

    def place(request: Any) -> contextlib.AbstractContextManager[World]:
        if filesystem is not None:
            return mountless(filesystem)
        return here(path if fixture is None else request.getfixturevalue(fixture))  # type: ignore[arg-type]

    @pytest.mark.parametrize("behaviour", params)
    def test(behaviour: Behaviour, request: Any) -> None:
        with place(request) as world:
            if behaviour.root and not world.is_root:
                pytest.skip("needs root")
            behaviour.body(world)

    return cast("Callable[..., None]", test)
