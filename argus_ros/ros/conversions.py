"""Converts between ROS messages and the package's own types. Needs no node."""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence
from types import ModuleType

import cv2
import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from argus_ros.core.drawing import colour_of
from argus_ros.core.pose import quaternion
from argus_ros.core.space import Method, Place
from argus_ros.core.types import Answer, Detection, Outcome, StageTimes, Task
from argus_ros.msg import Detection as DetectionMessage
from argus_ros.msg import Detection3D, Detection3DArray, DetectionArray, FrameTiming

try:
    import vision_msgs.msg as vision_messages
except ImportError:  # optional: installed with ROS, not from PyPI
    vision_messages: ModuleType | None = None  # type: ignore[no-redef]

JPEG_QUALITY = 85
#: Length of an arrow for a direction, and height of a label, in metres.
ARROW, LETTERS = 2.0, 0.2
#: Minimum side of a box: RViz omits a box without an extent.
THIN = 0.02
MARKER_SECONDS = 1


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
    """The message of an answer. ``size``: width and height of the image in pixels; times in seconds.

    ``detections`` are the answer's detections to publish.
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
    """The message for the end of a frame; with ``answer`` if it ran."""
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
    """The same as ``vision_msgs/Detection2DArray``; only where ``vision_messages`` is available."""
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


def to_detections_3d(
    detections: DetectionArray,
    places: Sequence[Place],
    frame_id: str,
    transform: np.ndarray,
    depth_offset: float,
    trouble: str,
) -> Detection3DArray:
    """``places``, one for each detection, in ``frame_id``; ``transform`` (4, 4) is from the optical frame."""
    turn, origin = transform[:3, :3], transform[:3, 3]
    axes = Quaternion(**dict(zip("xyzw", quaternion(turn), strict=True)))
    found = [
        Detection3D(
            label=detection.label,
            score=detection.score,
            track_id=detection.track_id,
            method=int(place.method),
            bearing=_of(Vector3, turn @ place.bearing),
            pose=Pose(position=_of(Point, turn @ place.position + origin), orientation=axes),
            size=_of(Vector3, place.size),
            covariance=(turn @ place.covariance @ turn.T).ravel(),
            share=float(place.share),
        )
        for detection, place in zip(detections.detections, places, strict=True)
    ]
    return Detection3DArray(
        header=Header(stamp=detections.header.stamp, frame_id=frame_id),
        camera=detections.camera,
        origin=_of(Point, origin),
        depth_offset=float(depth_offset),
        trouble=trouble,
        detections=found,
    )


def _of(kind: type, values: np.ndarray) -> Point | Vector3:
    x, y, z = values.tolist()
    return kind(x=x, y=y, z=z)


def to_vision_3d(detections: Detection3DArray) -> object:
    """The detections with a position, as ``vision_msgs/Detection3DArray``; only with ``vision_messages``."""
    assert vision_messages is not None
    array_3d = vision_messages.Detection3DArray(header=detections.header)
    for detection in detections.detections:
        if detection.method == Method.BEARING:
            continue
        one = vision_messages.Detection3D(header=detections.header, id=detection.track_id)
        one.bbox.center, one.bbox.size = detection.pose, detection.size
        result = vision_messages.ObjectHypothesisWithPose()
        result.hypothesis.class_id = detection.label
        result.hypothesis.score = float(detection.score)
        result.pose.pose = detection.pose
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = detection.covariance.reshape(3, 3)
        result.pose.covariance = covariance.ravel()
        one.results.append(result)
        array_3d.detections.append(one)
    return array_3d


def to_markers(detections: Detection3DArray) -> MarkerArray:
    """For RViz and Foxglove: a box and a label for each position, an arrow where only the direction is known.

    Each camera has its own namespace. Markers last MARKER_SECONDS unless newer ones replace them.
    """
    header, camera = detections.header, detections.camera
    markers: list[Marker] = []
    lifetime = Duration(sec=MARKER_SECONDS)
    for i, detection in enumerate(detections.detections):
        red, green, blue = (channel / 255 for channel in colour_of(detection.label))
        faint, full = (ColorRGBA(r=red, g=green, b=blue, a=alpha) for alpha in (0.5, 1.0))
        known, to = detection.method != Method.BEARING, detection.bearing
        if not known and np.isnan(to.x):
            continue
        box = Marker(header=header, ns=f"{camera} box", id=i, color=faint, lifetime=lifetime)
        start = detections.origin
        end = Point(x=start.x + ARROW * to.x, y=start.y + ARROW * to.y, z=start.z + ARROW * to.z)
        if known:
            box.type, box.pose = Marker.CUBE, detection.pose
            sides = (detection.size.x, detection.size.y, detection.size.z)
            box.scale = _of(Vector3, np.maximum(sides, THIN))
        else:
            box.type, box.points = Marker.ARROW, [start, end]
            box.scale = Vector3(x=THIN, y=2 * THIN, z=2 * THIN)
        label = Marker(header=header, ns=f"{camera} label", id=i, color=full, lifetime=lifetime)
        label.type = Marker.TEXT_VIEW_FACING
        label.pose.position = detection.pose.position if known else end
        label.scale.z = LETTERS
        label.text = detection.label
        markers += [box, label]
    return MarkerArray(markers=markers)


def to_image(header: Header, rgb: np.ndarray) -> ImageMessage:
    """``rgb`` (height, width, 3) uint8 as an image with encoding rgb8."""
    height, width = rgb.shape[:2]
    # rclpy takes an array as it is, but checks bytes one by one.
    data = array.array("B", rgb.tobytes())
    return ImageMessage(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def to_jpeg(header: Header, rgb: np.ndarray) -> CompressedImage:
    """``rgb`` (height, width, 3) uint8 as a JPEG."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    data = array.array("B", jpeg.tobytes())
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data)
