"""Positions of a camera's detections: finds the depth of each answer and locates it, in its own thread.

Answers are published before they come here, so late depth or a missing transform never delays a detection.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from argus_ros.core.depth import decode_depth
from argus_ros.core.image import Image, ImageError
from argus_ros.core.lens import Lens, LensError
from argus_ros.core.pairing import Recent
from argus_ros.core.space import DepthError, Place, locate
from argus_ros.msg import DetectionArray
from argus_ros.ros.conversions import stamp_ns
from argus_ros.ros.frames import Frames, FramesError
from argus_ros.ros.intake import Intake, mismatch
from argus_ros.ros.settings import CameraSettings

#: Maximum number of waiting answers; further ones are located without waiting for depth or TF.
MOST_WAITING = 8
#: Depth is kept this many seconds longer than an answer may take, up to this many bytes.
SPARE_SECONDS, MOST_BYTES = 0.5, 128 << 20


@dataclass(frozen=True, eq=False)
class Placed:
    """An answer with the positions of its detections, in the optical frame."""

    detections: DetectionArray
    places: list[Place]
    depth_offset: float  #: seconds from the image's stamp to its depth's; NaN without depth
    depth_trouble: str  #: why depth is missing though the camera has a topic, or why there are no positions
    frame_trouble: str  #: why it is not in the requested frame
    frame_id: str
    transform: np.ndarray  #: (4, 4) from the optical frame into ``frame_id``


OnPlaced = Callable[[Placed], None]


@dataclass(frozen=True)
class Aims:
    """The node's settings for positions: target frames, and the maximum wait."""

    target_frame: str = ""
    ground_frame: str = ""
    wait: float = 0.1
    frames: Frames | None = None  #: None: no other frame is requested


def names_rectified(topic: str) -> bool:
    """Whether images on a topic are rectified, by image_proc's names: image_rect, image_rect_color."""
    last = topic.removesuffix("/compressed").rpartition("/")[2]
    return "rect" in last.split("_")


