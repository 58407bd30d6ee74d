"""Measures the node without its engine: time per image, CPU time of receiving images, time of a response.

    .venv/bin/ros-env python bench/node_overhead.py --json node_overhead.json

*Overhead*: raw 1280x720 images, one by one; the time from an image's arrival at the node to the publication
of its detections, minus the seconds that the engine reports (transfer, vision, prefill, decode).

*Ingestion*: raw 1920x1080 images at 30 Hz to the node, with a rate cap that drops all of them before the
engine, and to a plain rclpy subscriber that discards them. Both alternate for a few rounds; CPU seconds per
received image, as Linux counts them for the subscriber's process.

*Answering*: from a request to set a parameter to its response, while an inference is always in progress
(the engine's process is stopped) and 1280x720 images arrive at 30 Hz.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from ament_index_python.packages import get_package_prefix
from argus_ros.msg import FrameTiming
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from argus_ros.core.fastdds import PROFILE_VARIABLES, with_large_images
from argus_ros.tools import machine

TOPIC = "/front/image_raw"
HERTZ = 30.0
WARM_UP = 20  #: first images, which are not measured
TICKS = os.sysconf("SC_CLK_TCK")


def picture(width: int, height: int) -> Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image(width=width, height=height, encoding="rgb8", step=3 * width)
    image.data = array.array("B", pixels.tobytes())
    return image


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


# --- the other processes ------------------------------------------------------------------------


def camera() -> None:
    """Publish full-HD images at 30 Hz until killed."""
    rclpy.init()
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
    image = picture(1920, 1080)
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + 1 / HERTZ, time.monotonic())
        image.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(image)


def bare() -> None:
    """A minimal subscriber; for every line on standard input it prints the number of images received."""
    rclpy.init()
    node = rclpy.create_node("bare")
    count = 0

    def discard(image: Image) -> None:
        nonlocal count
        count += 1

    def answer() -> None:
        for _ in sys.stdin:
            print(count, flush=True)

    node.create_subscription(Image, TOPIC, discard, qos_profile_sensor_data)
    threading.Thread(target=answer, daemon=True).start()
    with suppress(ExternalShutdownException):
        rclpy.spin(node)


@contextmanager
def process(
    *command: str, last: signal.Signals = signal.SIGKILL, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended with signal ``last``."""
    running = subprocess.Popen(command, text=True, env=with_large_images(), **options)
    try:
        yield running
    finally:
        running.send_signal(last)
        running.wait()


def role(name: str) -> tuple[str, str, str, str]:
    return (sys.executable, __file__, "--role", name)


@contextmanager
def argus(model: str, **parameters: object) -> Iterator[subprocess.Popen[str]]:
    program = str(Path(get_package_prefix("argus_ros"), "lib", "argus_ros", "argus_node"))
    given = {"model": model, "camera.front.deadline": 60.0, "threads": 1} | parameters
    options = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    with process(program, "--ros-args", "--log-level", "warn", *options, last=signal.SIGTERM) as running:
        yield running


# --- measuring ----------------------------------------------------------------------------------


