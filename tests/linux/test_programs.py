"""What people really run on a mount: git, tar, databases, mmap, fio, many files, large files, two programs at once."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import sqlite3
import subprocess
import sys

import pytest
from conftest import RealMount, need

pytestmark = pytest.mark.real


def test_git_clones_a_repository_and_finds_nothing_wrong(any_mount: RealMount) -> None:
    need("git")
    any_mount.sh(
        """
        export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q one && cd one
        for i in 1 2 3; do seq $((i * 1000)) > file$i; git add .; git commit -qm "commit $i"; done
        cd .. && git clone -q one two && cd two
        git fsck --strict && git gc -q && test "$(git log --oneline | wc -l)" = 3
        git checkout -q -b other && git mv file1 file4 && git commit -qam moved && git diff --quiet HEAD
        test -z "$(git status --porcelain)"
        """,
        timeout=120,
    )


def test_tar_packs_and_unpacks_modes_links_and_times(any_mount: RealMount) -> None:
    any_mount.sh(
        """
        mkdir -p a/b; echo data > a/b/f; chmod 640 a/b/f; ln a/b/f a/hard; ln -s b/f a/soft; mkfifo a/fifo
        touch -d '2001-02-03 04:05:06.789' a/b/f
        tar cf a.tar a; mkdir out; tar xf a.tar -C out
        diff -r --no-dereference a/b out/a/b
        test "$(stat -c '%a %Y %h' out/a/b/f)" = '640 981173106 2'
        test "$(readlink out/a/soft)" = b/f; test -p out/a/fifo
        tar df a.tar -C out
        """
    )


def test_sqlite_in_wal_mode_keeps_what_two_programs_write(any_mount: RealMount) -> None:
    path = any_mount.path / "db"
    with sqlite3.connect(path, timeout=30) as db:
        assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        db.execute("create table t (who integer, n integer)")
    db.close()
    script = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
for n in range(100):
    with db:
        db.execute("insert into t values (?, ?)", (sys.argv[2], n))
db.close()
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), str(who)]) for who in (1, 2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    db = sqlite3.connect(path)
    assert db.execute("select who, count(*) from t group by who").fetchall() == [(1, 100), (2, 100)]
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


def test_what_one_program_maps_and_writes_another_reads(any_mount: RealMount) -> None:
    path = any_mount.path / "mapped"
    path.write_bytes(bytes(3 * mmap.PAGESIZE))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[mmap.PAGESIZE - 2 : mmap.PAGESIZE + 2] = b"over"
        memory.flush()
        script = (
            "import mmap, sys; file = open(sys.argv[1], 'r+b')\n"
            f"print(mmap.mmap(file.fileno(), 0)[{mmap.PAGESIZE - 2} :][:4])"
        )
        read = subprocess.check_output([sys.executable, "-c", script, str(path)], timeout=60, text=True)
    assert read == "b'over'\n"


def test_fio_verifies_what_it_wrote(any_mount: RealMount) -> None:
    need("fio")
    any_mount.run(
        "fio", "--name=verify", f"--directory={any_mount.path}", "--rw=randwrite", "--bs=4k", "--size=8m",
        "--verify=crc32c", "--verify_fatal=1", "--ioengine=psync", "--numjobs=2", "--minimal", timeout=120,
    )  # fmt: skip


def test_shutil_copies_and_removes_a_tree(any_mount: RealMount) -> None:
    source = any_mount.path / "source"
    for name in ("a", "b/c", "b/d/e"):
        (source / name).mkdir(parents=True)
        (source / name / "file").write_bytes(random.randbytes(10_000))
    shutil.copytree(source, any_mount.path / "copy")
    subprocess.run(["diff", "-r", str(source), str(any_mount.path / "copy")], check=True, timeout=60)
    shutil.move(str(any_mount.path / "copy"), str(any_mount.path / "moved"))
    shutil.rmtree(source)
    assert sorted(os.listdir(any_mount.path)) == ["moved"]


def test_two_programs_work_in_one_directory(any_mount: RealMount) -> None:
    script = """
import os, sys
for n in range(300):
    name = f"{sys.argv[1]}-{n}"
    with open(name, "w") as file: file.write(name)
    os.rename(name, name + ".done")
    if n % 3 == 0: os.unlink(name + ".done")
"""
    programs = [subprocess.Popen([sys.executable, "-c", script, who], cwd=any_mount.path) for who in ("a", "b")]
    assert [program.wait(timeout=120) for program in programs] == [0, 0]
    names = os.listdir(any_mount.path)
    assert len(names) == 400
    assert all((any_mount.path / name).read_text() + ".done" == name for name in names)


def test_a_hundred_thousand_files_in_one_directory(any_mount: RealMount) -> None:
    script = """
import os
os.mkdir("many")
for n in range(100_000): os.close(os.open(f"many/{n}", os.O_CREAT | os.O_WRONLY))
names = os.listdir("many")
assert len(names) == len(set(names)) == 100_000
os.unlink("many/5"), os.stat("many/99999")
assert len(os.listdir("many")) == 99_999
"""
    any_mount.run(sys.executable, "-c", script, timeout=170)


def test_a_sparse_file_of_4_gib_takes_next_to_nothing(any_mount: RealMount) -> None:
    path = any_mount.path / "sparse"
    with open(path, "wb") as file:
        file.truncate(4 << 30)
        file.seek((4 << 30) - 4)
        file.write(b"last")
    assert path.stat().st_size == 4 << 30
    assert path.stat().st_blocks * 512 < 1 << 22
    with open(path, "rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) > 4_290_000_000
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 0
        file.seek(1 << 31)
        assert file.read(10) == bytes(10)
