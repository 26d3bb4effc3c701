"""The VFS: tasks with files and credentials, paths, inodes, dentries, open files, and the FUSE operations under them.

System calls are coroutines named as Linux names them (``sys_unlink``, ``fuse_unlink``); errors are OSError with Linux's errno.
"""

from .address_space import AddressSpace, BusError, SegmentationFault, UserMemory
from .files import DeviceFile, File, FilesStruct
from .flusher import Flusher
from .fuse_super import FuseSuper
from .inode import Dentry, Inode
from .page_cache import Page, PageCache, PageLru
from .program import Cred, Program, ProgramTask
from .rootfs import RootSuper

__all__ = [
    "AddressSpace",
    "BusError",
    "Cred",
    "Dentry",
    "DeviceFile",
    "File",
    "FilesStruct",
    "Flusher",
    "FuseSuper",
    "Inode",
    "Page",
    "PageCache",
    "PageLru",
    "Program",
    "ProgramTask",
    "RootSuper",
    "SegmentationFault",
    "UserMemory",
]
