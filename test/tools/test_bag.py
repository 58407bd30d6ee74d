"""The same pictures out of every kind of recording, and a reason where there are none."""

from __future__ import annotations

import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
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
    with pytest.raises(BagError, match="contains no recording"):
        Bag(tmp_path)
    (tmp_path / "film.avi").write_bytes(b"RIFF")
    with pytest.raises(BagError, match=r"is not a supported recording: it begins with b'RIFF'"):
        Bag(tmp_path / "film.avi")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (tmp_path / "drive.mcap").write_text(pointer)
    with pytest.raises(BagError, match=r"a pointer of Git LFS, not the recording: run 'git lfs pull'"):
        Bag(tmp_path / "drive.mcap")


def stamps(path: Path) -> list[int]:
    with Bag(path) as bag:
        return [frame.stamp for frame in bag.frames(bag.cameras())]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("part", "said"),
    [(0.0, "is empty"), (0.5, "may save it|copy it again"), (0.99, "may save it|copy it again")],
)
def test_what_is_cut_off_is_said_to_be(kind: str, part: float, said: str, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path / "bag")
    file = path if path.is_file() else max(f for f in path.iterdir() if f.is_file() and "part_" in f.name)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BagError, match=said):
        stamps(path)


# --- what an index promises, and what there is ----------------------------------------------------


