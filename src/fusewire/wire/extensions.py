"""The extension area of CREATE, MKNOD, MKDIR, SYMLINK and TMPFILE (7.36, 7.38): security contexts, a supplementary group."""

from __future__ import annotations

import struct
from typing import NamedTuple

from .flags import EXT_GROUPS, MAX_NR_SECCTX
from .layout import Buffer, ProtocolError
from .layouts import EXT_HEADER, SECCTX, SECCTX_HEADER, SUPP_GROUPS, ExtHeader, Secctx, SecctxHeader, SuppGroups


class Extensions(NamedTuple):
    """``contexts``: security attributes by name (``security.selinux``) that the new inode is to have from the start.
    ``groups``: the supplementary group of the caller that is its directory's, where it is one (CREATE_SUPP_GROUP)."""

    contexts: tuple[tuple[bytes, bytes], ...] = ()
    groups: tuple[int, ...] = ()


def decode_extensions(area: Buffer) -> Extensions:
    """Raises :class:`ProtocolError`. Extensions of an unknown type are passed over."""
    view = memoryview(area)
    contexts: tuple[tuple[bytes, bytes], ...] = ()
    groups: tuple[int, ...] = ()
    while view:
        # The security contexts come first, with a header of their own whose count is at most 31; all others have a type.
        header = EXT_HEADER.unpack(view)
        if not EXT_HEADER.size <= header.size <= len(view):
            raise ProtocolError(f"an extension of {header.size} bytes in an area of {len(view)}")
        body = view[EXT_HEADER.size : header.size]
        if header.type <= MAX_NR_SECCTX:
            contexts = _contexts(body, header.type)
        elif header.type == EXT_GROUPS:
            groups = _groups(body)
        view = view[-(-header.size // 8) * 8 :]
    return Extensions(contexts, groups)


def encode_extensions(extensions: Extensions) -> bytes:
    """The inverse, padded to 8 bytes."""
    out = b""
    if extensions.contexts:
        body = b"".join(
            _padded(SECCTX.pack(Secctx(len(value))) + name + b"\0" + value) for name, value in extensions.contexts
        )
        out += SECCTX_HEADER.pack(SecctxHeader(SECCTX_HEADER.size + len(body), len(extensions.contexts))) + body
    if extensions.groups:
        body = SUPP_GROUPS.pack(SuppGroups(len(extensions.groups)))
        body += struct.pack(f"<{len(extensions.groups)}I", *extensions.groups)
        out += _padded(EXT_HEADER.pack(ExtHeader(EXT_HEADER.size + len(body), EXT_GROUPS)) + body)
    return out


def _contexts(body: memoryview, count: int) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for _ in range(count):
        size = SECCTX.unpack(body).size
        rest = bytes(body[SECCTX.size :])
        name, nul, value = rest.partition(b"\0")
        if not nul or len(value) < size:
            raise ProtocolError(f"a security context of {size} bytes does not fit")
        found.append((name, value[:size]))
        used = SECCTX.size + len(name) + 1 + size
        body = body[used + -used % 8 :]
    return tuple(found)


def _groups(body: memoryview) -> tuple[int, ...]:
    count = SUPP_GROUPS.unpack(body).nr_groups
    if len(body) < 4 + 4 * count:
        raise ProtocolError(f"{count} groups in {len(body)} bytes")
    return struct.unpack_from(f"<{count}I", body, 4)


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 8)
