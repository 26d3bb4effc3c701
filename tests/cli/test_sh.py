"""``fusewire sh``: its commands, quoting, exit statuses, the terminal, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import stop_process, wait_until

from fusewire.cli.sh.modes import parse_mode, parse_size
from fusewire.cli.sh.parser import ShellSyntaxError, Unfinished, parse
from fusewire.cli.sh.registry import COMMANDS, UsageError, printable
from fusewire.cli.sh.shell import quote

COMMAND = [sys.executable, "-m", "fusewire", "sh"]

HANGING = """
import threading
from fusewire.filesystems import MemoryFS

class Hanging(MemoryFS):
    "Reading hangs, until someone makes the file 'go on'."
    entry_timeout = attr_timeout = 0
    def __init__(self, path):
        super().__init__({"stuck": b"data", "fine": b"data\\\\n"})
        self.path = path
    def open(self, ino, flags):
        opened = super().open(ino, flags)
        self.stuck = self.nodes[1].find(b"stuck").ino == ino
        return opened
    async def read(self, ino, fh, offset, size):
        if self.stuck:
            open(self.path, "w").close()
            await forever()
        return super().read(ino, fh, offset, size)

class Wedged(MemoryFS):
    "Reading hangs in a plain handler, and so does closing."
    def __init__(self, path):
        super().__init__({"stuck": b"data"})
        self.path = path
    def read(self, ino, fh, offset, size):
        open(self.path, "w").close()
        threading.Event().wait()

async def forever():
    import asyncio
    await asyncio.Event().wait()

class Broken:
    pass

def failing():
    raise RuntimeError("no such luck")
