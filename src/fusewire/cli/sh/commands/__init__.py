"""What can be done in the shell, a file a group. Importing this fills ``registry.COMMANDS``."""

from . import attributes, contents, listing, names, session

__all__ = ["attributes", "contents", "listing", "names", "session"]
