"""The same filesystems on other libraries, as fast as those allow.

``python -m benchmarks.peers.NAME MOUNTPOINT SOURCE off|on [one]``; ``one`` takes one thread, or task, instead of several.

Caches off: entry and attribute timeouts of 0 and direct I/O. Caches on: 1 second, and the page cache.
"""
