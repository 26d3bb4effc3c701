"""A directory mirrored on mfusepy, by path; open files by descriptor, with no path."""

from __future__ import annotations

import os
from typing import Any

import mfusepy

from .mfusepy_run import arguments, run


class Passthrough(mfusepy.Operations):
    """A file's handle is its descriptor."""

    use_ns = True
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(self, source: str) -> None:
        self.source = source

    def getattr(self, path: str | None, fi: Any = None) -> dict[str, int]:
        st = os.fstat(fi.fh) if path is None else os.lstat(self.source + path)
        return {
            "st_mode": st.st_mode, "st_nlink": st.st_nlink, "st_uid": st.st_uid, "st_gid": st.st_gid,
            "st_size": st.st_size, "st_blocks": st.st_blocks, "st_rdev": st.st_rdev,
            "st_atime": st.st_atime_ns, "st_mtime": st.st_mtime_ns, "st_ctime": st.st_ctime_ns,
        }  # fmt: skip

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self.source + path, mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.lchown(self.source + path, uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self.source + path, ns=times, follow_symlinks=False)
        return 0

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        os.truncate(self.source + path if path is not None else fh or 0, length)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        fi.fh = os.open(self.source + path, fi.flags | os.O_CREAT, mode)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self.source + path, mode)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self.source + path)
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self.source + old, self.source + new)
        return 0

    def open(self, path: str, fi: Any) -> int:
        fi.fh = os.open(self.source + path, fi.flags)
        return 0

    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        return os.pread(fi.fh, size, offset)

    def write(self, path: str | None, data: bytes, offset: int, fi: Any) -> int:
        return os.pwrite(fi.fh, data, offset)

    def flush(self, path: str | None, fi: Any) -> int:
        """As libfuse's example does: an error of close(2) would come out here."""
        os.close(os.dup(fi.fh))
        return 0

    def release(self, path: str | None, fi: Any) -> int:
        os.close(fi.fh)
        return 0

    def opendir(self, path: str) -> int:
        return os.open(self.source + path, os.O_RDONLY | os.O_DIRECTORY)

    def readdir(self, path: str | None, fh: int) -> Any:
        yield "."
        yield ".."
        with os.scandir(fh) as entries:
            for entry in entries:
                yield entry.name, 0o040000 if entry.is_dir(follow_symlinks=False) else 0o100000, 0

    def releasedir(self, path: str | None, fh: int) -> int:
        os.close(fh)
        return 0


if __name__ == "__main__":
    mountpoint, source, cached = arguments()
    os.umask(0)
    run(Passthrough(source), mountpoint, cached)
