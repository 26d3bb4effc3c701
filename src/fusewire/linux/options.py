"""Mount options: as a typed object, and as the comma-separated words of ``mount -o`` and fstab."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS, MS_DIRSYNC = 1, 2, 4, 8, 16, 128
MS_NOATIME, MS_NODIRATIME, MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1024, 2048, 1 << 21, 1 << 24, 1 << 25

_FLAG_WORDS = {
    "sync": MS_SYNCHRONOUS, "dirsync": MS_DIRSYNC, "noatime": MS_NOATIME, "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME, "strictatime": MS_STRICTATIME, "lazytime": MS_LAZYTIME,
}  # fmt: skip
_FLAGS_OFF = {
    "async": MS_SYNCHRONOUS, "atime": MS_NOATIME, "diratime": MS_NODIRATIME, "norelatime": MS_RELATIME,
    "nostrictatime": MS_STRICTATIME, "nolazytime": MS_LAZYTIME,
}  # fmt: skip
_BOOLEANS: dict[str, tuple[str, bool]] = {
    "ro": ("read_only", True), "rw": ("read_only", False),
    "nosuid": ("nosuid", True), "suid": ("nosuid", False),
    "nodev": ("nodev", True), "dev": ("nodev", False),
    "noexec": ("noexec", True), "exec": ("noexec", False),
    "allow_other": ("allow_other", True),
    "default_permissions": ("default_permissions", True),
    "auto_unmount": ("auto_unmount", True), "noauto_unmount": ("auto_unmount", False),
}  # fmt: skip
_VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "fsname": ("fsname", str), "subtype": ("subtype", str), "max_read": ("max_read", int), "setuid": ("user", str),
}  # fmt: skip
# fstab's own words, which mount(8) passes on and which mean nothing here. What user, users, owner and group imply, mount(8)
# says by itself (nosuid, nodev, noexec).
_FSTAB = {
    "defaults", "auto", "noauto", "nofail", "_netdev", "loud", "silent", "quiet",
    "user", "users", "owner", "group", "nouser", "nousers", "noowner", "nogroup",
}  # fmt: skip
_FSTAB_BEGINNINGS = ("x-", "X-", "comment=", "uhelper=")


class MountError(OSError):
    """Mounting or unmounting failed; the text says what happened, to what, and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class MountOptions:
    """How to mount. ``fsname`` is what /proc/mounts shows as the source, ``subtype`` makes the type ``fuse.SUBTYPE``.

    ``allow_other`` lets other users in; ``default_permissions`` has the kernel check modes and owners; ``max_read`` in bytes,
    0: no limit of its own, else below 2**32; ``auto_unmount``: whether a watcher, a process of its own, unmounts when the
    daemon dies (None: where it can be started; True: or the mount fails); ``user``: whom to become after mounting (the word
    ``setuid=``), which always takes a watcher; ``flags``: more MS_* flags; ``extra``: words that go to the kernel as they are.
    """

    fsname: str = "fusewire"
    subtype: str = "fusewire"
    read_only: bool = False
    nosuid: bool = True
    nodev: bool = True
    noexec: bool = False
    allow_other: bool = False
    default_permissions: bool = False
    max_read: int = 0
    auto_unmount: bool | None = None
    user: str = ""
    flags: int = 0
    extra: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not 0 <= self.max_read < 1 << 32:
            raise MountError(
                errno.EINVAL, f"mount option max_read={self.max_read}: it is a number of bytes below 4 GiB"
            )

    @classmethod
    def parse(cls, words: str, base: MountOptions | None = None) -> MountOptions:
        """From ``"ro,allow_other,max_read=65536"``, on top of ``base``. Raises :class:`MountError` for an unknown word."""
        options = base or cls()
        for word in filter(None, words.split(",")):
            options = options._with(word)
        return options

    def _with(self, word: str) -> MountOptions:
        name, equals, value = word.partition("=")
        if word in _BOOLEANS:
            attribute, on = _BOOLEANS[word]
            return replace(self, **{attribute: on})  # type: ignore[arg-type]
        if word == "setuid=":
            raise MountError(errno.EINVAL, "mount option setuid= needs the name of a user")
        if equals and name in _VALUES:
            attribute, kind = _VALUES[name]
            try:
                return replace(self, **{attribute: kind(value)})
            except ValueError:
                raise MountError(errno.EINVAL, f"mount option {word}: {value!r} is not a number") from None
        if word in _FLAG_WORDS:
            return replace(self, flags=self.flags | _FLAG_WORDS[word])
        if word in _FLAGS_OFF:
            return replace(self, flags=self.flags & ~_FLAGS_OFF[word])
        if equals and name in ("context", "fscontext", "defcontext", "rootcontext"):
            return replace(self, extra=(*self.extra, word))
        if word in _FSTAB or word.startswith(_FSTAB_BEGINNINGS):
            return self
        if name == "user":
            # mount(8) adds exec, suid and dev to it, as to what an ordinary user has mounted: nothing to be obeyed silently.
            raise MountError(errno.EINVAL, f"mount option {word!r} is mount(8)'s own: whom to become is setuid={value}")
        raise MountError(errno.EINVAL, f"mount option {word!r} is not known; {_known()}")

    @property
    def mount_flags(self) -> int:
        """The MS_* flags of mount(2)."""
        chosen = (
            (self.read_only, MS_RDONLY), (self.nosuid, MS_NOSUID), (self.nodev, MS_NODEV), (self.noexec, MS_NOEXEC)
        )  # fmt: skip
        return self.flags | sum(flag for wanted, flag in chosen if wanted)

    def data(self, fd: int, rootmode: int) -> str:
        """mount(2)'s last argument."""
        words = [f"fd={fd}", f"rootmode={rootmode:o}", f"user_id={os.getuid()}", f"group_id={os.getgid()}"]
        return ",".join(words + self._fuse_words())

    def chosen(self) -> list[str]:
        """The words for what is not as it is by default."""
        plain = MountOptions()
        words = [
            word for word, (name, on) in _BOOLEANS.items() if getattr(self, name) is on is not getattr(plain, name)
        ]
        words += [f"{word}={getattr(self, name)}" for word, (name, _) in _VALUES.items()
                  if getattr(self, name) != getattr(plain, name)]  # fmt: skip
        return words + [word for word, flag in _FLAG_WORDS.items() if self.flags & flag] + list(self.extra)

    def words(self) -> str:
        """For ``fusermount3 -o``."""
        words = [f"fsname={_escaped(self.fsname)}"]
        if self.subtype:
            words.append(f"subtype={_escaped(self.subtype)}")
        words += [word for word, (name, on) in _BOOLEANS.items() if name in ("read_only", "noexec") and on
                  and getattr(self, name)]  # fmt: skip
        words += [word for word, flag in _FLAG_WORDS.items() if self.flags & flag]
        return ",".join(words + self._fuse_words())

    def _fuse_words(self) -> list[str]:
        words = ["allow_other"] * self.allow_other + ["default_permissions"] * self.default_permissions
        if self.max_read:
            words.append(f"max_read={self.max_read}")
        return words + list(self.extra)


def _escaped(text: str) -> str:
    """fusermount's commas and backslashes."""
    return text.replace("\\", "\\\\").replace(",", "\\,")


def known_words() -> list[str]:
    """What :meth:`MountOptions.parse` understands; a value goes after ``=``."""
    return [*_BOOLEANS, *(f"{name}=" for name in _VALUES), *_FLAG_WORDS]


def _known() -> str:
    return "known are " + ", ".join(known_words())


assert {name for name, _ in _BOOLEANS.values()} <= {field.name for field in fields(MountOptions)}
