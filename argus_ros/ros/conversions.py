"""Between ROS messages and the program's own words. No node is needed."""

from __future__ import annotations

import array
from collections.abc import Iterable
from types import ModuleType

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from argus_ros.core.types import Answer, Detection, Outcome, StageTimes, Task
from argus_ros.msg import Detection as DetectionMessage
from argus_ros.msg import DetectionArray, FrameTiming

try:
    import vision_msgs.msg as vision_messages
except ImportError:  # on robots that have it; there are no wheels of it
    vision_messages: ModuleType | None = None  # type: ignore[no-redef]

JPEG_QUALITY = 85


def stamp_ns(header: Header) -> int:
    """The stamp in nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def to_detection(detection: Detection) -> DetectionMessage:
    return DetectionMessage(
        label=detection.label,
        description=detection.description,
        score=float(detection.score),
        x_min=float(detection.x_min),
        y_min=float(detection.y_min),
        x_max=float(detection.x_max),
        y_max=float(detection.y_max),
        track_id=detection.track_id,
    )


def to_detections(
    header: Header,
    camera: str,
    size: tuple[int, int],
    answer: Answer,
    detections: Iterable[Detection],
    *,
    model: str,
    task: Task,
    latency: float,
    age: float,
) -> DetectionArray:
    """An answer as published. ``size``: width and height of the image in pixels; times in seconds.

    ``detections`` are those of the answer that are to be published.
    """
    return DetectionArray(
        header=header,
        camera=camera,
        image_width=size[0],
        image_height=size[1],
        model=model,
        task=task.name,
        text=answer.text,
        status=int(answer.status),
        latency=float(latency),
        age=float(age),
        detections=[to_detection(d) for d in detections],
    )


def to_timing(
    header: Header,
    camera: str,
    outcome: Outcome,
    times: StageTimes,
    level: int = 0,
    answer: Answer | None = None,
) -> FrameTiming:
    """What became of a frame; ``answer`` where it ran."""
    answer = answer or Answer()
    return FrameTiming(
        header=header,
        camera=camera,
        outcome=int(outcome),
        level=level,
        visual_tokens=answer.visual_tokens,
        generated_tokens=answer.generated_tokens,
        decode_passes=answer.decode_passes,
        drafted_tokens=answer.drafted_tokens,
        accepted_tokens=answer.accepted_tokens,
        dropped_boxes=answer.dropped,
        **{name: float(getattr(times, name)) for name in StageTimes.__dataclass_fields__},
    )


def to_vision(detections: DetectionArray) -> object:
    """The same as ``vision_msgs/Detection2DArray``; only where ``vision_messages`` is there."""
    assert vision_messages is not None
    array_2d = vision_messages.Detection2DArray(header=detections.header)
    for detection in detections.detections:
        one = vision_messages.Detection2D(header=detections.header, id=detection.track_id)
        one.bbox.center.position.x = (detection.x_min + detection.x_max) / 2.0
        one.bbox.center.position.y = (detection.y_min + detection.y_max) / 2.0
        one.bbox.size_x = detection.x_max - detection.x_min
        one.bbox.size_y = detection.y_max - detection.y_min
        result = vision_messages.ObjectHypothesisWithPose()
        result.hypothesis.class_id = detection.label
        result.hypothesis.score = float(detection.score)
        one.results.append(result)
        array_2d.detections.append(one)
    return array_2d


def to_image(header: Header, rgb: np.ndarray) -> ImageMessage:
    """``rgb`` (height, width, 3) uint8 as an image of encoding rgb8."""
    height, width = rgb.shape[:2]
    # An array is taken over as it is; bytes would be checked one by one.
    data = array.array("B", rgb.tobytes())
    return ImageMessage(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def to_jpeg(header: Header, rgb: np.ndarray) -> CompressedImage:
    """``rgb`` (height, width, 3) uint8 as a JPEG."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    data = array.array("B", jpeg.tobytes())
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data)
