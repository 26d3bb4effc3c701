"""Mount options as words: what is understood, what is left to mount(8), and what is refused by name."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from fusewire import MountError, MountOptions
from fusewire.cli import helper


def test_what_mount_8_passes_on_and_decides_by_itself_changes_nothing() -> None:
    passed = (
        "defaults,auto,noauto,nofail,_netdev,loud,silent,user,users,owner,group,nouser,nousers,noowner,nogroup,"
        "x-systemd.automount,X-mount.mkdir,comment=mine,uhelper=udisks2"
    )
    assert MountOptions.parse(passed) == MountOptions()


def test_mount_8_s_user_is_never_taken_for_whom_to_become() -> None:
    assert MountOptions.parse("setuid=nobody").user == "nobody"
    with pytest.raises(MountError, match=r"'user=nobody' is mount\(8\)'s own: whom to become is setuid=nobody"):
        MountOptions.parse("rw,allow_other,user=nobody,exec,suid,dev")
    with pytest.raises(MountError, match="setuid= needs the name of a user"):
        MountOptions.parse("setuid=")


def test_the_helper_leaves_out_who_mounts_when_that_is_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["memory", "/nowhere", "-f", "-o", "noexec,nosuid,nodev,user=alice"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert CliRunner().invoke(helper.main, given).exit_code == 0
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "whom to become is setuid=alice" in CliRunner().invoke(helper.main, given).output


def test_a_later_word_takes_an_earlier_one_back() -> None:
    back = "async,atime,diratime,norelatime,nostrictatime,nolazytime"
    assert MountOptions.parse(f"sync,noatime,nodiratime,relatime,strictatime,lazytime,{back}") == MountOptions()


@pytest.mark.parametrize("size", ["-1", "4294967296"])
def test_a_size_that_the_kernel_cannot_take_is_refused_by_name(size: str) -> None:
    with pytest.raises(MountError, match=f"max_read={size}: it is a number of bytes below 4 GiB"):
        MountOptions.parse(f"max_read={size}")
