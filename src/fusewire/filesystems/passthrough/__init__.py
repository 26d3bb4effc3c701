"""A directory mirrored: every operation is the host's own, on descriptors and never on paths."""

from .filesystem import PassthroughFS

__all__ = ["PassthroughFS"]
