"""What the build installs is what a robot's launch files, `ros2 run` and `ros2 interface` look for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_prefix, get_package_share_directory

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["config", "launch", "msg", "srv"])
def test_the_share_folder_has_all_of(folder: str) -> None:
    installed = Path(get_package_share_directory("argus_ros"), folder)
    files = [file for file in (ROOT / folder).iterdir() if file.is_file()]
    assert files
    for file in files:
        assert (installed / file.name).read_bytes() == file.read_bytes()


def test_the_programs_are_where_ros2_run_looks() -> None:
    programs = Path(get_package_prefix("argus_ros"), "lib", "argus_ros")
    assert os.access(programs / "argus_node", os.X_OK)
    done = subprocess.run([programs / "argus", "--help"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: argus")


def test_the_modules_lie_beside_the_messages() -> None:
    """From a folder that holds no checkout."""
    code = "import argus_ros.msg, argus_ros.core.checkpoint as c; print(argus_ros.__file__, *c.shipped())"
    done = subprocess.run(["python3", "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    file, *checkpoints = done.stdout.split()
    assert Path(file).is_relative_to(get_package_prefix("argus_ros"))
    assert checkpoints == sorted(p.parent.name for p in ROOT.glob("argus_ros/checkpoints/*/config.json"))
