"""A robot with three cameras and the node, and what is measured while a fault is active."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from faults.table import Fault
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from robot import Robot, jpeg, picture
from sensor_msgs.msg import CompressedImage, Image

from argus_ros.core.types import Outcome
from argus_ros.ros.conversions import stamp_ns

HERTZ = 10.0
TOPICS: dict[str, tuple[type, str]] = {
    "front": (Image, "/front/image_raw"),
    "rear": (Image, "/rear/image_raw"),
    "squeezed": (CompressedImage, "/squeezed/compressed"),
}
#: As the cameras' diagnostics name them.
OUTCOMES = tuple(outcome.name.lower().replace("_", " ") for outcome in Outcome)


@dataclass(frozen=True)
class Trial:
    """What came of a fault."""

    group: str
    name: str
    told: str  #: by diagnostics
    told_after: float  #: seconds from the beginning of its cause; 0 where nothing was to be told
    recovered_after: float  #: seconds from the end of its cause to a new answer of every camera
    arrived: int  #: images, from before the fault to after it
    lost: int  #: of these, ended without an outcome


class Feed:
    """A camera's driver: publishes ``message`` ten times a second, stamped anew."""

    def __init__(self, site: Site, publisher: Publisher, message: Any) -> None:
        self.publisher, self.message = publisher, message
        self.restamp: Callable[[int], int] | None = None
        self._site = site
        self._timer = site.robot.node.create_timer(1 / HERTZ, self.publish)

    def publish(self) -> None:
        message = self.message
        if message is None or self._site.quiet:
            return
        if not isinstance(message, bytes):
            self._site.stamped(message, self.restamp)
        self.publisher.publish(message)

    def end(self) -> None:
        self._site.robot.node.destroy_timer(self._timer)
        self._site.robot.node.destroy_publisher(self.publisher)


class Site:
    def __init__(self, ros: Any, node: Any, robot: Robot, checkpoint: Path) -> None:
        self.ros, self.node, self.robot, self.checkpoint = ros, node, robot, checkpoint
        self.quiet = False
        self._began = 0.0  # when the fault began, steady clock
        self.small_disk: Path | None = None  #: under the node's log
        self.feeds: dict[str, Feed] = {}
        for name, (kind, topic) in TOPICS.items():
            self.plug(name, kind, topic)
        self.cold_start = self._measure_cold_start()

    def _measure_cold_start(self) -> float:
        began = time.monotonic()
        self.engine()
        return time.monotonic() - began

    def plug(self, name: str, kind: type, topic: str) -> None:
        publisher = self.robot.node.create_publisher(kind, topic, qos_profile_sensor_data)
        self.feeds[name] = Feed(self, publisher, picture() if kind is Image else jpeg())

    def unplug(self, name: str) -> None:
        self.feeds[name].end()

    def stamped(self, message: Any, restamp: Callable[[int], int] | None = None) -> Any:
        now = time.time_ns()
        stamp = restamp(now) if restamp else now
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        return message

    def sleep(self, seconds: float) -> None:
        """Let the cameras run."""
        threading.Event().wait(seconds)

    def engine(self, *, running: bool = True, other_than: int = 0) -> int:
        """Process id of the engine, once there is one (that runs)."""

        def process(status: DiagnosticStatus) -> int:
            values = {value.key: value.value for value in status.values}
            if values.get("process", "none") == "none" or (running and values["state"] != "running"):
                return 0
            return int(values["process"]) if int(values["process"]) != other_than else 0

        found = process(self.robot.status("engine", process))
        self._began = time.monotonic()  # the query above took time; the fault begins now
        return found

    # --- a trial ----------------------------------------------------------------------------------

    def run(self, fault: Fault) -> Trial:
        self.answered(time.time_ns())
        before = self._counts()
        injection = fault.inject(self)
        try:
            self.robot.forget("/diagnostics")  # later messages are about the fault
            self._began = time.monotonic()
            next(injection)
            told, told_after = "", 0.0
            if fault.status:
                status = self._told(fault.status, re.escape(fault.says))
                told, told_after = status.message, time.monotonic() - self._began
                assert status.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR), status
            if fault.others:
                mine = fault.status.removeprefix("camera ") or "front"
                self.answered(time.time_ns(), [name for name in self.feeds if name != mine])
            ended, since = time.monotonic(), time.time_ns()
        finally:
            next(injection, None)  # the end of the cause, also where the trial has failed
        self.answered(since)
        recovered = time.monotonic() - ended
        after = self._at_rest()
        return Trial(
            fault.group,
            fault.name,
            told,
            told_after,
            recovered,
            sum(since_then(before[name][0], arrived) for name, (arrived, _) in after.items()),
            sum(arrived - done for arrived, done in after.values()),
        )

    def _told(self, name: str, pattern: str) -> DiagnosticStatus:
        def fits(message: Any) -> list[DiagnosticStatus]:
            return [s for s in message.status if s.name.endswith(name) and re.search(pattern, s.message)]

        return fits(self.robot.wait("/diagnostics", fits))[0]

    def answered(self, since: int, cameras: list[str] | None = None) -> None:
        """Wait until an image of each camera that was stamped after ``since`` is answered."""
        for name in cameras or list(self.feeds):
            self.robot.wait(
                "/argus/detections",
                lambda d, name=name: d.camera == name and stamp_ns(d.header) >= since,
            )
        self.robot.forget("/argus/detections")

    def _counts(self) -> dict[str, tuple[int, int]]:
        """By camera: images that arrived, and those that have ended."""
        self.robot.forget("/diagnostics")
        message = self.robot.wait("/diagnostics")
        found = {}
        for name in self.feeds:
            status = next(s for s in message.status if s.name.endswith(f"camera {name}"))
            values = {value.key: value.value for value in status.values}
            found[name] = int(values["offered"]), sum(int(values[outcome]) for outcome in OUTCOMES)
        return found

    def without_a_word(self) -> int:
        """Images that arrived and have not ended, once none comes any more."""
        return sum(arrived - ended for arrived, ended in self._at_rest().values())

    def _at_rest(self) -> dict[str, tuple[int, int]]:
        """The counts once no image comes any more and all have had the time to end."""
        self.quiet = True
        end = time.monotonic() + 10.0
        try:
            while True:
                counts = self._counts()
                if all(arrived == ended for arrived, ended in counts.values()) or time.monotonic() > end:
                    return counts
        finally:
            self.quiet = False


def since_then(before: int, now: int) -> int:
    """Of a count that begins anew where its camera is made anew."""
    return now - before if now >= before else now


def as_json(trial: Trial) -> dict[str, object]:
    return asdict(trial)
