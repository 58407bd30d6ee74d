"""Camera bags: a rendered film with depth and camera_info as a rosbag2 bag with its ground truth."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from argus_ros.core.matching import Truth
from argus_ros.core.space import Method
from argus_ros.tools.bag import COMPRESSED, Bag, BagError, stamp_ns, type_store
from argus_ros.training.scenes.film import FOCAL, Seen, Walk, film

#: Stamp of the first frame: a fixed day, so that the same film gives the same bag.
START_NS = 1_760_000_000 * 1_000_000_000
JPEG_QUALITY = 90
TRUTH, PLACES = "argus_ros/msg/DetectionArray", "argus_ros/msg/Detection3DArray"
INFO = "sensor_msgs/msg/CameraInfo"
#: Version of the bag's contents; a bag of another version is written again.
VERSION = 2
#: The header before the PNG of image_transport's compressedDepth; only inverse depth uses its numbers.
DEPTH_HEADER = bytes(12)


@dataclass(frozen=True)
class Picture:
    """One compressed picture of a bag with its ground truth."""

    stamp_ns: int
    jpeg: bytes
    truths: tuple[Truth, ...]  #: objects that have to be detected
    ignored: tuple[Truth, ...]  #: objects that are too hidden to be required
    places: tuple[tuple[float, float, float], ...] = ()  #: of ``truths`` in the optical frame, metres

    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        picture = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None, "this module wrote it"
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def image_topic(camera: str) -> str:
    return f"/{camera}/image_raw/compressed"


def depth_topic(camera: str) -> str:
    return f"/{camera}/depth/image_raw/compressedDepth"


def info_topic(camera: str) -> str:
    return f"/{camera}/camera_info"


def truth_topic(camera: str) -> str:
    return f"/{camera}/truth"


def places_topic(camera: str) -> str:
    return f"/{camera}/truth_3d"


def write(folder: Path, walks: dict[str, Walk], written: Callable[[], object] = lambda: None) -> int:
    """Film every camera's walk into a new bag (MCAP); returns the number of pictures.

    ``written`` is called after each.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    store = type_store()
    count = 0
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        topics = {
            camera: tuple(
                bag.add_connection(name(camera), kind, typestore=store)
                for name, kind in (
                    (info_topic, INFO),
                    (depth_topic, COMPRESSED),
                    (image_topic, COMPRESSED),
                    (truth_topic, TRUTH),
                    (places_topic, PLACES),
                )
            )
            for camera in walks
        }
        films = {camera: film(walk, depth=True) for camera, walk in walks.items()}
        for shots in zip(*films.values(), strict=True):
            for camera, shot in zip(films, shots, strict=True):
                stamp = START_NS + round(shot.seconds * 1e9)
                header = _header(store, stamp, camera)
                bgr = cv2.cvtColor(shot.image, cv2.COLOR_RGB2BGR)
                jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
                image = store.types[COMPRESSED](header, "rgb8; jpeg compressed bgr8", jpeg.ravel())
                size = shot.image.shape[:2]
                messages = (
                    _info(store, header, size),
                    _depth(store, header, shot.depth),
                    image,
                    _truth(store, header, camera, size, shot.seen),
                    _places(store, header, camera, shot.seen),
                )
                for topic, message in zip(topics[camera], messages, strict=True):
                    bag.write(topic, stamp, store.serialize_cdr(message, topic.msgtype))
                count += 1
                written()
    return count


def _header(store: Typestore, stamp: int, camera: str) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000))
    return store.types["std_msgs/msg/Header"](time, f"{camera}_optical_frame")


def _info(store: Typestore, header: Any, size: tuple[int, int]) -> Any:
    """The camera model: a pinhole; in CameraInfo (0, 0) is the centre of the first pixel."""
    height, width = size
    k = np.array([FOCAL * width, 0, width / 2 - 0.5, 0, FOCAL * width, height / 2 - 0.5, 0, 0, 1.0])
    p = np.column_stack([k.reshape(3, 3), np.zeros(3)]).ravel()
    region = store.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    turn = np.eye(3).ravel()
    return store.types[INFO](header, height, width, "plumb_bob", np.zeros(5), k, turn, p, 0, 0, region)


def _depth(store: Typestore, header: Any, depth: np.ndarray | None) -> Any:
    assert depth is not None
    png = cv2.imencode(".png", depth, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    data = np.concatenate([np.frombuffer(DEPTH_HEADER, np.uint8), png.ravel()])
    return store.types[COMPRESSED](header, "16UC1; compressedDepth png", data)


def _places(store: Typestore, header: Any, camera: str, seen: tuple[Seen, ...]) -> Any:
    """The true positions of the objects of ``_truth``, in the same order."""
    point, vector = store.types["geometry_msgs/msg/Point"], store.types["geometry_msgs/msg/Vector3"]
    pose, axes = (
        store.types["geometry_msgs/msg/Pose"],
        store.types["geometry_msgs/msg/Quaternion"](0, 0, 0, 1),
    )
    nothing = vector(0.0, 0.0, 0.0)
    found = [
        store.types["argus_ros/msg/Detection3D"](
            s.label,
            float(s.counts),
            track_id="",
            method=int(Method.DEPTH),
            bearing=nothing,
            pose=pose(point(*s.position), axes),
            size=nothing,
            covariance=np.zeros(9),
            share=1.0,
        )
        for s in seen
    ]
    return store.types[PLACES](header, camera, point(0.0, 0.0, 0.0), 0.0, "", found)


def _truth(store: Typestore, header: Any, camera: str, size: tuple[int, int], seen: tuple[Seen, ...]) -> Any:
    """The ground truth as detections; score 0 marks objects that are too hidden to be required."""
    detection = store.types["argus_ros/msg/Detection"]
    found = [
        detection(s.label, f"{s.colour} {s.label}", float(s.counts), *map(float, s.box), track_id="")
        for s in seen
    ]
    return store.types[TRUTH](header, camera, size[1], size[0], "truth", "detect", "", 0, 0.0, 0.0, found)


def read(folder: Path, camera: str) -> Iterator[Picture]:
    """Pictures of a camera with ground truth, in the bag's order. Raises BagError for another bag."""
    topics = (image_topic(camera), truth_topic(camera), places_topic(camera))
    found: dict[int, dict[str, Any]] = {}  # messages by stamp and topic, until a picture is complete
    with Bag(folder) as bag:
        if missing := set(topics) - bag.topics.keys():
            raise BagError(f"{folder} lacks {', '.join(sorted(missing))}: it is not a demo bag")
        for topic, _, message in bag.messages(topics):
            stamp = stamp_ns(message.header)
            found.setdefault(stamp, {})[topic] = message
            if len(found[stamp]) < len(topics):
                continue
            image, truth, places = (found[stamp][topic] for topic in topics)
            del found[stamp]
            truths = [
                (d.score, Truth(d.label, (d.x_min, d.y_min, d.x_max, d.y_max), d.description))
                for d in truth.detections
            ]
            spots = [(d.score, d.pose.position) for d in places.detections]
            yield Picture(
                stamp,
                bytes(image.data),
                tuple(t for counts, t in truths if counts),
                tuple(t for counts, t in truths if not counts),
                tuple((spot.x, spot.y, spot.z) for counts, spot in spots if counts),
            )
