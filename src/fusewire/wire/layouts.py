"""Every struct of the FUSE protocol (7.46), named and laid out as in ``<linux/fuse.h>``.

``FUSE_X_IN`` there is ``XIn`` here, its compiled form ``X_IN``. Units: times are seconds and nanoseconds apart, sizes and
offsets bytes, ``*_valid`` how many seconds the kernel may cache. Fields that a caller leaves out are zero.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from .layout import Layout, i32, i64, spare, u16, u32, u64


class InHeader(NamedTuple):
    """Before every request. ``len`` counts the whole message; ``total_extlen`` the extensions, in 8-byte units (7.38)."""

    len: u32 = 0
    opcode: u32 = 0
    unique: u64 = 0
    nodeid: u64 = 0
    uid: u32 = 0
    gid: u32 = 0
    pid: u32 = 0
    total_extlen: u16 = 0
    padding: u16 = 0


class OutHeader(NamedTuple):
    """Before every answer. ``error`` is 0 or a negated errno; in a notification (unique 0) it is the notify code."""

    len: u32 = 0
    error: i32 = 0
    unique: u64 = 0


class Attr(NamedTuple):
    ino: u64 = 0
    size: u64 = 0
    blocks: u64 = 0
    atime: u64 = 0
    mtime: u64 = 0
    ctime: u64 = 0
    atimensec: u32 = 0
    mtimensec: u32 = 0
    ctimensec: u32 = 0
    mode: u32 = 0
    nlink: u32 = 0
    uid: u32 = 0
    gid: u32 = 0
    rdev: u32 = 0
    blksize: u32 = 0
    flags: u32 = 0


class SxTime(NamedTuple):
    tv_sec: i64 = 0
    tv_nsec: u32 = 0
    reserved: i32 = 0


class Kstatfs(NamedTuple):
    blocks: u64 = 0
    bfree: u64 = 0
    bavail: u64 = 0
    files: u64 = 0
    ffree: u64 = 0
    bsize: u32 = 0
    namelen: u32 = 0
    frsize: u32 = 0
    padding: u32 = 0
    spare: Annotated[bytes, spare(24)] = bytes(24)


class FileLock(NamedTuple):
    """``end`` is inclusive; ``type`` is F_RDLCK, F_WRLCK or F_UNLCK."""

    start: u64 = 0
    end: u64 = 0
    type: u32 = 0
    pid: u32 = 0


IN_HEADER = Layout(InHeader, "fuse_in_header")
OUT_HEADER = Layout(OutHeader, "fuse_out_header")
ATTR = Layout(Attr, "fuse_attr")
SX_TIME = Layout(SxTime, "fuse_sx_time")
KSTATFS = Layout(Kstatfs, "fuse_kstatfs")
FILE_LOCK = Layout(FileLock, "fuse_file_lock")


class Statx(NamedTuple):
    mask: u32 = 0
    blksize: u32 = 0
    attributes: u64 = 0
    nlink: u32 = 0
    uid: u32 = 0
    gid: u32 = 0
    mode: u16 = 0
    spare0: u16 = 0
    ino: u64 = 0
    size: u64 = 0
    blocks: u64 = 0
    attributes_mask: u64 = 0
    atime: SxTime = SxTime()
    btime: SxTime = SxTime()
    ctime: SxTime = SxTime()
    mtime: SxTime = SxTime()
    rdev_major: u32 = 0
    rdev_minor: u32 = 0
    dev_major: u32 = 0
    dev_minor: u32 = 0
    spare2: Annotated[bytes, spare(112)] = bytes(112)


class EntryOut(NamedTuple):
    """``nodeid`` 0 with ``entry_valid`` > 0 is a negative entry that may be cached."""

    nodeid: u64 = 0
    generation: u64 = 0
    entry_valid: u64 = 0
    attr_valid: u64 = 0
    entry_valid_nsec: u32 = 0
    attr_valid_nsec: u32 = 0
    attr: Attr = Attr()


class ForgetIn(NamedTuple):
    nlookup: u64 = 0


class ForgetOne(NamedTuple):
    nodeid: u64 = 0
    nlookup: u64 = 0


class BatchForgetIn(NamedTuple):
    count: u32 = 0  # type: ignore[assignment]  # hides tuple.count
    dummy: u32 = 0


class GetattrIn(NamedTuple):
    getattr_flags: u32 = 0
    dummy: u32 = 0
    fh: u64 = 0


class AttrOut(NamedTuple):
    attr_valid: u64 = 0
    attr_valid_nsec: u32 = 0
    dummy: u32 = 0
    attr: Attr = Attr()


class StatxIn(NamedTuple):
    getattr_flags: u32 = 0
    reserved: u32 = 0
    fh: u64 = 0
    sx_flags: u32 = 0
    sx_mask: u32 = 0


STATX = Layout(Statx, "fuse_statx")
ENTRY_OUT = Layout(EntryOut, "fuse_entry_out")
FORGET_IN = Layout(ForgetIn, "fuse_forget_in")
FORGET_ONE = Layout(ForgetOne, "fuse_forget_one")
BATCH_FORGET_IN = Layout(BatchForgetIn, "fuse_batch_forget_in")
GETATTR_IN = Layout(GetattrIn, "fuse_getattr_in")
ATTR_OUT = Layout(AttrOut, "fuse_attr_out")
STATX_IN = Layout(StatxIn, "fuse_statx_in")


class StatxOut(NamedTuple):
    attr_valid: u64 = 0
    attr_valid_nsec: u32 = 0
    flags: u32 = 0
    spare: Annotated[bytes, spare(16)] = bytes(16)
    stat: Statx = Statx()


class MknodIn(NamedTuple):
    mode: u32 = 0
    rdev: u32 = 0
    umask: u32 = 0
    padding: u32 = 0


class MkdirIn(NamedTuple):
    mode: u32 = 0
    umask: u32 = 0


class RenameIn(NamedTuple):
    newdir: u64 = 0


class Rename2In(NamedTuple):
    newdir: u64 = 0
    flags: u32 = 0
    padding: u32 = 0


class LinkIn(NamedTuple):
    oldnodeid: u64 = 0


class SetattrIn(NamedTuple):
    """``valid`` (FATTR_*) says which of the others count."""

    valid: u32 = 0
    padding: u32 = 0
    fh: u64 = 0
    size: u64 = 0
    lock_owner: u64 = 0
    atime: u64 = 0
    mtime: u64 = 0
    ctime: u64 = 0
    atimensec: u32 = 0
    mtimensec: u32 = 0
    ctimensec: u32 = 0
    mode: u32 = 0
    unused4: u32 = 0
    uid: u32 = 0
    gid: u32 = 0
    unused5: u32 = 0


class OpenIn(NamedTuple):
    flags: u32 = 0
    open_flags: u32 = 0


class CreateIn(NamedTuple):
    flags: u32 = 0
    mode: u32 = 0
    umask: u32 = 0
    open_flags: u32 = 0


class OpenOut(NamedTuple):
    fh: u64 = 0
    open_flags: u32 = 0
    backing_id: i32 = 0


class ReleaseIn(NamedTuple):
    fh: u64 = 0
    flags: u32 = 0
    release_flags: u32 = 0
    lock_owner: u64 = 0


class FlushIn(NamedTuple):
    fh: u64 = 0
    unused: u32 = 0
    padding: u32 = 0
    lock_owner: u64 = 0


class ReadIn(NamedTuple):
    fh: u64 = 0
    offset: u64 = 0
    size: u32 = 0
    read_flags: u32 = 0
    lock_owner: u64 = 0
    flags: u32 = 0
    padding: u32 = 0


class WriteIn(NamedTuple):
    fh: u64 = 0
    offset: u64 = 0
    size: u32 = 0
    write_flags: u32 = 0
    lock_owner: u64 = 0
    flags: u32 = 0
    padding: u32 = 0


class WriteOut(NamedTuple):
    size: u32 = 0
    padding: u32 = 0


class StatfsOut(NamedTuple):
    st: Kstatfs = Kstatfs()


STATX_OUT = Layout(StatxOut, "fuse_statx_out")
MKNOD_IN = Layout(MknodIn, "fuse_mknod_in")
MKDIR_IN = Layout(MkdirIn, "fuse_mkdir_in")
RENAME_IN = Layout(RenameIn, "fuse_rename_in")
RENAME2_IN = Layout(Rename2In, "fuse_rename2_in")
LINK_IN = Layout(LinkIn, "fuse_link_in")
SETATTR_IN = Layout(SetattrIn, "fuse_setattr_in")
OPEN_IN = Layout(OpenIn, "fuse_open_in")
CREATE_IN = Layout(CreateIn, "fuse_create_in")
OPEN_OUT = Layout(OpenOut, "fuse_open_out")
RELEASE_IN = Layout(ReleaseIn, "fuse_release_in")
FLUSH_IN = Layout(FlushIn, "fuse_flush_in")
READ_IN = Layout(ReadIn, "fuse_read_in")
WRITE_IN = Layout(WriteIn, "fuse_write_in")
WRITE_OUT = Layout(WriteOut, "fuse_write_out")
STATFS_OUT = Layout(StatfsOut, "fuse_statfs_out")


class FsyncIn(NamedTuple):
    fh: u64 = 0
    fsync_flags: u32 = 0
    padding: u32 = 0


class SetxattrIn(NamedTuple):
    """Only the first 8 bytes are sent unless SETXATTR_EXT was negotiated (7.33)."""

    size: u32 = 0
    flags: u32 = 0
    setxattr_flags: u32 = 0
    padding: u32 = 0


class GetxattrIn(NamedTuple):
    size: u32 = 0
    padding: u32 = 0


class GetxattrOut(NamedTuple):
    size: u32 = 0
    padding: u32 = 0


class LkIn(NamedTuple):
    fh: u64 = 0
    owner: u64 = 0
    lk: FileLock = FileLock()
    lk_flags: u32 = 0
    padding: u32 = 0


class LkOut(NamedTuple):
    lk: FileLock = FileLock()


class AccessIn(NamedTuple):
    mask: u32 = 0
    padding: u32 = 0


class InitIn(NamedTuple):
    """Kernels before 7.36 send the first 16 bytes only."""

    major: u32 = 0
    minor: u32 = 0
    max_readahead: u32 = 0
    flags: u32 = 0
    flags2: u32 = 0
    unused: Annotated[bytes, spare(44)] = bytes(44)


class InitOut(NamedTuple):
    """24 bytes are what kernels before 7.23 take. ``request_timeout`` is in seconds."""

    major: u32 = 0
    minor: u32 = 0
    max_readahead: u32 = 0
    flags: u32 = 0
    max_background: u16 = 0
    congestion_threshold: u16 = 0
    max_write: u32 = 0
    time_gran: u32 = 0
    max_pages: u16 = 0
    map_alignment: u16 = 0
    flags2: u32 = 0
    max_stack_depth: u32 = 0
    request_timeout: u16 = 0
    unused: Annotated[bytes, spare(22)] = bytes(22)


class CuseInitIn(NamedTuple):
    major: u32 = 0
    minor: u32 = 0
    unused: u32 = 0
    flags: u32 = 0


class CuseInitOut(NamedTuple):
    major: u32 = 0
    minor: u32 = 0
    unused: u32 = 0
    flags: u32 = 0
    max_read: u32 = 0
    max_write: u32 = 0
    dev_major: u32 = 0
    dev_minor: u32 = 0
    spare: Annotated[bytes, spare(40)] = bytes(40)


class InterruptIn(NamedTuple):
    unique: u64 = 0


class BmapIn(NamedTuple):
    block: u64 = 0
    blocksize: u32 = 0
    padding: u32 = 0


class BmapOut(NamedTuple):
    block: u64 = 0


class IoctlIn(NamedTuple):
    fh: u64 = 0
    flags: u32 = 0
    cmd: u32 = 0
    arg: u64 = 0
    in_size: u32 = 0
    out_size: u32 = 0


class IoctlIovec(NamedTuple):
    base: u64 = 0
    len: u64 = 0


class IoctlOut(NamedTuple):
    result: i32 = 0
    flags: u32 = 0
    in_iovs: u32 = 0
    out_iovs: u32 = 0


class PollIn(NamedTuple):
    fh: u64 = 0
    kh: u64 = 0
    flags: u32 = 0
    events: u32 = 0


class PollOut(NamedTuple):
    revents: u32 = 0
    padding: u32 = 0


FSYNC_IN = Layout(FsyncIn, "fuse_fsync_in")
SETXATTR_IN = Layout(SetxattrIn, "fuse_setxattr_in")
GETXATTR_IN = Layout(GetxattrIn, "fuse_getxattr_in")
GETXATTR_OUT = Layout(GetxattrOut, "fuse_getxattr_out")
LK_IN = Layout(LkIn, "fuse_lk_in")
LK_OUT = Layout(LkOut, "fuse_lk_out")
ACCESS_IN = Layout(AccessIn, "fuse_access_in")
INIT_IN = Layout(InitIn, "fuse_init_in")
INIT_OUT = Layout(InitOut, "fuse_init_out")
CUSE_INIT_IN = Layout(CuseInitIn, "cuse_init_in")
CUSE_INIT_OUT = Layout(CuseInitOut, "cuse_init_out")
INTERRUPT_IN = Layout(InterruptIn, "fuse_interrupt_in")
BMAP_IN = Layout(BmapIn, "fuse_bmap_in")
BMAP_OUT = Layout(BmapOut, "fuse_bmap_out")
IOCTL_IN = Layout(IoctlIn, "fuse_ioctl_in")
IOCTL_IOVEC = Layout(IoctlIovec, "fuse_ioctl_iovec")
IOCTL_OUT = Layout(IoctlOut, "fuse_ioctl_out")
POLL_IN = Layout(PollIn, "fuse_poll_in")
POLL_OUT = Layout(PollOut, "fuse_poll_out")


class FallocateIn(NamedTuple):
    fh: u64 = 0
    offset: u64 = 0
    length: u64 = 0
    mode: u32 = 0
    padding: u32 = 0


class LseekIn(NamedTuple):
    fh: u64 = 0
    offset: u64 = 0
    whence: u32 = 0
    padding: u32 = 0


class LseekOut(NamedTuple):
    offset: u64 = 0


class CopyFileRangeIn(NamedTuple):
    fh_in: u64 = 0
    off_in: u64 = 0
    nodeid_out: u64 = 0
    fh_out: u64 = 0
    off_out: u64 = 0
    len: u64 = 0
    flags: u64 = 0


class CopyFileRangeOut(NamedTuple):
    bytes_copied: u64 = 0


class SetupmappingIn(NamedTuple):
    fh: u64 = 0
    foffset: u64 = 0
    len: u64 = 0
    flags: u64 = 0
    moffset: u64 = 0


class RemovemappingIn(NamedTuple):
    count: u32 = 0  # type: ignore[assignment]  # hides tuple.count


class RemovemappingOne(NamedTuple):
    moffset: u64 = 0
    len: u64 = 0


class SyncfsIn(NamedTuple):
    padding: u64 = 0


class Dirent(NamedTuple):
    """Before a name in READDIR's answer; ``off`` is the cookie at which the next READDIR goes on."""

    ino: u64 = 0
    off: u64 = 0
    namelen: u32 = 0
    type: u32 = 0


