"""A mock daemon: a test says which requests are to come and what is answered, then makes the system call.

``daemon`` is the daemon itself, ``expect`` what is expected, ``answers`` what is answered, ``asked`` a request that came,
``shapes`` the names of the wire's fields, which all of them follow, ``notify`` what the daemon tells unasked.
"""

from .answers import attr, created, direntplus, dirents, entry, opened, written
from .asked import Asked
from .daemon import MockDaemon
from .expect import Expect, Expectation

__all__ = [
    "Asked",
    "Expect",
    "Expectation",
    "MockDaemon",
    "attr",
    "created",
    "dirents",
    "direntplus",
    "entry",
    "opened",
    "written",
]
