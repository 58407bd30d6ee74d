"""Publishes the results of frames: answers, positions in space, timing, annotated images.

The pipeline and the locators of the cameras call it, each from its own threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from argus_ros.core.image import Image
from argus_ros.core.job import Report
from argus_ros.core.space import unplaced
from argus_ros.core.tracking import Tracker
from argus_ros.core.types import Detection, Outcome
from argus_ros.msg import DetectionArray
from argus_ros.ros import conversions
from argus_ros.ros.annotator import Annotator
from argus_ros.ros.locator import Placed
from argus_ros.ros.metrics import Metrics
from argus_ros.ros.outputs import Outputs, until_shutdown
from argus_ros.ros.settings import Settings
from argus_ros.ros.traces import Traces, traces_to

if TYPE_CHECKING:
    from argus_ros.ros.node import ArgusNode

LOG_INTERVAL = 5.0  #: seconds between two warnings about the same problem


@dataclass(frozen=True)
class FrameContext:
    """Data that the pipeline passes on with an image."""

    header: Header
    image: Image | None  #: kept only while annotated images have a subscriber


class Results:
    """Publishes results from ``open`` to ``close``, with the node's current settings."""

    def __init__(self, node: ArgusNode) -> None:
        self.outputs = Outputs(node)
        self.metrics: Metrics | None = None
        self._node = node
        self._trackers: dict[str, Tracker] = {}  # by camera; empty while tracking is off
        self._annotator: Annotator | None = None
        self._traces: Traces | None = None

    def open(self, settings: Settings) -> None:
        """Raises ParameterError, TrackingError, MetricsError and TracesError for invalid settings."""
        if settings.tracking:
            self.track(camera.name for camera in settings.cameras)
        self.outputs.create()
        if settings.metrics_port:
            self.metrics = Metrics(settings.metrics_port, settings.metrics_address)
        if settings.traces_endpoint:
            self._traces = traces_to(settings.traces_endpoint, self._node.get_fully_qualified_name())
        self._annotator = Annotator(self._publish_annotated)

    def close(self) -> None:
        """Close everything that was opened, each part even where another raises."""
        with ExitStack() as ends:  # in reverse order
            ends.callback(self.outputs.destroy)
            if self._annotator:
                ends.callback(self._annotator.close)
            if self.metrics:
                ends.callback(self.metrics.close)
            if self._traces:
                ends.callback(self._traces.close)

    def track(self, cameras: Iterable[str]) -> None:
        """Keep a tracker for each of these cameras, and no others."""
        self._trackers = {name: self._trackers.get(name) or Tracker() for name in cameras}

    def watched(self) -> bool:
        """Whether annotated images have a subscriber."""
        return self.outputs.subscribers(ImageMessage, CompressedImage) > 0

    def publish_answer(self, report: Report) -> None:
        context, detections = report.header, self._likely(report)
        if tracker := self._trackers.get(report.camera):
            detections = tracker.update(detections, conversions.stamp_ns(context.header))
        message = self._message(report, detections)
        self.outputs.send(message)
        if camera := self._node.cameras.get(report.camera):
            camera.health.published(report.age, time.monotonic())
            camera.place(message)
        if conversions.vision_messages:
            self.outputs.send(conversions.to_vision(message))
        if context.image and self._annotator:
            self._annotator.offer(context.image, message)

    def publish_positions(self, placed: Placed) -> None:
        """Publish positions; called from the thread of a camera's locator."""
        detections = placed.detections
        trouble = "; ".join(filter(None, (placed.depth_trouble, placed.frame_trouble)))
        message = conversions.to_detections_3d(
            detections,
            placed.places or [unplaced()] * len(detections.detections),
            placed.frame_id,
            placed.transform,
            placed.depth_offset,
            trouble,
        )
        with until_shutdown(self._node.context):
            self.outputs.send(message)
            if conversions.vision_messages:
                self.outputs.send(conversions.to_vision_3d(message))
            if self.outputs.subscribers(MarkerArray):
                self.outputs.send(conversions.to_markers(message))
        if camera := self._node.cameras.get(detections.camera):
            has_depth = bool(camera.settings.positions.depth_topic)
            troubles = placed.depth_trouble, placed.frame_trouble
            camera.health.placed(has_depth, *troubles, time.monotonic())

    def answer_to(self, report: Report) -> DetectionArray:
        """The message that answers a question."""
        return self._message(report, self._likely(report))

    def _likely(self, report: Report) -> tuple[Detection, ...]:
        assert report.answer is not None
        return tuple(d for d in report.answer.detections if d.score >= self._node.settings.score_threshold)

    def _message(self, report: Report, detections: tuple[Detection, ...]) -> DetectionArray:
        assert report.answer is not None
        return conversions.to_detections(
            report.header.header,
            report.camera,
            (report.width, report.height),
            report.answer,
            detections,
            model=checkpoint_name(self._node.settings),
            task=report.task,
            latency=report.times.total,
            age=report.age,
        )

    def publish_timing(self, report: Report) -> None:
        header, outcome = report.header.header, report.outcome
        if metrics := self.metrics:
            metrics.frame(report)
        if traces := self._traces:
            traces.frame(report, conversions.stamp_ns(header))
        self.outputs.send(
            conversions.to_timing(header, report.camera, outcome, report.times, report.level, report.answer)
        )
        stamp = f"{header.stamp.sec}.{header.stamp.nanosec:09}"
        self._node.get_logger().debug(
            f"camera {report.camera}, {stamp}: {outcome.name.lower()}, {report.reason}"
        )
        undecodable = report.outcome is Outcome.UNDECODABLE
        if undecodable:
            self._node.get_logger().warning(
                f"camera {report.camera}: image dropped: {report.reason}",
                throttle_duration_sec=LOG_INTERVAL,
            )
        error = report.reason if undecodable or report.outcome is Outcome.ENGINE_DOWN else ""
        if camera := self._node.cameras.get(report.camera):
            camera.health.ended(outcome, time.monotonic(), error, report.answer)

    def _publish_annotated(self, header: Header, picture: np.ndarray) -> None:
        with until_shutdown(self._node.context):
            if self.outputs.subscribers(ImageMessage):
                self.outputs.send(conversions.to_image(header, picture))
            if self.outputs.subscribers(CompressedImage):
                self.outputs.send(conversions.to_jpeg(header, picture))


def checkpoint_name(settings: Settings) -> str:
    return settings.engine.checkpoint.rstrip("/").rpartition("/")[2]
