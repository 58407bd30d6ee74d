"""A robot for tests: processes in a ROS domain of their own, and a node that is all around argus."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_prefix
from argus_ros.msg import DetectionArray, FrameTiming
from argus_ros.srv import Ask
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rclpy.task import Future
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from argus_ros.core.fastdds import PROFILE_VARIABLES

WAIT = 60.0  #: generous: the engine's process imports torch, on a busy machine
#: What tests change of a node that runs, and what it is before and after.
LIVE: dict[str, Any] = {
    "score_threshold": 0.0,
    "classes": [""],
    "publish_late": False,
    "cameras": ["front"],
    "camera__front__topic": "/front/image_raw",
    "camera__front__deadline": 30.0,
    "camera__front__region": [0, 0, 0, 0],
}


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
def bare_node(name: str) -> Iterator[Node]:
    """A node in a context of its own, as in another process."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node(name, context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


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


class Robot:
    """Another process's node: a camera, a planner and an operator in one."""

    #: It calls, discovered in this order.
    SERVICES: ClassVar[dict[str, type]] = {
        "ask": Ask,
        "enable": SetBool,
        "set_parameters": SetParameters,
        "set_parameters_atomically": SetParametersAtomically,
        "get_parameters": GetParameters,
        "list_parameters": ListParameters,
        "describe_parameters": DescribeParameters,
        "change_state": ChangeState,
        "get_state": GetState,
    }

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("robot", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._news = threading.Condition()
        self._heard: dict[str, list[Any]] = {}
        self._met = False
        self._cameras: list[Publisher] = []
        self._streams: list[Timer] = []
        every = QoSProfile(history=HistoryPolicy.KEEP_ALL)  # also of many answers that come at once
        self._clients = {
            name: self.node.create_client(kind, f"/argus/{name}", qos_profile=every)
            for name, kind in self.SERVICES.items()
        }
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 100) -> None:
        heard = self._heard.setdefault(topic, [])

        def take(message: Any) -> None:
            with self._news:
                heard.append(message)
                self._news.notify_all()

        self.node.create_subscription(kind, topic, take, qos)

    def heard(self, topic: str) -> list[Any]:
        with self._news:
            return list(self._heard[topic])

    def forget(self, topic: str) -> None:
        with self._news:
            self._heard[topic].clear()

    def forget_all(self) -> None:
        for topic in self._heard:
            self.forget(topic)

    def wait(self, topic: str, fits: Callable[[Any], Any] = bool, timeout: float = WAIT) -> Any:
        """The first message heard on a topic that fits."""
        found: list[Any] = []

        def look() -> bool:
            found[:] = [message for message in self._heard[topic] if fits(message)]
            return bool(found)

        with self._news:
            assert self._news.wait_for(look, timeout), (topic, self._heard[topic][-3:])
            return found[0]

    def begin(self, service: str, **request: Any) -> Future:
        """Call a service; ``result`` waits for the answer."""
        if not self._met:
            self._meet()
        return self._clients[service].call_async(self.SERVICES[service].Request(**request))

    def result(self, future: Future) -> Any:
        answered = threading.Event()
        future.add_done_callback(lambda _: answered.set())
        assert answered.wait(WAIT)
        return future.result()

    def _meet(self) -> None:
        """Return when this side and the node know each other, so that no request or response is lost.

        That a service is there says only that this side knows the node: a response for a client of which
        the node has not heard is lost. It hears of them in order, so of all once the last is answered.
        """
        for client in self._clients.values():
            assert client.wait_for_service(WAIT)
        answered = threading.Event()
        for _ in range(int(WAIT)):
            self._clients["get_state"].call_async(GetState.Request()).add_done_callback(
                lambda _: answered.set()
            )
            if answered.wait(1.0):
                self._met = True
                return
        raise AssertionError("the node does not answer")

    def call(self, service: str, **request: Any) -> Any:
        return self.result(self.begin(service, **request))

    def ask(self, **request: Any) -> Ask.Response:
        return self.call("ask", **request)

    def set(self, **values: Any) -> tuple[bool, str]:
        """Set parameters, all or nothing; ``__`` stands for a dot. Success and reason."""
        parameters = [Parameter(n.replace("__", "."), value=v).to_parameter_msg() for n, v in values.items()]
        result = self.call("set_parameters_atomically", parameters=parameters)
        return result.result.successful, result.result.reason

    def set_one(self, name: str, value: Any) -> tuple[bool, str]:
        """As ``ros2 param set`` does."""
        parameters = [Parameter(name, value=value).to_parameter_msg()]
        (result,) = self.call("set_parameters", parameters=parameters).results
        return result.successful, result.reason

    def change(self, transition: int) -> bool:
        return self.call("change_state", transition=Transition(id=transition)).success

    def state(self) -> int:
        return self.call("get_state").current_state.id

    def camera(self, kind: type = Image, topic: str = "/front/image_raw") -> Publisher:
        self._cameras.append(self.node.create_publisher(kind, topic, qos_profile_sensor_data))
        return self._cameras[-1]

    def show(self, camera: Publisher, message: Any, until: Callable[[], Any]) -> None:
        """Publish an image, stamped anew, ten times a second until something has come about."""
        done = threading.Event()
        for _ in range(int(10 * WAIT)):
            message.header.stamp = self.node.get_clock().now().to_msg()
            camera.publish(message)
            if until():
                return
            done.wait(0.1)
        raise AssertionError("it did not come about")

    def stream(self, camera: Publisher, message: Any) -> set[bytes]:
        """Publish an image, stamped anew, ten times a second from now on; the headers sent."""
        sent: set[bytes] = set()

        def publish() -> None:
            message.header.stamp = self.node.get_clock().now().to_msg()
            sent.add(bytes(serialize_message(message.header)))
            camera.publish(message)

        self._streams.append(self.node.create_timer(0.1, publish))
        return sent

    def rest(self) -> None:
        """End the streams and take the cameras away."""
        while self._streams:
            self.node.destroy_timer(self._streams.pop())
        while self._cameras:
            self.node.destroy_publisher(self._cameras.pop())

    def status(self, name: str, fits: Callable[[DiagnosticStatus], Any]) -> DiagnosticStatus:
        """The first status of this name that fits, from now on."""
        self.forget("/diagnostics")

        def statuses(message: DiagnosticArray) -> list[DiagnosticStatus]:
            return [status for status in message.status if status.name.endswith(name) and fits(status)]

        return statuses(self.wait("/diagnostics", statuses))[0]

    def close(self) -> None:
        self._executor.create_task(rclpy.shutdown, context=self.context)  # between two waits
        self._thread.join()
        self.node.destroy_node()  # else it is discovered in its domain for as long as this process lives

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()


