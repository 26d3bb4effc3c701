"""What random programs are made of: each system call with what its arguments may be.

Programs by seed draw from it, and so does the state machine. No path is absolute and none goes up by more than one step: two of
the worlds are directories of this machine.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

PROCESSES = range(3)
SLOTS = range(6)  # what a program calls its descriptors; each world has numbers of its own for them
AT = (None, None, None, *SLOTS)
NAMES = ("a", "b", "c", "d", "e", "l")
PATHS = (
    *NAMES, "d/a", "d/b", "d/c", "e/a", "d/e", "d/e/a", "l/a", "l/b", "d/l",
    "a/", "d/", "l/", "d/.", "d/..", ".", "../x", "../in/a", "./b", "d/../a", "d//b", "a/b", "", "d/l/", "n" * 255, "n" * 256,
)  # fmt: skip
TARGETS = ("a", "d", "l", "d/a", "../in/b", "nowhere", "d/", "e/../d", "d/l")  # none leads out of "base"
FLAGS = (
    os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_NOFOLLOW, os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY, os.O_TMPFILE | os.O_RDWR, os.O_TMPFILE | os.O_RDONLY,
    os.O_RDONLY | os.O_TRUNC, os.O_RDWR | os.O_NOATIME,
)  # fmt: skip
MODES = (0o777, 0o644, 0o600, 0o400, 0o000, 0o755, 0o1777, 0o2775, 0o4755)
SIZES = (0, 1, 10, 4096, 5000, 70_000)
DATA = tuple((size, seed) for size in SIZES for seed in (1, 2))  # as payload() makes it
OWNERS = (-1, 0, 1000, 1001)
YES_NO = (False, True)

CALLS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "open": {"slot": SLOTS, "path": PATHS, "flags": FLAGS, "mode": MODES, "at": AT},
    "open here": {"slot": SLOTS, "path": NAMES, "flags": FLAGS, "mode": MODES, "at": (None,)},
    "close": {"slot": SLOTS},
    "dup": {"slot": SLOTS, "to": SLOTS},
    "read": {"slot": SLOTS, "size": SIZES},
    "pread": {"slot": SLOTS, "size": SIZES, "offset": (0, 5, 4096, -1)},
    "write": {"slot": SLOTS, "data": DATA},
    "pwrite": {"slot": SLOTS, "data": DATA, "offset": (0, 7, 8000, -1)},
    "lseek": {"slot": SLOTS, "offset": (-1, 0, 5, 100_000), "whence": (0, 1, 2)},
    "ftruncate": {"slot": SLOTS, "size": (-1, 0, 3, 9000)},
    "truncate": {"path": PATHS, "size": (-1, 0, 3, 9000)},
    "fstat": {"slot": SLOTS},
    "stat": {"path": PATHS, "at": AT, "follow": YES_NO},
    "mkdir": {"path": PATHS, "mode": MODES, "at": AT},
    "mkdir here": {"path": NAMES, "mode": (0o777,), "at": (None,)},
    "rmdir": {"path": PATHS, "at": AT},
    "unlink": {"path": PATHS, "at": AT},
    "rename": {"path": PATHS, "other": PATHS, "at": AT, "to": AT},
    "link": {"path": PATHS, "other": PATHS, "at": AT, "to": AT},
    "symlink": {"target": TARGETS, "path": PATHS, "at": AT},
    "readlink": {"path": PATHS, "at": AT},
    "mknod": {"path": PATHS, "mode": (stat.S_IFREG | 0o644, stat.S_IFSOCK | 0o644), "at": AT},
    "chmod": {"path": PATHS, "mode": MODES},
    "fchmod": {"slot": SLOTS, "mode": MODES},
    "chown": {"path": PATHS, "uid": OWNERS, "gid": OWNERS},
    "utime": {"path": PATHS, "times": ((1, 2), (10**9, 5))},
    "access": {"path": PATHS, "mode": (0, 1, 2, 4, 7), "at": AT},
    "listdir": {"path": PATHS},
    "fsync": {"slot": SLOTS},
    "posix_fallocate": {"slot": SLOTS, "offset": (0, 10, -1), "length": (0, 10, 5000)},
    "copy_file_range": {"slot": SLOTS, "to": SLOTS, "size": SIZES, "offset": (None, 0, 3), "at": (None, 0, 100)},
    "setlk": {"slot": SLOTS, "kind": (0, 1, 2)},
    "map": {"slot": SLOTS, "flags": (1, 1, 2), "offset": (0, 1, 4095, 4096, 69_999), "data": DATA},
    "setxattr": {"path": PATHS, "name": ("user.x", "user.y"), "data": DATA[:6], "flags": (0, 1, 2)},
    "getxattr": {"path": PATHS, "name": ("user.x", "user.y")},
    "listxattr": {"path": PATHS},
    "removexattr": {"path": PATHS, "name": ("user.x", "user.y")},
    "chdir": {"path": ("d", "e", "d/e", "a", "l")},
    "fchdir": {"slot": SLOTS},
    "home": {},
    "umask": {"mask": (0, 0o22, 0o27)},
    "become": {"who": ((0, 0), (1000, 1000), (1001, 1000), (1002, 1002))},
    "fork": {"child": PROCESSES},
}
OFTEN = {"open": 2, "open here": 2, "rename": 2, "map": 2, "stat": 2}  # others: 1


class Step(NamedTuple):
    """A system call of one of the processes."""

    process: int
    call: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        args = zip(CALLS[self.call], self.args, strict=True)
        return f"{self.process}: {self.call}({', '.join(f'{name}={value!r:.60}' for name, value in args)})"


def steps(seed: int, count: int) -> Iterator[Step]:
    """A program."""
    rng = random.Random(seed)
    names = list(CALLS)
    weights = [OFTEN.get(name, 1) for name in names]
    for name in rng.choices(names, weights, k=count):
        yield Step(rng.choice(PROCESSES), name, tuple(map(rng.choice, CALLS[name].values())))


def payload(data: tuple[int, int]) -> bytes:
    """``size`` bytes that look like no others."""
    size, seed = data
    return random.Random(seed).randbytes(size)
