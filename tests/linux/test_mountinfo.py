"""What is read of /proc/self/mountinfo: any name that the kernel can write into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusewire.linux import mounts

LINE = b"%d 24 0:%d / %s rw,nosuid,nodev,relatime shared:1 - fuse.fusewire memory rw,user_id=0,group_id=0\n"
ENDS_OF_LINES_TO_STR = b"a\rb\vc\fd\x1ce\x1df\x1eg\xc2\x85h\xe2\x80\xa8i\xff"


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNTINFO", path)
    return path


def test_a_mountpoint_with_other_ends_of_lines_in_its_name_is_found_and_hides_no_other(mountinfo: Path) -> None:
    awkward = b"/nowhere/" + ENDS_OF_LINES_TO_STR
    mountinfo.write_bytes(LINE % (30, 41, awkward) + LINE % (31, 42, b"/nowhere/plain"))
    assert mounts.mount_at(os.fsdecode(awkward)) == 41
    assert mounts.mount_at("/nowhere/plain") == 42
    assert mounts.mount_at("/nowhere/other") is None


def test_what_the_kernel_writes_in_octal_is_read_back(mountinfo: Path) -> None:
    mountinfo.write_bytes(LINE % (30, 41, rb"/nowhere/a\040b\011c\012d\134040"))
    assert mounts.mount_at("/nowhere/a b\tc\nd\\040") == 41
