"""The version, kept here once."""

__version__ = "0.1.0"
