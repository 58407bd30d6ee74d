"""The bag player: what was recorded arrives byte for byte, in order and on time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

PLAYER = (sys.executable, "-m", "argus_ros.ros.player")
IMAGE = "sensor_msgs/msg/CompressedImage"
START = 1_760_000_000_000_000_000
RIHS01 = "RIHS01_" + "0" * 64
COUNT, PERIOD = 20, 50_000_000


def write(folder: Path, plugin: StoragePlugin) -> list[bytes]:
    """A bag of images 50 ms apart, a simulation's clock, and something that is not known here.

    Returns the images' bytes.
    """
    types = get_typestore(Stores.ROS2_JAZZY)
    written = []
    with Writer(folder, version=9, storage_plugin=plugin) as bag:
        images = bag.add_connection("/front/image_raw/compressed", IMAGE, typestore=types)
        clock = bag.add_connection("/clock", "rosgraph_msgs/msg/Clock", typestore=types)
        unknown = bag.add_connection(
            "/odd", "odd_msgs/msg/Odd", msgdef="int32 x\n", rihs01="RIHS01_" + "0" * 64
        )
        for number in range(COUNT):
            stamp = START + number * PERIOD
            message = CompressedImage(format="jpeg", data=bytes([number] * 100))
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
            written.append(bytes(serialize_message(message)))
            bag.write(images, stamp, written[-1])
            bag.write(unknown, stamp, b"\0\1\0\0\1\0\0\0")
            bag.write(clock, stamp, bytes(serialize_message(Clock())))  # of a simulation that stands still
    return written


def write_ros1(file: Path) -> list[bytes]:
    """The images as ROS 1 records them; their bytes in ROS 2."""
    types = get_typestore(Stores.ROS1_NOETIC)
    written = []
    with Writer1(file) as bag:
        images = bag.add_connection("/front/image_raw/compressed", IMAGE, typestore=types)
        for number in range(COUNT):
            stamp = START + number * PERIOD
            message = CompressedImage(format="jpeg", data=bytes([number] * 100))
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
            written.append(bytes(serialize_message(message)))
            time = types.types["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000))
            header = types.types["std_msgs/msg/Header"](number, time, "")
            old = types.types[IMAGE](header, "jpeg", np.full(100, number, np.uint8))
            bag.write(images, stamp, types.serialize_ros1(old, IMAGE))
    return written


@pytest.mark.parametrize("kind", [*StoragePlugin, "ROS 1"])
def test_a_bag_is_played_as_it_was_recorded(ros: Any, tmp_path: Path, kind: StoragePlugin | str) -> None:
    bag = tmp_path / ("old.bag" if kind == "ROS 1" else "bag")
    written = write_ros1(bag) if kind == "ROS 1" else write(bag, StoragePlugin(kind))
    rclpy.init()
    node = rclpy.create_node("planner")
    heard: list[bytes] = []
    times: list[int] = []
    node.create_subscription(CompressedImage, "/front/image_raw/compressed", heard.append, 100, raw=True)
    node.create_subscription(
        Clock, "/clock", lambda m: times.append(m.clock.sec * 1_000_000_000 + m.clock.nanosec), 1000
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    player = ros.start("player", *PLAYER, bag, "--clock", "--rate", "2")
    try:
        while len(heard) < COUNT:
            executor.spin_once(timeout_sec=30)
        assert player.wait(30) == 0
    finally:
        node.destroy_node()
        rclpy.shutdown()
    if kind == "ROS 1":  # the bytes that end a message may be more than it needs
        assert [deserialize_message(data, CompressedImage) for data in heard] == [
            deserialize_message(data, CompressedImage) for data in written
        ]
    else:
        assert heard == written
    assert times == sorted(times)
    assert len(times) > COUNT
    assert times[0] == START
    if kind != "ROS 1":
        assert "odd_msgs/msg/Odd is not installed" in player.output
        assert "/clock is not played: --clock" in player.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["nowhere"], "nowhere"), (["bag", "--topics", "/rear"], "/front/image_raw/compressed")],
)
def test_a_bag_that_cannot_be_played(ros: Any, tmp_path: Path, arguments: list[str], reason: str) -> None:
    write(tmp_path / "bag", StoragePlugin.MCAP)
    arguments = [str(tmp_path / arguments[0]), *arguments[1:]]
    player = ros.start("player", *PLAYER, *arguments)
    assert player.wait(30) == 1
    assert player.output.startswith("player: ")
    assert reason in player.output
    assert "Traceback" not in player.output
