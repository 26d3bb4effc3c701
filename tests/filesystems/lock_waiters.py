"""Programs that wait for one lock, on any real mount."""

from __future__ import annotations

import subprocess

from conftest import RealMount, wait_until

from fusewire.linux import Control, connection_number


def any_number_may_wait_for_a_lock(mounted: RealMount) -> None:
    """While one program holds it the mount serves others, and then each has its turn."""
    waiters = 100
    mounted.sh("touch f")
    with subprocess.Popen(["flock", "f", "sh", "-c", "echo; read x"], cwd=mounted.path, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.readline()
        all_ = [subprocess.Popen(["flock", "f", "true"], cwd=mounted.path) for _ in range(waiters)]
        control = Control(connection_number(str(mounted.path)))
        wait_until(lambda: control.waiting >= waiters)
        assert mounted.sh("echo free > g; cat g") == "free\n"
        assert all(process.poll() is None for process in all_)
        holder.communicate("\n")
    assert [process.wait(timeout=30) for process in all_] == [0] * waiters
