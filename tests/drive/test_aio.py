"""``process.aio``: calls as coroutines, in a loop that may itself have to answer them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from conftest import wait_until
from foreign_programs import python

import fusewire
from fusewire import Attributes, Entry, Kernel, Operations, Process, Session
from fusewire.drive.foreign import ForeignDaemon
from fusewire.drive.inline import Inline
from fusewire.filesystems import MemoryFS


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(request.param) as kernel:
        yield kernel


async def use(process: Process) -> None:
    """Write, read, list, fail."""
    fd = await process.aio.open("/m/new", os.O_CREAT | os.O_RDWR)
    assert await process.aio.write(fd, b"text") == 4
    assert await process.aio.pread(fd, 9, 0) == b"text"
    await process.aio.close(fd)
    assert sorted(await process.aio.listdir("/m")) == ["f", "new"]
    assert (await process.aio.stat("/m/f")).st_size == 8
    with pytest.raises(FileNotFoundError):
        await process.aio.stat("/m/missing")
    await process.aio.unlink("/m/new")


async def serve_in_this_loop(theirs: socket.socket) -> None:
    """The smallest daemon that lives in an event loop."""
    loop = asyncio.get_running_loop()
    theirs.setblocking(False)
    session = Session(MemoryFS({"f": b"contents"}))
    while message := await loop.sock_recv(theirs, session.buffer_size):
        answer = session.handle(message)
        assert isinstance(answer, tuple | None)
        if answer is not None:
            theirs.sendmsg(answer)


def test_every_name_of_a_process_is_there_and_what_costs_nothing_is_plain(kernel: Kernel) -> None:
    process = kernel.process("name")
    assert {name for name in dir(Process) if not name.startswith("_")} - {"kernel"} <= {*dir(process.aio)}
    assert (process.aio.pid, process.aio.comm) == (process.pid, "name")
    for name in ("_main", "nonsense"):
        with pytest.raises(AttributeError):
            getattr(process.aio, name)


def test_calls_are_awaited_and_plain_ones_work_where_no_loop_is_needed(kernel: Kernel) -> None:
    kernel.mount(MemoryFS({"f": b"contents"}), "/m")

    async def main() -> None:
        process = kernel.process()
        await use(process)
        assert process.stat("/m/f").st_size == 8

    asyncio.run(main())


def test_a_daemon_in_the_same_loop_answers_and_a_plain_call_refuses_to_block_it(kernel: Kernel) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        daemon = asyncio.create_task(serve_in_this_loop(theirs))
        mount = await asyncio.to_thread(kernel.mount_socket, ours, "/m")
        process = kernel.process()
        await use(process)
        with pytest.raises(
            RuntimeError, match=r"would block this event loop.* /m: await the same call of process\.aio"
        ):
            process.stat("/m/f")
        assert (await asyncio.to_thread(process.stat, "/m/f")).st_size == 8
        await asyncio.to_thread(mount.unmount)
        await daemon

    asyncio.run(main())


def test_a_daemon_that_the_same_loop_serves_answers(kernel: Kernel) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        served = asyncio.create_task(fusewire.serve(MemoryFS({"f": b"contents"}), f"/dev/fd/{theirs.detach()}"))
        mount = await asyncio.to_thread(kernel.mount_socket, ours, "/m")
        await use(kernel.process())
        await asyncio.to_thread(mount.unmount)
        await served

    asyncio.run(main())


class Asking(MemoryFS):
    """Answers a look-up of "ask" in an async handler, with ``how``."""

    def __init__(self, how: object) -> None:
        super().__init__({"f": b"contents"})
        self.how = how
        self.seen: list[object] = []

    async def lookup(self, parent: int, name: bytes) -> Entry:
        if name == b"ask":
            try:
                self.seen.append(await self.how())  # type: ignore[operator]
            except RuntimeError as error:
                self.seen.append(str(error))
            raise FileNotFoundError(errno.ENOENT, "it was only a question")
        return super().lookup(parent, name)


def test_an_async_handler_may_wait_for_its_own_kernel_on_threads_and_is_refused_inline(kernel: Kernel) -> None:
    process, other = kernel.process(), kernel.process("other")
    filesystem = Asking(lambda: other.aio.stat("/m"))  # /m/f would need the directory, which the look-up has
    kernel.mount(filesystem, "/m", workers=2)
    with pytest.raises(FileNotFoundError):
        process.stat("/m/ask")
    if kernel.driver.__class__.__name__ == "Threads":
        assert [st.st_ino for st in filesystem.seen] == [1]  # type: ignore[attr-defined]
    else:
        assert "use Kernel(driver='threads')" in str(filesystem.seen[0])


def test_a_plain_call_in_an_async_handler_is_refused(kernel: Kernel) -> None:
    async def plain() -> object:
        return other.stat("/m/f")

    process, other = kernel.process(), kernel.process("other")
    filesystem = Asking(plain)
    kernel.mount(filesystem, "/m", workers=2)
    with pytest.raises(FileNotFoundError):
        process.stat("/m/ask")
    assert "has to run the async handlers of the filesystem at /m" in str(filesystem.seen[0])


class Stuck(Operations):
    """A file that is never found."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def getattr(self, ino: int, fh: int | None = None) -> Attributes:
        return Attributes(ino=ino, mode=0o040755, nlink=2)

    def lookup(self, parent: int, name: bytes) -> Entry:
        self.release.wait()
        raise FileNotFoundError(errno.ENOENT, "not there")


