"""The kernel's half of FUSE in user space: the left column of ``kernel.txt``, sans I/O.

``queue`` holds requests and who waits for them, ``vfs`` the system calls on top. Nothing here owns a thread or a clock:
every operation is a coroutine that a driver (``fusewire.drive``, or the explorer) runs.
"""
