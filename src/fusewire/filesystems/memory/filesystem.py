"""``MemoryFS``: all operations together, and what is there from the start."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

from . import pages
from .directories import Directories
from .files import Files
from .inodes import ROOT
from .locking import Locking
from .names import Names
from .nodes import Directory, File
from .xattrs import ExtendedAttributes


class MemoryFS(Names, Directories, Files, ExtendedAttributes, Locking):
    """A filesystem in memory: files, directories, links, devices, extended attributes, ACLs and locks, as POSIX and Linux
    have them. What is made belongs to whoever makes it; access is the kernel's to check (``default_permissions``).

    ``files``: what is there from the start, paths to contents; directories above them are made. ``nodes`` are the inodes by
    number. ``size``: how many bytes of contents it holds, in pages of 4 KiB (None: half of the machine's memory). All else
    may take half as much again, but always 1 MiB: an inode counts for 1 KiB, a name for 512 bytes, a symbolic link for what it
    leads to, an extended attribute for name, value and 256 bytes. More raises OSError(ENOSPC).
    """

    def __init__(self, files: Mapping[str, bytes] | None = None, *, size: int | None = None) -> None:
        super().__init__(size)
        for path, data in (files or {}).items():
            self._put(path, data)

    def _put(self, path: str, data: bytes) -> None:
        """Put a file there, with the directories above it."""
        *above, last = [os.fsencode(name) for name in path.split("/") if name]
        directory = self._directory(ROOT)
        uid, gid = directory.uid, directory.gid
        for name in above:
            if name not in directory.links:
                self._add(directory, name, Directory(self._number(), stat.S_IFDIR | 0o755, uid, gid, directory))
            directory = self._directory(directory.find(name).ino)
        node = File(self._number(), stat.S_IFREG | 0o644, uid, gid)
        self._add(directory, last, node)
        if len(data) > self._space.free * pages.PAGE:
            raise OSError(errno.ENOSPC, f"{path} does not fit: its {len(data)} bytes are more than is left of the size")
        pages.write(node, self._space, 0, data)
