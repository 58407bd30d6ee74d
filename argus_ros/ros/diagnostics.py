"""The contents of ``/diagnostics``: the state of each camera and of the engine, with remedies."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from argus_ros.core.engine_client import EngineState
from argus_ros.core.protocol import ModelInfo
from argus_ros.core.types import Answer, Outcome

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

WINDOW = 10.0  #: seconds of history for rates, ages and warnings
PATIENCE = 3.0  #: seconds without an image before it is reported
LOST_TOLERATED = 0.05  #: part of lost images above which it is reported
IMPLAUSIBLE = 100_000  #: invalid number of lost messages: Fast DDS sometimes reports billions
LATE_TOLERATED = 0.1  #: part of late images above which it is reported
UNPLACED_TOLERATED = 0.1  #: part of answers without depth or a transform above which it is reported
LOST_REMEDY = (
    "give camera driver and node the Fast DDS profile config/fastdds_large_images.xml, "
    "or publish compressed images (raw ones above 60 MB, such as 8K, get lost with it as well)"
)


@dataclass(frozen=True)
class Report:
    """One entry of ``/diagnostics``."""

    level: bytes
    message: str
    values: Mapping[str, object] = field(default_factory=dict)

    def status(self, name: str, hardware_id: str = "") -> DiagnosticStatus:
        values = [KeyValue(key=key, value=str(value)) for key, value in self.values.items()]
        return DiagnosticStatus(
            level=self.level, name=name, message=self.message, hardware_id=hardware_id, values=values
        )


def to_diagnostics(stamp: Time, statuses: Iterable[DiagnosticStatus]) -> DiagnosticArray:
    return DiagnosticArray(header=Header(stamp=stamp), status=list(statuses))


class StampGaps:
    """Counts lost images, by gaps between stamps that are multiples of the period.

    The period is the usual difference of the closest consecutive stamps, so that it is found even where half
    of the images are lost.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._last: int | None = None
        self._gaps: deque[int] = deque(maxlen=30)

    @property
    def period(self) -> float:
        """Seconds between two images of the camera; 0 while unknown."""
        if len(self._gaps) < 5:
            return 0.0
        least = sorted(self._gaps)[len(self._gaps) // 10]
        return statistics.median(gap for gap in self._gaps if gap < 1.5 * least) * 1e-9

    def arrive(self, stamp_ns: int, arrived: int = 0) -> int:
        """Add a stamp; returns the images missing before it, less the ``arrived`` ones without a stamp."""
        gap = stamp_ns - self._last if self._last is not None else 0
        self._last = stamp_ns
        if not 0 < gap < 2_000_000_000:  # the first one, time went back, or the camera paused
            return 0
        self._gaps.append(gap)
        periods = gap * 1e-9 / self.period if self.period else 1.0
        missing = round(periods) - 1 - arrived
        if missing < 1 or abs(periods - round(periods)) > 0.25:
            return 0
        self.lost += missing
        return missing


class CameraHealth:
    """Counts one camera's images and the outcomes of its frames; thread-safe."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.offered = 0
        self.counts: Counter[Outcome] = Counter()
        self.malformed_count = 0
        self.gaps = StampGaps()
        self.lost_count = 0
        self.mismatch = ""  #: publishers with an incompatible QoS
        self.publishers: tuple[str, ...] = ()  #: nodes whose images arrive
        self.last_error = ""
        self.position_topics: dict[str, str] = {}  #: topics for positions in space, by their role
        self.with_depth = self.without_depth = 0  #: answers of a camera with a depth topic
        self.without_frame = 0  #: answers without a transform
        self.position_trouble = ""  #: the last error of a position
        self.no_positions = ""  #: why the camera has no positions at all
        self.dropped_boxes = 0
        self._active_since: float | None = None
        self._last_image: float | None = None
        self._recent: deque[tuple[float, str]] = deque()  # "in", "malformed" or an outcome's name
        self._losses: deque[tuple[float, int]] = deque()  # number of images lost at once
        self._ages: deque[tuple[float, float]] = deque()
        self._boxes: deque[tuple[float, int, int]] = deque()  # of each answer: valid boxes, invalid boxes
        self._gap = 0  # malformed messages since the last image
        self.losses_reported = False  #: by the middleware; else gaps in stamps are counted
        self._lost_since = 0  # since the last image, from the middleware
        self._lock = threading.Lock()

    def activate(self, now: float | None) -> None:
        """Images are expected from ``now`` on; None: no longer."""
        with self._lock:
            self._active_since, self._last_image, self.mismatch = now, None, ""
            self.publishers, self.no_positions = (), ""
            self._recent.clear()
            self._losses.clear()
            self._ages.clear()
            self._boxes.clear()

    def arrived(self, stamp_ns: int, now: float) -> None:
        with self._lock:
            self.offered += 1
            self._last_image = now
            self._recent.append((now, "in"))
            self._lost_since = 0
            if not self.losses_reported:
                self._count_lost(self.gaps.arrive(stamp_ns, arrived=self._gap), now)
            self._gap = 0

    def malformed(self, now: float) -> None:
        """A message arrived that cannot be deserialised, so that its header is unknown."""
        with self._lock:
            self.malformed_count += 1
            self._last_image = now
            self._recent.append((now, "malformed"))
            self._gap += 1

    def lost(self, count: int, now: float) -> None:
        """The middleware reports lost messages; an invalid number counts as one."""
        with self._lock:
            count = count if 0 < count < IMPLAUSIBLE else 1
            self._count_lost(count, now)
            self._lost_since += count

    def _count_lost(self, count: int, now: float) -> None:
        self.lost_count += count
        self._losses.append((now, count))

    def ended(self, outcome: Outcome, now: float, error: str = "", answer: Answer | None = None) -> None:
        """A frame has ended. ``answer``: of a frame that ran."""
        with self._lock:
            if answer:
                self.dropped_boxes += answer.dropped
                self._boxes.append((now, len(answer.detections), answer.dropped))
            self.counts[outcome] += 1
            self._recent.append((now, outcome.name))
            self.last_error = error or self.last_error

    def published(self, age: float, now: float) -> None:
        with self._lock:
            self._ages.append((now, age))

    def placed(self, has_depth: bool, depth_trouble: str, frame_trouble: str, now: float) -> None:
        """Positions of an answer were computed. ``has_depth``: the camera has a depth topic."""
        with self._lock:
            self._recent.append((now, "unplaced" if depth_trouble or frame_trouble else "placed"))
            if depth_trouble:
                self.without_depth += has_depth
            elif has_depth:
                self.with_depth += 1
            self.without_frame += bool(frame_trouble)
            self.position_trouble = depth_trouble or frame_trouble or self.position_trouble

    def silence(self, now: float) -> float:
        """Seconds without an image while active, once they exceed PATIENCE; else 0."""
        with self._lock:
            return self._silence(now)

    def mixture(self, topic: str) -> str:
        """The warning for a topic with several publishers."""
        return (
            f"{len(self.publishers)} publishers send to {topic} ({', '.join(self.publishers)}); their images "
            "cannot be told apart: stop one, or give each its own topic; ignore this after a restart of one"
        )

    def report(self, topic: str, now: float, why_silent: str = "") -> Report:
        """``why_silent``: the reason why no image arrives, from its publishers."""
        with self._lock:
            return self._report(topic, now, why_silent)

    def _report(self, topic: str, now: float, why_silent: str) -> Report:
        self._forget(now)
        recent = Counter(what for _, what in self._recent)
        recent["lost"] = sum(count for _, count in self._losses)
        level, message = self._judge(topic, now, recent, why_silent)
        span = min(WINDOW, now - self._active_since) if self._active_since is not None else 0.0
        ages = sorted(age for _, age in self._ages)
        values: dict[str, object] = {"topic": topic}
        if span > 0.0:
            values["images per second"] = f"{recent['in'] / span:.1f}"
            values["answers per second"] = f"{recent['PUBLISHED'] / span:.1f}"
        if ages:
            values["age median [s]"] = f"{ages[len(ages) // 2]:.3f}"
            values["age largest [s]"] = f"{ages[-1]:.3f}"
        values["deadline [s]"] = f"{self.deadline:g}"
        values["offered"] = self.offered
        values |= {outcome.name.lower().replace("_", " "): self.counts[outcome] for outcome in Outcome}
        values["malformed"] = self.malformed_count
        values["lost on the way"] = self.lost_count
        values["dropped boxes"] = self.dropped_boxes
        if self.position_topics:
            values |= self.position_topics
            values["with depth"], values["without depth"] = self.with_depth, self.without_depth
            values["without transform"] = self.without_frame
            values["position trouble"] = self.position_trouble
        values["publishers"] = ", ".join(self.publishers)
        values["QoS mismatch"] = self.mismatch
        values["last error"] = self.last_error
        return Report(level, message, values)

    def _judge(self, topic: str, now: float, recent: Counter[str], why_silent: str) -> tuple[bytes, str]:
        if self._active_since is None:
            return OK, "inactive"
        if silent := self._silence(now):
            never = "no image yet" if self._last_image is None else f"no image for {silent:.0f} s"
            why = "its publisher sends nothing"
            if self._lost_since:
                some = "1 image was" if self._lost_since == 1 else f"{self._lost_since} images were"
                why = f"{some} lost between camera and node; {LOST_REMEDY}"
            return ERROR, f"{never} on {topic}: {self.mismatch or why_silent or why}"
        if malformed := recent["malformed"]:
            count = "1 message" if malformed == 1 else f"{malformed} messages"
            return (
                (WARN if recent[Outcome.PUBLISHED.name] else ERROR),
                f"{count} on {topic} cannot be deserialised: damaged by the publisher, or of another "
                "definition of the message; check its driver and its ROS distribution",
            )
        images, down = recent["in"], recent[Outcome.ENGINE_DOWN.name]
        if not images:
            return OK, f"waiting for images on {topic}"
        ran = recent[Outcome.PUBLISHED.name]
        if down and self._recent[-1][1] in ("in", Outcome.ENGINE_DOWN.name):
            return WARN, "images arrive, but the engine is not ready"
        if recent[Outcome.DISABLED.name] and self._recent[-1][1] in ("in", Outcome.DISABLED.name):
            return OK, "images arrive but are not processed: the node is paused; service ~/enable resumes it"
        if self.mismatch:
            return WARN, self.mismatch
        if self.no_positions:
            return WARN, self.no_positions
        if len(self.publishers) > 1:
            return WARN, self.mixture(topic)
        if broken := recent[Outcome.UNDECODABLE.name]:
            return (WARN if ran else ERROR), f"{broken} of {images} images undecodable: {self.last_error}"
        late = recent[Outcome.STALE.name] + recent[Outcome.WITHHELD.name]
        if late and not ran:
            return ERROR, f"nothing published: no answer meets the deadline of {self.deadline:g} s; raise it"
        if late > LATE_TOLERATED * images:
            return WARN, f"{late} of {images} images could not meet the deadline of {self.deadline:g} s"
        if recent["lost"] > LOST_TOLERATED * (images + recent["lost"]):
            lost = f"{recent['lost']} of {images + recent['lost']} images"
            return WARN, f"{lost} lost between camera and node; {LOST_REMEDY}"
        unplaced, placed = recent["unplaced"], recent["placed"]
        if unplaced > UNPLACED_TOLERATED * (placed + unplaced):
            return (
                WARN,
                f"{unplaced} of {placed + unplaced} answers without positions: {self.position_trouble}",
            )
        if (dropped := sum(n for _, _, n in self._boxes)) and not any(n for _, n, _ in self._boxes):
            return WARN, (
                f"none of the model's {dropped} boxes is valid and of a requested class: the "
                "classes, or 'answer_format', may differ from its training"
            )
        return OK, f"{images} images, {ran} answers in the last {WINDOW:g} s"

    def _silence(self, now: float) -> float:
        if self._active_since is None:
            return 0.0
        silent = now - (self._last_image if self._last_image is not None else self._active_since)
        return silent if silent > PATIENCE else 0.0

    def _forget(self, now: float) -> None:
        queues: tuple[deque[Any], ...] = (self._recent, self._losses, self._ages, self._boxes)
        for queue in queues:
            while queue and queue[0][0] < now - WINDOW:
                queue.popleft()


class EngineHealth:
    """The engine's state as its client reports it; docs/reliability.md explains the states."""

    def __init__(self) -> None:
        self.state = EngineState.STOPPED
        self.text = "not configured"

    def changed(self, state: EngineState, text: str) -> None:
        self.state, self.text = state, text

    def report(
        self,
        info: ModelInfo | None,
        values: Mapping[str, object],
        cause: str = "",
        next_try: float | None = None,
    ) -> Report:
        """``cause``: the last error; ``next_try``: seconds until the process is started."""
        told: dict[str, object] = {"state": self.state.value}
        if info:
            told |= {
                "model": info.name,
                "device": info.device,
                "dtype": info.dtype,
                "parameters": info.parameters,
                "recipes": ", ".join(info.recipes) or "none",
                "load [s]": f"{info.load_seconds:.1f}",
                "scores": "probabilities" if info.scored else "all the same: the server tells none",
            }
        told |= values
        match self.state:
            case EngineState.STARTING:
                return Report(WARN, f"starting: {self.text}", told)
            case EngineState.DEGRADED | EngineState.FAILED:
                return Report(ERROR, f"{self.state.value}: {self.text}", told)
            case EngineState.RECOVERING:
                doing = self.text if next_try is None else f"next try in {max(next_try, 0.0):.1f} s"
                return Report(ERROR, f"recovering: {cause}; {doing}", told)
        return Report(OK, self.text or self.state.value, told)