class Observer:
    """A node that listens to argus."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("observer")
        self.timings: list[FrameTiming] = []
        self.ready = False
        self.engine = 0  #: its process
        self.node.create_subscription(FrameTiming, "/argus/timing", self.timings.append, 1000)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._look, 10)

    def _look(self, message: DiagnosticArray) -> None:
        engine = next((s for s in message.status if s.name == "argus: engine"), DiagnosticStatus())
        values = {value.key: value.value for value in engine.values}
        self.ready = values.get("state") == "running"
        self.engine = int(values["process"]) if self.ready else 0

    def spin(self, until: Any, timeout: float = 300.0) -> None:
        end = time.monotonic() + timeout
        while not until():
            if time.monotonic() > end:
                raise TimeoutError("the node made no progress; does its model exist?")
            rclpy.spin_once(self.node, timeout_sec=0.1)

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.spin(lambda: time.monotonic() >= end, seconds + 1.0)

    def change(self, transition: int) -> None:
        client = self.node.create_client(ChangeState, "/argus/change_state")
        request = ChangeState.Request(transition=Transition(id=transition))
        self.spin(client.service_is_ready)
        future = client.call_async(request)
        self.spin(future.done)
        self.node.destroy_client(client)


def overhead(observer: Observer, model: str, images: int) -> list[dict[str, float]]:
    """Milliseconds of each image outside the engine: in total, and by stage."""
    with argus(model):
        observer.spin(lambda: observer.ready)
        publisher = observer.node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
        image = picture(1280, 720)
        taken: list[dict[str, float]] = []
        while len(taken) < images + WARM_UP:
            observer.timings.clear()
            image.header.stamp = observer.node.get_clock().now().to_msg()
            publisher.publish(image)
            end = time.monotonic() + 1.0
            observer.spin(lambda end=end: observer.timings or time.monotonic() > end)
            for timing in observer.timings:
                if timing.outcome == FrameTiming.PUBLISHED:
                    engine = timing.transfer + timing.vision + timing.prefill + timing.decode
                    node = {name: getattr(timing, name) for name in ("wait", "prepare", "publish")}
                    beside = timing.total - engine
                    rest = beside - sum(node.values())  # between the processes, and in the engine's
                    parts = {"all": beside, **node, "rest": rest}
                    taken.append({name: seconds * 1e3 for name, seconds in parts.items()})
            time.sleep(0.02)
        observer.node.destroy_publisher(publisher)
    return taken[WARM_UP:]


def answering(observer: Observer, model: str, calls: int) -> list[float]:
    """Milliseconds up to each response."""
    observer.ready = False
    with argus(model, engine_hang_seconds=3600.0):
        observer.spin(lambda: observer.ready)
        client = observer.node.create_client(SetParametersAtomically, "/argus/set_parameters_atomically")
        publisher = observer.node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
        image = picture(1280, 720)

        def publish() -> None:
            image.header.stamp = observer.node.get_clock().now().to_msg()
            publisher.publish(image)

        timer = observer.node.create_timer(1 / HERTZ, publish)

        def waiting() -> bool:
            return any(timing.outcome == FrameTiming.SUPERSEDED for timing in observer.timings)

        observer.spin(lambda: any(timing.outcome == FrameTiming.PUBLISHED for timing in observer.timings))
        observer.spin(client.service_is_ready)
        os.kill(observer.engine, signal.SIGSTOP)
        observer.timings.clear()
        observer.spin(waiting)  # so that an inference is in progress
        taken = []
        for number in range(calls + WARM_UP):
            value = Parameter("score_threshold", value=number / 1000).to_parameter_msg()
            began = time.monotonic()
            future = client.call_async(SetParametersAtomically.Request(parameters=[value]))
            observer.spin(future.done)
            taken.append((time.monotonic() - began) * 1e3)
            assert future.result().result.successful
        assert not any(timing.outcome == FrameTiming.PUBLISHED for timing in observer.timings)
        os.kill(observer.engine, signal.SIGCONT)
        observer.node.destroy_timer(timer)
        observer.node.destroy_publisher(publisher)
        observer.node.destroy_client(client)
    return taken[WARM_UP:]


def ingestion(observer: Observer, model: str, rounds: int, seconds: float) -> list[dict[str, float]]:
    """CPU milliseconds per received image of both, and images per second, for each round."""
    found = []
    capped = {"camera.front.rate_cap": 0.001, "camera.front.transport": "raw"}
    with process(*role("camera")), argus(model, **capped) as node:
        observer.ready = False
        observer.spin(lambda: observer.ready)
        for _ in range(rounds):
            observer.timings.clear()
            observer.spin(lambda: len(observer.timings) >= WARM_UP)
            observer.timings.clear()
            before = processor_seconds(node.pid)
            observer.spin_for(seconds)
            spent, images = processor_seconds(node.pid) - before, len(observer.timings)
            observer.change(Transition.TRANSITION_DEACTIVATE)

            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            pipes["last"] = signal.SIGTERM
            with process(*role("bare"), **pipes) as subscriber:
                assert subscriber.stdin
                assert subscriber.stdout

                def count(subscriber: Any = subscriber) -> int:
                    subscriber.stdin.write("\n")
                    subscriber.stdin.flush()
                    return int(subscriber.stdout.readline())

                while count() < WARM_UP:
                    time.sleep(0.1)
                bare_images, before = count(), processor_seconds(subscriber.pid)
                time.sleep(seconds)
                bare_spent = processor_seconds(subscriber.pid) - before
                bare_images = count() - bare_images
            observer.change(Transition.TRANSITION_ACTIVATE)
            found.append(
                {
                    "node_ms_per_image": spent / images * 1e3,
                    "bare_ms_per_image": bare_spent / bare_images * 1e3,
                    "node_images_per_second": images / seconds,
                    "bare_images_per_second": bare_images / seconds,
                }
            )
            print(", ".join(f"{name} {value:.2f}" for name, value in found[-1].items()), file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="argus-nano", help="a shipped checkpoint or a folder")
    parser.add_argument("--images", type=int, default=200, help="images for the overhead")
    parser.add_argument("--calls", type=int, default=200, help="calls for the answering")
    parser.add_argument("--rounds", type=int, default=5, help="of ingestion")
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of each turn")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", choices=("camera", "bare"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        return {"camera": camera, "bare": bare}[given.role]()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ |= {name: value for name, value in with_large_images().items() if name in PROFILE_VARIABLES}
    with tempfile.TemporaryDirectory() as logs:
        os.environ["ROS_LOG_DIR"] = logs
        observer = Observer()
        beside = overhead(observer, given.model, given.images)
        answers = answering(observer, given.model, given.calls)
        rounds = ingestion(observer, given.model, given.rounds, given.seconds)
        rclpy.shutdown()
    report = machine.describe() | {
        "overhead_1280x720": {
            "median_ms": {name: statistics.median(one[name] for one in beside) for name in beside[0]},
            "p95_ms": statistics.quantiles((one["all"] for one in beside), n=20)[-1],
            "images": len(beside),
        },
        "answering_set_parameters": {
            "median_ms": statistics.median(answers),
            "p95_ms": statistics.quantiles(answers, n=20)[-1],
            "most_ms": max(answers),
            "calls": len(answers),
        },
        "ingestion_1920x1080": {
            "rounds": rounds,
            # The best rounds: other processes, and an executor that wakes too often, only add time.
            "ratio": min(r["node_ms_per_image"] for r in rounds)
            / min(r["bare_ms_per_image"] for r in rounds),
        },
    }
    print(json.dumps({k: v for k, v in report.items() if "_ms" in str(v)}, indent=1))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
