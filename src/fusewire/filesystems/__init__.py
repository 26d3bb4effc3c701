"""Filesystems ready to mount. They see only the public names of ``fusewire.daemon``."""

from .memory import MemoryFS
from .passthrough import PassthroughFS

__all__ = ["MemoryFS", "PassthroughFS"]
