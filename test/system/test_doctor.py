"""`argus doctor` beside a camera; and what is written to a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import Any

import pytest


def test_a_publishing_camera_is_found(ros: Any) -> None:
    camera = (
        "import rclpy, sensor_msgs.msg as m, rclpy.qos as q; rclpy.init(); n = rclpy.create_node('driver')\n"
    )
    camera += "n.create_publisher(m.Image, '/front/image_raw', q.qos_profile_sensor_data)\n"
    camera += "print('publishing', flush=True); rclpy.spin(n)"
    ros.start("camera", sys.executable, "-c", camera).wait_for("publishing")
    command = [sys.executable, "-m", "argus_ros.tools.main", "doctor", "--seconds"]
    for seconds in ("2", "8", "32"):  # discovery takes its time where the machine is busy
        doctor = ros.start("doctor", *command, seconds)
        assert doctor.wait(120.0) == 0, doctor.output
        seen = [line for line in doctor.output.splitlines() if "/front/image_raw" in line]
        if seen and "/driver" in seen[0]:
            break
    assert len(seen) == 1
    assert "best_effort, by /driver" in seen[0]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_the_nodes_log_has_colours_unless_no_color_says_otherwise(ros: Any, no_color: str) -> None:
    inside, terminal = pty.openpty()
    environment = {k: v for k, v in ros.environment.items() if k != "RCUTILS_COLORIZED_OUTPUT"}
    command = [sys.executable, "-m", "argus_ros.ros.program", "--ros-args", "-p", "autostart:=false"]
    command += ["-p", "no_such_parameter:=1"]  # so that it has something to say
    node = subprocess.Popen(
        command, env=environment | {"NO_COLOR": no_color}, stdout=terminal, stderr=terminal
    )
    try:
        said = b""
        while b"no_such_parameter" not in said:
            said += os.read(inside, 4096)
    finally:
        node.kill()
        node.wait()
        os.close(terminal)
        os.close(inside)
    assert (b"\x1b[" in said) == (not no_color)


def test_the_programs_own_words_have_colours_unless_no_color_says_otherwise(ros: Any) -> None:
    found = {}
    for no_color in ("", "1"):
        inside, terminal = pty.openpty()
        code = "from rich.console import Console; from argus_ros.tools.doctor import *\n"
        code += "show(Console(), Finding('x', FAIL, 'y'))"
        environment = os.environ | {"NO_COLOR": no_color, "TERM": "xterm-256color"}
        subprocess.run([sys.executable, "-c", code], env=environment, stdout=terminal, check=True)
        found[no_color] = os.read(inside, 4096)
        os.close(terminal)
        os.close(inside)
    assert b"\x1b[1;31m" in found[""]
    assert b"31m" not in found["1"]