"""


def sh(
    *words: object, commands: str | None = None, status: int = 0, **kwargs: object
) -> subprocess.CompletedProcess[str]:
    """Run the shell; ``commands`` by ``-c``. Its exit status is checked."""
    given = [] if commands is None else ["-c", commands]
    result = subprocess.run(
        [*COMMAND, *given, *map(str, words)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **kwargs
    )  # type: ignore[call-overload]  # fmt: skip
    assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
    return result  # type: ignore[no-any-return]


def memory(commands: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    return sh("memory", commands=commands, status=status)


# -- the language --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo a  b", [["echo", "a", "b"]]),
        ("a;b\nc", [["a"], ["b"], ["c"]]),
        ("echo 'a ; b'", [["echo", "a ; b"]]),
        ('echo "a\nb" c', [["echo", "a\nb", "c"]]),
        ("echo a\\ b \\; 'it'\\''s'", [["echo", "a b", ";", "it's"]]),
        ('echo "\\"\\\\\\n"', [["echo", '"\\\\n']]),
        ("echo x # no more ; of this\necho y", [["echo", "x"], ["echo", "y"]]),
        ("echo a#b ''", [["echo", "a#b", ""]]),
        ("a && b", [["a"], ["b"]]),
        ("echo one \\\n two", [["echo", "one", "two"]]),
        (";; \n ;", []),
    ],
)  # fmt: skip
def test_text_becomes_commands(text: str, words: list[list[str]]) -> None:
    assert [[word.text for word in command.words] for command in parse(text)] == words


@pytest.mark.parametrize("text", ["echo 'a", 'echo "a', "echo a\\", "a &&", "a && \n"])
def test_what_is_unfinished_asks_for_more(text: str) -> None:
    with pytest.raises(Unfinished):
        parse(text)


@pytest.mark.parametrize(
    "text", ["a | b", "a < b", "a &", "echo `b`", "a >", "a > ;", "a > b > c", "&& a", "a && ; b", "a >> > b"]
)
def test_what_is_not_supported_is_refused_by_name(text: str) -> None:
    with pytest.raises(ShellSyntaxError) as raised:
        parse(text)
    assert not isinstance(raised.value, Unfinished)
    assert str(raised.value)


@pytest.mark.parametrize("name", ["a b", "it's", 'say "x"', "a\\b", "*?[x]", "#no", ";&|<>`", "$HOME", "", "ä", " "])
def test_a_quoted_name_is_read_back_as_itself(name: str) -> None:
    (command,) = parse(f"cat {quote(name)}")
    assert [word.text for word in command.words] == ["cat", name]
    assert not any(word.magic for word in command.words)


@pytest.mark.parametrize(
    ("text", "before", "umask", "after"),
    [
        ("640", 0o777, 0, 0o640), ("1777", 0, 0, 0o1777), ("u+x", 0o644, 0, 0o744), ("go=", 0o777, 0, 0o700),
        ("+x", 0o644, 0o022, 0o755), ("+w", 0o444, 0o022, 0o644), ("a+w", 0o444, 0o022, 0o666), ("u-w,g+w", 0o644, 0, 0o464),
        ("a+X", 0o644, 0, 0o644), ("a+X", 0o744, 0, 0o755), ("u+s,+t", 0o755, 0, 0o5755), ("g-s", 0o2755, 0, 0o755),
    ],
)  # fmt: skip
def test_modes_are_those_of_chmod(text: str, before: int, umask: int, after: int) -> None:
    assert oct(parse_mode(text, stat.S_IFREG | before, umask)) == oct(after)


@pytest.mark.parametrize("text", ["888", "u+q", "x", "", "u~x"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no mode"):
        parse_mode(text, 0, 0)


def test_sizes_have_units() -> None:
    assert [parse_size(text) for text in ("0", "10", "4K", "1m", "2GiB")] == [0, 10, 4096, 1 << 20, 2 << 30]
    with pytest.raises(UsageError):
        parse_size("-1")


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\x1b[31m\udcff\u202eb") == "a\\x1b[31m\\xff\\u202eb"


# -- commands --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_there() -> None:
    assert memory("mkdir -p a/b; echo one > a/f; echo -n two >> a/f; cat a/f a/f").stdout == "one\ntwoone\ntwo"


def test_ls_shows_names_attributes_and_links() -> None:
    out = memory(
        "mkdir d; echo 12345 > f; ln -s f l; touch .h; chmod 640 f; ls; ls -l f l; ls -a; ls -d d nope", status=1
    )
    lines = out.stdout.splitlines()
    assert lines[:3] == ["d", "f", "l"]
    assert re.fullmatch(r"-rw-r----- 1 \S+ +\S+ +6 \w{3} [ \d]\d \d\d:\d\d f", lines[3])
    assert re.fullmatch(r"lrwxrwxrwx 1 \S+ +\S+ +1 \w{3} [ \d]\d \d\d:\d\d l -> f", lines[4])
    assert lines[5:] == [".", "..", ".h", "d", "f", "l", "d"]
    assert out.stderr == "ls: nope: No such file or directory\n"


def test_tree_draws_all_that_is_below() -> None:
    out = memory("mkdir -p a/b c; touch a/b/f a/g; ln -s a c/l; tree").stdout
    assert out == ".\n├── a\n│   ├── b\n│   │   └── f\n│   └── g\n└── c\n    └── l -> a\n\n3 directories, 3 files\n"


def test_globs_match_the_filesystem() -> None:
    out = memory("mkdir d; touch d/a1 d/a2 d/b1 d/.a 'd/a*'; cd d; echo a? b[0-9] *x 'a*'; echo */ /d/[!a]* /*/b1 .?")
    assert out.stdout == "a* a1 a2 b1 *x a*\n*/ /d/b1 /d/b1 .a\n"
    assert memory("touch 'a*' ab; rm 'a*'; ls").stdout == "ab\n"


def test_rm_removes_trees_and_only_when_asked() -> None:
    out = memory("mkdir -p d/e; touch d/e/f g; rm d; rm -r d g; rm -f nope; rm nope; rm -r / . ; ls -a", status=1)
    assert out.stdout == ".\n..\n"
    assert out.stderr.splitlines() == [
        "rm: d: Is a directory",
        "rm: nope: No such file or directory",
        "rm: / itself is not removed",
        "rm: . itself is not removed",
    ]


def test_rm_does_not_follow_links() -> None:
    assert memory("mkdir d; touch d/f; ln -s d l; rm -r l; ls d").stdout == "f\n"


def test_mv_renames_and_moves_into_directories() -> None:
    assert memory("echo 1 > a; mv a b; mkdir d; mv b d; touch x y; mv x y d; find . -type f").stdout == (
        "./d/b\n./d/x\n./d/y\n"
    )


def test_cp_copies_trees_with_links_and_attributes() -> None:
    out = memory(
        "mkdir -p a/b; echo data > a/b/f; xattr set user.k v a/b/f; chmod 400 a/b/f; chmod 500 a/b; ln -s b a/l;"
        "cp -rp a c; tree c; cat c/b/f; xattr get user.k c/b/f; stat c/b; stat c/b/f a/b/f"
    ).stdout
    assert out.startswith("c\n├── b\n│   └── f\n└── l -> b\n\n1 directory, 2 files\ndata\nv\n")
    assert "0500 dr-x------" in out
    first, second = (re.findall(r"modify  (.*)", out)[n] for n in (1, 2))
    assert first == second


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ("mkdir d; cp d e", "cp: d is a directory: -r copies it with all that is in it"),
        ("touch f; ln f g; cp f g", "cp: f and g are the same file"),
        ("mkdir d; cp -r d d/e", "cp: d/e is not copied into itself"),
        ("touch a b c; cp a b c", "cp: c: Not a directory"),
        ("cp a b", "cp: a: No such file or directory"),
        ("touch f; mkdir d; rmdir f", "rmdir: f: Not a directory"),
        ("mkdir -p d/e; rmdir d", "rmdir: d: Directory not empty"),
        ("mv a b", "mv: a -> b: No such file or directory"),
        ("ln nope x", "ln: nope: No such file or directory"),
        ("mkdir d; mkdir d", "mkdir: d: File exists"),
        ("cat /", "cat: /: Is a directory"),
        ("cd nowhere", "cd: nowhere: No such file or directory"),
        ("touch f; xattr get user.x f", "xattr: f: user.x: No data available"),
        ("echo x > /", "echo: /: Is a directory"),
        (f"touch {'n' * 256}", f"touch: {'n' * 256}: File name too long"),
    ],
)
def test_an_error_says_what_happened_to_what(commands: str, message: str) -> None:
    assert memory(commands, status=1).stderr == message + "\n"


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ("cat", "cat: usage: cat FILE..."),
        ("ls -z", "ls: option -z not recognized; usage: ls [-l] [-a] [-d] [-1] [PATH]..."),
        ("chmod q f", "chmod: 'q' is no mode: 640, u+x, go-w, a=rX, ..."),
        ("chown nobody-like-this f", "chown: there is no user 'nobody-like-this'"),
        ("truncate f", "truncate: usage: truncate -s SIZE FILE..."),
        ("find . -size 3", "find: -size is no test, or lacks its value: -name PATTERN, -type f|d|l|p|s|b|c"),
        ("exit now", "exit: 'now' is no exit status: 0 to 255"),
        ("help nothing", "help: there is no command 'nothing'"),
        ("echo a | cat", "fusewire sh: | (a pipe) is not supported; quote it to mean the character"),
        ("echo 'a", "fusewire sh: a ' is not closed"),
    ],
)
def test_misuse_is_status_2(commands: str, message: str) -> None:
    assert memory(commands, status=2).stderr == message + "\n"


def test_an_unknown_command_is_status_127() -> None:
    assert "nosuch: there is no such command" in memory("nosuch; echo on", status=127).stderr


def test_the_status_is_that_of_the_first_that_fails_and_the_rest_is_run() -> None:
    out = memory("echo a; nosuch; cat; cat nope; echo b", status=127)
    assert out.stdout == "a\nb\n"
    assert memory("cat nope; exit 5", status=5).stdout == ""
    memory("cat nope; exit", status=1)


def test_and_goes_on_only_if_it_went_well() -> None:
    assert memory("cd nope && rm -r /; mkdir a && cd a && pwd", status=1).stdout == "/a\n"


def test_cd_is_for_what_follows() -> None:
    assert memory("mkdir -p a/b; cd a/b; pwd; cd ..; pwd; cd -; pwd; cd; pwd").stdout == "/a/b\n/a\n/a/b\n/\n"


def test_chmod_chown_and_stat_agree() -> None:
    out = memory(
        "touch f; chmod u=rwx,go=r f; chown -h 12345:54321 f; stat f", status=0 if os.getuid() == 0 else 1
    ).stdout
    assert "0744 -rwxr--r--" in out
    if os.getuid() == 0:
        assert "12345 (12345)  group 54321 (54321)" in out


def test_recursive_chmod_leaves_what_links_lead_to_alone() -> None:
    out = memory("mkdir d; touch f d/g; chmod 600 f; ln -s ../f d/l; chmod -R 755 d; stat f d/g").stdout
    assert re.findall(r"mode  (\d+)", out) == ["0600", "0755"]


def test_truncate_makes_holes_and_df_counts() -> None:
    out = memory("truncate -s 1M f; stat f; df").stdout
    assert "size  1048576  blocks 0 " in out
    assert re.search(r"^bytes +\S+ +4\.0K? ", out, re.MULTILINE) or "bytes" in out


def test_xattrs_are_set_listed_and_removed() -> None:
    out = memory(
        "touch f; xattr set user.a '1 2' f; xattr set user.b x f; xattr list f; xattr get user.a f;"
        "xattr remove user.a f; xattr list f"
    )
    assert out.stdout == "user.a\nuser.b\n1 2\nuser.b\n"


def test_put_and_get_copy_byte_for_byte_with_trees(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    data = os.urandom(3_000_001)
    (source / "sub" / "big").write_bytes(data)
    (source / os.fsdecode(b"n\xff me")).write_text("x")
    (source / "link").symlink_to("sub/big")
    os.mkfifo(source / "fifo")
    memory(
        f"put -r {quote(str(source))} /in; get -r /in {quote(str(tmp_path / 'out'))}; get in/sub/big {quote(str(tmp_path))}"
    )
    assert (tmp_path / "out" / "sub" / "big").read_bytes() == data == (tmp_path / "big").read_bytes()
    assert (tmp_path / "out" / os.fsdecode(b"n\xff me")).read_text() == "x"
    assert os.readlink(tmp_path / "out" / "link") == "sub/big"
    assert stat.S_ISFIFO((tmp_path / "out" / "fifo").lstat().st_mode)


def test_put_tells_what_is_wrong_on_the_machine(tmp_path: Path) -> None:
    assert memory(f"put {tmp_path / 'no'} x", status=1).stderr == f"put: {tmp_path / 'no'}: No such file or directory\n"
    assert "is no regular file" in memory("put /dev/zero x", status=1).stderr


def test_every_command_has_its_help() -> None:
    out = memory("help; help " + " ".join(COMMANDS)).stdout
    assert set(COMMANDS) == {
        "ls", "tree", "cat", "cp", "put", "get", "rm", "rmdir", "mv", "mkdir", "ln", "chmod", "chown", "stat", "df", "find",
        "xattr", "cd", "pwd", "echo", "touch", "truncate", "help", "exit",
    }  # fmt: skip
    assert all(command.usage in out and command.summary in out for command in COMMANDS.values())


# -- filesystems and where commands come from ------------------------------------------------------------------------


def test_passthrough_changes_the_directory(tmp_path: Path) -> None:
    sh("passthrough", tmp_path, commands="mkdir a; echo hello > a/f; ln a/f g")
    assert (tmp_path / "g").read_text() == "hello\n"
    assert "Read-only file system" in sh("--read-only", "passthrough", tmp_path, commands="rm g", status=1).stderr


def test_a_filesystem_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HANGING.replace("\\\\n", "\\n"))
    out = sh("mine:Hanging", "/dev/null", commands="cat fine", cwd=tmp_path).stdout
    assert out == "data\n"
    assert "no such luck" in sh("mine:failing", status=1, cwd=tmp_path).stderr
    assert "which is no fusewire.Operations" in sh("mine:Broken", status=1, cwd=tmp_path).stderr


def test_commands_come_from_standard_input() -> None:
    result = subprocess.run(
        [*COMMAND, "memory"], input="mkdir d\ncd d\necho 'two\nlines' > f\ncat f; cat nope\npwd\nexit\necho not this",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "two\nlines\n/d\n")


def test_nobody_reads_the_output_any_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    shell = subprocess.run([*COMMAND, "memory", "-c", "help"], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert shell.returncode == 128 + signal.SIGPIPE
    assert shell.stderr == b""


@pytest.mark.skipif(os.getuid() != 0, reason="becomes an ordinary user")
def test_an_ordinary_user_needs_no_dev_fuse() -> None:
    code = """
