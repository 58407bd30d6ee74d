"""What all tests share: system tests run last, tests of the ROS side only where ROS is, figures are shown."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from argus_ros.core.domain import claim as claim_free_domain

HERE = Path(__file__).parent

# A shell that starts the tests in the background has them ignore Ctrl-C, and so whatever they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # and nohup the end of the terminal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Models of a few thousand weights only wait for a second thread: ten times as long on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where no GPU is tested, Triton interprets its kernels; it has to know before anything imports it.
if os.environ.get("ARGUS_TEST_DEVICE", "cpu") == "cpu" and not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

if find_spec("hypothesis"):  # not on every machine that tests the model alone
    from hypothesis import settings

    settings.register_profile("argus", deadline=None)  # how long an example takes is no property of the code
    settings.load_profile("argus")

if find_spec("rclpy") is None:  # a machine for the model alone
    collect_ignore = ["ros", "system", "faults"]


@contextmanager
def _claimed_domain() -> Iterator[int]:
    """A ROS domain that nobody else uses on this machine, until the end of the block."""
    claim, domain = claim_free_domain()
    with claim:
        yield domain


@pytest.fixture(scope="session")
def claim_domain() -> Callable[[], AbstractContextManager[int]]:
    """``with claim_domain() as domain:`` is in a ROS domain that nobody else tests in on this machine."""
    return _claimed_domain


@pytest.fixture
def alone(
    claim_domain: Callable[[], AbstractContextManager[int]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """``rclpy.init()`` joins a domain of this test's own."""
    with claim_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield


def pytest_report_header() -> str:
    return "ROS 2: " + (
        "found" if find_spec("rclpy") else "none here, so test/ros and test/system are left out"
    )


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(HERE / folder) for folder in ("system", "faults")):
            item.add_marker("system")
    items.sort(key=lambda item: item.get_closest_marker("system") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests recorded with ``record_property``."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.stats.get(outcome, [])]
    figures = [(r.nodeid, *p) for r in reports if r.when == "call" for p in r.user_properties]
    if figures:
        terminalreporter.section("measured")
        for test, name, value in figures:
            terminalreporter.line(f"{test}: {name}: {value}")
