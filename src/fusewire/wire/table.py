"""The one table: each opcode's request, its answer, whether one is due, and the minor that brought it.

The encoders, the decoders, the trace printer, the fuzzers and the table in the documentation all follow from it. A body is
structs, then NUL-terminated names, then an array of structs, then raw bytes; no message of FUSE has any other shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import layouts as L
from .flags import InitFlag, NotifyCode, Opcode
from .layout import Layout


class Body(NamedTuple):
    """The shape of what follows a header."""

    structs: tuple[Layout[Any], ...] = ()
    names: tuple[str, ...] = ()
    items: Layout[Any] | None = None
    data: str = ""
    extensions: bool = False  # `total_extlen` of the header counts an area at the end (7.38)


class Operation(NamedTuple):
    """One row. ``replies`` is False where an answer is refused with ENOENT; INTERRUPT's is optional."""

    opcode: Opcode
    request: Body
    reply: Body = Body()
    replies: bool = True
    since: int = 0
    probe: Body | None = None  # the answer when the caller asked with size 0 how long it would be


class Dialect(NamedTuple):
    """What both ends agreed on in INIT, as far as it changes a layout."""

    minor: int
    flags: InitFlag

    def size(self, layout: Layout[Any]) -> int:
        """How many bytes of ``layout`` are on the wire: an older peer sends its head only."""
        if layout is L.SETXATTR_IN and not self.flags & InitFlag.SETXATTR_EXT:
            return 8
        if layout is L.INIT_IN and self.minor < 36:
            return 16
        if layout is L.INIT_OUT and self.minor < 23:
            return 24
        if self.minor < 12 and layout in _GROWN:
            since, before = _GROWN[layout]
            return before if self.minor < since else layout.size
        return layout.size


# What an old peer knows the head of: the minor that made it longer, and its length before that.
_GROWN: dict[Layout[Any], tuple[int, int]] = {
    L.ENTRY_OUT: (9, 120),
    L.ATTR_OUT: (9, 96),
    L.GETATTR_IN: (9, 0),
    L.READ_IN: (9, 24),
    L.WRITE_IN: (9, 24),
    L.MKNOD_IN: (12, 8),
    L.CREATE_IN: (12, 8),
    L.STATFS_OUT: (4, 48),
}


LATEST = Dialect(46, InitFlag((1 << 44) - 1))

_ENTRY = Body((L.ENTRY_OUT,))
_ATTR = Body((L.ATTR_OUT,))
_OPEN = Body((L.OPEN_OUT,))
_CREATED = Body((L.ENTRY_OUT, L.OPEN_OUT))
_DATA = Body(data="data")
_NAME = Body(names=("name",))
_LOCK = Body((L.LK_IN,))
_SIZE = Body((L.GETXATTR_OUT,))