@contextmanager
def visiting() -> Iterator[Robot]:
    robot = Robot()
    robot.listen(DetectionArray, "/argus/detections")
    robot.listen(FrameTiming, "/argus/timing")
    robot.listen(DiagnosticArray, "/diagnostics")
    try:
        yield robot
    finally:
        robot.close()


def start_node(ros: Any, checkpoint: Path, **parameters: object) -> Any:
    """Start the node with parameters; ``__`` stands for a dot."""
    values = {"model": checkpoint, "threads": 1, **LIVE} | parameters
    given = [f"{name.replace('__', '.')}:={value}" for name, value in values.items()]
    program = Path(get_package_prefix("argus_ros"), "lib", "argus_ros", "argus_node")
    arguments = [part for one in given for part in ("-p", one)]
    return ros.start("argus", program, "--ros-args", *arguments)


def picture(width: int = 160, height: int = 120) -> Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    image.data = array.array("B", pixels.tobytes())
    image.header.frame_id = "front camera, optical frame"
    return image


def jpeg() -> CompressedImage:
    pixels = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    return CompressedImage(format="jpeg", data=array.array("B", cv2.imencode(".jpg", pixels)[1].tobytes()))


def engine_pid(robot: Robot) -> int:
    """Of an engine that is running."""

    def process(status: DiagnosticStatus) -> str:
        values = {value.key: value.value for value in status.values}
        return values["process"] if values["state"] == "running" else ""

    return int(process(robot.status("engine", process)))


def crowding() -> float:
    """How many times slower than alone a process gets on, where others want this machine too."""
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def shared_files(pid: int) -> set[Path]:
    """What a process has mapped of Fast DDS's shared memory."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split()[5]) for line in maps if "/dev/shm/fast" in line}


# --- fixtures of the tests with several processes -----------------------------------------------


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
    from argus_ros.vlm.models.blank import write_checkpoint  # torch and transformers, only when it is needed

    return write_checkpoint(tmp_path_factory.mktemp("blank"))
