"""The mock daemon: what it expects, answers, tells and complains about."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
from collections.abc import Iterator

import pytest

from fusewire import Deadlock, InitFlag, Kernel
from fusewire.testing import MockDaemon, attr, created, dirents, entry, opened, written
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import InitOut
from fusewire.wire.table import OPERATIONS

DIR = stat.S_IFDIR | 0o755


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(request.param) as kernel:
        yield kernel


@pytest.fixture
def daemon(kernel: Kernel) -> MockDaemon:
    return MockDaemon(kernel)


def verdict(daemon: MockDaemon) -> str:
    """What it complains about."""
    with pytest.raises(AssertionError) as caught:
        daemon.verify()
    return str(caught.value)


def test_what_is_expected_is_answered_and_nothing_is_complained_about(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, b"name").reply(entry(2, size=3, valid=60))
    daemon.expect.open(2).reply(opened(fh=7))
    daemon.expect.read(2, fh=7, offset=0).reply(b"abc")
    daemon.expect.write(2, fh=7, offset=3, data=b"def").reply(written(3))
    daemon.expect.getxattr(2).error(errno.ENODATA)
    process = kernel.process()
    fd = process.open("/name", os.O_RDWR)
    assert process.pread(fd, 100, 0) == b"abc"
    assert process.pwrite(fd, b"def", 3) == 3
    daemon.verify()
    assert daemon.names == ["INIT", "LOOKUP", "OPEN", "READ", "GETXATTR", "WRITE"]


@pytest.mark.parametrize("name", [row.opcode.name.lower() for row in OPERATIONS.values()])
def test_every_operation_of_the_wire_can_be_expected(daemon: MockDaemon, name: str) -> None:
    assert name in dir(daemon.expect)
    assert getattr(daemon.expect, name)(1).opcode is Opcode[name.upper()]


def test_a_request_that_nothing_was_said_about_is_eio_and_a_complaint(kernel: Kernel, daemon: MockDaemon) -> None:
    with pytest.raises(OSError) as caught:
        kernel.process().stat("/name")
    assert caught.value.errno == errno.EIO
    assert verdict(daemon) == (
        'came, and was not expected:\n  LOOKUP 4 nodeid=1 "name"\n    nothing was expected\n'
        'what came:\n  LOOKUP 4 nodeid=1 "name"'
    )


def test_the_complaint_names_the_nearest_expectation_and_what_differs(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(5, b"other")
    daemon.expect.lookup(1, b"nam").reply(entry(2))
    with pytest.raises(OSError):
        kernel.process().stat("/name")
    assert "nearest to it is LOOKUP nodeid=1 name=b'nam': name is b'name', not b'nam'" in verdict(daemon)


def test_what_did_not_come_is_a_complaint(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusewire.testing.mock.daemon.PATIENCE", 0.01)
    daemon = MockDaemon(kernel)
    daemon.expect.unlink(1, b"name").times(2)
    assert verdict(daemon) == (
        "was expected, and did not come:\n  UNLINK nodeid=1 name=b'name' (expected twice, came never)\n"
        "nothing came but INIT"
    )


def test_once_is_once(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, b"name").reply(entry(2, DIR, valid=0))
    daemon.default.getattr().reply(attr(2, DIR))
    process = kernel.process()
    process.stat("/name")
    with pytest.raises(OSError):
        process.stat("/name")
    assert "was expected once, and has come once before this one" in verdict(daemon)


@pytest.mark.parametrize(("least", "most", "calls"), [(2, None, 2), (1, 3, 2), (0, 1, 0)])
def test_it_may_come_as_often_as_was_said(
    kernel: Kernel, daemon: MockDaemon, least: int, most: int | None, calls: int
) -> None:
    daemon.expect.statfs(1).times(least, most).reply()
    for _ in range(calls):
        kernel.process().statvfs("/")
    daemon.verify()


def test_what_is_expected_never_may_not_come(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup().reply(entry(2, valid=9))
    daemon.expect.open().reply(opened())
    daemon.expect.flush().times(0)
    process = kernel.process()
    with pytest.raises(OSError):
        process.close(process.open("/f", os.O_RDONLY))
    assert "FLUSH is expected never" in verdict(daemon)


def test_two_expectations_of_the_same_request_are_met_one_after_the_other(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, b"f").error(errno.ENOENT)
    daemon.expect.lookup(1, b"f").reply(entry(2, valid=9))
    process = kernel.process()
    assert not process.access("/f", os.F_OK)
    assert process.stat("/f").st_ino == 2
    daemon.verify()


def test_order_matters_where_the_test_says_so(kernel: Kernel, daemon: MockDaemon) -> None:
    with daemon.in_order():
        daemon.expect.statfs(1).reply()
        daemon.expect.lookup(1, b"f").reply(entry(2, valid=9))
    process = kernel.process()
    with pytest.raises(OSError):
        process.stat("/f")
    process.statvfs("/")
    process.stat("/f")
    assert "too early: STATFS nodeid=1 is to come first" in verdict(daemon)


def test_order_does_not_matter_elsewhere(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.statfs(1).reply()
    daemon.expect.lookup(1, b"f").reply(entry(2, valid=9))
    kernel.process().stat("/f")
    kernel.process().statvfs("/")
    daemon.verify()


def test_the_newest_default_counts_and_an_expectation_comes_before_it(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.default.lookup().error(errno.EPERM)
    daemon.default.lookup(1, b"f").error(errno.EACCES)
    daemon.expect.lookup(1, b"g").error(errno.ENOTDIR)
    found = []
    for path in ("/f", "/f", "/g", "/h"):
        with pytest.raises(OSError) as caught:
            kernel.process().stat(path)
        found.append(caught.value.errno)
    assert found == [errno.EACCES, errno.EACCES, errno.ENOTDIR, errno.EPERM]
    daemon.verify()


def test_a_function_says_whether_a_value_will_do_and_what_is_answered(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, lambda name: name.startswith(b"f")).reply(lambda asked: entry(len(asked.name), valid=9))
    assert kernel.process().stat("/four").st_ino == 4
    daemon.verify()


def test_an_answer_can_be_given_by_its_fields(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup().reply(nodeid=2, attr_valid=9, attr=entry(2, size=77).attr)
    assert kernel.process().stat("/f").st_size == 77


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (lambda d: d.expect.read(2, ofset=0), r"READ has no field 'ofset'; it has fh, offset, size, read_flags"),
        (lambda d: d.expect.lookup(1, b"a", b"b"), "LOOKUP takes nodeid, name by position, not 3 arguments"),
        (lambda d: d.expect.lookup(1, b"a", name=b"b"), "LOOKUP is given name twice"),
        (lambda d: d.expect.write(2).reply(sise=3), "the answer to WRITE has no field 'sise'; it has size, padding"),
        (lambda d: d.expect.lookup(1).reply(opened()), "LOOKUP is answered with EntryOut, not with OpenOut"),
        (lambda d: d.expect.unlink(1).reply(b"x"), "UNLINK is answered with nothing, not with bytes"),
        (lambda d: d.expect.unlink(1).reply().error(5), "is answered already"),
        (lambda d: d.expect.lookup(1).reply(entry(2), nodeid=3), "by its structs or by its fields"),
        (lambda d: d.notify.inval_inode(2, offset=0), "INVAL_INODE has no field 'offset'; it has ino, off, len"),
        (lambda d: MockDaemon(d.kernel, "/m", max_wirte=1), "max_wirte: neither an option of a mount nor a field"),
    ],
)
def test_what_the_wire_does_not_have_is_refused_where_it_is_said(daemon: MockDaemon, say: object, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        say(daemon)  # type: ignore[operator]


def test_names_that_fuse_does_not_have_are_no_attributes(daemon: MockDaemon) -> None:
    for say in (lambda: daemon.expect.remove, lambda: daemon.notify.inval, lambda: daemon.requests[0].offset):
        with pytest.raises(AttributeError):
            say()


def test_a_request_that_nobody_said_how_to_answer_is_a_complaint(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, b"f")
    with pytest.raises(OSError):
        kernel.process().stat("/f")
    assert "nothing says how LOOKUP nodeid=1 name=b'f' is answered" in verdict(daemon)


def test_what_the_test_does_in_the_daemon_may_fail(kernel: Kernel, daemon: MockDaemon) -> None:
    def look(asked: object) -> None:
        raise AssertionError("not that one")

    daemon.expect.lookup(1, b"f").do(look).reply(entry(2))
    with pytest.raises(OSError) as caught:
        kernel.process().stat("/f")
    assert caught.value.errno == errno.EIO
    assert 'LOOKUP 4 nodeid=1 "f": AssertionError: not that one' in verdict(daemon)


# -- late, never, wrong --------------------------------------------------------------------------------------------


def test_a_late_answer_comes_by_the_kernels_clock(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, b"f").reply_late(0.02, entry(2, valid=9))
    before = kernel.driver.now()
    assert kernel.process().stat("/f").st_ino == 2
    assert kernel.driver.now() - before >= 20_000_000
    daemon.verify()


def test_a_held_request_is_answered_by_the_test(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup().reply(entry(2, valid=9))
    daemon.expect.open().reply(opened())
    held = daemon.expect.release(2).hold()
    process = kernel.process()
    process.close(process.open("/f", os.O_RDONLY))
    asked = held.wait()
    assert not asked.answered
    assert daemon.mount.control.waiting == 1
    asked.reply()
    assert daemon.mount.control.waiting == 0
    daemon.verify()


def test_a_held_request_that_is_not_answered_is_a_complaint(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup().reply(entry(2, valid=9))
    daemon.expect.open().reply(opened())
    held = daemon.expect.release(2).hold()
    process = kernel.process()
    process.close(process.open("/f", os.O_RDONLY))
    held.wait()
    assert "is held, and was not answered" in verdict(daemon)


def test_on_threads_a_caller_waits_until_the_test_answers() -> None:
    with Kernel("threads") as kernel, MockDaemon(kernel) as daemon:
        held = daemon.expect.lookup(1, b"f").hold()
        found: list[int] = []
        caller = threading.Thread(target=lambda: found.append(kernel.process().stat("/f").st_ino))
        caller.start()
        daemon.answer(held, entry(2, valid=9))
        caller.join(20)
        assert found == [2]


def test_in_line_a_caller_whom_nobody_answers_is_told_so() -> None:
    with Kernel() as kernel, MockDaemon(kernel) as daemon:
        daemon.expect.lookup(1, b"f").never()
        with pytest.raises(Deadlock):
            kernel.process().stat("/f")


def test_waiting_for_what_does_not_come_says_what_came(kernel: Kernel, daemon: MockDaemon) -> None:
    with pytest.raises(TimeoutError, match="waited in vain for UNLINK nodeid=1 to come; nothing came but INIT"):
        daemon.expect.unlink(1).wait(timeout=0.01)


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ({"raw": b""}, errno.EINVAL),
        ({"raw": bytes(15)}, errno.EINVAL),
        ({"length": 17}, errno.EINVAL),
        ({"length": lambda right: right - 1}, errno.EINVAL),
        ({"unique": lambda right: right + 2}, errno.ENOENT),
        ({"error": 5}, errno.EINVAL),
        ({"error": -512}, errno.EINVAL),
    ],
)
def test_a_wrong_answer_is_refused_and_the_right_one_is_taken(
    kernel: Kernel, daemon: MockDaemon, wrong: dict[str, object], number: int
) -> None:
    daemon.expect.lookup(1, b"f").wrong(**wrong, refused=number).reply(entry(2, valid=9))  # type: ignore[arg-type]
    assert kernel.process().stat("/f").st_ino == 2
    daemon.verify()


def test_a_wrong_answer_that_was_to_be_refused_and_was_not_is_a_complaint(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.unlink(1, b"f").wrong(error=-errno.EPERM, refused=errno.EINVAL)
    daemon.expect.lookup().reply(entry(2))
    with pytest.raises(PermissionError):
        kernel.process().unlink("/f")
    assert "a wrong answer to UNLINK" in verdict(daemon)
    assert "was taken, where EINVAL was expected" in verdict(daemon)


def test_the_daemon_dies_with_a_request_in_its_hands(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, b"f").die()
    found = []
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            kernel.process().stat("/f")
        found.append(caught.value.errno)
    assert found == [errno.ECONNABORTED, errno.ENOTCONN]
    daemon.verify()


def test_the_daemon_can_be_killed_by_the_test(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.notify.inc_epoch()  # by a task of the test's own, which dies, too
    daemon.kill()
    with pytest.raises(OSError) as caught:
        kernel.process().stat("/f")
    assert caught.value.errno == errno.ENOTCONN


# -- INIT and notifications ----------------------------------------------------------------------------------------


def test_it_grants_what_the_test_says(kernel: Kernel) -> None:
    with MockDaemon(
        kernel, flags=InitFlag.POSIX_LOCKS | InitFlag.HAS_RESEND, max_write=8192, max_background=3
    ) as daemon:
        assert daemon.mount.sb.flags == InitFlag.POSIX_LOCKS | InitFlag.HAS_RESEND | InitFlag.INIT_EXT
        assert daemon.mount.sb.max_write == 8192
        assert daemon.connection.background.max_background == 3


def test_it_refuses_init(kernel: Kernel) -> None:
    with MockDaemon(kernel, mounted=False) as daemon:
        daemon.expect.init().error(errno.EPERM)
        daemon.mount_now()
        with pytest.raises(ConnectionRefusedError):
            kernel.process().stat("/f")


@pytest.mark.parametrize("minor", [8, 22, 46])
def test_it_speaks_older_minors(kernel: Kernel, minor: int) -> None:
    with MockDaemon(kernel, mounted=False) as daemon:
        daemon.expect.init(minor=46).reply(InitOut(7, minor, max_write=4096))
        daemon.mount_now()
        daemon.expect.lookup(1, b"f").reply(entry(2, size=5, valid=9))
        assert kernel.process().stat("/f").st_size == 5


def test_it_tells_something_unasked(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup(1, b"f").times(3).reply(entry(2, valid=60))
    process = kernel.process()
    process.stat("/f")
    daemon.notify.inval_entry(1, b"f")
    process.stat("/f")
    daemon.notify.expire_entry(1, b"f")
    process.stat("/f")
    with pytest.raises(FileNotFoundError):
        daemon.notify.inval_inode(9)
    with pytest.raises(OSError) as caught:
        daemon.notify.raw(99)
    assert caught.value.errno == errno.EINVAL
    daemon.verify()


def test_it_tells_something_from_within_a_handler(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.lookup().reply(entry(2, valid=60))
    daemon.expect.statfs(1).do(lambda asked: daemon.notify.inval_inode(2, off=-1)).reply()
    daemon.expect.getattr(2).reply(attr(2, size=8))
    process = kernel.process()
    process.stat("/f")
    process.statvfs("/")
    assert process.stat("/f").st_size == 8
    daemon.verify()


def test_several_workers_serve_several_callers() -> None:
    with Kernel("threads") as kernel, MockDaemon(kernel, workers=3) as daemon:
        met = threading.Barrier(3, timeout=20)
        daemon.expect.statfs(1).times(3).do(lambda asked: met.wait()).reply()
        callers = [threading.Thread(target=kernel.process().statvfs, args=("/",)) for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20)
        assert not met.broken


def test_a_listing_and_a_creation(kernel: Kernel, daemon: MockDaemon) -> None:
    daemon.expect.opendir(1).reply(opened(3))
    daemon.expect.readdir(1, fh=3, offset=0).reply(dirents((b"a", 2, stat.S_IFREG), (b"b", 3, stat.S_IFDIR)))
    daemon.expect.readdir(1, fh=3, offset=2).reply(b"")
    daemon.expect.getattr(1).reply(attr(1, DIR))
    daemon.expect.lookup(1, b"new").error(errno.ENOENT)
    daemon.expect.create(1, b"new", mode=0o100600, umask=0o022).reply(created(4, 9))
    process = kernel.process()
    assert process.listdir("/") == ["a", "b"]
    process.open("/new", os.O_CREAT | os.O_WRONLY, 0o600)
    daemon.verify()


def test_a_signal_reaches_a_caller_whose_request_the_test_holds() -> None:
    with Kernel("threads", policy="linux") as kernel, MockDaemon(kernel) as daemon:
        process = kernel.process()
        process.signal(signal.SIGUSR1, lambda number: None)
        held = daemon.expect.lookup(1, b"f").hold()
        interrupt = daemon.expect.interrupt(unique=lambda unique: unique == held.asked[0].unique)
        found: list[int | None] = []

        def call() -> None:
            with pytest.raises(InterruptedError) as caught:
                process.stat("/f")
            found.append(caught.value.errno)

        caller = threading.Thread(target=call)
        caller.start()
        held.wait()
        process.kill(signal.SIGUSR1)
        interrupt.wait()
        held.wait().error(errno.EINTR)
        caller.join(20)
        assert found == [errno.EINTR]