_ROWS = [
    Operation(Opcode.LOOKUP, _NAME, _ENTRY),
    Operation(Opcode.FORGET, Body((L.FORGET_IN,)), replies=False),
    Operation(Opcode.GETATTR, Body((L.GETATTR_IN,)), _ATTR),
    Operation(Opcode.SETATTR, Body((L.SETATTR_IN,)), _ATTR),
    Operation(Opcode.READLINK, Body(), _DATA),
    Operation(Opcode.SYMLINK, Body(names=("name", "target"), extensions=True), _ENTRY),
    Operation(Opcode.MKNOD, Body((L.MKNOD_IN,), ("name",), extensions=True), _ENTRY),
    Operation(Opcode.MKDIR, Body((L.MKDIR_IN,), ("name",), extensions=True), _ENTRY),
    Operation(Opcode.UNLINK, _NAME),
    Operation(Opcode.RMDIR, _NAME),
    Operation(Opcode.RENAME, Body((L.RENAME_IN,), ("oldname", "newname"))),
    Operation(Opcode.LINK, Body((L.LINK_IN,), ("newname",)), _ENTRY),
    Operation(Opcode.OPEN, Body((L.OPEN_IN,)), _OPEN),
    Operation(Opcode.READ, Body((L.READ_IN,)), _DATA),
    Operation(Opcode.WRITE, Body((L.WRITE_IN,), data="data"), Body((L.WRITE_OUT,))),
    Operation(Opcode.STATFS, Body(), Body((L.STATFS_OUT,))),
    Operation(Opcode.RELEASE, Body((L.RELEASE_IN,))),
    Operation(Opcode.FSYNC, Body((L.FSYNC_IN,))),
    Operation(Opcode.SETXATTR, Body((L.SETXATTR_IN,), ("name",), data="value")),
    Operation(Opcode.GETXATTR, Body((L.GETXATTR_IN,), ("name",)), _DATA, probe=_SIZE),
    Operation(Opcode.LISTXATTR, Body((L.GETXATTR_IN,)), _DATA, probe=_SIZE),
    Operation(Opcode.REMOVEXATTR, _NAME),
    Operation(Opcode.FLUSH, Body((L.FLUSH_IN,)), since=2),
    Operation(Opcode.INIT, Body((L.INIT_IN,)), Body((L.INIT_OUT,))),
    Operation(Opcode.OPENDIR, Body((L.OPEN_IN,)), _OPEN),
    Operation(Opcode.READDIR, Body((L.READ_IN,)), _DATA),
    Operation(Opcode.RELEASEDIR, Body((L.RELEASE_IN,))),
    Operation(Opcode.FSYNCDIR, Body((L.FSYNC_IN,)), since=2),
    Operation(Opcode.GETLK, _LOCK, Body((L.LK_OUT,)), since=7),
    Operation(Opcode.SETLK, _LOCK, since=7),
    Operation(Opcode.SETLKW, _LOCK, since=7),
    Operation(Opcode.ACCESS, Body((L.ACCESS_IN,)), since=3),
    Operation(Opcode.CREATE, Body((L.CREATE_IN,), ("name",), extensions=True), _CREATED, since=3),
    Operation(Opcode.INTERRUPT, Body((L.INTERRUPT_IN,)), since=7),
    Operation(Opcode.BMAP, Body((L.BMAP_IN,)), Body((L.BMAP_OUT,)), since=8),
    Operation(Opcode.DESTROY, Body(), since=8),
    Operation(Opcode.IOCTL, Body((L.IOCTL_IN,), data="data"), Body((L.IOCTL_OUT,), data="data"), since=11),
    Operation(Opcode.POLL, Body((L.POLL_IN,)), Body((L.POLL_OUT,)), since=11),
    Operation(Opcode.NOTIFY_REPLY, Body((L.NOTIFY_RETRIEVE_IN,), data="data"), replies=False, since=15),
    Operation(Opcode.BATCH_FORGET, Body((L.BATCH_FORGET_IN,), items=L.FORGET_ONE), replies=False, since=16),
    Operation(Opcode.FALLOCATE, Body((L.FALLOCATE_IN,)), since=19),
    Operation(Opcode.READDIRPLUS, Body((L.READ_IN,)), _DATA, since=21),
    Operation(Opcode.RENAME2, Body((L.RENAME2_IN,), ("oldname", "newname")), since=23),
    Operation(Opcode.LSEEK, Body((L.LSEEK_IN,)), Body((L.LSEEK_OUT,)), since=24),
    Operation(Opcode.COPY_FILE_RANGE, Body((L.COPY_FILE_RANGE_IN,)), Body((L.WRITE_OUT,)), since=28),
    Operation(Opcode.SETUPMAPPING, Body((L.SETUPMAPPING_IN,)), since=31),
    Operation(Opcode.REMOVEMAPPING, Body((L.REMOVEMAPPING_IN,), items=L.REMOVEMAPPING_ONE), since=31),
    Operation(Opcode.SYNCFS, Body((L.SYNCFS_IN,)), since=34),
    Operation(Opcode.TMPFILE, Body((L.CREATE_IN,), ("name",), extensions=True), _CREATED, since=37),
    Operation(Opcode.STATX, Body((L.STATX_IN,)), Body((L.STATX_OUT,)), since=39),
    Operation(
        Opcode.COPY_FILE_RANGE_64,
        Body((L.COPY_FILE_RANGE_IN,)),
        Body((L.COPY_FILE_RANGE_OUT,)),
        since=45,
    ),
    Operation(Opcode.CUSE_INIT, Body((L.CUSE_INIT_IN,)), Body((L.CUSE_INIT_OUT,), data="name"), since=12),
]

OPERATIONS: dict[int, Operation] = {row.opcode: row for row in _ROWS}

NOTIFICATIONS: dict[int, Body] = {
    NotifyCode.POLL: Body((L.NOTIFY_POLL_WAKEUP_OUT,)),
    NotifyCode.INVAL_INODE: Body((L.NOTIFY_INVAL_INODE_OUT,)),
    NotifyCode.INVAL_ENTRY: Body((L.NOTIFY_INVAL_ENTRY_OUT,), ("name",)),
    NotifyCode.STORE: Body((L.NOTIFY_STORE_OUT,), data="data"),
    NotifyCode.RETRIEVE: Body((L.NOTIFY_RETRIEVE_OUT,)),
    NotifyCode.DELETE: Body((L.NOTIFY_DELETE_OUT,), ("name",)),
    NotifyCode.RESEND: Body(),
    NotifyCode.INC_EPOCH: Body(),
    NotifyCode.PRUNE: Body((L.NOTIFY_PRUNE_OUT,), items=L.FORGET_IN),
}
"""What the daemon tells the kernel unasked: ``error`` of the header is the code. PRUNE's items are bare node ids."""