class Direntplus(NamedTuple):
    entry_out: EntryOut = EntryOut()
    dirent: Dirent = Dirent()


class ExtHeader(NamedTuple):
    """``size`` counts this header and the padding to 8 bytes."""

    size: u32 = 0
    type: u32 = 0


class SecctxHeader(NamedTuple):
    size: u32 = 0
    nr_secctx: u32 = 0


class Secctx(NamedTuple):
    size: u32 = 0
    padding: u32 = 0


class SuppGroups(NamedTuple):
    nr_groups: u32 = 0


FALLOCATE_IN = Layout(FallocateIn, "fuse_fallocate_in")
LSEEK_IN = Layout(LseekIn, "fuse_lseek_in")
LSEEK_OUT = Layout(LseekOut, "fuse_lseek_out")
COPY_FILE_RANGE_IN = Layout(CopyFileRangeIn, "fuse_copy_file_range_in")
COPY_FILE_RANGE_OUT = Layout(CopyFileRangeOut, "fuse_copy_file_range_out")
SETUPMAPPING_IN = Layout(SetupmappingIn, "fuse_setupmapping_in")
REMOVEMAPPING_IN = Layout(RemovemappingIn, "fuse_removemapping_in")
REMOVEMAPPING_ONE = Layout(RemovemappingOne, "fuse_removemapping_one")
SYNCFS_IN = Layout(SyncfsIn, "fuse_syncfs_in")
DIRENT = Layout(Dirent, "fuse_dirent")
DIRENTPLUS = Layout(Direntplus, "fuse_direntplus")
EXT_HEADER = Layout(ExtHeader, "fuse_ext_header")
SECCTX_HEADER = Layout(SecctxHeader, "fuse_secctx_header")
SECCTX = Layout(Secctx, "fuse_secctx")
SUPP_GROUPS = Layout(SuppGroups, "fuse_supp_groups")


