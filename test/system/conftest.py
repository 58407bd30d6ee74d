"""Several processes on real topics: each test has a ROS domain of its own on this machine's loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from argus_ros.core.fastdds import PROFILE_VARIABLES


class Process:
    """A started process; its output is kept in a file and can be waited for."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._lines: list[str] = []
        self._closed = False
        self._news = threading.Condition()
        self._popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        with self._news:
            return "".join(self._lines)

    def wait_for(self, text: str, timeout: float = 30.0) -> str:
        """The first line that holds ``text``. Fails when the process ends or the time is up first."""

        def found() -> bool:
            return any(text in line for line in self._lines) or self._closed

        with self._news:
            self._news.wait_for(found, timeout)
            for line in self._lines:
                if text in line:
                    return line
        raise AssertionError(f"{self.name} did not say {text!r} within {timeout} s:\n{self.output}")

    def wait(self, timeout: float = 30.0) -> int:
        """Exit status. Fails when the process does not end in time."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout} s:\n{self.output}") from None
        self._reader.join(1.0)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone, as a shutdown of the system would."""
        self._popen.send_signal(number)

    def end(self) -> None:
        """Interrupt it, then kill whatever is left of it and of the processes it started."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(5.0)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self.log.open("w") as log:
            for line in self._popen.stdout:
                log.write(line)
                log.flush()
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()


class Ros:
    """One test's ROS domain and the processes in it."""

    def __init__(self, domain: int, logs: Path) -> None:
        self.domain = domain
        self.logs = logs
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES},
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(logs / "ros"),
            "PYTHONUNBUFFERED": "1",
        }
        self._processes: list[Process] = []

    def start(self, name: str, *command: str | Path, environment: dict[str, str] | None = None) -> Process:
        """Start a process in this domain, with ``environment`` on top of the domain's."""
        merged = {**self.environment, **(environment or {})}
        process = Process(name, [str(part) for part in command], merged, self.logs / f"{name}.log")
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self._processes):
            process.end()
            print(f"--- {process.name}: exit {process.wait()}, output in {process.log}")
            print(process.output[-4000:])


@contextmanager
def inhabited(domain: int, logs: Path) -> Iterator[Ros]:
    """A ROS domain and its processes, which end with it.

    This process's environment names the domain too, so that ``rclpy.init()`` joins it.
    """
    ros = Ros(domain, logs)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOG_DIR"):
            patch.setenv(name, ros.environment[name])
        try:
            yield ros
        finally:
            ros.end()


@pytest.fixture
def ros(claim_domain: Callable[[], AbstractContextManager[int]], tmp_path: Path) -> Iterator[Ros]:
    """A domain for one test."""
    with claim_domain() as domain, inhabited(domain, tmp_path) as ros:
        yield ros


@pytest.fixture(scope="module")
def shared_ros(
    claim_domain: Callable[[], AbstractContextManager[int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ros]:
    """A domain for the tests of a file."""
    with claim_domain() as domain, inhabited(domain, tmp_path_factory.mktemp("shared")) as ros:
        yield ros


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint."""
    from argus_ros.training.blank import write_checkpoint  # torch and transformers, only when it is needed

    return write_checkpoint(tmp_path_factory.mktemp("blank"))
