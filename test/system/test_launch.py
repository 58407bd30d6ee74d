"""The launch files, run by launch itself, where that is installed: it comes with ROS 2, not from PyPI."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from ament_index_python.packages import get_package_share_directory

from argus_ros.tools import camera_bag
from argus_ros.training.scenes.film import Walk

pytest.importorskip("launch_ros", reason="it comes with ROS 2, not from PyPI")

#: What `ros2 launch` does: launch_file ARGUMENT:=VALUE ...
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription as Include
from launch.launch_description_sources import PythonLaunchDescriptionSource
given = [argument.split(":=", 1) for argument in sys.argv[2:]]
service = LaunchService()
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(LaunchDescription([Include(source, launch_arguments=given)]))
sys.exit(service.run())
"""
CAMERAS = """
/**:
  ros__parameters:
    cameras: [left, right]
    camera:
      left: {topic: eyes/left, transport: raw}
      right: {topic: /eyes/right, transport: raw, deadline: 0.4}
"""


def launch(ros: Any, file: str, *given: str) -> Any:
    path = Path(get_package_share_directory("argus_ros"), "launch", file)
    return ros.start("launch", sys.executable, "-c", LAUNCH, path, *given)


def test_several_cameras_in_a_namespace(ros: Any, tmp_path: Path, blank: Path) -> None:
    cameras = tmp_path / "cameras.yaml"
    cameras.write_text(CAMERAS)
    given = (f"cameras_file:={cameras}", "namespace:=robot", f"model:={blank}", "respawn:=true")
    process = launch(ros, "multi_camera.launch.py", *given)
    assert "[robot.argus]" in process.wait_for("camera left: waiting for images on /robot/eyes/left")
    process.wait_for("camera right: waiting for images on /eyes/right")
    os.killpg(process.pid, signal.SIGINT)  # to the node too, as from a terminal, and launch passes its own on
    assert process.wait() == 0
    assert "process has finished cleanly" in process.output


def test_a_recording_is_played_to_the_node_and_ends_with_it(ros: Any, tmp_path: Path, blank: Path) -> None:
    camera_bag.write(tmp_path / "bag", {"front": Walk(seed=3, seconds=1.0, rate=4.0, width=160, height=120)})
    listener = ros.start("listener", sys.executable, "-m", "argus_ros.ros.listener", "/robot/argus")
    given = (f"bag:={tmp_path / 'bag'}", f"model:={blank}", "namespace:=robot", "name:=argus")
    process = launch(ros, "replay.launch.py", *given, "camera_topic:=/front/image_raw")
    assert process.wait(120.0) == 0
    assert "played 8 messages" in process.output
    assert '"topic": "detections"' in listener.output  # the model was ready before the bag began


def test_without_a_model_nothing_is_played(ros: Any, tmp_path: Path) -> None:
    camera_bag.write(tmp_path / "bag", {"front": Walk(seed=3, seconds=1.0, rate=1.0, width=160, height=120)})
    process = launch(ros, "replay.launch.py", f"bag:={tmp_path / 'bag'}", "patience:=2")
    process.wait_for("ready: /argus is not: ")
    assert process.wait(60.0) == 0
    assert "played" not in process.output


def test_what_is_not_given_is_as_the_parameter_file_has_it(ros: Any, tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("/**: {ros__parameters: {autostart: false}}")
    listener = ros.start("listener", sys.executable, "-m", "argus_ros.ros.listener", "/argus")
    process = launch(ros, "argus.launch.py", f"params_file:={file}")
    listener.wait_for("not configured")  # diagnostics, every second: with autostart it would never say so
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("file", "given", "reason"),
    [
        ("multi_camera.launch.py", "cameras_file:=/nowhere.yaml", "there is no file /nowhere.yaml"),
        ("argus.launch.py", "params_file:=/nowhere.yaml", "there is no file /nowhere.yaml"),
        ("argus.launch.py", "log_level:=loud", "log_level is 'loud'; it has to be debug, info"),
        ("argus.launch.py", "respawn:=maybe", "respawn is 'maybe'; it has to be true or false"),
        ("replay.launch.py", "bag:=/nowhere", "bag: there is no /nowhere"),
        ("replay.launch.py", "bag:=/ patience:=soon", "patience is 'soon'; it has to be a number"),
    ],
)
def test_what_cannot_be_is_refused_at_once(ros: Any, file: str, given: str, reason: str) -> None:
    process = launch(ros, file, *given.split())
    process.wait_for(reason)
    assert process.wait() == 1