def test_a_cancelled_coroutine_interrupts_its_call_and_the_next_one_is_not_touched() -> None:
    filesystem = Stuck()

    async def main(kernel: Kernel) -> None:
        mount = kernel.mount(filesystem, "/m", workers=2)
        process = kernel.process()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.aio.stat("/m/x"), 0.05)
        await asyncio.to_thread(wait_until, lambda: not process.aio._process._main.doing)
        filesystem.release.set()
        for _ in range(20):
            assert (await process.aio.stat("/m")).st_nlink == 2
        await asyncio.to_thread(wait_until, lambda: not mount.connection.num_waiting)
        assert process.alive

    with Kernel("threads") as kernel:
        asyncio.run(main(kernel))


def test_a_cancelled_call_to_a_daemon_that_says_nothing_is_interrupted_and_the_next_one_goes_on(kernel: Kernel) -> None:
    async def main() -> None:
        process = kernel.process()
        call = asyncio.create_task(process.aio.stat("/m"))
        await asyncio.to_thread(wait_until, lambda: mount.connection.devices[0].processing.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.wait_for(process.aio.listdir("/"), 10) == ["m"]
        await asyncio.wait_for(asyncio.to_thread(kernel.close), 10)

    mount = kernel.mount_command(python("sock.send(init(read()))\nwhile True:\n    read()"), "/m")
    assert isinstance(mount.foreign, ForeignDaemon)
    asyncio.run(main())
    assert mount.foreign.process.returncode is not None


def test_calls_are_under_way_together_on_threads() -> None:
    filesystem = Stuck()

    async def main(kernel: Kernel) -> None:
        mount = kernel.mount(filesystem, "/m")
        process = kernel.process()
        calls = [asyncio.create_task(process.aio.stat(f"/m/{number}")) for number in range(40)]
        # One holds the directory and asks; all others wait for the directory.
        await asyncio.to_thread(wait_until, lambda: len(mount.sb.root.inode.semaphore.waiters) == 39)  # type: ignore[union-attr]
        filesystem.release.set()
        outcome = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in outcome] == [FileNotFoundError] * 40

    with Kernel("threads") as kernel:
        asyncio.run(main(kernel))


def test_under_inline_calls_are_done_one_after_the_other_and_a_plain_one_between_is_refused() -> None:
    filesystem = Stuck()

    async def main(kernel: Kernel) -> None:
        kernel.mount(filesystem, "/m")
        process = kernel.process()
        calls = [asyncio.create_task(process.aio.stat(f"/m/{number}")) for number in range(3)]
        await asyncio.to_thread(wait_until, lambda: kernel.driver.current)
        with pytest.raises(RuntimeError, match=r"process\.aio is under way in another thread"):
            process.stat("/m")
        filesystem.release.set()
        outcome = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in outcome] == [FileNotFoundError] * 3

    with Kernel("inline") as kernel:
        asyncio.run(main(kernel))


def test_a_thing_that_a_call_gives_has_coroutines_too(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Listing:
        """As what scandir() gives."""

        closed = False

        def __enter__(self) -> Listing:
            return self

        def __exit__(self, *exc: object) -> None:
            self.closed = True

        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

        def count(self) -> int:
            return 2

    listing = Listing()
    monkeypatch.setattr(Process, "listing", lambda self: listing, raising=False)

    async def main() -> None:
        async with await kernel.process().aio.listing() as entries:
            assert await entries.count() == 2
            assert [name async for name in entries] == ["a", "b"]
            assert not entries.closed
        assert entries.closed

    asyncio.run(main())


def test_a_call_that_is_cancelled_just_before_it_begins_is_not_made() -> None:
    """Between the look whether it was cancelled and the task that a cancellation could reach."""
    with Kernel("threads") as kernel:
        kernel.mount(MemoryFS(), "/m")
        process = kernel.process()
        about_to, go = threading.Event(), threading.Event()
        task = process._task

        def slowly() -> object:
            about_to.set()
            assert go.wait(20)
            return task()

        async def main() -> None:
            process._task = slowly  # type: ignore[method-assign, assignment]
            call = asyncio.create_task(process.aio.mkdir("/m/d"))
            await asyncio.to_thread(about_to.wait, 20)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            process._task = task  # type: ignore[method-assign]
            go.set()
            pool = kernel.pool_of_threads
            await asyncio.to_thread(wait_until, lambda: pool._idle == pool._threads)

        asyncio.run(main())
        assert process.listdir("/m") == []


def test_an_inline_driver_of_ones_own_has_one_thread_for_calls_too() -> None:
    class Slow(MemoryFS):
        """A while in which another thread could begin a call."""

        def statfs(self, ino: int) -> fusewire.StatFS:
            threading.Event().wait(0.1)
            return super().statfs(ino)

    with Kernel(Inline()) as kernel:
        kernel.mount(Slow(), "/m")
        process = kernel.process()

        async def main() -> None:
            await asyncio.gather(*(process.aio.statvfs("/m") for _ in range(3)))

        asyncio.run(main())