class NotifyPollWakeupOut(NamedTuple):
    kh: u64 = 0


class NotifyInvalInodeOut(NamedTuple):
    """``off`` < 0: attributes only. ``len`` 0: to the end of the file."""

    ino: u64 = 0
    off: i64 = 0
    len: i64 = 0


class NotifyInvalEntryOut(NamedTuple):
    parent: u64 = 0
    namelen: u32 = 0
    flags: u32 = 0


class NotifyDeleteOut(NamedTuple):
    parent: u64 = 0
    child: u64 = 0
    namelen: u32 = 0
    padding: u32 = 0


class NotifyStoreOut(NamedTuple):
    nodeid: u64 = 0
    offset: u64 = 0
    size: u32 = 0
    padding: u32 = 0


class NotifyRetrieveOut(NamedTuple):
    notify_unique: u64 = 0
    nodeid: u64 = 0
    offset: u64 = 0
    size: u32 = 0
    padding: u32 = 0


class NotifyRetrieveIn(NamedTuple):
    """The body of NOTIFY_REPLY; laid out over ``fuse_write_in``."""

    dummy1: u64 = 0
    offset: u64 = 0
    size: u32 = 0
    dummy2: u32 = 0
    dummy3: u64 = 0
    dummy4: u64 = 0


class NotifyPruneOut(NamedTuple):
    count: u32 = 0  # type: ignore[assignment]  # hides tuple.count
    padding: u32 = 0
    spare: u64 = 0


