"""Access control lists, byte by byte as ``<linux/posix_acl_xattr.h>`` has them."""

from __future__ import annotations

import pytest

from fusewire.wire import posix_acl
from fusewire.wire.layout import ProtocolError

VALUE = bytes.fromhex(
    "02000000 0100 0700 ffffffff 0200 0500 e8030000 0400 0400 ffffffff 1000 0500 ffffffff 2000 0000 ffffffff"
)
NOBODY = 0xFFFFFFFF
ENTRIES = [
    (posix_acl.USER_OBJ, 7, NOBODY),
    (posix_acl.USER, 5, 1000),
    (posix_acl.GROUP_OBJ, 4, NOBODY),
    (posix_acl.MASK, 5, NOBODY),
    (posix_acl.OTHER, 0, NOBODY),
]


def test_a_list_is_packed_as_linux_has_it() -> None:
    assert posix_acl.pack(ENTRIES) == VALUE


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_it_is_unpacked_from_whatever_holds_it(kind: type) -> None:
    assert posix_acl.unpack(kind(VALUE)) == ENTRIES


@pytest.mark.parametrize("value", [b"", b"\2\0\0", VALUE[:-1], VALUE + b"\0"])
def test_what_is_too_short_or_has_a_part_of_an_entry_is_none(value: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        posix_acl.unpack(value)
    assert not isinstance(caught.value, posix_acl.AnotherVersion)


def test_another_version_is_said_so_whatever_follows() -> None:
    with pytest.raises(posix_acl.AnotherVersion):
        posix_acl.unpack(b"\3\0\0\0x")
