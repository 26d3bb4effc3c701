"""The system calls, as a program makes them: paths and descriptors in, numbers and bytes out, OSError for what fails.

One file a subject, named as Linux's. Lock order: the semaphore of the directory, then that of what it names. A wait for
either can be ended (see ``Policy``).
"""

from .attr import UTIME_OMIT, Where, sys_chmod, sys_chown, sys_ftruncate, sys_truncate, sys_utimensat
from .exec import begin_new_exec, sys_execve
from .locks import sys_flock, sys_getlk, sys_setlk
from .mmap import MS_ASYNC, MS_SYNC, load, store, sys_madvise, sys_mmap, sys_mprotect, sys_msync, sys_munmap
from .names import sys_link, sys_mkdir, sys_mknod, sys_rename, sys_rmdir, sys_symlink, sys_unlink
from .open import fd_flags, set_fd_flags, sys_close, sys_close_range, sys_dup, sys_dup2, sys_open, sys_pipe
from .poll import sys_ioctl, sys_poll
from .process import (
    MNT_DETACH,
    cover,
    fork,
    set_groups,
    set_id,
    set_ids,
    sys_chdir,
    sys_chroot,
    sys_exit,
    sys_fchdir,
    sys_mount,
    sys_remount,
    sys_umount,
    uncover,
)
from .read_write import (
    sys_copy_file_range,
    sys_fadvise,
    sys_fallocate,
    sys_fsync,
    sys_getdents,
    sys_lseek,
    sys_read,
    sys_sync,
    sys_syncfs,
    sys_write,
)
from .splice import sys_sendfile, sys_splice
from .stat import sys_access, sys_fstat, sys_fstatfs, sys_readlink, sys_stat, sys_statfs, sys_statx
from .xattr import sys_getxattr, sys_listxattr, sys_removexattr, sys_setxattr

__all__ = [
    "MNT_DETACH", "MS_ASYNC", "MS_SYNC", "UTIME_OMIT", "Where", "begin_new_exec", "cover", "fd_flags", "fork", "load",
    "set_fd_flags", "set_groups", "set_id", "set_ids", "store", "sys_access", "sys_chdir", "sys_chmod", "sys_chown",
    "sys_chroot", "sys_close", "sys_close_range", "sys_copy_file_range", "sys_dup", "sys_dup2", "sys_execve", "sys_exit",
    "sys_fadvise", "sys_fallocate", "sys_fchdir", "sys_flock", "sys_fstat", "sys_fstatfs", "sys_fsync", "sys_ftruncate",
    "sys_getdents", "sys_getlk", "sys_getxattr", "sys_ioctl", "sys_link", "sys_listxattr", "sys_lseek", "sys_madvise",
    "sys_mkdir", "sys_mknod", "sys_mmap", "sys_mount", "sys_mprotect", "sys_msync", "sys_munmap", "sys_open",
    "sys_pipe", "sys_poll", "sys_read", "sys_readlink", "sys_remount", "sys_removexattr", "sys_rename", "sys_rmdir",
    "sys_sendfile", "sys_setlk", "sys_setxattr", "sys_splice", "sys_stat", "sys_statfs", "sys_statx", "sys_symlink", "sys_sync",
    "sys_syncfs", "sys_truncate", "sys_umount", "sys_unlink", "sys_utimensat", "sys_write", "uncover",
]  # fmt: skip
