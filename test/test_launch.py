"""The launch files: by their text everywhere, as launch takes them where it is installed."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
INTERFACE = ROOT / "docs" / "interface.md"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_argument_is_described(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert (ast.get_docstring(tree) or "").splitlines()[0].count(f"ros2 launch argus_ros {file.name}")
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions
    (arguments,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ARGUMENTS"
    )
    assert isinstance(arguments, ast.Dict)
    for argument in arguments.values:
        assert isinstance(argument, ast.Tuple)
        description = ast.literal_eval(argument.elts[1])
        assert re.fullmatch(r"\S.*\.", description), description


def test_every_launch_file_is_documented() -> None:
    assert set(re.findall(r"\w+\.launch\.py", INTERFACE.read_text())) == {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_needs_nothing_of_the_nodes_environment(file: Path) -> None:
    """`ros2 launch` runs in the system's Python, where the node's packages are in a virtual environment."""
    tree = ast.parse(file.read_text())
    imports = (node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    own = [module for module in imports if module.startswith("argus_ros")]
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; {'; '.join(f'import {module}' for module in own)}"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)  # -S: no installed packages
    assert "sys.executable" not in file.read_text()


def test_its_camera_is_the_nodes_own() -> None:
    pytest.importorskip("rclpy", reason="the parameters' table has their descriptors")
    from argus_ros.ros.parameters import all_specs

    (default,) = all_specs(())["cameras"].default
    assert f'CAMERA = "{default}"' in (ROOT / "launch" / "argus.launch.py").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_launch_takes_it(file: Path) -> None:
    pytest.importorskip("launch_ros", reason="it comes with ROS 2, not from PyPI")
    description: Any = runpy.run_path(str(file))["generate_launch_description"]()
    arguments = {one.name: one.description for one in description.get_launch_arguments()}
    assert arguments.keys() >= {"namespace", "log_level", "use_sim_time", "autostart", "respawn"}
    assert all(arguments.values())
