"""What a daemon may answer, and what is made of it: permissions that it leaves to the kernel, what it does not support, flags
of open files, old protocols."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest
from conftest import errno_of
from noted import Noted

from fusewire import Attributes, InitFlag, Kernel, Opened, Operations, Process, Settings
from fusewire.filesystems import MemoryFS
from fusewire.wire.flags import Opcode
from fusewire.wire.layouts import ENTRY_OUT, IN_HEADER, INIT_OUT, OUT_HEADER, READ_IN, InitOut, OutHeader, ReadIn

FOPEN_NONSEEKABLE, FOPEN_STREAM, FOPEN_NOFLUSH = 1 << 2, 1 << 4, 1 << 5


class Simple(Noted):
    """Checks access itself (which is not at all), and notes what it is asked."""

    settings = Settings()

    def __init__(self, **lacking: Any) -> None:
        super().__init__({"f": b"0123456789", "d/x": b""})
        for name in lacking:
            setattr(self, name, getattr(Operations, name).__get__(self))


# -- permissions -------------------------------------------------------------------------------------------------------


def test_without_default_permissions_the_daemon_decides() -> None:
    with Kernel() as kernel:
        kernel.mount(Simple(), "/")
        process = kernel.process(uid=4242, gid=4242)
        process.unlink("/f")


def test_with_default_permissions_the_mode_does() -> None:
    with Kernel() as kernel:
        kernel.mount(Simple(), "/", default_permissions=True)
        root, other = kernel.process(uid=0, gid=0), kernel.process(uid=4242, gid=4242)
        assert errno_of(lambda: other.unlink("/f")) == errno.EACCES
        assert errno_of(lambda: other.open("/f", os.O_WRONLY)) == errno.EACCES
        assert errno_of(lambda: other.chmod("/f", 0)) == errno.EPERM
        assert errno_of(lambda: other.utime("/f", (1, 1))) == errno.EPERM
        root.chmod("/d", 0o700)
        assert errno_of(lambda: other.stat("/d/x")) == errno.EACCES
        assert not other.access("/d", os.R_OK)


def test_a_sticky_directory_is_its_owners() -> None:
    with Kernel() as kernel:
        kernel.mount(Simple(), "/", default_permissions=True)
        root, other, third = (kernel.process(uid=uid, gid=uid) for uid in (0, 4242, 4243))
        root.chmod("/d", 0o1777)
        other.close(other.open("/d/theirs", os.O_CREAT))
        assert errno_of(lambda: third.unlink("/d/theirs")) == errno.EPERM
        assert errno_of(lambda: third.rename("/d/theirs", "/d/mine")) == errno.EPERM
        other.unlink("/d/theirs")


def test_an_acl_lets_in_whom_the_mode_does_not() -> None:
    import struct

    filesystem = MemoryFS({"f": b"x"})
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        root, named, other = (kernel.process(uid=uid, gid=uid) for uid in (0, 4242, 4243))
        root.chmod("/f", 0o600)
        entries = ((1, 6, 0), (2, 4, 4242), (4, 0, 0), (16, 4, 0), (32, 0, 0))
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        root.setxattr("/f", "system.posix_acl_access", acl)
        named.close(named.open("/f", os.O_RDONLY))
        assert errno_of(lambda: named.open("/f", os.O_WRONLY)) == errno.EACCES
        assert errno_of(lambda: other.open("/f", os.O_RDONLY)) == errno.EACCES
        assert errno_of(lambda: named.setxattr("/f", "system.posix_acl_access", acl)) == errno.EPERM


def test_without_allow_other_only_the_user_who_mounted_comes_in() -> None:
    with Kernel() as kernel:
        kernel.mount(Simple(), "/m", allow_other=False)
        mine, other = kernel.process(), kernel.process(uid=4242, gid=4242)
        mine.stat("/m/f")
        for call in (lambda: other.stat("/m/f"), lambda: other.stat("/m"), lambda: other.listdir("/m")):
            assert errno_of(call) == errno.EACCES
        assert other.statvfs("/m").f_blocks == 0


def test_the_umask_is_the_kernels_unless_the_daemon_wants_it() -> None:
    modes = []

    class Masked(Simple):
        def mkdir(self, parent: int, name: bytes, mode: int) -> Any:
            modes.append(mode & 0o777)
            return super().mkdir(parent, name, mode)

    class Unmasked(Masked):
        settings = Settings(flags=InitFlag.DONT_MASK)

    for kind in (Masked, Unmasked):
        with Kernel() as kernel:
            kernel.mount(kind(), "/")
            process = kernel.process()
            process.umask(0o027)
            process.mkdir("/new")
    assert modes == [0o750, 0o777]


# -- what is not supported ---------------------------------------------------------------------------------------------

Use = Callable[[Process], object]
SILENT: list[tuple[str, str, Use]] = [
    ("access", "ACCESS", lambda p: p.access("/f", 4)),
    ("flush", "FLUSH", lambda p: p.close(p.open("/f", 0))),
    ("fsync", "FSYNC", lambda p: p.fsync(p.open("/f", 0))),
    ("open", "OPEN", lambda p: p.close(p.open("/f", 0))),
    ("opendir", "OPENDIR", lambda p: p.listdir("/d")),
    ("create", "CREATE", lambda p: p.close(p.open(f"/new{p.program.files.install(object())}", os.O_CREAT))),  # type: ignore[arg-type]
    ("lseek", "LSEEK", lambda p: p.lseek(p.open("/f", 0), 3, os.SEEK_DATA)),
    ("poll", "POLL", lambda p: p.poll([(p.open("/f", 0), 5)], 0)[0][1]),
    ("statx", "STATX", lambda p: p.statx("/f", 0xFFF)),
]


@pytest.mark.parametrize(("method", "opcode", "use"), SILENT, ids=[row[0] for row in SILENT])
def test_an_unsupported_operation_is_asked_for_once_and_done_without(method: str, opcode: str, use: Use) -> None:
    filesystem = Simple(**{method: None})
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        first = use(process)
        assert use(process) == first
        assert filesystem.asked.count(opcode) == 1
        process.program.files.table = {
            fd: file for fd, file in process.program.files.table.items() if type(file) is not object
        }


REFUSED: list[tuple[str, str, int, Use]] = [
    ("getxattr", "GETXATTR", errno.EOPNOTSUPP, lambda p: p.getxattr("/f", "user.x")),
    ("listxattr", "LISTXATTR", errno.EOPNOTSUPP, lambda p: p.listxattr("/f")),
    ("setxattr", "SETXATTR", errno.EOPNOTSUPP, lambda p: p.setxattr("/f", "user.x", b"")),
    ("removexattr", "REMOVEXATTR", errno.EOPNOTSUPP, lambda p: p.removexattr("/f", "user.x")),
    ("fallocate", "FALLOCATE", errno.EOPNOTSUPP, lambda p: p.posix_fallocate(p.open("/f", 2), 0, 9)),
    ("tmpfile", "TMPFILE", errno.EOPNOTSUPP, lambda p: p.open("/", os.O_TMPFILE | 2)),
    ("rename", "RENAME2", errno.EINVAL, lambda p: p.rename("/f", "/g", flags=1)),
    ("link", "LINK", errno.EPERM, lambda p: p.link("/f", "/g")),
]


@pytest.mark.parametrize(("method", "opcode", "number", "use"), REFUSED, ids=[row[0] for row in REFUSED])
def test_an_unsupported_operation_is_refused_and_not_asked_for_again(
    method: str, opcode: str, number: int, use: Use
) -> None:
    filesystem = Simple(**{method: None})
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        assert errno_of(lambda: use(process)) == number
        assert errno_of(lambda: use(process)) == number
        assert filesystem.asked.count(opcode) == 1


def test_copying_falls_back_from_64_bits_to_32_and_to_reading_and_writing() -> None:
    filesystem = Simple(copy_file_range=None)
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        source, target = process.open("/f", os.O_RDONLY), process.open("/g", os.O_RDWR | os.O_CREAT)
        assert process.copy_file_range(source, target, 100) == 10
        assert process.pread(target, 99, 0) == b"0123456789"
        asked = filesystem.asked
        assert asked.index("COPY_FILE_RANGE_64") < asked.index("COPY_FILE_RANGE") < asked.index("WRITE")
        process.copy_file_range(source, target, 100, 0, 0)
        assert asked.count("COPY_FILE_RANGE_64") == asked.count("COPY_FILE_RANGE") == 1


def test_ioctl_that_is_not_supported_is_enotty_each_time() -> None:
    filesystem = Simple()
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        fd = process.open("/f", os.O_RDONLY)
        for _ in range(2):
            assert errno_of(lambda: process.ioctl(fd, 0x1234)) == errno.ENOTTY
        assert filesystem.asked.count("IOCTL") == 2


def test_ioctl_carries_as_much_memory_as_its_number_says() -> None:
    class Doubling(Simple):
        def ioctl(self, ino: int, fh: int, cmd: int, arg: int, data: Any, out_size: int, flags: int) -> Any:
            return len(data), bytes(byte * 2 for byte in data)[:out_size]

    with Kernel() as kernel:
        kernel.mount(Doubling(), "/")
        process = kernel.process()
        fd = process.open("/f", os.O_RDONLY)
        memory = bytearray(b"\1\2\3\4\5\6")
        assert process.ioctl(fd, 3 << 30 | 4 << 16 | 0x7801, memory) == 4
        assert memory == b"\2\4\6\10\5\6"
        assert process.ioctl(fd, 3 << 30 | 4 << 16 | 0x7801, b"\1\1\1\1") == b"\2\2\2\2"
        assert errno_of(lambda: process.ioctl(fd, 3 << 30 | 4 << 16 | 0x7801, b"\1")) == errno.EFAULT


# -- open files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [FOPEN_NONSEEKABLE, FOPEN_STREAM])
def test_a_file_without_offsets_is_espipe(flag: int) -> None:
    class Stream(Simple):
        def open(self, ino: int, flags: int) -> Opened:
            super().open(ino, flags)
            return Opened(0, flag)

    with Kernel() as kernel:
        kernel.mount(Stream(), "/")
        process = kernel.process()
        fd = process.open("/f", os.O_RDWR)
        assert process.read(fd, 3) == b"012"
        for call in (
            lambda: process.lseek(fd, 0, 0),
            lambda: process.pread(fd, 1, 0),
            lambda: process.pwrite(fd, b"x", 0),
        ):
            assert errno_of(call) == errno.ESPIPE


def test_noflush_needs_no_flush() -> None:
    class Quiet(Simple):
        def open(self, ino: int, flags: int) -> Opened:
            super().open(ino, flags)
            return Opened(0, FOPEN_NOFLUSH)

    filesystem = Quiet()
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        process.close(process.open("/f", os.O_RDONLY))
        assert "FLUSH" not in filesystem.asked


def test_an_inode_that_changes_its_type_is_eio_for_ever() -> None:
    class Changing(Simple):
        attr_timeout = 0.0
        lying = False

        def getattr(self, ino: int, fh: int | None) -> Attributes:
            found = super().getattr(ino, fh)
            if not self.lying or ino == 1:
                return found
            return Attributes(found.ino, stat.S_IFDIR | 0o755)

    filesystem = Changing()
    with Kernel() as kernel:
        kernel.mount(filesystem, "/")
        process = kernel.process()
        fd = process.open("/f", os.O_RDONLY)
        filesystem.lying = True
        assert errno_of(lambda: process.fstat(fd)) == errno.EIO
        filesystem.lying = False
        assert errno_of(lambda: process.fstat(fd)) == errno.EIO
        assert errno_of(lambda: process.read(fd, 1)) == errno.EIO
        assert errno_of(lambda: process.stat("/f")) == errno.EIO
        assert errno_of(lambda: process.close(fd)) == errno.EIO
        assert process.stat("/f").st_size == 10  # the inode is gone, and the number may be another's


def test_a_daemon_of_an_old_minor_answers_shorter_structs() -> None:
    """7.8: entries of 120 bytes, no body in GETATTR, no RENAME2."""

    class Old(Simple):
        def init(self, granted: Any) -> None:
            super().init(granted)
            handle = self.session.handle

            def older(message: Any) -> Any:
                header = IN_HEADER.unpack(message)
                answer = handle(message)
                if answer is None:
                    return answer
                whole = b"".join(answer)
                if len(whole) == OUT_HEADER.size:
                    return answer
                body = whole[OUT_HEADER.size :]
                if header.opcode in (Opcode.LOOKUP, Opcode.MKDIR):
                    body = body[: ENTRY_OUT.size - 8]
                return OUT_HEADER.pack(OutHeader(OUT_HEADER.size + len(body), 0, header.unique)), body

            self.session.handle = older  # type: ignore[method-assign]

    filesystem = Old()
    with Kernel() as kernel:
        sb = kernel.mount(filesystem, "/").sb
        sb._init_out[:24] = INIT_OUT.pack(InitOut(7, 8))[:24]  # as if that had been its answer
        sb._process_init_reply(0, 24)
        process = kernel.process()
        assert process.stat("/f").st_size == 10
        process.mkdir("/new")
        assert sb.old
        assert len(sb.pack(READ_IN, ReadIn())) == 24
        assert errno_of(lambda: process.rename("/f", "/g", flags=1)) == errno.EINVAL
