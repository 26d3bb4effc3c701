"""A filesystem in memory with all that POSIX and Linux ask of one.

Read it from the bottom: ``nodes`` (what an inode is), ``pages`` (a file's contents), ``acl`` and ``locks`` (their rules, on
plain values); then the operations by subject, ``inodes``, ``names``, ``directories``, ``files``, ``xattrs`` and ``locking``,
which ``filesystem`` puts together.
"""

from .filesystem import MemoryFS

__all__ = ["MemoryFS"]