def edit(bag: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a metadata.yaml says."""
    file = bag / "metadata.yaml"
    about = yaml.safe_load(file.read_text())
    change(about["rosbag2_bagfile_information"])
    file.write_text(yaml.safe_dump(about))


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_qos_that_was_edited_hides_no_messages(plugin: StoragePlugin, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    never = QosTime(2147483647, 4294967295)
    qos = Qos(
        *(QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.TRANSIENT_LOCAL, never, never),
        *(QosLiveliness.AUTOMATIC, never, False),
    )
    with Writer(bag, version=9, storage_plugin=plugin) as writer:
        topic = writer.add_connection(TOPIC, IMAGE, typestore=STORE, offered_qos_profiles=[qos])
        writer.write(topic, 1, STORE.serialize_cdr(image(STORE, 0), IMAGE))
    edit(
        bag,
        lambda about: about["topics_with_message_count"][0]["topic_metadata"].update(offered_qos_profiles=""),
    )
    assert len(stamps(bag)) == 1
    with Bag(bag) as opened:
        assert [channel.latched for channel in opened.channels] == [True]


def test_messages_in_a_write_ahead_log_are_read(tmp_path: Path) -> None:
    """A recorder that was killed: the messages lie beside the database, which says that it has none."""
    bag = write(tmp_path / "bag", StoragePlugin.SQLITE3)
    file = bag / "bag.db3"
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT topic_id, timestamp, data FROM messages").fetchall()
        database.execute("DELETE FROM messages")
        database.commit()
    killed = (
        "import os, pickle, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.execute('PRAGMA journal_mode=WAL')\n"
        "rows = pickle.load(sys.stdin.buffer)\n"
        "database.executemany('INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)', rows)\n"
        "database.commit()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", killed, file], input=pickle.dumps(rows), timeout=60)
    before = {f.name: f.read_bytes() for f in bag.iterdir()}
    assert before["bag.db3-wal"]
    assert len(stamps(bag)) == len(stamps(file)) == COUNT // 2
    assert {f.name: f.read_bytes() for f in bag.iterdir()} == before


@pytest.mark.parametrize("kind", ["mcap", "sqlite3", "sqlite3, files compressed"])
def test_a_file_that_is_missing_is_counted(kind: str, tmp_path: Path) -> None:
    bag = KINDS[kind](tmp_path / "bag")
    gone = next(f for f in bag.iterdir() if f.name.startswith("part_0"))
    gone.unlink()
    found = []
    with (
        Bag(bag) as opened,
        pytest.raises(BagError, match=rf"has 4 of 8 on {TOPIC}; .* missing: {gone.name}"),
    ):
        found.extend(opened.frames(opened.cameras()))
    assert len(found) == COUNT // 2
    next(f for f in bag.iterdir() if f.name.startswith("part_1")).unlink()
    with pytest.raises(BagError, match=r"lacks files of its metadata.yaml: part_0.*, part_1"):
        Bag(bag)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_a_file_that_cannot_be_opened_leaves_the_others(kind: str, tmp_path: Path) -> None:
    bag = KINDS[kind](tmp_path / "bag")
    bad = next(f for f in bag.iterdir() if f.name.startswith("part_0"))
    bad.write_bytes(bad.read_bytes()[:16] + bytes(50))
    found = []
    says = rf"has 4 of 8 on {TOPIC}; .*{bad.name} cannot be read: .*may save it"
    with Bag(bag) as opened, pytest.raises(BagError, match=says):
        found.extend(opened.frames(opened.cameras()))
    assert [f.received for f in found] == [i * 1000 + 1 for i in range(COUNT // 2, COUNT)]


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_files_in_any_order_are_read_by_time(kind: str, tmp_path: Path) -> None:
    bag = KINDS[kind](tmp_path / "bag")
    edit(bag, lambda about: about["relative_file_paths"].reverse())
    with Bag(bag) as opened:
        assert [f.received for f in opened.frames(opened.cameras())] == [i * 1000 + 1 for i in range(COUNT)]


def test_messages_of_files_that_overlap_are_read_by_time(tmp_path: Path) -> None:
    """As a recorder leaves them whose messages come late, or one that was written by a program."""
    bag = split(tmp_path / "bag", StoragePlugin.SQLITE3)
    for number, file in enumerate(sorted(bag.glob("*.db3"))):
        with closing(sqlite3.connect(file)) as database:  # 1, 3, 5 ... in one and 2, 4, 6 ... in the other
            first = f"{number * COUNT // 2} * 1000"
            database.execute(f"UPDATE messages SET timestamp = 2 * (timestamp - {first}) + {number} * 1000")
            database.commit()
    with Bag(bag) as opened:
        times = [f.received for f in opened.frames(opened.cameras())]
    assert times == sorted(times)
    assert times[:3] == [2, 1002, 2002]


def test_an_index_that_counts_more_than_there_is(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", StoragePlugin.SQLITE3)
    edit(bag, lambda about: about["topics_with_message_count"][0].update(message_count=9))
    with pytest.raises(BagError, match=rf"incomplete: it has 4 of 9 on {TOPIC}; its index counts more"):
        stamps(bag)
    edit(bag, lambda about: about["topics_with_message_count"][0].update(message_count=0))
    assert len(stamps(bag)) == COUNT // 2
    with Bag(bag) as opened:
        assert opened.count([TOPIC]) == COUNT // 2


def test_metadata_of_another_version_will_do(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", StoragePlugin.MCAP)
    edit(bag, lambda about: about.update(version=10, relative_file_paths=["old_name/bag.mcap"]))
    assert len(stamps(bag)) == len(stamps(bag / "metadata.yaml")) == COUNT // 2
    edit(bag, lambda about: about.pop("relative_file_paths"))
    with pytest.raises(
        BagError, match=r"is not a valid metadata.yaml \(KeyError.*'ros2 bag reindex' rewrites it"
    ):
        Bag(bag)
    (bag / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"no metadata.yaml.*Give one of its files \(bag.mcap\).*reindex"):
        Bag(bag)


def test_a_file_that_is_compressed_or_named_otherwise(tmp_path: Path) -> None:
    packed = write(tmp_path / "packed", StoragePlugin.SQLITE3, CompressionMode.FILE)
    assert len(stamps(packed / "packed.db3.zstd")) == COUNT // 2
    active = ros1(tmp_path / "one").rename(tmp_path / "cam.bag.active")
    assert len(stamps(active)) == COUNT
    active.write_bytes(active.read_bytes()[:200])
    with pytest.raises(BagError, match="'rosbag reindex' may save it"):
        Bag(active)


def test_no_two_cameras_have_one_name(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9) as writer:
        for topic in ("/camera/front/image_raw", "/camera_front/image_raw"):
            writer.add_connection(topic, IMAGE, typestore=STORE)
    with Bag(tmp_path / "bag") as bag:
        names = bag.cameras()
    assert len(set(names.values())) == 2


# --- MCAP of other writers ----------------------------------------------------------------------


def mcap(path: Path, profile: str = "ros2", encoding: str = "cdr", **options: Any) -> Path:
    """One picture, between channels of other encodings and one without a schema."""
    ros1 = encoding == "ros1"
    store, kind = (STORE1, "sensor_msgs/Image") if ros1 else (STORE, IMAGE)
    picture = image(store, 0, seq=7) if ros1 else image(store, 0)
    data = bytes((store.serialize_ros1 if ros1 else store.serialize_cdr)(picture, IMAGE))
    with path.open("wb") as file:
        writer = McapWriter(file, **options)
        writer.start(profile, "a test")
        schemas = {
            TOPIC: (writer.register_schema(kind, f"{profile}msg", b""), encoding, data),
            "/gps": (
                writer.register_schema("foxglove.LocationFix", "protobuf", b"\n\0"),
                "protobuf",
                b"\x11",
            ),
            "/events": (0, "json", b"{}"),
        }
        for topic, (schema, coded, content) in schemas.items():
            channel = writer.register_channel(topic, coded, schema)
            writer.add_message(channel, 100, content, 100)
        writer.finish()
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"profile": ""},
        {"encoding": "ros1", "profile": "ros1"},
        {"use_chunking": False},
        {"compression": CompressionType.LZ4},
        {"index_types": IndexType.CHUNK},
        {
            "index_types": IndexType.NONE,
            "use_statistics": False,
            "repeat_channels": False,
            "use_summary_offsets": False,
        },
    ],
)
def test_channels_that_can_be_read_are_read(options: dict[str, Any], tmp_path: Path) -> None:
    with Bag(mcap(tmp_path / "any.mcap", **options)) as bag:
        cameras = bag.cameras()
        assert cameras == {TOPIC: "front"}
        assert bag.count(cameras) == 1
        assert bag.start == 100
        (frame,) = bag.frames(cameras)
        assert (frame.stamp, frame.received, frame.frame_id) == (100_000_000_005, 100, "front_optical")
        assert decode(frame.image).rgb().shape == (4, 6, 3)
        with pytest.raises(
            BagError, match=r"no images on /gps; it has /events \(no type as json, not supported"
        ):
            bag.cameras(["/gps"])