class BackingMap(NamedTuple):
    fd: i32 = 0
    flags: u32 = 0
    padding: u64 = 0


class UringEntInOut(NamedTuple):
    flags: u64 = 0
    commit_id: u64 = 0
    payload_sz: u32 = 0
    offset: u32 = 0
    reserved: u64 = 0


URING_ENT_IN_OUT = Layout(UringEntInOut, "fuse_uring_ent_in_out")


class UringReqHeader(NamedTuple):
    """``in_out``: ``fuse_in_header`` of a request, ``fuse_out_header`` of its answer; ``op_in``: the struct behind it."""

    in_out: Annotated[bytes, spare(128)] = bytes(128)
    op_in: Annotated[bytes, spare(128)] = bytes(128)
    ring_ent_in_out: UringEntInOut = UringEntInOut()


class UringCmdReq(NamedTuple):
    """The 40 bytes of 7.46; up to 7.45 ``padding`` is the last of 24. For an entry with zero copy the first 16 bits of
    ``uaddr`` are ``ent_zero_copy_buf_index`` instead."""

    flags: u64 = 0
    commit_id: u64 = 0
    qid: u16 = 0
    padding: Annotated[bytes, spare(6)] = bytes(6)
    uaddr: u64 = 0
    len: u32 = 0
    reserved: u32 = 0


NOTIFY_POLL_WAKEUP_OUT = Layout(NotifyPollWakeupOut, "fuse_notify_poll_wakeup_out")
NOTIFY_INVAL_INODE_OUT = Layout(NotifyInvalInodeOut, "fuse_notify_inval_inode_out")
NOTIFY_INVAL_ENTRY_OUT = Layout(NotifyInvalEntryOut, "fuse_notify_inval_entry_out")
NOTIFY_DELETE_OUT = Layout(NotifyDeleteOut, "fuse_notify_delete_out")
NOTIFY_STORE_OUT = Layout(NotifyStoreOut, "fuse_notify_store_out")
NOTIFY_RETRIEVE_OUT = Layout(NotifyRetrieveOut, "fuse_notify_retrieve_out")
NOTIFY_RETRIEVE_IN = Layout(NotifyRetrieveIn, "fuse_notify_retrieve_in")
NOTIFY_PRUNE_OUT = Layout(NotifyPruneOut, "fuse_notify_prune_out")
BACKING_MAP = Layout(BackingMap, "fuse_backing_map")
URING_REQ_HEADER = Layout(UringReqHeader, "fuse_uring_req_header")
URING_CMD_REQ = Layout(UringCmdReq, "fuse_uring_cmd_req")
