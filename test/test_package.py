"""The package's own words agree with each other: messages with types, package.xml with what is used."""

from __future__ import annotations

import ast
import dataclasses
import enum
import fcntl
import json
import os
import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import argus_ros
from argus_ros.core import fastdds
from argus_ros.core.space import Method
from argus_ros.core.types import Detection, Outcome, StageTimes, Status

ROOT = Path(__file__).parent.parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
#: Where a Python module's rosdep key is not its own name.
ROSDEP_KEYS = {"cv2": "python3-opencv", "numpy": "python3-numpy", "yaml": "python3-yaml"}
#: Used where they are installed, and not required: the last two have photographs for training.
OPTIONAL = {
    "av",
    "mujoco",
    "onnx",
    "onnxruntime",
    "pynvml",
    "ray",
    "triton",
    "cv_bridge",
    "vision_msgs",
    "skimage",
    "sklearn",
}
OPTIONAL |= {"prometheus_client", "starlette", "tf2_msgs", "tf2_py", "uvicorn", "websockets"}
OPTIONAL |= {"opentelemetry", "shtab"}
#: The model's side comes from pip: rosdep has no keys for the versions it needs.
FROM_PIP = {"matplotlib", "msgspec", "norfair", "PIL", "pycocotools", "rich", "rosbags", "safetensors"}
FROM_PIP |= {"huggingface_hub", "mcap", "tokenizers", "torch", "transformers", "zstandard"}


def message(name: str) -> str:
    return (ROOT / "msg" / f"{name}.msg").read_text()


def constants(name: str) -> dict[str, int]:
    return {n: int(v) for n, v in re.findall(r"^uint8 ([A-Z_]+) *= *(\d+)", message(name), re.MULTILINE)}


def fields(name: str) -> list[str]:
    return re.findall(r"^[a-z]\S*\s+([a-z_]+)\s*(?:#|$)", message(name), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "words"), [("DetectionArray", Status), ("FrameTiming", Outcome), ("Detection3D", Method)]
)
def test_constants_of_messages_are_those_of_the_types(name: str, words: type[enum.IntEnum]) -> None:
    assert constants(name) == {word.name: word.value for word in words}


def test_messages_have_a_field_for_all_that_the_types_carry() -> None:
    assert set(fields("Detection")) == {f.name for f in dataclasses.fields(Detection)}
    assert {f.name for f in dataclasses.fields(StageTimes)} <= set(fields("FrameTiming"))


@pytest.mark.parametrize("name", ["DetectionArray", "Detection3DArray", "FrameTiming"])
def test_the_header_is_the_first_field(name: str) -> None:
    assert fields(name)[0] == "header"


def test_one_version() -> None:
    assert MANIFEST.findtext("version") == argus_ros.__version__


@pytest.mark.slow
def test_package_xml_names_what_is_imported() -> None:
    imported: set[str] = set()
    for file in [*ROOT.glob("argus_ros/**/*.py"), *ROOT.glob("launch/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"argus_ros"} - OPTIONAL - FROM_PIP
    named = {element.text for element in MANIFEST if element.tag in ("depend", "exec_depend")}
    assert {ROSDEP_KEYS.get(name, name) for name in foreign} <= named


def test_cmake_builds_every_message() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text()
    files = {f"{p.parent.name}/{p.name}" for kind in ("msg", "srv") for p in (ROOT / kind).glob(f"*.{kind}")}
    assert set(re.findall(r"(?:msg|srv)/\w+\.(?:msg|srv)", cmake)) == files


def test_the_foxglove_layout_shows_what_there_is() -> None:
    layout = json.loads((ROOT / "docs/examples/foxglove.json").read_text())
    panels = layout["configById"]
    topics = {"/argus/detections": "DetectionArray", "/argus/timing": "FrameTiming"}
    for path in (path for panel in panels.values() for path in panel.get("paths", [])):
        topic, field = re.fullmatch(r"(/argus/\w+)(?:\{outcome==0\})?\.(\w+)", path["value"]).groups()
        assert field in fields(topics[topic])
    assert panels["Image!annotated"]["imageMode"]["imageTopic"] == "/argus/annotated/compressed"
    assert panels["DiagnosticSummary!health"]["topicToRender"] == "/diagnostics"
    places = re.findall(r'"(?:first|second)": "(.*?)"', json.dumps(layout["layout"]))
    assert sorted(places) == sorted(panels)


def test_the_profile_is_named_in_both_variables_where_fast_dds_is_not_found() -> None:
    environment = fastdds.with_large_images({"HOME": "/"})
    profile = environment["FASTDDS_DEFAULT_PROFILES_FILE"]
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == profile
    transports = ElementTree.parse(profile).getroot().findall(".//{*}segment_size")
    assert [int(element.text or 0) for element in transports] == [64 << 20]


def test_a_profile_of_the_user_is_let_be() -> None:
    chosen = {"FASTRTPS_DEFAULT_PROFILES_FILE": "/my/profile.xml"}
    assert fastdds.with_large_images(chosen) == chosen


@pytest.mark.parametrize("version", ["fastdds", "fastrtps"])
def test_only_the_installed_fast_dds_is_told_of_the_profile(tmp_path: Path, version: str) -> None:
    (tmp_path / "share" / version).mkdir(parents=True)
    environment = fastdds.with_large_images({"AMENT_PREFIX_PATH": f"/nowhere:{tmp_path}"})
    assert {name for name in environment if "PROFILES" in name} == {
        f"{version.upper()}_DEFAULT_PROFILES_FILE"
    }


def test_what_killed_processes_left_of_fast_dds_is_named(tmp_path: Path) -> None:
    for name, size, age in (
        ("a1", 3 << 20, 60),
        ("b2", 1 << 20, 60),
        ("c3", 1 << 20, 0),
        ("port7400", 9, 60),
    ):
        (tmp_path / f"fastrtps_{name}").write_bytes(bytes(size))
        lock = tmp_path / f"fastrtps_{name}_el"
        lock.touch()
        os.utime(lock, (time.time() - age,) * 2)
    with (tmp_path / "fastrtps_b2_el").open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        said = fastdds.left_behind(tmp_path)
    assert "a segment (3 MB)" in said
    assert "fastdds shm clean" in said
    assert fastdds.left_behind(tmp_path / "none") == ""
