"""How a camera's locator starts, waits and ends, on real topics."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import rclpy
from argus_ros.msg import DetectionArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Region
from argus_ros.ros.frames import Frames
from argus_ros.ros.locator import Aims, Locator
from argus_ros.ros.parameters import CameraSettings, PositionSettings

PATIENCE = 30.0
WITHOUT_TF = pytest.mark.skipif(find_spec("tf2_py") is None, reason="tf2_py is not installed")
POSITIONS = PositionSettings(camera_info_topic="/front/camera_info")
SETTINGS = CameraSettings(
    "front", "front/image_raw", "raw", "best_effort", CameraPolicy(), Region(), positions=POSITIONS
)
LENS = CameraInfo(
    width=160, height=120, k=[120.0, 0.0, 79.5, 0.0, 120.0, 59.5, 0.0, 0.0, 1.0], distortion_model="plumb_bob"
)


@pytest.fixture
def node(alone: None) -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("argus", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def answer() -> DetectionArray:
    return DetectionArray(header=Header(frame_id="front"), camera="front", image_width=160, image_height=120)


@WITHOUT_TF
def test_stopping_does_not_wait_for_a_transform(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Frames(node)
    looking = threading.Event()
    lookup = frames.lookup

    def look(*asked: Any) -> Any:
        looking.set()
        return lookup(*asked)

    monkeypatch.setattr(frames, "lookup", look)
    placed: queue.Queue[Any] = queue.Queue()
    locator = Locator(node, SETTINGS, Aims("odom", wait=1e6, frames=frames), placed.put)
    publisher = node.create_publisher(CameraInfo, "/front/camera_info", qos_profile_sensor_data)
    while not looking.is_set():  # an answer that comes before the lens is placed without
        publisher.publish(LENS)
        locator.offer(answer())
        looking.wait(0.1)
    stopping = threading.Thread(target=locator.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    frames.stop()
