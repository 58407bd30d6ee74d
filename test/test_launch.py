"""The launch files: by their text everywhere, as launch takes them where it is installed."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

FILES = sorted((Path(__file__).parent.parent / "launch").glob("*.launch.py"))
INTERFACE = Path(__file__).parent.parent / "docs" / "interface.md"


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
def test_launch_takes_it(file: Path) -> None:
    pytest.importorskip("launch_ros", reason="it comes with ROS 2, not from PyPI")
    description: Any = runpy.run_path(str(file))["generate_launch_description"]()
    arguments = {one.name: one.description for one in description.get_launch_arguments()}
    assert arguments.keys() >= {"namespace", "log_level", "use_sim_time", "autostart", "respawn"}
    assert all(arguments.values())
