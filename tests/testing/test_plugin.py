"""The pytest plugin, as a test suite of somebody else's sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester: pytest.Pytester):  # type: ignore[no-untyped-def]
    """Run a test file with the plugin."""

    def run(source: str) -> pytest.RunResult:
        pytester.makepyfile("import errno, os, pytest\nfrom fusewire.testing import attr, entry, opened\n" + source)
        return pytester.runpytest("-p", "fusewire.testing.plugin", "--strict-markers")

    return run


def test_a_filesystem_is_tested_in_a_few_lines(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
from fusewire.filesystems import MemoryFS

def test_it(fuse_kernel, fuse_process):
    fuse_kernel.mount(MemoryFS({"f": b"text"}), "/")
    assert fuse_process.open_file("/f").read() == "text"
""")
    result.assert_outcomes(passed=1)


def test_the_example_of_the_documentation_passes(run) -> None:  # type: ignore[no-untyped-def]
    page = (Path(__file__).parents[2] / "docs" / "testing-mock.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    run(example).assert_outcomes(passed=1)
    result = run(example.replace("offset=3", "offset=0"))
    result.assert_outcomes(failed=1)
    shown = page.split("the mock daemon ---")[1].split(" write_flags")[0].splitlines()[1:]
    assert "\n".join(shown) in result.stdout.str()


def test_a_mock_daemon_serves_the_root(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
def test_it(mock_daemon, fuse_process):
    mock_daemon.expect.lookup(1, b"f").reply(entry(2, size=3, valid=60))
    assert fuse_process.stat("/f").st_size == 3
""")
    result.assert_outcomes(passed=1)


def test_what_did_not_come_fails_the_test_and_not_the_fixture(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
def test_it(mock_daemon):
    mock_daemon.expect.unlink(1, b"f")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["was expected, and did not come:", "*UNLINK nodeid=1 name=b'f' (expected once, came never)"]
    )


def test_what_was_not_expected_fails_a_test_that_passed_otherwise(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
def test_it(mock_daemon, fuse_process):
    assert not fuse_process.access("/f", os.F_OK)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["came, and was not expected:", '*LOOKUP 4 nodeid=1 "f"'])


def test_a_failed_test_shows_the_last_requests_in_two_columns(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
def test_it(mock_daemon, fuse_process):
    mock_daemon.default.lookup().reply(entry(2, valid=60))
    mock_daemon.default.unlink()
    for name in "abcdef":
        fuse_process.unlink("/" + name)
    assert False
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*fusewire: the last requests*",
            "(what came before is left out)",
            " |  the program * |  the FUSE daemon",
            " |  >sys_unlink() *",
            "*[[]queue req on fc->pending] *",
            "* |  *>fuse_dev_write()",
        ]
    )
    assert result.stdout.str().count(">sys_unlink()") == 3


def test_a_failed_test_shows_what_the_mock_daemon_complains_about(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
def test_it(mock_daemon, fuse_process):
    fuse_process.stat("/f")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*OSError*", "*fusewire: the mock daemon*", '  LOOKUP 4 nodeid=1 "f"'])


def test_a_test_that_passes_shows_nothing(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
def test_it(mock_daemon, fuse_process):
    mock_daemon.expect.statfs(1).reply()
    fuse_process.statvfs("/")
""")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*fusewire:*")


def test_a_test_without_the_fixtures_is_left_alone(run) -> None:  # type: ignore[no-untyped-def]
    result = run("def test_it():\n    assert False\n")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*fusewire:*")


def test_markers_give_the_fixtures_their_arguments(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
from fusewire import InitFlag
pytestmark = pytest.mark.fuse_kernel(policy="linux")

@pytest.mark.fuse_kernel(driver="threads")
@pytest.mark.fuse_process(uid=7, gid=8)
@pytest.mark.mock_daemon(path="/m", flags=InitFlag.POSIX_LOCKS, max_write=4096)
def test_it(fuse_kernel, fuse_process, mock_daemon):
    assert fuse_kernel.policy.name == "linux"
    assert type(fuse_kernel.driver).__name__ == "Threads"
    assert (fuse_process.getuid(), fuse_process.getgid()) == (7, 8)
    assert mock_daemon.mount.path == b"/m"
    assert mock_daemon.mount.sb.flags == InitFlag.POSIX_LOCKS
""")
    result.assert_outcomes(passed=1)


def test_the_kernel_can_be_parametrized_by_its_driver(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
@pytest.mark.parametrize("fuse_kernel", ["inline", "threads"], indirect=True)
def test_it(mock_daemon, fuse_process):
    mock_daemon.expect.statfs(1).reply()
    fuse_process.statvfs("/")
""")
    result.assert_outcomes(passed=2)


def test_a_test_that_hangs_in_line_is_told_why(run) -> None:  # type: ignore[no-untyped-def]
    result = run("""
def test_it(mock_daemon, fuse_process):
    mock_daemon.expect.lookup(1, b"f").never()
    fuse_process.stat("/f")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Deadlock*", "*waits on req->waitq, which only daemon:* could end*"])
