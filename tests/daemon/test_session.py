"""The session, on plain bytes: every request gets exactly one answer, whatever comes in and whatever a handler does."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import wait_until
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import fusewire
from fusewire import Attributes, DirEntry, Entry, Lock, Opened, Operations, Session
from fusewire.daemon import Granted, Settings
from fusewire.daemon.notify import Notifier
from fusewire.filesystems import MemoryFS
from fusewire.wire import codec
from fusewire.wire import layouts as L
from fusewire.wire.codec import Message
from fusewire.wire.flags import FAttr, InitFlag, NotifyCode, Opcode

ALL = InitFlag((1 << 31) - 1) & ~InitFlag.INIT_EXT
NAME = Message(names=(b"f",))


def started(operations: Operations, flags: InitFlag = ALL, minor: int = 45) -> Session:
    """A session that has answered INIT."""
    session = Session(operations)
    ask(session, Opcode.INIT, Message((L.InitIn(7, minor, 1 << 17, flags),)), nodeid=0)
    assert session.granted is not None
    return session


def ask(session: Session, opcode: int, message: Message = Message(), nodeid: int = 1, **kwargs: Any) -> Message:
    """One request, one answer. Raises the OSError that was answered."""
    raw = codec.encode_request(opcode, message, unique=4, nodeid=nodeid, pid=os.getpid(), **kwargs)
    answer = session.handle(raw)
    assert isinstance(answer, tuple)
    probe = opcode in (Opcode.GETXATTR, Opcode.LISTXATTR) and not message.structs[0].size
    header, decoded = codec.decode_reply(opcode, b"".join(answer), probe=probe)
    assert header.unique == 4
    if header.error:
        raise OSError(-header.error, os.strerror(-header.error))
    return decoded


def handler(name: str, returns: Any = None, raises: BaseException | None = None) -> Operations:
    """A filesystem with one handler."""

    def method(self: Operations, *args: Any) -> Any:
        if raises is not None:
            raise raises
        return returns

    return type("One", (Operations,), {name: method})()  # type: ignore[no-any-return]


# -- INIT ----------------------------------------------------------------------------------------------------------


def test_init_agrees_on_the_lower_minor_and_on_flags_that_both_want() -> None:
    session = Session(Operations())
    asked = L.InitIn(7, 40, 1 << 17, InitFlag.ASYNC_READ | InitFlag.MAX_PAGES)
    out = ask(session, Opcode.INIT, Message((asked,))).structs[0]
    assert (out.major, out.minor, out.max_write, out.max_pages) == (7, 40, 1 << 20, 256)
    assert InitFlag(out.flags) == InitFlag.ASYNC_READ | InitFlag.MAX_PAGES | InitFlag.BIG_WRITES
    assert session.granted is not None
    assert session.granted.minor == 40


def test_without_max_pages_a_write_is_at_most_128_kib() -> None:
    granted = started(Operations(), InitFlag.ASYNC_READ).granted
    assert granted is not None
    assert granted.max_write == 128 << 10


@pytest.mark.parametrize(("pages", "granted"), [(None, 1 << 20), (100, 100 << 12), (1 << 16, 8 << 20)])
def test_a_write_carries_no_more_than_the_kernel_lets_it(pages: int | None, granted: int) -> None:
    class Large(Operations):
        settings = Settings(max_write=8 << 20)

    session = Session(Large())
    if pages is not None:
        session.max_pages = pages
    out = ask(session, Opcode.INIT, Message((L.InitIn(7, 45, 1 << 17, ALL),)), nodeid=0).structs[0]
    assert session.granted is not None
    assert (session.granted.max_write, out.max_write, out.max_pages) == (granted, granted, granted >> 12)


def test_of_two_sessions_of_one_filesystem_only_the_later_is_granted_its_init() -> None:
    operations = Operations()
    first, second = Session(operations), Session(operations)
    with pytest.raises(OSError) as caught:
        ask(first, Opcode.INIT, Message((L.InitIn(7, 45),)), nodeid=0)
    assert caught.value.errno == errno.EBUSY
    assert "mounted already" in first.refusal
    ask(second, Opcode.INIT, Message((L.InitIn(7, 45),)), nodeid=0)
    assert (first.lives, second.lives) == (False, True)


def test_a_filesystem_is_taken_while_its_init_and_its_destroy_run() -> None:
    refused: list[str] = []

    class Again(Operations):
        def init(self, granted: Granted) -> None:
            with pytest.raises(RuntimeError, match="mounted already"):
                Session(self)
            refused.append("init")

        def destroy(self) -> None:
            with pytest.raises(RuntimeError, match="mounted already"):
                Session(self)
            refused.append("destroy")

    operations = Again()
    session = started(operations)
    session.destroy()
    assert refused == ["init", "destroy"]
    assert started(operations).lives


def test_a_filesystem_whose_init_failed_is_free_again() -> None:
    class Failing(Operations):
        fails = True

        def init(self, granted: Granted) -> None:
            if self.fails:
                raise OSError(errno.ENOMEM, "no memory")

    operations = Failing()
    with pytest.raises(OSError):
        started(operations)
    operations.fails = False
    assert started(operations).lives


def test_flags_beyond_bit_31_travel_in_the_second_word() -> None:
    class Passing(Operations):
        settings = Settings(flags=InitFlag.PASSTHROUGH, max_stack_depth=1)

    asked = L.InitIn(7, 45, 0, int(InitFlag.INIT_EXT), InitFlag.PASSTHROUGH >> 32)
    out = ask(Session(Passing()), Opcode.INIT, Message((asked,))).structs[0]
    assert out.flags & InitFlag.INIT_EXT
    assert (out.flags2, out.max_stack_depth) == (InitFlag.PASSTHROUGH >> 32, 1)


def test_an_old_kernel_gets_the_short_answer_it_takes() -> None:
    raw = codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 19),)), unique=2)[:56]
    answer = Session(Operations()).handle(len(raw).to_bytes(4, "little") + raw[4:])
    assert isinstance(answer, tuple)
    assert len(b"".join(answer)) == 16 + 24


def test_a_newer_major_is_answered_with_ours_and_asked_again() -> None:
    session = Session(Operations())
    assert ask(session, Opcode.INIT, Message((L.InitIn(8, 0),))).structs[0].major == 7
    assert session.granted is None
    ask(session, Opcode.INIT, Message((L.InitIn(7, 45),)))
    assert session.granted is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_write", "1M"), ("max_write", 0), ("max_readahead", 1 << 32), ("max_background", 100_000),
        ("congestion_threshold", -1), ("time_gran", -1), ("max_stack_depth", -1), ("request_timeout", 100_000),
    ],
)  # fmt: skip
def test_settings_that_no_answer_to_init_can_carry_are_refused_at_once(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"Settings.{name} is .* it must be a whole number from"):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_what_is_no_exception_and_ends_init_is_told_to_whoever_mounts() -> None:
    class Leaving(Operations):
        def init(self, granted: object) -> None:
            raise SystemExit(3)

    session = Session(Leaving())
    with pytest.raises(SystemExit):
        session.handle(codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 45),)), unique=2))
    assert session.refusal == "the filesystem's init raised SystemExit(3)"


def test_an_init_that_is_refused_while_it_is_handled_is_not_granted_afterwards() -> None:
    class Slow(Operations):
        def init(self, granted: object) -> None:
            told.extend(b"".join(answer) for answer in session.refuse_init("whoever mounts is gone"))

    told: list[bytes] = []
    session = Session(Slow())
    answer = session.handle(codec.encode_request(Opcode.INIT, Message((L.InitIn(7, 45),)), unique=2))
    assert isinstance(answer, tuple)
    assert told == [b"".join(answer)]
    assert codec.decode_out_header(told[0]) == L.OutHeader(16, -errno.EIO, 2)
    assert (session.granted, session.refusal) == (None, "whoever mounts is gone")


@pytest.mark.parametrize(("major", "minor"), [(6, 0), (7, 8)])
def test_a_kernel_that_is_too_old_is_refused(major: int, minor: int) -> None:
    session = Session(Operations())
    with pytest.raises(OSError) as caught:
        ask(session, Opcode.INIT, Message((L.InitIn(major, minor),)))
    assert caught.value.errno == errno.EPROTO
    assert "7.12 is the oldest" in session.refusal


def test_overriding_an_operation_asks_for_what_it_needs() -> None:
    granted = started(handler("getlk")).granted
    assert granted is not None
    assert InitFlag.POSIX_LOCKS in granted.flags
    assert InitFlag.FLOCK_LOCKS not in granted.flags


def test_nothing_but_init_is_answered_before_init() -> None:
    with pytest.raises(OSError, match="Input/output"):
        ask(Session(handler("statfs")), Opcode.STATFS)


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "number"),
    [
        (FileNotFoundError(), errno.ENOENT),
        (FileExistsError("there"), errno.EEXIST),
        (PermissionError(), errno.EACCES),
        (PermissionError(errno.EPERM, "no"), errno.EPERM),
        (NotADirectoryError(), errno.ENOTDIR),
        (IsADirectoryError(), errno.EISDIR),
        (BlockingIOError(), errno.EAGAIN),
        (InterruptedError(), errno.EINTR),
        (TimeoutError(), errno.ETIMEDOUT),
        (NotImplementedError(), errno.ENOSYS),
        (OSError(errno.ENOTEMPTY, "full"), errno.ENOTEMPTY),
        (OSError("no number"), errno.EIO),
        (OSError(9999, "out of range"), errno.EIO),
        (OSError(-5, "negated"), errno.EIO),
        (ValueError("a bug"), errno.EIO),
        (KeyError("a bug"), errno.EIO),
        (RecursionError(), errno.EIO),
    ],
    ids=repr,
)
def test_exceptions_become_errno_by_class(raised: Exception, number: int) -> None:
    with pytest.raises(OSError) as caught:
        ask(started(handler("unlink", raises=raised)), Opcode.UNLINK, NAME)
    assert caught.value.errno == number


def test_a_bug_is_logged_with_its_traceback_and_an_errno_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(OSError):
        ask(started(handler("unlink", raises=FileNotFoundError())), Opcode.UNLINK, NAME)
    assert not caplog.records
    with caplog.at_level(logging.ERROR), pytest.raises(OSError):
        ask(started(handler("unlink", raises=ZeroDivisionError())), Opcode.UNLINK, NAME, nodeid=7)
    assert "unlink(node 7) raised" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("name", "returns", "opcode", "message"),
    [
        ("getattr", None, Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("getattr", Attributes(1, -1), Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("getattr", Attributes(1, 0, size=-1), Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("getattr", Attributes(1, 0, uid="root"), Opcode.GETATTR, Message((L.GetattrIn(),))),  # type: ignore[arg-type]
        ("getattr", Attributes(1, 0o755), Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("getattr", Attributes(1, 0o30755), Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("getattr", Attributes(1, 0o100644, size=1 << 63), Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("getattr", Attributes(1, 0o100644, mtime_ns=1 << 100), Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("getattr", Attributes(1, 0o100644, mtime_ns=-1 << 100), Opcode.GETATTR, Message((L.GetattrIn(),))),
        ("statx", L.Statx(mode=0o644), Opcode.STATX, Message((L.StatxIn(),))),
        ("lookup", 5, Opcode.LOOKUP, NAME),
        ("lookup", Entry(Attributes(1, 0o40755)), Opcode.LOOKUP, NAME),
        ("mkdir", Entry(Attributes(1, 0o40755)), Opcode.MKDIR, Message((L.MkdirIn(),), (b"d",))),
        ("mkdir", Entry(Attributes(0, 0)), Opcode.MKDIR, Message((L.MkdirIn(),), (b"d",))),
        ("lookup", Entry(Attributes(2, 0o100644), entry_timeout=-1), Opcode.LOOKUP, NAME),
        ("read", "text", Opcode.READ, Message((L.ReadIn(size=10),))),
        ("read", b"more than asked", Opcode.READ, Message((L.ReadIn(size=3),))),
        ("write", 11, Opcode.WRITE, Message((L.WriteIn(size=4),), data=b"data")),
        ("write", -1, Opcode.WRITE, Message((L.WriteIn(size=4),), data=b"data")),
        ("readlink", "text", Opcode.READLINK, Message()),
        ("readlink", b"", Opcode.READLINK, Message()),
        ("readlink", b"a\0b", Opcode.READLINK, Message()),
        ("readlink", b"x" * 4096, Opcode.READLINK, Message()),
        ("readdir", [DirEntry(b"n" * 2000, 1, 0, 1)], Opcode.READDIR, Message((L.ReadIn(size=4096),))),
        ("readdir", [DirEntry(b"a/b", 1, 0, 1)], Opcode.READDIR, Message((L.ReadIn(size=4096),))),
        ("readdir", [DirEntry(b"a", 2, 0, 0)], Opcode.READDIR, Message((L.ReadIn(size=4096),))),
        ("readdir", [DirEntry(b"a", 2, 0, 5)], Opcode.READDIR, Message((L.ReadIn(offset=5, size=4096),))),
        ("readdirplus", [DirEntry(b"a", 2, 0, 0)], Opcode.READDIRPLUS, Message((L.ReadIn(size=4096),))),
        ("readdir", 7, Opcode.READDIR, Message((L.ReadIn(size=4096),))),
        ("open", Opened(1, 128, 77), Opcode.OPEN, Message((L.OpenIn(),))),
        ("open", "handle", Opcode.OPEN, Message((L.OpenIn(),))),
        ("create", Entry(Attributes(2, 0)), Opcode.CREATE, Message((L.CreateIn(),), (b"f",))),
        ("unlink", "done", Opcode.UNLINK, NAME),
        ("statfs", 5, Opcode.STATFS, Message()),
        ("getxattr", 5, Opcode.GETXATTR, Message((L.GetxattrIn(10),), (b"user.a",))),
        ("getxattr", bytes(65537), Opcode.GETXATTR, Message((L.GetxattrIn(0),), (b"user.a",))),
        ("listxattr", [b"user.a", b""], Opcode.LISTXATTR, Message((L.GetxattrIn(100),))),
        ("listxattr", [b"user.a\0b"], Opcode.LISTXATTR, Message((L.GetxattrIn(100),))),
        ("lseek", "end", Opcode.LSEEK, Message((L.LseekIn(),))),
        ("lseek", 1 << 63, Opcode.LSEEK, Message((L.LseekIn(),))),
        ("copy_file_range", 11, Opcode.COPY_FILE_RANGE, Message((L.CopyFileRangeIn(len=10),))),
        ("copy_file_range", 11, Opcode.COPY_FILE_RANGE_64, Message((L.CopyFileRangeIn(len=10),))),
    ],
)
def test_nonsense_from_a_handler_is_eio_and_the_log_names_operation_and_inode(
    caplog: pytest.LogCaptureFixture, name: str, returns: Any, opcode: Opcode, message: Message
) -> None:
    session = started(handler(name, returns))
    with caplog.at_level(logging.ERROR), pytest.raises(OSError) as caught:
        ask(session, opcode, message, nodeid=9)
    assert caught.value.errno == errno.EIO
    assert f"{name}(node 9)" in caplog.text
    assert not session.in_flight


def test_a_bug_in_a_generator_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    class Listing(Operations):
        def readdir(self, ino: int, fh: int, offset: int) -> Iterator[DirEntry]:
            yield DirEntry(b"a", 2, 0o100000, 1)
            None.foo  # type: ignore[attr-defined]  # noqa: B018

    with caplog.at_level(logging.ERROR), pytest.raises(OSError, match="Input/output"):
        ask(started(Listing()), Opcode.READDIR, Message((L.ReadIn(size=4096),)))
    assert "readdir(node 1) raised" in caplog.text
    assert "None.foo" in caplog.text


def test_what_is_not_there_needs_no_mode() -> None:
    entry = ask(started(handler("lookup", Entry(Attributes(0, 0)))), Opcode.LOOKUP, NAME).structs[0]
    assert (entry.nodeid, entry.attr.mode) == (0, 0)


def test_the_parent_of_a_directory_may_be_the_root() -> None:
    session = started(handler("lookup", Entry(Attributes(1, 0o40755))))
    assert ask(session, Opcode.LOOKUP, Message(names=(b"..",)), nodeid=5).structs[0].nodeid == 1


def test_a_time_before_1970_survives() -> None:
    session = started(handler("getattr", Attributes(1, 0o40755, mtime_ns=-1)))
    attr = ask(session, Opcode.GETATTR, Message((L.GetattrIn(),))).structs[0].attr
    assert (attr.mtime, attr.mtimensec) == ((1 << 64) - 1, 999_999_999)


# -- what the kernel may send ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [op for op in Opcode if op not in (Opcode.INIT, Opcode.STATFS, Opcode.DESTROY)])
def test_what_is_not_overridden_answers_enosys_or_nothing(opcode: Opcode) -> None:
    session = started(Operations())
    body = codec.operation(opcode).request
    message = Message(tuple(layout.cls() for layout in body.structs), tuple(b"n" for _ in body.names))
    answer = session.handle(codec.encode_request(opcode, message, unique=8, nodeid=1))
    if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY):
        assert answer is None
        return
    assert isinstance(answer, tuple)
    error = codec.decode_out_header(b"".join(answer)).error
    expected = {Opcode.RELEASE: 0, Opcode.RELEASEDIR: 0, Opcode.INTERRUPT: -errno.EAGAIN}
    assert error == expected.get(opcode, -errno.ENOSYS)


def test_an_unknown_opcode_answers_enosys() -> None:
    answer = started(Operations()).handle(L.IN_HEADER.pack(L.InHeader(40, 999, 12, 1)))
    assert isinstance(answer, tuple)
    assert L.OUT_HEADER.unpack(answer[0]) == (16, -errno.ENOSYS, 12)


@hypothesis_settings(max_examples=400)
@given(st.binary(max_size=120), st.sampled_from(list(Opcode)), st.booleans())
def test_any_message_at_all_leaves_the_session_alive(raw: bytes, opcode: Opcode, framed: bool) -> None:
    class Large(MemoryFS):
        def write(self, ino: int, fh: int, offset: int, data: memoryview) -> int:
            return len(data)  # any offset at all is asked for

    session = started(Large({"f": b"data"}))
    if framed:
        raw = L.IN_HEADER.pack(L.InHeader(40 + len(raw), opcode, 10, 1, pid=os.getpid())) + raw
    session.handle(raw)
    assert stat.S_ISDIR(
        ask(session, Opcode.GETATTR, Message((L.GetattrIn(),))).structs[0].attr.mode
    )  # a message that is none too bad may remove "f"
    assert not session.in_flight


def test_a_malformed_request_to_an_async_handler_is_refused_and_forgotten() -> None:
    class Later(Operations):
        async def read(self, ino: int, fh: int, offset: int, size: int) -> bytes:  # type: ignore[override]
            return b""

    session = started(Later())
    answer = session.handle(L.IN_HEADER.pack(L.InHeader(44, Opcode.READ, 6, 1)) + bytes(4))
    assert isinstance(answer, tuple)
    assert codec.decode_out_header(answer[0]).error == -errno.EIO
    assert not session.in_flight


def test_setattr_says_which_fields_change_and_which_times_are_now() -> None:
    seen: list[tuple[fusewire.Changes, int | None]] = []

    class Seeing(Operations):
        def setattr(self, ino: int, changes: fusewire.Changes, fh: int | None) -> Attributes:
            seen.append((changes, fh))
            return Attributes(ino, 0o100644)

    valid = FAttr.MTIME | FAttr.ATIME | FAttr.ATIME_NOW | FAttr.SIZE | FAttr.FH
    ask(started(Seeing()), Opcode.SETATTR, Message((L.SetattrIn(valid, fh=3, size=10, mtime=5, mtimensec=7),)))
    changes, fh = seen[0]
    assert (changes.size, changes.mtime_ns, changes.mode, fh) == (10, 5_000_000_007, None, 3)
    assert changes.atime_now
    assert changes.atime_ns is not None
    assert changes.atime_ns > 10**18


def test_xattr_sizes_are_seen_to() -> None:
    session = started(handler("getxattr", b"value"))
    assert ask(session, Opcode.GETXATTR, Message((L.GetxattrIn(0),), (b"user.a",))).structs[0].size == 5
    assert ask(session, Opcode.GETXATTR, Message((L.GetxattrIn(64),), (b"user.a",))).data == b"value"
    with pytest.raises(OSError) as caught:
        ask(session, Opcode.GETXATTR, Message((L.GetxattrIn(2),), (b"user.a",)))
    assert caught.value.errno == errno.ERANGE


@pytest.mark.parametrize("extended", [False, True])
def test_setxattr_comes_short_or_with_setxattr_ext_whole(extended: bool) -> None:
    seen: list[tuple[Any, ...]] = []

    class Setting(Operations):
        settings = Settings(flags=InitFlag.SETXATTR_EXT if extended else InitFlag(0))

        def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
            seen.append((name, value, flags, fusewire.current_request().args.setxattr_flags))

    session = started(Setting())
    message = Message((L.SetxattrIn(5, 1, 1),), (b"user.a",), data=b"value")
    ask(session, Opcode.SETXATTR, message, dialect=session.dialect)
    assert seen == [(b"user.a", b"value", 1, 1 if extended else 0)]


def test_a_directory_is_packed_as_far_as_the_kernel_has_room() -> None:
    entries = [DirEntry(b"%d" % place, place + 1, 0o100000, place + 1) for place in range(100)]
    data = ask(started(handler("readdir", entries)), Opcode.READDIR, Message((L.ReadIn(size=100),))).data
    assert [name for name, _ in codec.iter_dirents(data)] == [b"0", b"1", b"2"]


def test_a_filesystem_with_flock_alone_gets_flocks_and_refuses_posix_locks() -> None:
    calls = []

    class Flocks(fusewire.Operations):
        def flock(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:
            calls.append(lock.owner)

    session = started(Flocks())
    ask(session, Opcode.SETLK, Message((L.LkIn(1, 78, L.FileLock(0, 9, 1, 5), 1),)))
    with pytest.raises(OSError) as caught:
        ask(session, Opcode.SETLK, Message((L.LkIn(1, 77, L.FileLock(0, 9, 1, 5)),)))
    assert caught.value.errno == errno.ENOSYS
    assert calls == [78]


def test_flock_and_posix_locks_go_to_their_own_handlers() -> None:
    calls: list[tuple[str, int, bool]] = []

    class Locking(Operations):
        def setlk(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:
            calls.append(("setlk", lock.owner, wait))

        def flock(self, ino: int, fh: int, lock: Lock, wait: bool) -> None:
            calls.append(("flock", lock.owner, wait))

    session = started(Locking())
    ask(session, Opcode.SETLK, Message((L.LkIn(1, 77, L.FileLock(0, 9, 1, 5)),)))
    ask(session, Opcode.SETLKW, Message((L.LkIn(1, 78, L.FileLock(0, 9, 1, 5), 1),)))
    assert calls == [("setlk", 77, False), ("flock", 78, True)]


def test_old_and_new_rename_reach_one_handler() -> None:
    calls: list[tuple[Any, ...]] = []

    class Renaming(Operations):
        def rename(self, *args: Any) -> None:
            calls.append(args)

    session = started(Renaming())
    ask(session, Opcode.RENAME, Message((L.RenameIn(2),), (b"a", b"b")))
    ask(session, Opcode.RENAME2, Message((L.Rename2In(2, 2),), (b"a", b"b")))
    assert calls == [(1, b"a", 2, b"b", 0), (1, b"a", 2, b"b", 2)]


def test_the_request_tells_who_asks() -> None:
    seen: list[Any] = []

    class Asking(Operations):
        def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
            request = fusewire.current_request()
            seen.append((request.uid, request.gid, request.umask, request.groups == tuple(os.getgroups())))
            return Entry(Attributes(2, 0o40755))

    ask(started(Asking()), Opcode.MKDIR, Message((L.MkdirIn(0o755, 0o27),), (b"d",)), uid=5, gid=6)
    assert seen == [(5, 6, 0o27, True)]


@pytest.mark.parametrize("name", [b"\vGroups:\t4242", b"\x85Groups:\t4242", b"\xff\xfe"])
def test_no_name_that_a_process_gives_itself_is_taken_for_its_groups(name: bytes) -> None:
    seen: list[Any] = []

    class Asking(Operations):
        def mkdir(self, parent: int, name: bytes, mode: int) -> Entry:
            seen.append(fusewire.current_request().groups)
            return Entry(Attributes(2, 0o40755))

    comm = Path(f"/proc/{os.getpid()}/comm")
    before = comm.read_bytes()
    comm.write_bytes(name)
    try:
        ask(started(Asking()), Opcode.MKDIR, Message((L.MkdirIn(0o755, 0o27),), (b"d",)))
    finally:
        comm.write_bytes(before)
    assert seen == [tuple(os.getgroups())]


def test_destroy_comes_once() -> None:
    calls: list[int] = []
    session = started(type("D", (Operations,), {"destroy": lambda self: calls.append(1)})())
    ask(session, Opcode.DESTROY)
    session.destroy()
    assert calls == [1]


def test_a_filesystem_has_one_session_at_a_time() -> None:
    filesystem = MemoryFS()
    first = started(filesystem)
    with pytest.raises(RuntimeError, match="this MemoryFS is mounted already"):
        Session(filesystem)
    assert filesystem.session is first
    first.destroy()
    assert started(filesystem) is filesystem.session


def test_an_interrupt_for_what_is_not_here_is_asked_for_again() -> None:
    with pytest.raises(OSError) as caught:
        ask(started(Operations()), Opcode.INTERRUPT, Message((L.InterruptIn(1234),)))
    assert caught.value.errno == errno.EAGAIN


def test_opened_may_be_a_number_or_all_of_it() -> None:
    assert ask(started(handler("open", 7)), Opcode.OPEN, Message((L.OpenIn(),))).structs[0].fh == 7
    out = ask(started(handler("open", Opened(8, 2))), Opcode.OPEN, Message((L.OpenIn(),))).structs[0]
    assert (out.fh, out.open_flags) == (8, 2)


# -- notifications -------------------------------------------------------------------------------------------------


def sending(session: Session) -> list[bytes]:
    """What the session hands to its transport."""
    sent: list[bytes] = []

    def sink(raw: bytes) -> Future[None]:
        sent.append(raw)
        return Future()

    session.notify.sink = sink
    return sent


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        (lambda n: n.poll(5), NotifyCode.POLL, Message((L.NotifyPollWakeupOut(5),))),
        (lambda n: n.inval_inode(2, 10, 20), NotifyCode.INVAL_INODE, Message((L.NotifyInvalInodeOut(2, 10, 20),))),
        (lambda n: n.inval_inode(2, -1), NotifyCode.INVAL_INODE, Message((L.NotifyInvalInodeOut(2, -1, 0),))),
        (lambda n: n.inval_entry(1, b"f"), NotifyCode.INVAL_ENTRY, Message((L.NotifyInvalEntryOut(1, 1),), (b"f",))),
        (
            lambda n: n.inval_entry(1, b"f", expire_only=True),
            NotifyCode.INVAL_ENTRY,
            Message((L.NotifyInvalEntryOut(1, 1, 1),), (b"f",)),
        ),
        (lambda n: n.delete(1, 2, b"f"), NotifyCode.DELETE, Message((L.NotifyDeleteOut(1, 2, 1),), (b"f",))),
        (lambda n: n.store(2, 0, b"x"), NotifyCode.STORE, Message((L.NotifyStoreOut(2, 0, 1),), data=b"x")),
        (lambda n: n.resend(), NotifyCode.RESEND, Message()),
        (lambda n: n.inc_epoch(), NotifyCode.INC_EPOCH, Message()),
        (
            lambda n: n.prune([5, 6]),
            NotifyCode.PRUNE,
            Message((L.NotifyPruneOut(2),), items=(L.ForgetIn(5), L.ForgetIn(6))),
        ),
    ],
)
def test_a_notification_is_what_the_protocol_says(
    call: Callable[[Any], Any], code: NotifyCode, message: Message
) -> None:
    session = started(Operations())
    sent = sending(session)
    call(session.notify)
    assert codec.decode_notification(sent[0]) == (code, message)


def test_a_notification_without_anyone_who_takes_it_says_so() -> None:
    with pytest.raises(OSError, match="INC_EPOCH cannot be sent"):
        started(Operations()).notify.inc_epoch()


def test_what_a_retrieve_asked_for_comes_as_its_result() -> None:
    session = started(Operations())
    sent = sending(session)
    result = session.notify.retrieve(2, 0, 100)
    unique = codec.decode_notification(sent[0])[1].structs[0].notify_unique
    reply = Message((L.NotifyRetrieveIn(0, 0, 4),), data=b"data")
    session.handle(codec.encode_request(Opcode.NOTIFY_REPLY, reply, unique=unique, nodeid=2))
    assert result.result(timeout=1) == b"data"


def test_a_retrieve_that_is_never_answered_ends_with_the_session() -> None:
    session = started(Operations())
    sending(session)
    result = session.notify.retrieve(2, 0, 100)
    session.notify.close()
    assert isinstance(result.exception(timeout=1), OSError)


def test_a_retrieve_that_is_cancelled_just_as_the_session_ends_does_not_disturb_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Cancelled(Future[bytes]):
        def cancelled(self) -> bool:
            was = super().cancelled()
            self.cancel()
            return was

    monkeypatch.setattr("fusewire.daemon.notify.Future", Cancelled)
    session = started(Operations())
    session.notify.sink = lambda raw: Future()
    session.notify.retrieve(2, 0, 100)
    session.notify.close()
    with pytest.raises(OSError, match="cannot be sent"):
        session.notify.inc_epoch()


def test_a_retrieve_that_is_answered_just_as_the_session_ends_does_not_disturb_the_end() -> None:
    class Answered(dict[int, Any]):
        def popitem(self) -> tuple[int, Any]:
            self.clear()
            return super().popitem()

    session = started(Operations())
    session.notify._retrieves = Answered()
    session.notify.sink = lambda raw: Future()
    session.notify.retrieve(2, 0, 100)
    session.notify.close()
    assert session.notify.sink is None


def test_a_notification_at_the_very_end_of_a_session_finds_its_sink_or_says_that_there_is_none() -> None:
    class Ending(Notifier):
        """Ends as soon as its sink was looked at."""

        @property  # type: ignore[override]
        def sink(self) -> Any:
            sink, self._sink = self._sink, None
            return sink

        @sink.setter
        def sink(self, value: Any) -> None:
            self._sink = value

    notifier = Ending()
    notifier.sink = lambda raw: Future()
    assert isinstance(notifier.inc_epoch(), Future)
    with pytest.raises(OSError, match="cannot be sent"):
        notifier.inc_epoch()


def test_all_who_wait_for_the_interrupt_of_one_request_are_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    request = fusewire.Request(Opcode.READ, 4, 1, 0, 0, 0, b"")
    woken: list[bool] = []
    first, other = (threading.Thread(target=lambda: woken.append(request.wait_interrupted(5))) for _ in range(2))
    waiting: list[threading.Event] = []

    class Event(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            if other.ident is None:  # the first makes its event, and before it goes on the other waits
                other.start()
                wait_until(lambda: len(waiting) == 1)

        def wait(self, timeout: float | None = None) -> bool:
            waiting.append(self)
            return super().wait(timeout)

    monkeypatch.setattr("fusewire.daemon.request.threading", SimpleNamespace(Event=Event))
    first.start()
    wait_until(lambda: len(waiting) == 2)
    request.interrupt()
    for thread in (first, other):
        thread.join(20)
    assert woken == [True, True]


def test_after_a_handler_inside_another_the_outer_one_still_has_its_own_request() -> None:
    seen: list[int] = []

    class Nested(Operations):
        def unlink(self, parent: int, name: bytes) -> None:
            ask(self.session, Opcode.STATFS)
            seen.append(fusewire.current_request().opcode)

    ask(started(Nested()), Opcode.UNLINK, NAME)
    assert seen == [Opcode.UNLINK]
    with pytest.raises(RuntimeError, match="no request is being handled"):
        fusewire.current_request()


def test_times_that_change_are_split_anew() -> None:
    attributes = Attributes(1, 0o40755, mtime_ns=5_000_000_007)
    session = started(handler("getattr", attributes))

    def mtime() -> tuple[int, int]:
        attr = ask(session, Opcode.GETATTR, Message((L.GetattrIn(),))).structs[0].attr
        return attr.mtime, attr.mtimensec

    assert [mtime(), mtime()] == [(5, 7)] * 2
    attributes.mtime_ns = 6_000_000_008
    assert mtime() == (6, 8)
    assert attributes == Attributes(1, 0o40755, mtime_ns=6_000_000_008)
    assert "_split" not in repr(attributes)


def test_a_listing_with_a_bad_name_gives_every_reference_back() -> None:
    forgotten: list[int] = []

    class Listing(Operations):
        def readdirplus(self, ino: int, fh: int, offset: int) -> list[DirEntry]:
            names = (b"good", b"a/b")
            return [
                DirEntry(name, at, 0o100000, at, Entry(Attributes(at, 0o100644))) for at, name in enumerate(names, 2)
            ]

        def forget(self, ino: int, nlookup: int) -> None:
            forgotten.append(ino)

    with pytest.raises(OSError) as caught:
        ask(started(Listing()), Opcode.READDIRPLUS, Message((L.ReadIn(size=4096),)))
    assert caught.value.errno == errno.EIO
    assert sorted(forgotten) == [2, 3]
