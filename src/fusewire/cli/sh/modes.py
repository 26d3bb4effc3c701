"""Modes as people write and read them."""

from __future__ import annotations

import functools
import grp
import pwd
import re
import stat

from .registry import UsageError

_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")
_WHO = {"u": 0o700, "g": 0o070, "o": 0o007}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_mode(text: str, before: int, umask: int) -> int:
    """What ``text``, octal or like ``u+x,go=``, makes of the mode ``before``. Raises UsageError."""
    if re.fullmatch("[0-7]{1,5}", text):
        return int(text, 8) & 0o7777
    mode = stat.S_IMODE(before)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise UsageError(f"{text!r} is no mode: 640, u+x, go-w, a=rX, ...")
        who, operation, letters = match.groups()
        mode = _apply(mode, before, who, operation, letters, umask)
    return mode


def _apply(mode: int, before: int, who: str, operation: str, letters: str, umask: int) -> int:
    classes = "ugo" if not who or "a" in who else who
    mask = sum(_WHO[one] for one in set(classes))
    bits = 0
    for letter in letters:
        if letter == "X":
            bits |= _BITS["x"] & mask if stat.S_ISDIR(before) or mode & 0o111 else 0
        elif letter == "s":
            bits |= (stat.S_ISUID if "u" in classes else 0) | (stat.S_ISGID if "g" in classes else 0)
        elif letter == "t":
            bits |= stat.S_ISVTX
        else:
            bits |= _BITS[letter] & mask
    if not who:  # as POSIX has it: without "a" the umask is left alone
        bits &= ~umask
    if operation == "+":
        return mode | bits
    if operation == "-":
        return mode & ~bits
    kept = stat.S_ISGID | stat.S_ISUID if stat.S_ISDIR(before) else 0
    special = (stat.S_ISUID if "u" in classes else 0) | (stat.S_ISGID if "g" in classes else 0)
    return mode & ~(mask | special & ~kept) | bits


def parse_size(text: str) -> int:
    """Bytes: ``10``, ``4K``, ``1M``. Raises UsageError."""
    match = re.fullmatch(r"([0-9]+)([KMGT]?)i?B?", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is no size: bytes, or like 4K, 1M, 2G")
    return int(match[1]) * _SIZES[match[2].upper()]


def parse_owner(text: str) -> tuple[int, int]:
    """``user``, ``user:group`` or ``:group``, by name or number; -1 is what is left as it is. Raises UsageError."""
    user, _, group = text.partition(":")
    return _number(user, "user"), _number(group, "group")


def _number(name: str, what: str) -> int:
    if not name:
        return -1
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if what == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"there is no {what} {name!r}") from None


@functools.lru_cache(256)
def user_name(uid: int) -> str:
    """The user's name on this machine, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.lru_cache(256)
def group_name(gid: int) -> str:
    """The group's name on this machine, or the number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def human(size: float) -> str:
    """Bytes, in three digits or so."""
    for unit in ("", "K", "M", "G", "T"):
        if size < 1024:
            return f"{size:.0f}{unit}" if size >= 10 or not unit else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.0f}P"
