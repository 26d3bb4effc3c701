"""What belongs to files: chmod, chown, stat, df, xattr."""

from __future__ import annotations

import os
import stat as stat_module
import time
from collections.abc import Iterator

from ..modes import group_name, human, parse_mode, parse_owner, user_name
from ..registry import Options, Run, UsageError, command, printable

KINDS = {
    stat_module.S_IFREG: "regular file",
    stat_module.S_IFDIR: "directory",
    stat_module.S_IFLNK: "symbolic link",
    stat_module.S_IFIFO: "FIFO",
    stat_module.S_IFSOCK: "socket",
    stat_module.S_IFBLK: "block device",
    stat_module.S_IFCHR: "character device",
}


def _with_below(run: Run, path: str, recursive: bool) -> Iterator[str]:
    """``path``, and with ``recursive`` all below; links are not followed."""
    yield path
    if recursive and stat_module.S_ISDIR(run.process.lstat(path).st_mode):
        for name in sorted(os.fsdecode(name) for name in run.process.listdir(path)):
            yield from _with_below(run, os.path.join(path, name), recursive)


@command("chmod [-R] MODE PATH...", "change modes: 640, u+x, go-w, ... (-R: all below, too)", options=None, least=2)
def chmod(run: Run, options: Options, words: list[str]) -> None:
    recursive = words[0] == "-R"  # by hand: a mode may begin with a minus sign
    mode, *paths = words[recursive:]
    if not paths:
        raise UsageError("usage: chmod [-R] MODE PATH...")
    parse_mode(mode, 0, 0)
    for top in paths:
        with run.telling(top):
            for path in _with_below(run, top, recursive):
                with run.telling(path):
                    if path != top and stat_module.S_ISLNK(run.process.lstat(path).st_mode):
                        continue  # a link's mode is never used, and what it leads to was not asked for
                    before = run.process.stat(path).st_mode
                    run.process.chmod(path, parse_mode(mode, before, run.process.program.umask))


@command("chown [-R] [-h] USER[:GROUP] PATH...", "change owners (-h: of links themselves)", options="Rh", least=2)
def chown(run: Run, options: Options, words: list[str]) -> None:
    uid, gid = parse_owner(words[0])
    for top in words[1:]:
        with run.telling(top):
            for path in _with_below(run, top, "R" in options):
                with run.telling(path):
                    run.process.chown(path, uid, gid, follow_symlinks="h" not in options and path == top)


@command("stat [-L] PATH...", "all attributes (-L: of what a link leads to)", options="L", least=1)
def stat(run: Run, options: Options, words: list[str]) -> None:
    for path in words:
        with run.telling(path):
            st = run.process.stat(path, follow_symlinks="L" in options)
            name = printable(path) if run.pretty else path
            if stat_module.S_ISLNK(st.st_mode):
                target = os.fsdecode(run.process.readlink(path))
                name += " -> " + (printable(target) if run.pretty else target)
            mode = f"{stat_module.S_IMODE(st.st_mode):04o} {stat_module.filemode(st.st_mode)}"
            owner = f"{st.st_uid} ({user_name(st.st_uid)})  group {st.st_gid} ({group_name(st.st_gid)})"
            run.print(f"  file  {name}")
            run.print(f"  type  {KINDS.get(stat_module.S_IFMT(st.st_mode), 'unknown')}")
            run.print(f"  size  {st.st_size}  blocks {st.st_blocks}  block size {st.st_blksize}")
            run.print(f" inode  {st.st_ino}  links {st.st_nlink}  device {st.st_dev:#x}{_device(st)}")
            run.print(f"  mode  {mode}")
            run.print(f" owner  {owner}")
            for label, ns in (("access", st.st_atime_ns), ("modify", st.st_mtime_ns), ("change", st.st_ctime_ns)):
                run.print(f"{label}  {_moment(ns)}")


def _device(st: os.stat_result) -> str:
    if stat_module.S_ISCHR(st.st_mode) or stat_module.S_ISBLK(st.st_mode):
        return f"  is device {os.major(st.st_rdev)}, {os.minor(st.st_rdev)}"
    return ""


def _moment(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        local = time.localtime(seconds)
    except (OverflowError, OSError, ValueError):
        return f"{seconds}.{rest:09}"
    return time.strftime(f"%Y-%m-%d %H:%M:%S.{rest:09} %z", local)


@command("df [PATH]", "how much the filesystem holds, and is free", most=1)
def df(run: Run, options: Options, words: list[str]) -> None:
    path = words[0] if words else "."
    st = run.process.statvfs(path)
    unit = st.f_frsize or st.f_bsize
    total, free = st.f_blocks * unit, st.f_bavail * unit
    used = total - st.f_bfree * unit
    part = f"{100 * used / (used + free):.0f}%" if used + free else "-"
    rows = [("", "size", "used", "free", "in use"), ("bytes", human(total), human(used), human(free), part)]
    inodes = st.f_files - st.f_ffree
    part = f"{100 * inodes / st.f_files:.0f}%" if st.f_files else "-"
    rows.append(("inodes", str(st.f_files), str(inodes), str(st.f_ffree), part))
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    for row in rows:
        run.print(f"{row[0]:{widths[0]}}  " + "  ".join(f"{row[at]:>{widths[at]}}" for at in range(1, 5)))


@command(
    "xattr list PATH... | get NAME PATH | set NAME VALUE PATH | remove NAME PATH", "extended attributes", options="h", least=2
)  # fmt: skip
def xattr(run: Run, options: Options, words: list[str]) -> None:
    action, *rest = words
    process = run.process
    follow = "h" not in options
    match action, rest:
        case "list", [_, *_]:
            for path in rest:
                with run.telling(path):
                    for name in sorted(process.listxattr(path, follow_symlinks=follow)):
                        run.print(f"{path}: {name}" if len(rest) > 1 else name)
        case "get", [name, path]:
            with run.telling(f"{path}: {name}"):
                value = process.getxattr(path, name, follow_symlinks=follow)
                if run.pretty:
                    run.print(printable(os.fsdecode(value)))
                else:
                    run.out.write(value + b"\n")
        case "set", [name, value_text, path]:
            with run.telling(f"{path}: {name}"):
                process.setxattr(path, name, os.fsencode(value_text), follow_symlinks=follow)
        case "remove", [name, path]:
            with run.telling(f"{path}: {name}"):
                process.removexattr(path, name, follow_symlinks=follow)
        case _:
            raise UsageError("usage: xattr list PATH... | get NAME PATH | set NAME VALUE PATH | remove NAME PATH")