class Locator:
    """Subscribes to one camera's depth and camera_info until stopped.

    ``on_placed`` is called for every answer, in order, in the locator's own thread. ``overrides`` are the
    node's parameters ``qos_overrides.*``. Raises IntakeError, and RuntimeError (from rcl) for an invalid
    topic, after which no subscription is left.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: CameraSettings,
        aims: Aims,
        on_placed: OnPlaced,
        overrides: Sequence[Parameter] = (),
    ) -> None:
        wanted = settings.positions
        self._name, self._aims, self._on_placed = settings.name, aims, on_placed
        images = node.resolve_topic_name(settings.topic)
        self._rectified = names_rectified(images) if wanted.rectified is None else wanted.rectified
        self._log = node.get_logger()
        self._info: CameraInfo | None = None
        self._lens: tuple[Any, Lens] | None = None  # with the camera_info it was made from
        self._depth_topic = node.resolve_topic_name(wanted.depth_topic) if wanted.depth_topic else ""
        self._info_topic = node.resolve_topic_name(wanted.camera_info_topic)
        self._depths: Recent[tuple[Header, Image]] = Recent(wanted.slop, 0.0, MOST_BYTES)
        self.expect(settings.policy.deadline)
        self._waiting: deque[tuple[DetectionArray, float]] = deque()  # with the latest time to locate each
        self._stopped = False
        self._news = threading.Condition()
        self._overrides = overrides
        with ExitStack() as intakes:
            self._info_intake = self._take(node, "info", CameraInfo, self._info_topic, self._receive_info)
            intakes.callback(self._info_intake.stop)
            if self._depth_topic:
                compressed = self._depth_topic.endswith("/compressedDepth")
                kind = CompressedImage if compressed else ImageMessage
                self._depth_intake = self._take(node, "depth", kind, self._depth_topic, self._receive_depth)
                intakes.callback(self._depth_intake.stop)
            self._intakes = intakes.pop_all()
        self._thread = threading.Thread(target=self._run, name=f"locator {settings.name}", daemon=True)
        self._thread.start()

    @property
    def topics(self) -> dict[str, str]:
        """Its topics by their role, for diagnostics."""
        depth = {"depth topic": self._depth_topic} if self._depth_topic else {}
        return {**depth, "camera_info topic": self._info_topic}

    @property
    def has_depth(self) -> bool:
        return bool(self._depth_topic)

    def expect(self, deadline: float) -> None:
        """Keep depth for answers that arrive up to ``deadline`` seconds after their image."""
        self._depths.seconds = deadline + SPARE_SECONDS

    def offer(self, detections: DetectionArray) -> None:
        """Queue an answer; returns at once."""
        with self._news:
            self._waiting.append((detections, time.monotonic() + self._aims.wait))
            self._news.notify()

    def stop(self) -> None:
        """Stop, and return when no answer is being located any more."""
        with self._news:
            self._stopped = True
            self._news.notify()
        self._depths.close()
        if self._aims.frames:
            self._aims.frames.wake()
        self._thread.join()
        self._intakes.close()

    # --- what comes -----------------------------------------------------------------------------

    def _take(
        self, node: LifecycleNode, what: str, kind: type, topic: str, receive: Callable[[Any], None]
    ) -> Intake:
        def incompatible(event: Any) -> None:
            self._log.error(f"camera {self._name}: {mismatch(topic, event)}")

        name = f"{what}_of_{self._name}"
        qos = qos_profile_sensor_data
        return Intake(node, name, kind, topic, qos, receive, incompatible, overrides=self._overrides)

    def _receive_info(self, message: CameraInfo) -> None:
        self._info = message

    def _receive_depth(self, message: Any) -> None:
        image = Image.of(message)
        size = memoryview(image.data).nbytes
        self._depths.add(stamp_ns(message.header), (message.header, image), size)

    # --- placing, in a thread of its own --------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                detections, until = self._waiting.popleft()
                if len(self._waiting) >= MOST_WAITING:
                    until = 0.0
            try:
                self._on_placed(self._place(detections, until))
            except Exception as error:  # one answer must not end the thread
                self._log.error(
                    f"camera {self._name}: an answer could not be placed: {type(error).__name__}: {error}",
                    throttle_duration_sec=5.0,
                )

    def _place(self, detections: DetectionArray, until: float) -> Placed:
        """Locate an answer. No message can make it raise."""
        boxes = [(d.x_min, d.y_min, d.x_max, d.y_max) for d in detections.detections]
        size = detections.image_width, detections.image_height
        frame = detections.header.frame_id
        placed = Placed(detections, [], math.nan, "", "", frame, np.eye(4))
        try:
            lens = self._lens_for(size)
        except LensError as error:
            return replace(placed, depth_trouble=str(error))
        depth, offset, trouble = self._depth_for(detections.header, until)
        placed = replace(placed, depth_trouble=trouble, depth_offset=offset)
        ground, placed = self._ground(placed, until)
        try:
            places = locate(boxes, size, lens, depth, ground)
        except DepthError as error:
            placed = replace(placed, depth_trouble=str(error), depth_offset=math.nan)
            places = locate(boxes, size, lens, None, ground)
        return self._into_target(replace(placed, places=places), until)

    def _lens_for(self, size: tuple[int, int]) -> Lens:
        """Raises LensError."""
        info = self._info
        if info is None:
            raise LensError(self._info_intake.mismatch() or f"no camera_info arrived on {self._info_topic}")
        roi = info.roi
        numbers = (info.width, info.height, info.binning_x, info.binning_y, info.distortion_model)
        numbers += (roi.x_offset, roi.y_offset, roi.width, roi.height, *info.k, *info.d, *info.p, *size)
        if self._lens is None or self._lens[0] != numbers:
            self._lens = numbers, Lens.of(info, size, rectified=self._rectified)
        return self._lens[1]

    def _depth_for(self, header: Header, until: float) -> tuple[np.ndarray | None, float, str]:
        """Depth of an image, seconds from the image's stamp, and the reason where there is none."""
        if not self._depth_topic:
            return None, math.nan, ""
        match = self._depths.nearest(stamp_ns(header), until)
        if match is None:
            came = "the nearest stamps differ too much" if len(self._depths) else "nothing has arrived on it"
            reason = self._depth_intake.mismatch() or came
            return None, math.nan, f"no depth on {self._depth_topic} within {self._depths.slop:g} s: {reason}"
        depth_header, image = match.item
        if depth_header.frame_id != header.frame_id:
            return (
                None,
                math.nan,
                (
                    f"depth on {self._depth_topic} has frame {depth_header.frame_id!r} and the image "
                    f"{header.frame_id!r}: let the driver register depth to the image (align_depth)"
                ),
            )
        try:
            return decode_depth(image), match.offset, ""
        except ImageError as error:
            return None, math.nan, f"depth on {self._depth_topic}: {error}"

    def _ground(self, placed: Placed, until: float) -> tuple[np.ndarray | None, Placed]:
        """The transform from the optical frame to the ground frame, and ``placed`` with an error, if any."""
        if not (self._aims.ground_frame and self._aims.frames):
            return None, placed
        try:
            return self._lookup(self._aims.ground_frame, placed, until), placed
        except FramesError as error:
            return None, replace(placed, frame_trouble=str(error))

    def _into_target(self, placed: Placed, until: float) -> Placed:
        if not (self._aims.target_frame and self._aims.frames):
            return placed
        try:
            moved = self._lookup(self._aims.target_frame, placed, until)
        except FramesError as error:
            return replace(placed, frame_trouble=str(error))
        return replace(placed, transform=moved, frame_id=self._aims.target_frame)

    def _lookup(self, target: str, placed: Placed, until: float) -> np.ndarray:
        assert self._aims.frames is not None
        header = placed.detections.header
        return self._aims.frames.lookup(
            target, header.frame_id, stamp_ns(header), until, lambda: self._stopped
        )