import contextlib, os
from fusewire.cli import main
with contextlib.suppress(SystemExit):  # all is imported before it becomes somebody who may not read the sources
    main(['sh', 'memory', '-c', 'ls nothing'])
os.chdir('/')
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
main(['sh', 'memory', '-c', 'mkdir d; echo mine > d/f; cat d/f; chmod 0 d/f; cat d/f'])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (
        1, "mine\n", "ls: nothing: No such file or directory\ncat: d/f: Permission denied\n"
    )  # fmt: skip


# -- programs of others ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A squashfs image."""
    path = tmp_path_factory.mktemp("squash")
    (path / "tree" / "d").mkdir(parents=True)
    (path / "tree" / "d" / "one").write_text("1\n")
    (path / "tree" / "big").write_bytes(bytes(5_000_000))
    for program in ("mksquashfs", "squashfuse_ll"):
        if subprocess.run(["which", program], capture_output=True).returncode:
            pytest.skip(f"not installed: {program}")
    subprocess.run(["mksquashfs", path / "tree", path / "image", "-quiet", "-no-progress"], check=True, timeout=60)
    return path / "image"


def daemons_of(image: Path) -> list[int]:
    """Processes with the image on their command line, but for shells."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if words[0].endswith(b"squashfuse_ll") and str(image).encode() in words:
                found.append(int(entry.parent.name))
    return found


def test_a_program_in_c_behind_the_shell(image: Path, tmp_path: Path) -> None:
    out = sh(
        "--", "squashfuse_ll", "-f", image, "{fd}", commands=f"cat d/one; find . -type f; get -r / {tmp_path / 'out'}"
    )
    assert out.stdout == "1\n./big\n./d/one\n"
    assert (tmp_path / "out" / "big").stat().st_size == 5_000_000
    assert "rm: big: " in sh("--", "squashfuse_ll", "-f", image, "{fd}", commands="rm big", status=1).stderr
    assert not daemons_of(image)


def test_a_program_that_does_not_start_is_told(image: Path) -> None:
    assert "No such file" in sh("--", "squashfuse_ll", "-f", "/no/image", "{fd}", commands="ls", status=1).stderr
    assert "put {fd} where" in sh("--", "squashfuse_ll", "-f", image, commands="ls", status=1).stderr
    assert "cannot be started" in sh("--", "/no/such/program", "{fd}", commands="ls", status=1).stderr


def test_a_program_that_dies_is_told_and_the_shell_lives_on(image: Path) -> None:
    shell = subprocess.Popen(
        [*COMMAND, "--", "squashfuse_ll", "-f", str(image), "{fd}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write("cat d/one\n")
    assert shell.stdout.readline() == "1\n"
    (daemon,) = daemons_of(image)
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: not _runs(daemon))
    out, errors = shell.communicate("cat big\nls big\necho on\n", timeout=60)
    assert out == "on\n"
    assert shell.returncode == 1
    assert errors.count("squashfuse_ll has ended") == 1


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- signals ----------------------------------------------------------------------------------------------------------


class Terminal:
    """A shell on a terminal of its own, so that Ctrl-C goes to all that is in its foreground."""

    def __init__(self, *words: object, home: Path, cwd: Path) -> None:
        environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home), "TERM": "xterm", "COLUMNS": "100"}
        self.pid, self.fd = pty.fork()
        if not self.pid:
            try:
                os.chdir(cwd)
                os.execvpe(COMMAND[0], [*COMMAND, *map(str, words)], environment)
            finally:
                os._exit(99)
        self.seen = b""

    def shows(self, text: str, seconds: float) -> bool:
        """Whether ``text`` is shown within so many seconds."""
        with contextlib.suppress(TimeoutError):
            self.until(text, seconds)
            return True
        return False

    def until(self, text: str, seconds: float = 30) -> str:
        """Read until ``text`` is shown; returns what came before it."""
        wanted = text.encode()
        end = time.monotonic() + seconds
        while wanted not in self.seen:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"{text!r} is not in {self.seen!r}")
            self.seen += os.read(self.fd, 65536)
        before, _, self.seen = self.seen.partition(wanted)
        return before.decode()

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self) -> int:
        with contextlib.suppress(OSError):
            while select.select([self.fd], [], [], 30)[0] and os.read(self.fd, 65536):
                pass
            else:
                os.kill(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A directory with the module ``mine``."""
    (tmp_path / "mine.py").write_text(HANGING.replace("\\\\n", "\\n"))
    return tmp_path


