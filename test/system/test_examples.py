"""The examples of the documentation do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rclpy
from argus_ros.msg import Detection, DetectionArray

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(example)
find_package(ament_cmake REQUIRED)
{lines}
"""


def test_the_python_subscriber_prints_what_is_seen(ros: Any) -> None:
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
