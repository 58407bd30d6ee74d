"""The examples of the documentation do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import rclpy
from argus_ros.msg import Detection, Detection3D, Detection3DArray, DetectionArray

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(example)
find_package(ament_cmake REQUIRED)
{lines}
"""


def test_the_python_subscriber_prints_detections(ros: Any) -> None:
    example = ros.start("example", sys.executable, EXAMPLES / "subscriber.py")
    rclpy.init()
    node = rclpy.create_node("argus")
    try:
        publisher = node.create_publisher(DetectionArray, "/argus/detections", 10)
        message = DetectionArray(camera="front", age=0.25)
        message.header.stamp.sec, message.header.stamp.nanosec = 7, 5
        message.detections = [
            Detection(label="cone", score=0.5, x_min=1.0, y_min=2.0, x_max=30.0, y_max=40.0)
        ]
        timer = node.create_timer(0.1, lambda: publisher.publish(message))
        while "cone" not in example.output:
            assert "Error" not in example.output
            rclpy.spin_once(node, timeout_sec=1.0)
        timer.cancel()
    finally:
        node.destroy_node()
        rclpy.shutdown()
    assert example.wait_for("front") == "7.000000005 front: 1 objects, 0.250 s old\n"
    assert example.wait_for("cone") == "  cone 0.50 at (1, 2) to (30, 40)\n"


@pytest.mark.skipif(find_spec("yolo_msgs") is None, reason="yolo_msgs is not installed")
def test_the_relay_publishes_yolo_ros_messages(ros: Any) -> None:
    from yolo_msgs.msg import DetectionArray as YoloDetectionArray

    ros.start("relay", sys.executable, EXAMPLES / "relay_yolo.py")
    rclpy.init()
    node = rclpy.create_node("argus")
    heard: dict[str, Any] = {}
    try:
        flat = node.create_publisher(DetectionArray, "/argus/detections", 10)
        deep = node.create_publisher(Detection3DArray, "/argus/detections_3d", 10)
        for topic in ("detections", "detections_3d"):
            take = partial(heard.__setitem__, topic)
            node.create_subscription(YoloDetectionArray, f"/yolo/{topic}", take, 10)
        boxes = [Detection(label="cone", score=0.5, x_min=1.0, y_min=2.0, x_max=31.0, y_max=42.0)] * 2
        placed = Detection3D(label="cone", method=Detection3D.DEPTH)
        placed.pose.position.z, placed.size.x = 3.0, 0.5
        first, second = DetectionArray(detections=boxes), Detection3DArray(detections=[placed, Detection3D()])
        first.header.stamp.sec = second.header.stamp.sec = 7
        second.header.frame_id = "odom"

        def publish() -> None:
            flat.publish(first)
            deep.publish(second)

        timer = node.create_timer(0.1, publish)
        while len(heard) < 2:
            rclpy.spin_once(node, timeout_sec=1.0)
        timer.cancel()
    finally:
        node.destroy_node()
        rclpy.shutdown()
    yolo = heard["detections"].detections
    assert (yolo[0].class_name, yolo[0].score, len(yolo)) == ("cone", 0.5, 2)
    assert (yolo[0].bbox.center.position.x, yolo[0].bbox.size.y) == (16.0, 40.0)
    (only,) = heard["detections_3d"].detections  # the other has a direction alone
    assert (only.bbox3d.center.position.z, only.bbox3d.size.x, only.bbox3d.frame_id) == (3.0, 0.5, "odom")


def test_the_cpp_subscriber_compiles(tmp_path: Path) -> None:
    """With the lines of CMake that it names itself."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    if not any(Path(prefix, "share", "rclcpp").is_dir() for prefix in prefixes if prefix):
        pytest.skip("rclcpp is not installed; there are no wheels of it")
    source = (EXAMPLES / "subscriber.cpp").read_text()
    lines = [line.removeprefix("//   ") for line in source.splitlines() if line.startswith("//   ")]
    (tmp_path / "subscriber.cpp").write_text(source)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(lines="\n".join(lines)))
    for step in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build"]):
        done = subprocess.run(step, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
