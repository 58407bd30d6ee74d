"""Reads recordings without ROS: rosbag2 (MCAP or sqlite3, compressed, split) and ROS 1.

The messages in the files are compared with the counts in the bag's index. Only requested topics are
deserialised, with this package's own message definitions, so that a bag may contain unknown types.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from argus_ros.core.image import Image
from argus_ros.core.resources import share
from argus_ros.tools import storage
from argus_ros.tools.storage import CDR, ROS1, Channel, Storage, StorageError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
#: Suffix of image_transport's depth topics, whose messages have the type of images.
DEPTH = "/compressedDepth"
#: Last parts of a topic's name that describe the kind of image instead of the camera.
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
    """A bag cannot be read or lacks a topic; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Frame:
    """One camera image of a bag."""

    camera: str
    topic: str
    stamp: int  #: nanoseconds, of its header; where that is zero, time of recording
    received: int  #: nanoseconds, time of recording
    frame_id: str
    image: Image


@cache
def type_store() -> Typestore:
    """The standard messages of ROS 2 and this package's own; shared, so do not modify it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted(share("msg").glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(), f"argus_ros/msg/{file.stem}"))
    return store


def stamp_ns(header: Any) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


class Bag:
    """A recording, open for reading; a context manager. Raises BagError."""

    def __init__(self, path: Path) -> None:
        self.path = path.parent if path.name == "metadata.yaml" else path
        self._store = type_store()
        #: Number of messages by topic in metadata.yaml; files that it lists and that are missing.
        self._promised: Counter[str] = Counter()
        self._missing: list[str] = []
        #: The open files, and the errors of files that cannot be opened; the others are still read.
        self._storages: list[Storage] = []
        self._damaged: list[str] = []
        with ExitStack() as stack:
            for file in self._files():
                try:
                    self._storages.append(storage.opened(file, stack))
                except (StorageError, OSError) as error:
                    self._damaged.append(str(error))
            if not self._storages:
                raise BagError("; ".join(self._damaged))
            self._stack = stack.pop_all()

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    @property
    def channels(self) -> list[Channel]:
        """All channels, in the order of their topics; ``readable`` says which can be read."""
        found = {channel for file in self._storages for channel in file.counts}
        return sorted(found, key=lambda channel: (channel.topic, channel.kind, channel.latched))

    def readable(self, channel: Channel) -> bool:
        """Whether its messages can be read: those of ROS 2, and those of ROS 1 with a known type."""
        return channel.encoding == CDR or (channel.encoding == ROS1 and channel.kind in self._store.types)

    @property
    def topics(self) -> dict[str, str]:
        """Topics that can be read and their types, in the order of their names."""
        return {channel.topic: channel.kind for channel in self.channels if self.readable(channel)}

    @property
    def start(self) -> int:
        """Nanoseconds of the first message."""
        return min((begin for begin, end in self._spans), default=0)

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return (max((end for begin, end in self._spans), default=0) - self.start) * 1e-9

    def count(self, topics: Collection[str]) -> int:
        """Number of messages on these topics, from the bag's index."""
        return sum(self._expected(topic) for topic in topics)

    def raw(self, topics: Collection[str]) -> Iterator[tuple[Channel, int, bytes]]:
        """(channel, time of recording [ns], message in CDR) in the order of recording.

        Raises BagError at damaged data, and at the end where there were fewer messages than in the index.
        """
        found: Counter[str] = Counter()

        def messages(file: Storage) -> Iterator[tuple[Channel, int, bytes]]:
            chosen = {c for c in file.counts if c.topic in topics and self.readable(c)}
            try:
                for channel, received, data in file.messages(chosen):
                    cdr = data if channel.encoding == CDR else self._store.ros1_to_cdr(data, channel.kind)
                    yield channel, received, bytes(cdr)
            except Exception as error:  # readers can raise anything on damaged data
                raise BagError(
                    f"{self.path} is damaged after {found.total()} messages: {storage.reason(error)}; "
                    f"{file.remedy}"
                ) from None

        for files in self._in_order():
            for channel, received, data in heapq.merge(*map(messages, files), key=lambda m: m[1]):
                yield channel, received, data
                found[channel.topic] += 1
        short = [
            f"{found[topic]} of {self._expected(topic)} on {topic}"
            for topic in sorted(topics)
            if found[topic] < self._expected(topic)
        ]
        if short or self._damaged:
            has = f"it has {', '.join(short)}; " if short else ""
            raise BagError(f"{self.path} is incomplete: {has}{self._why()}")

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, time of recording [ns], message), else as ``raw``."""
        for number, (channel, received, data) in enumerate(self.raw(topics)):
            try:
                message = self._store.deserialize_cdr(data, channel.kind)
            except Exception as error:
                raise BagError(
                    f"{self.path} is damaged after {number} messages: the next one on {channel.topic} is no "
                    f"{channel.kind}: {storage.reason(error)}"
                ) from None
            yield channel.topic, received, message

    def cameras(self, topics: Collection[str] = ()) -> dict[str, str]:
        """Image topics, all or the given ones, with a camera name for each."""
        present = self.topics
        images = [t for t, kind in present.items() if kind in (IMAGE, COMPRESSED) and not t.endswith(DEPTH)]
        there = ", ".join(map(self._named, self.channels)) or "no topics"
        if wrong := [topic for topic in topics if topic not in images]:
            raise BagError(f"{self.path} has no images on {', '.join(wrong)}; it has {there}")
        if not images:
            raise BagError(f"{self.path} has no image topics; it has {there}")
        chosen = list(topics) or images
        short = {topic: _camera(topic) for topic in chosen}
        names = list(short.values())
        return _distinct(
            {t: name if names.count(name) == 1 else _name(t.split("/")) for t, name in short.items()}
        )

    def frames(self, cameras: dict[str, str]) -> Iterator[Frame]:
        """Images of these topics, in the order of recording. Raises BagError at damaged data."""
        for topic, received, message in self.messages(cameras):
            stamp = stamp_ns(message.header) or received
            image = Image.of(message)
            yield Frame(cameras[topic], topic, stamp, received, message.header.frame_id, image)

    def _in_order(self) -> list[list[Storage]]:
        """The files by time, with overlapping ones together; metadata.yaml may list them in any order."""
        groups: list[list[Storage]] = []
        end = -1
        for file in sorted(self._storages, key=lambda file: file.span):
            if groups and file.span[0] < end:
                groups[-1].append(file)
            else:
                groups.append([file])
            end = max(end, file.span[1])
        return groups

    @property
    def _spans(self) -> list[tuple[int, int]]:
        return [file.span for file in self._storages if file.counts.total()]

    def _expected(self, topic: str) -> int:
        """Number of messages on a topic: the larger count of metadata.yaml and the files' indexes."""
        indexed = sum(n for file in self._storages for c, n in file.counts.items() if c.topic == topic)
        return max(self._promised[topic], indexed)

    def _why(self) -> str:
        if self._damaged:
            return "; ".join(self._damaged)
        if self._missing:
            return f"these files of its metadata.yaml are missing: {', '.join(self._missing)}"
        return "its index counts more messages than its files contain: recording or copying was interrupted"

    def _named(self, channel: Channel) -> str:
        foreign = "" if self.readable(channel) else f" as {channel.encoding or 'unknown'}, not supported"
        return f"{channel.topic} ({channel.kind}{foreign})"

    def _files(self) -> list[Path]:
        """The bag's files in order; reads the counts of metadata.yaml. Raises BagError."""
        path = self.path
        if not path.exists():
            raise BagError(
                f"there is no bag {path}; give the folder of a rosbag2 bag, a .mcap, .db3 or .bag file"
            )
        if not path.is_dir():
            return [path]
        if not (path / "metadata.yaml").exists():
            found = sorted(f.name for f in path.iterdir() if f.suffix in (".mcap", ".db3", ".bag", ".zstd"))
            if not found:
                raise BagError(f"{path} contains no recording: no metadata.yaml, no .mcap, .db3 or .bag file")
            raise BagError(
                f"{path} has no metadata.yaml: its recording was interrupted, or no rosbag2 bag. Give one "
                f"of its files ({', '.join(found)}), or let 'ros2 bag reindex' write a metadata.yaml"
            )
        try:
            about = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
            names = [Path(name).name for name in about["relative_file_paths"]]
            for topic in about.get("topics_with_message_count") or ():
                self._promised[topic["topic_metadata"]["name"]] += int(topic["message_count"])
        except Exception as error:  # the file may contain anything
            raise BagError(
                f"{path / 'metadata.yaml'} is not a valid metadata.yaml ({type(error).__name__}: "
                f"{storage.reason(error)}); 'ros2 bag reindex' rewrites it"
            ) from None
        # A recorder lists a file with or without the extension of its compression.
        listed = {name: (name, f"{name}.zstd", name.removesuffix(".zstd")) for name in names}
        there = {
            n: next((path / f for f in forms if (path / f).exists()), None) for n, forms in listed.items()
        }
        self._missing = [name for name, file in there.items() if file is None]
        if names and len(self._missing) == len(names):
            raise BagError(f"{path} lacks files of its metadata.yaml: {', '.join(self._missing)}")
        return [file for file in there.values() if file]


def _distinct(names: dict[str, str]) -> dict[str, str]:
    """The same, with a number appended to duplicate names."""
    given: dict[str, str] = {}
    for topic, name in names.items():
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        given[topic] = next(n for n in itertools.chain([name], numbered) if n not in given.values())
    return given


def _camera(topic: str) -> str:
    """The camera's name: ``front`` for ``/front/image_raw/compressed``."""
    parts = topic.split("/")
    while len(parts) > 1 and parts[-1] in _PLAIN:
        parts.pop()
    return _name(parts) or _name(topic.split("/"))


def _name(parts: list[str]) -> str:
    """Joined to a valid name: letters, digits and _, a letter first."""
    return re.sub(r"\W", "_", "_".join(filter(None, parts)), flags=re.ASCII).lstrip("_0123456789")
