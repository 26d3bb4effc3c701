"""A POSIX suite for filesystems: one test a behaviour, on our kernel half with no mount, or in any directory.

    from fusewire.testing.conformance import conformance
    test_mine = conformance(lambda: MyFS())

The same bodies run against ``Process`` and against ``os``. A plain directory on Linux passes all of it.
"""

from .suite import FEATURES, conformance

__all__ = ["FEATURES", "conformance"]
