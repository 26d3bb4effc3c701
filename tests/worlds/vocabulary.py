"""What random programs are made of: each system call with what its arguments may be.

Programs by seed draw from it, and so does the state machine. No path is absolute and none goes up by more than one step: two of
the worlds are directories of this machine.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fusewire.wire import posix_acl as acl

WATCH = "watch"
PROCESSES = range(3)

SLOTS = (0, 0, 0, 1, 1, 2, 3)  # what a program calls its descriptors; each world has numbers of its own for them
MAPS = range(2)  # and for what it has mapped
AT = (None,) * 12 + (0, 0, 1, 2, 3)
NAMES = ("a", "b", "c", "d", "e", "l")
FILES = ("a", "a", "b", "b", "c", *NAMES)
DIRECTORIES = ("d", "d", "d", "e", "e", "c")
PATHS = (
    *NAMES * 8, "d/a", "d/b", "d/c", "e/a", "e/b", "d/a", "d/b", "d/c", "e/a", "d/e", "d/e/a", "l/a", "l/b", "d/l",
    "a/", "d/", "l/", "d/.", "d/..", ".", "../x", "../in/a", "./b", "d/../a", "d//b", "a/b", "", "d/l/", "n" * 255, "n" * 256,
)  # fmt: skip
KINDS_OF_NODES = (stat.S_IFREG, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFDIR, stat.S_IFLNK, 0)  # no pipes
TARGETS = ("a", "d", "l", "d/a", "../in/b", "nowhere", "d/", "e/../d", "d/l")  # none leads out of "base"
FLAGS = (
    *(os.O_RDWR | os.O_CREAT,) * 12, os.O_RDONLY, os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_WRONLY,
    os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_DIRECTORY, os.O_RDONLY | os.O_NOFOLLOW, os.O_PATH,
    os.O_PATH | os.O_NOFOLLOW, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY,
    os.O_TMPFILE | os.O_RDWR, os.O_TMPFILE | os.O_RDONLY, os.O_RDONLY | os.O_TRUNC, os.O_RDWR | os.O_NOATIME, os.O_ACCMODE,
    os.O_TMPFILE | os.O_EXCL | os.O_WRONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND, os.O_RDWR | os.O_SYNC,
)  # fmt: skip
PROTECTED = any(
    Path(f"/proc/sys/fs/protected_{what}").read_text() != "0\n" for what in ("regular", "symlinks", "fifos")
)  # distributions set these, and the kernel itself does not: then no directory is sticky
STICKY = 0o777 if PROTECTED else 0o1777
MODES = (0o777, 0o777, 0o666, 0o644, 0o600, 0o400, 0o000, 0o755, STICKY, 0o2775, 0o4755)
SIZES = (0, 1, 10, 4096, 5000, 70_000)
DATA = tuple((size, seed) for size in SIZES for seed in (1, 2))  # as payload() makes it
LENGTHS = (-1, 0, 3, 3, 9000, 9000, 1 << 33)
OWNERS = (-1, 0, 1000, 1001)
TIMES = (None, (0, 1), (10**9, 5), (1_500_000_000_123_456_789, 2**31 * 10**9), (-1, -(10**9)))  # nanoseconds
SYNC = (0, 0, 0x2000, 0x4000, 0x6000)  # AT_STATX_*
YES_NO = (False, True)
XATTRS = ("user.x", "user.x", "trusted.t", "system.posix_acl_access", "system.posix_acl_default")

NOBODY = 0xFFFFFFFF
MINIMAL = [(acl.USER_OBJ, 7, NOBODY), (acl.GROUP_OBJ, 5, NOBODY), (acl.OTHER, 5, NOBODY)]
ACLS = (
    acl.pack(MINIMAL),
    acl.pack([(1, 7, NOBODY), (2, 7, 1000), (4, 5, NOBODY), (16, 7, NOBODY), (32, 0, NOBODY)]),
    acl.pack([(1, 6, NOBODY), (2, 0, 1001), (4, 4, NOBODY), (8, 7, 1000), (16, 5, NOBODY), (32, 5, NOBODY)]),
    acl.pack([]),
    acl.pack(MINIMAL[1:]),  # the rest is malformed
    acl.pack([(1, 7, NOBODY), (2, 7, 1000), (4, 5, NOBODY), (32, 0, NOBODY)]),
    acl.pack(MINIMAL[::-1]),
    b"\1\0\0\0",
    b"",
)

CALLS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    # -- descriptors
    "open": {"slot": SLOTS, "path": PATHS, "flags": FLAGS, "mode": MODES, "at": AT},
    "open here": {"slot": SLOTS, "path": FILES, "flags": FLAGS, "mode": MODES, "at": (None,)},
    "close": {"slot": SLOTS},
    "dup": {"slot": SLOTS, "to": SLOTS},
    "dup2": {"slot": SLOTS, "to": SLOTS},
    "setfl": {"slot": SLOTS, "flags": (0, os.O_APPEND, os.O_NONBLOCK, os.O_NOATIME)},
    "getfl": {"slot": SLOTS},
    "poll": {"slot": SLOTS, "events": (1, 4, 5)},
    # -- contents
    "read": {"slot": SLOTS, "size": SIZES},
    "pread": {"slot": SLOTS, "size": SIZES, "offset": (0, 5, 4096, -1)},
    "write": {"slot": SLOTS, "data": DATA},
    "pwrite": {"slot": SLOTS, "data": DATA, "offset": (0, 7, 8000, -1, 1 << 33)},
    "writev": {"slot": SLOTS, "data": DATA, "more": DATA},
    "lseek": {"slot": SLOTS, "offset": (-1, 0, 5, 100_000), "whence": (0, 1, 2, 9)},
    "seek data": {"slot": SLOTS, "offset": (-1, 0, 5, 4096, 8191, 100_000), "whence": (3, 4)},
    "ftruncate": {"slot": SLOTS, "size": LENGTHS},
    "truncate": {"path": PATHS, "size": LENGTHS},
    "fallocate": {"slot": SLOTS, "mode": (0, 0, 1, 2, 3, 16, 17, 18), "offset": (0, 10, 4096, -1), "length": (0, 10, 10, 5000)},
    "copy_file_range": {"slot": SLOTS, "to": SLOTS, "size": SIZES, "offset": (None, 0, 3), "at": (None, 0, 100)},
    "fsync": {"slot": SLOTS},
    "fdatasync": {"slot": SLOTS},
    # -- memory
    "map": {"slot": SLOTS, "flags": (1, 1, 2), "offset": (0, 1, 4095, 4096, 69_999), "data": DATA},
    "mmap": {"map": MAPS, "slot": SLOTS, "length": (1, 5000, 9000), "prot": (1, 3, 3), "flags": (1, 1, 2), "offset": (0, 4096)},
    "load": {"map": MAPS, "offset": (0, 100, 4095, 4096), "size": (1, 100, 4096)},
    "store": {"map": MAPS, "offset": (0, 100, 4095, 4096), "data": DATA[2:8]},
    "msync": {"map": MAPS},
    "munmap": {"map": MAPS},
    # -- locks
    "flock": {"slot": SLOTS, "operation": (5, 6, 8, 5, 6, 9)},  # none waits
    "setlk": {"slot": SLOTS, "kind": (0, 1, 2), "start": (0, 5, 100, -1), "length": (0, 10, -3), "whence": (0, 1, 2)},
    "getlk": {"slot": SLOTS, "kind": (0, 1, 2), "start": (0, 5, 100, -1), "length": (0, 10, -3), "whence": (0, 1, 2)},
    # -- names
    "stat": {"path": PATHS, "at": AT, "follow": YES_NO},
    "mkdir": {"path": PATHS, "mode": MODES, "at": AT},
    "mkdir here": {"path": DIRECTORIES, "mode": (0o777,), "at": (None,)},
    "rmdir": {"path": PATHS, "at": AT},
    "unlink": {"path": PATHS, "at": AT},
    "rename": {"path": PATHS, "other": PATHS, "at": AT, "to": AT, "flags": (0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 8)},
    "rename here": {"path": NAMES, "other": NAMES, "at": (None,), "to": (None,), "flags": (0, 0, 1, 2, 4)},
    "link": {"path": PATHS, "other": PATHS, "at": AT, "to": AT, "follow": YES_NO},
    "link open file": {"slot": SLOTS, "path": PATHS, "at": AT},
    "symlink": {"leading_to": TARGETS, "path": PATHS, "at": AT},
    "symlink here": {"leading_to": TARGETS, "path": ("l", "l", "c"), "at": (None,)},
    "readlink": {"path": PATHS, "at": AT},
    "mknod": {"path": PATHS, "mode": tuple(kind | 0o644 for kind in KINDS_OF_NODES), "at": AT},
    "access": {"path": PATHS, "mode": (0, 1, 2, 4, 7), "at": AT, "effective": YES_NO, "follow": YES_NO},
    "scandir": {"path": PATHS},
    "list open directory": {"slot": SLOTS},
    # -- attributes
    "fstat": {"slot": SLOTS},
    "statx": {"path": PATHS, "mask": (0x7FF, 0xFFF, 0xFFF, 0x80000000), "flags": SYNC, "at": AT, "follow": YES_NO},
    "statvfs": {"path": PATHS},
    "chmod": {"path": PATHS, "mode": MODES, "at": AT},
    "fchmod": {"slot": SLOTS, "mode": MODES},
    "chown": {"path": PATHS, "uid": OWNERS, "gid": OWNERS, "at": AT, "follow": YES_NO},
    "fchown": {"slot": SLOTS, "uid": OWNERS, "gid": OWNERS},
    "utime": {"path": PATHS, "times": TIMES, "at": AT, "follow": YES_NO},
    "futimens": {"slot": SLOTS, "times": TIMES},
    # -- extended attributes, and ACLs
    "setxattr": {"path": PATHS, "name": XATTRS[:3], "data": DATA[:6], "flags": (0, 1, 2), "follow": YES_NO},
    "fsetxattr": {"slot": SLOTS, "name": XATTRS[:3], "data": DATA[:6], "flags": (0, 1, 2)},
    "setfacl": {"path": PATHS, "name": XATTRS[3:], "value": ACLS, "follow": YES_NO},
    "getxattr": {"path": PATHS, "name": XATTRS, "follow": YES_NO},
    "fgetxattr": {"slot": SLOTS, "name": XATTRS},
    "listxattr": {"path": PATHS, "follow": YES_NO},
    "flistxattr": {"slot": SLOTS},
    "removexattr": {"path": PATHS, "name": XATTRS, "follow": YES_NO},
    # -- the process
    "chdir": {"path": ("d", "e", "d/e", "a", "l")},
    "fchdir": {"slot": SLOTS},
    "home": {},
    "getcwd": {},
    "umask": {"mask": (0, 0o22, 0o27)},
    "become": {"who": ((0, 0), (1000, 1000), (1001, 1000), (1002, 1002))},
    "become for good": {"who": ((1000, 1000), (1001, 1000))},
    "fork": {"child": PROCESSES},
}  # fmt: skip
OFTEN = {
    "open": 20, "open here": 80, "write": 10, "mkdir here": 10, "symlink here": 10, "rename here": 10, "home": 10, "become": 10,
    "fork": 10, "become for good": 1, "close": 2, "chdir": 2, "umask": 2,
}  # fmt: skip
WEIGHTS = {call: OFTEN.get(call, 5) for call in CALLS}
# Of each pair a program has one. What was allocated and never written is data to one filesystem and a hole to another;
# when memory that was written to becomes the file's, and its time the file's time, is the kernel's own affair.
EITHER_OR = (
    ({"fallocate"}, {"seek data"}),
    ({"mmap", "load", "store", "msync", "munmap"}, {WATCH}),
)  # fmt: skip


class Step(NamedTuple):
    """A system call of one of the processes; with ``watch``, which times it changes of what is open is compared, too."""

    process: int
    call: str
    args: tuple[Any, ...]
    watch: bool = False

    def __str__(self) -> str:
        args = zip(CALLS[self.call], self.args, strict=True)
        shown = ", ".join(f"{name}={value!r:.60}" for name, value in args)
        return f"{self.process}: {self.call}({shown}){' and watch' * self.watch}"


# Something to begin with: a file, a directory and a link, open in all processes.
FURNITURE = (
    Step(0, "mkdir here", ("d", 0o777, None)),
    Step(0, "open here", (0, "a", os.O_RDWR | os.O_CREAT, 0o666, None)),
    Step(0, "write", (0, (5000, 1))),
    Step(0, "open here", (1, "d", os.O_RDONLY | os.O_DIRECTORY, 0, None)),
    Step(0, "symlink here", ("d", "l", None)),
    Step(0, "fork", (1,)),
    Step(0, "fork", (2,)),
)


def steps(seed: int, count: int) -> list[Step]:
    """A program."""
    rng = random.Random(seed)
    left_out = set().union(*map(rng.choice, EITHER_OR))
    names = [name for name in CALLS if name not in left_out]
    program = list(FURNITURE)
    for name in rng.choices(names, [WEIGHTS[name] for name in names], k=count - len(program)):
        watch = WATCH not in left_out and rng.random() < 0.2
        program.append(Step(rng.choice(PROCESSES), name, tuple(map(rng.choice, CALLS[name].values())), watch))
    return program


def payload(data: tuple[int, int]) -> bytes:
    """``size`` bytes that look like no others."""
    size, seed = data
    return random.Random(seed).randbytes(size)