@pytest.mark.parametrize("kind", ["Hanging", "Wedged"])
def test_an_interrupt_ends_the_command_that_waits(hanging: Path, kind: str) -> None:
    shell = subprocess.Popen(
        [*COMMAND, f"mine:{kind}", "reached", "-c", "cat stuck; echo never"], cwd=hanging, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: (hanging / "reached").exists())
    shell.send_signal(signal.SIGINT)
    out, _ = shell.communicate(timeout=60)
    assert (shell.returncode, out) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_the_shell(hanging: Path, number: signal.Signals) -> None:
    shell = subprocess.Popen([*COMMAND, "mine:Hanging", "reached", "-c", "cat stuck; echo never"], cwd=hanging)
    wait_until(lambda: (hanging / "reached").exists())
    shell.send_signal(number)
    assert shell.wait(timeout=60) == 128 + number


def test_ctrl_c_at_the_terminal_ends_the_command_and_not_the_shell(hanging: Path) -> None:
    terminal = Terminal("mine:Hanging", "reached", home=hanging, cwd=hanging)
    terminal.until("/> ")
    terminal.type("cat stuck\n")
    wait_until(lambda: (hanging / "reached").exists())
    terminal.type("\x03")
    terminal.until("/> ")
    terminal.type("half a line")
    terminal.until("half a line")
    for _ in range(5):
        terminal.type("\x03")
        if terminal.shows("/> ", 5):
            break  # one that comes between two steps of Python's readline is heard with the next key
    else:
        pytest.fail("no prompt")
    terminal.type("cat fine\n")
    terminal.until("data\r\n")
    terminal.until("/> ")
    terminal.type("exit\n")
    assert terminal.wait() == 130


