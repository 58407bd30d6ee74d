"""The same pictures out of every kind of recording, and a reason where there are none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from argus_ros.core.image import decode
from argus_ros.tools.bag import IMAGE, Bag, BagError

TOPIC = "/front/image_raw"
COUNT = 8
STORE = get_typestore(Stores.ROS2_JAZZY)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
UNKNOWN = "robot_msgs/msg/Mood"


def image(store: Any, number: int, **header: Any) -> Any:
    stamp = store.types["builtin_interfaces/msg/Time"](100 + number, 5)
    header = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="front_optical", **header)
    pixels = np.full(4 * 6 * 3, number, np.uint8)
    return store.types[IMAGE](header, 4, 6, "rgb8", 0, 18, pixels)


def write(
    path: Path, plugin: StoragePlugin, compression: CompressionMode | None = None, first: int = 0
) -> Path:
    """Half of the pictures, beside messages of a type that nobody here knows."""
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compression:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    types = get_typestore(Stores.ROS2_JAZZY)
    types.register(get_types_from_msg("string mood\nfloat32 how_much", UNKNOWN))
    with writer:
        topic = writer.add_connection(TOPIC, IMAGE, typestore=types)
        beside = writer.add_connection("/mood", UNKNOWN, typestore=types)
        for number in range(first, first + COUNT // 2):
            writer.write(
                beside, number * 1000, types.serialize_cdr(types.types[UNKNOWN]("good", 1.0), UNKNOWN)
            )
            writer.write(topic, number * 1000 + 1, types.serialize_cdr(image(types, number), IMAGE))
    return path


def split(path: Path, plugin: StoragePlugin, compression: CompressionMode | None = None) -> Path:
    """Two files in one bag, as a recorder with a limit leaves it."""
    halves = [write(path / str(i), plugin, compression, i * COUNT // 2) for i in range(2)]
    both = [yaml.safe_load((half / "metadata.yaml").read_text()) for half in halves]
    names = []
    for number, half in enumerate(halves):
        (file,) = (f for f in half.iterdir() if f.name != "metadata.yaml")
        names.append(file.name.replace(half.name, f"part_{number}", 1))
        shutil.move(file, path / names[-1])
    about = both[0]["rosbag2_bagfile_information"]
    about["relative_file_paths"] = names
    about["message_count"] *= 2
    about["duration"]["nanoseconds"] = COUNT * 1000
    for topic in about["topics_with_message_count"]:
        topic["message_count"] *= 2
    (path / "metadata.yaml").write_text(yaml.safe_dump(both[0]))
    return path


def ros1(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "old.bag"
    with Writer1(path) as writer:
        topic = writer.add_connection(TOPIC, IMAGE, typestore=STORE1)
        for number in range(COUNT):
            writer.write(
                topic, number * 1000 + 1, STORE1.serialize_ros1(image(STORE1, number, seq=number), IMAGE)
            )
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "mcap": lambda path: split(path, StoragePlugin.MCAP),
    "sqlite3": lambda path: split(path, StoragePlugin.SQLITE3),
    "sqlite3, messages compressed": lambda path: split(path, StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "sqlite3, files compressed": lambda path: split(path, StoragePlugin.SQLITE3, CompressionMode.FILE),
    "mcap, chunks compressed": lambda path: split(path, StoragePlugin.MCAP, CompressionMode.STORAGE),
    "ros 1": ros1,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pictures_from_every_kind_of_bag(kind: str, tmp_path: Path) -> None:
    with Bag(KINDS[kind](tmp_path / "bag")) as bag:
        cameras = bag.cameras()
        assert cameras == {TOPIC: "front"}
        assert bag.count(cameras) == COUNT
        frames = list(bag.frames(cameras))
    assert [f.stamp for f in frames] == [(100 + i) * 1_000_000_000 + 5 for i in range(COUNT)]
    assert [f.received for f in frames] == [i * 1000 + 1 for i in range(COUNT)]
    assert {(f.camera, f.topic, f.frame_id) for f in frames} == {("front", TOPIC, "front_optical")}
    pictures = [decode(f.image).rgb() for f in frames]
    assert [p.shape for p in pictures] == [(4, 6, 3)] * COUNT
    assert [int(p[0, 0, 0]) for p in pictures] == list(range(COUNT))


def test_a_single_file_is_a_bag_too(tmp_path: Path) -> None:
    folder = write(tmp_path / "bag", StoragePlugin.MCAP)
    assert len(stamps(folder / "bag.mcap")) == COUNT // 2


def test_cameras_are_named_by_their_topics(tmp_path: Path) -> None:
    topics = {
        "/front/image_raw/compressed": "front",
        "/robot1/rear_cam/image_rect": "robot1_rear_cam",
        "/image_raw": "image_raw",
        "/left/image_raw": "left_image_raw",
        "/left/image_raw/compressed": "left_image_raw_compressed",
        "/4k/image": "k",
    }
    with Writer(tmp_path / "bag", version=9) as writer:
        for topic in topics:
            writer.add_connection(topic, IMAGE, typestore=STORE)
    with Bag(tmp_path / "bag") as bag:
        assert bag.cameras() == topics
        assert bag.cameras(["/left/image_raw"]) == {"/left/image_raw": "left"}


def test_a_topic_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    write(tmp_path / "bag", StoragePlugin.MCAP)
    with Bag(tmp_path / "bag") as bag:
        with pytest.raises(BagError, match=rf"no images on /rear; it has {TOPIC} \({IMAGE}\), /mood"):
            bag.cameras(["/rear"])
        with pytest.raises(BagError, match="no images on /mood"):
            bag.cameras(["/mood"])


def test_a_bag_without_images_says_what_it_has(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9) as writer:
        writer.add_connection("/clock", "rosgraph_msgs/msg/Clock", typestore=STORE)
    with Bag(tmp_path / "bag") as bag, pytest.raises(BagError, match="no image topics; it has /clock"):
        bag.cameras()


def test_no_bag_at_all(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="there is no bag"):
        Bag(tmp_path / "nothing")
    with pytest.raises(BagError, match=r"no metadata.yaml.*reindex"):
        Bag(tmp_path)
    (tmp_path / "film.avi").write_bytes(b"RIFF")
    with pytest.raises(BagError, match=r"cannot be read: Unrecognized storage format '.avi'"):
        Bag(tmp_path / "film.avi")


def stamps(path: Path) -> list[int]:
    with Bag(path) as bag:
        return [frame.stamp for frame in bag.frames(bag.cameras())]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_what_is_cut_off_is_said_to_be(kind: str, part: float, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path / "bag")
    file = path if path.is_file() else max(f for f in path.iterdir() if f.is_file() and "part_" in f.name)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BagError, match="may save it"):
        stamps(path)
