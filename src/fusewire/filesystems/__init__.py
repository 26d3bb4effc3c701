"""Filesystems ready to mount. They see only the public names of ``fusewire.daemon``."""

from .memory import MemoryFS

__all__ = ["MemoryFS"]