def test_ctrl_c_does_not_reach_the_daemon_behind_the_shell(image: Path, tmp_path: Path) -> None:
    terminal = Terminal("--", "squashfuse_ll", "-f", image, "{fd}", home=tmp_path, cwd=tmp_path)
    terminal.until("/> ")
    (daemon,) = daemons_of(image)
    stop_process(daemon)
    terminal.type("cat big\n")
    terminal.until("cat big\r\n")
    time.sleep(0.3)  # it may be anywhere between its first call and its wait for the daemon
    terminal.type("\x03")
    terminal.until("/> ")
    os.kill(daemon, signal.SIGCONT)
    terminal.type("cat d/one\n")
    terminal.until("\r\n1\r\n")
    terminal.until("/> ")
    terminal.type("\x04")
    assert terminal.wait() == 130
    assert not daemons_of(image)


def test_a_shell_that_is_killed_leaves_no_daemon_behind(image: Path) -> None:
    shell = subprocess.Popen(
        [*COMMAND, "--", "squashfuse_ll", "-f", str(image), "{fd}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write("echo up\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "up\n"
    assert daemons_of(image)
    shell.kill()
    shell.communicate(timeout=60)
    wait_until(lambda: not daemons_of(image))


# -- the terminal ------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """The memory filesystem at a terminal."""
    shell = Terminal("memory", home=tmp_path, cwd=tmp_path)
    shell.until("/> ")
    yield shell
    shell.type("\x15exit 0\n")
    assert shell.wait() == 0, shell.seen


def test_names_are_completed(terminal: Terminal) -> None:
    terminal.type("mkdi\tdirectory\n")
    terminal.until("/> ")
    terminal.type("touch 'directory/a file'\n")
    terminal.until("/> ")
    terminal.type("ls dir\ta\t\n")
    terminal.until("directory/a file\r\n")


def test_lines_are_kept_and_a_quote_goes_on_in_the_next(terminal: Terminal) -> None:
    terminal.type("echo 'one\n")
    terminal.until("> ")
    terminal.type("two'\n")
    terminal.until("one\r\ntwo\r\n")
    terminal.type("\x10")  # Ctrl-P, the line before: two' ends what the one before it began
    terminal.until("two'")


def test_a_terminal_gets_columns_and_colours_a_file_does_not(terminal: Terminal) -> None:
    terminal.type("mkdir d; touch f; ls; ls > out; cat out; find . -type d\n")
    shown = terminal.until("./d\r\n")
    assert "\x1b[1;34md\x1b[0m  f\r\n" in shown
    assert "d\r\nf\r\nout\r\n" in shown


def test_a_name_cannot_command_the_terminal(terminal: Terminal) -> None:
    terminal.type("touch 'x\x16\x1b]0;title'\n")
    terminal.until("/> ")
    terminal.type("ls\n")
    terminal.until("x\\x1b]0;title")


def test_history_outlives_the_session(tmp_path: Path) -> None:
    for _ in range(2):
        shell = Terminal("memory", home=tmp_path, cwd=tmp_path)
        shell.until("/> ")
        shell.type("exit 0\n")
        assert shell.wait() == 0
    assert (tmp_path / "fusewire" / "history").read_text().count("exit 0") >= 1


def test_a_long_copy_shows_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import time\nfrom fusewire.filesystems import MemoryFS\n"
        "class Slow(MemoryFS):\n    def write(self, *args):\n        time.sleep(0.05)\n        return super().write(*args)\n"
    )
    (tmp_path / "big").write_bytes(bytes(20 << 20))
    shell = Terminal("mine:Slow", "-c", "put big /", home=tmp_path, cwd=tmp_path)
    assert "MB" in shell.until("/s")
    assert shell.wait() == 0
