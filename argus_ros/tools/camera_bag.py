"""Camera bags: a rendered film written as a rosbag2 bag, and read back with its truth."""

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
from argus_ros.tools.bag import COMPRESSED, Bag, BagError, stamp_ns, type_store
from argus_ros.training.walks import Seen, Walk, film

#: Stamp of the first frame: a fixed day, so that the same film makes the same bag.
START_NS = 1_760_000_000 * 1_000_000_000
JPEG_QUALITY = 90
TRUTH = "argus_ros/msg/DetectionArray"


@dataclass(frozen=True)
class Picture:
    """One compressed picture of a bag with what is truly in it."""

    stamp_ns: int
    jpeg: bytes
    truths: tuple[Truth, ...]  #: what has to be found
    ignored: tuple[Truth, ...]  #: what shows too little to be asked for

    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        picture = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None, "this module wrote it"
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def image_topic(camera: str) -> str:
    return f"/{camera}/image_raw/compressed"


def truth_topic(camera: str) -> str:
    return f"/{camera}/truth"


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
            camera: (
                bag.add_connection(image_topic(camera), COMPRESSED, typestore=store),
                bag.add_connection(truth_topic(camera), TRUTH, typestore=store),
            )
            for camera in walks
        }
        films = {camera: film(walk) for camera, walk in walks.items()}
        for shots in zip(*films.values(), strict=True):
            for camera, shot in zip(films, shots, strict=True):
                stamp = START_NS + round(shot.seconds * 1e9)
                header = _header(store, stamp, camera)
                bgr = cv2.cvtColor(shot.image, cv2.COLOR_RGB2BGR)
                jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
                image = store.types[COMPRESSED](header, "rgb8; jpeg compressed bgr8", jpeg.ravel())
                truth = _truth(store, header, camera, shot.image.shape[:2], shot.seen)
                for topic, message in zip(topics[camera], (image, truth), strict=True):
                    bag.write(topic, stamp, store.serialize_cdr(message, topic.msgtype))
                count += 1
                written()
    return count


def _header(store: Typestore, stamp: int, camera: str) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000))
    return store.types["std_msgs/msg/Header"](time, f"{camera}_optical_frame")


def _truth(store: Typestore, header: Any, camera: str, size: tuple[int, int], seen: tuple[Seen, ...]) -> Any:
    """The truth as detections; score 0 marks what shows too little to be asked for."""
    detection = store.types["argus_ros/msg/Detection"]
    found = [
        detection(s.label, f"{s.colour} {s.label}", float(s.counts), *map(float, s.box), track_id="")
        for s in seen
    ]
    return store.types[TRUTH](header, camera, size[1], size[0], "truth", "detect", "", 0, 0.0, 0.0, found)


def read(folder: Path, camera: str) -> Iterator[Picture]:
    """Pictures of a camera with their truth, in the order of the bag. Raises BagError for another bag."""
    topics = (image_topic(camera), truth_topic(camera))
    pictures: dict[int, bytes] = {}
    with Bag(folder) as bag:
        if not set(topics) <= bag.topics.keys():
            raise BagError(f"{folder} lacks {topics[0]} or {topics[1]}: no demo bag")
        for topic, _, message in bag.messages(topics):
            stamp = stamp_ns(message.header)
            if topic == topics[0]:
                pictures[stamp] = bytes(message.data)
                continue
            truths = [
                (d.score, Truth(d.label, (d.x_min, d.y_min, d.x_max, d.y_max), d.description))
                for d in message.detections
            ]
            yield Picture(
                stamp,
                pictures.pop(stamp),
                tuple(t for counts, t in truths if counts),
                tuple(t for counts, t in truths if not counts),
            )
