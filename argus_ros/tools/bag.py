"""Recordings read with `rosbags`, which needs no ROS: rosbag2 (MCAP or sqlite3, compressed, split) and ROS 1.

Only what is asked for is deserialised, with this program's own definitions, so that types it does not know
may lie beside.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from argus_ros.core.image import Image
from argus_ros.core.resources import share

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
#: Ends of a topic's name that say what kind of picture it has, not whose.
_PLAIN = {
    "compressed",
    "image",
    "image_raw",
    "image_color",
    "image_rect",
    "image_rect_color",
    "image_rect_raw",
}


class BagError(ValueError):
    """A bag that cannot be read, or lacks what is asked for: what is wrong and what to do."""


@dataclass(frozen=True)
class Frame:
    """One camera image of a bag."""

    camera: str
    topic: str
    stamp: int  #: nanoseconds, of its header; where that is zero, when it was recorded
    received: int  #: nanoseconds, when it was recorded
    frame_id: str
    image: Image


def type_store() -> Typestore:
    """The standard messages of ROS 2 and this package's own."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted(share("msg").glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(), f"argus_ros/msg/{file.stem}"))
    return store


def stamp_ns(header: Any) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


class Bag:
    """A recording, open for reading; a context manager. Raises BagError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ros1 = path.suffix == ".bag"
        if not path.exists():
            raise BagError(
                f"there is no bag {path}; give the folder of a rosbag2 bag, a .mcap, .db3 or .bag file"
            )
        if path.is_dir() and not (path / "metadata.yaml").exists():
            raise BagError(
                f"{path} has no metadata.yaml, so it is no rosbag2 bag, or its recording was cut off: "
                "'ros2 bag reindex' writes it anew"
            )
        try:
            self._reader = Reader1(path) if self._ros1 else Reader2(path)
            self._reader.open()
        except Exception as error:  # what is damaged can make the reader fail in any way
            raise BagError(f"{path} cannot be read: {_reason(error)}{_repair(path)}") from None
        self._store = get_typestore(Stores.ROS1_NOETIC) if self._ros1 else type_store()

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """Topics and their types, in the order of their names."""
        return dict(sorted((c.topic, c.msgtype) for c in self._reader.connections))

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return max(self._reader.duration, 0) * 1e-9

    def count(self, topics: Collection[str]) -> int:
        """Messages on these topics, as the bag's index says."""
        return sum(c.msgcount for c in self._reader.connections if c.topic in topics)

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, time of recording [ns], message) in the order of recording. Raises BagError at damage."""
        chosen = [c for c in self._reader.connections if c.topic in topics]
        parse = self._store.deserialize_ros1 if self._ros1 else self._store.deserialize_cdr
        number = 0
        try:
            for connection, received, raw in self._reader.messages(chosen):
                yield connection.topic, received, parse(raw, connection.msgtype)
                number += 1
        except Exception as error:
            raise BagError(
                f"{self.path} is damaged after {number} messages: {_reason(error)}{_repair(self.path)}"
            ) from None

    def cameras(self, topics: Collection[str] = ()) -> dict[str, str]:
        """Image topics, all or those given, and a name for each one's camera."""
        present = self.topics
        images = [topic for topic, kind in present.items() if kind in (IMAGE, COMPRESSED)]
        there = ", ".join(f"{topic} ({kind})" for topic, kind in present.items()) or "nothing at all"
        if wrong := [topic for topic in topics if topic not in images]:
            raise BagError(f"{self.path} has no images on {', '.join(wrong)}; it has {there}")
        if not images:
            raise BagError(f"{self.path} has no image topics; it has {there}")
        chosen = list(topics) or images
        short = {topic: _camera(topic) for topic in chosen}
        names = list(short.values())
        return {t: name if names.count(name) == 1 else _name(t.split("/")) for t, name in short.items()}

    def frames(self, cameras: dict[str, str]) -> Iterator[Frame]:
        """Images of these topics, in the order of recording. Raises BagError at damage."""
        for topic, received, message in self.messages(cameras):
            stamp = stamp_ns(message.header) or received
            image = Image.of(message)
            yield Frame(cameras[topic], topic, stamp, received, message.header.frame_id, image)


def _camera(topic: str) -> str:
    """``/front/image_raw/compressed`` is of camera ``front``."""
    parts = topic.split("/")
    while len(parts) > 1 and parts[-1] in _PLAIN:
        parts.pop()
    return _name(parts) or _name(topic.split("/"))


def _name(parts: list[str]) -> str:
    """Letters, digits and _, a letter first."""
    return re.sub(r"\W", "_", "_".join(filter(None, parts)), flags=re.ASCII).lstrip("_0123456789")


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _repair(path: Path) -> str:
    if path.suffix == ".bag":
        return "; 'rosbag reindex' may save it"
    return "; 'ros2 bag reindex' (MCAP: 'mcap recover') may save it"
