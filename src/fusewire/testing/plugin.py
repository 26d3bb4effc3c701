"""The pytest plugin: a kernel's half, a process and a mock daemon as fixtures; a failing test shows the last requests.

Installed with fusewire, it needs no line in a conftest. Markers give the fixtures their arguments:
``@pytest.mark.fuse_kernel(driver="threads", policy="linux")`` those of :class:`fusewire.Kernel`,
``@pytest.mark.fuse_process(uid=1000)`` those of ``Kernel.process``, ``@pytest.mark.mock_daemon(flags=InitFlag.POSIX_LOCKS)``
those of :class:`fusewire.testing.MockDaemon`. ``fuse_kernel`` can also be parametrized indirectly, by drivers' names.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..drive import Kernel, Process
    from .mock import MockDaemon

EVENTS = 2000  # that a kernel's half remembers
_kernels = pytest.StashKey["list[Kernel]"]()
_daemons = pytest.StashKey["list[MockDaemon]"]()
_MARKERS = (
    "fuse_kernel(driver, policy, ...): arguments of fusewire.Kernel for the fixture fuse_kernel",
    "fuse_process(comm, uid, gid, groups): arguments of Kernel.process for the fixture fuse_process",
    "mock_daemon(path, flags, ...): arguments of fusewire.testing.MockDaemon for the fixture mock_daemon",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def _arguments(request: pytest.FixtureRequest, marker: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the markers say, the nearest last; and the parameter of an indirect parametrization, which is a driver."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if hasattr(request, "param"):
        kwargs = {"driver": request.param}
    for found in reversed(list(request.node.iter_markers(marker))):
        args = found.args or args
        kwargs |= found.kwargs
    if args:
        kwargs.pop("driver", None)
    return args, kwargs


@pytest.fixture
def fuse_kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel's half in this process (:class:`fusewire.Kernel`), which remembers its last events."""
    from ..drive import Kernel
    from ..inspect import EventStream

    args, kwargs = _arguments(request, "fuse_kernel")
    with Kernel(*args, **kwargs) as kernel:
        if kernel.events is None:  # not ``trace``, which remembers everything
            kernel.events = EventStream(EVENTS, clock=kernel.driver.now)
            for task in kernel.driver.tasks:
                task.events = kernel.events
        request.node.stash.setdefault(_kernels, []).append(kernel)
        yield kernel


@pytest.fixture
def fuse_process(request: pytest.FixtureRequest, fuse_kernel: Kernel) -> Process:
    """A program on ``fuse_kernel``, used like ``os``."""
    args, kwargs = _arguments(request, "fuse_process")
    return fuse_kernel.process(*args, **kwargs)


@pytest.fixture
def mock_daemon(request: pytest.FixtureRequest, fuse_kernel: Kernel) -> MockDaemon:
    """A mock daemon that serves ``/`` of ``fuse_kernel``. What was expected and did not come, and what came and was not
    expected, fails the test."""
    from .mock import MockDaemon

    args, kwargs = _arguments(request, "mock_daemon")
    daemon = MockDaemon(fuse_kernel, *args, **kwargs)
    request.node.stash.setdefault(_daemons, []).append(daemon)
    return daemon


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The verdict is part of the test: a test that it fails has failed, and is no error of a fixture."""
    result = yield
    texts = []
    for daemon in item.stash.get(_daemons, []):
        try:
            daemon.verify()
        except AssertionError as error:
            texts.append(str(error))
    if texts:
        pytest.fail("\n".join(texts), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed:
        from .shown import last_requests

        for daemon in item.stash.get(_daemons, []):
            text = daemon.verdict.text(alive=True)
            if text and text not in str(report.longrepr):
                report.sections.append(("fusewire: the mock daemon", text))
        for kernel in item.stash.get(_kernels, []):
            text = last_requests(kernel)
            if text:
                report.sections.append(("fusewire: the last requests", text))
    return report
