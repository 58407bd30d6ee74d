"""The parameters' table: what it makes of values, what it refuses, and the documents made from it."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml

from argus_ros.core.frame import PolicyError
from argus_ros.core.image import Region
from argus_ros.core.types import Task
from argus_ros.ros import parameters
from argus_ros.ros.locator import names_rectified
from argus_ros.ros.parameter_warnings import ineffective_files, ineffective_parameters
from argus_ros.ros.parameters import CAMERA, NODE, all_specs
from argus_ros.ros.settings import ParameterError, Settings

ROOT = Path(__file__).parents[2]


def values(cameras: tuple[str, ...] = ("front",), **changed: Any) -> dict[str, Any]:
    specs = all_specs(cameras)
    given = {name.replace("__", "."): value for name, value in changed.items()}
    assert set(given) <= set(specs)
    return {name: spec.value for name, spec in specs.items()} | {"cameras": list(cameras)} | given


def test_settings_have_the_given_values() -> None:
    given = values(
        ("left", "right"),
        classes=["cone", "traffic light"],
        threads=2,
        camera__left__region=[1, 2, 30, 40],
        camera__right__deadline=0.1,
    )
    settings = Settings.of(given)
    assert settings.task == Task("detect", ("cone", "traffic light"))
    assert settings.engine.threads == 2
    left, right = settings.cameras
    assert (left.topic, right.topic) == ("left/image_raw", "right/image_raw")
    assert left.region == Region(1, 2, 30, 40)
    assert right.region == Region()
    assert right.policy.deadline == 0.1


def test_an_empty_class_means_all() -> None:
    assert Settings.of(values()).task.classes == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"task": "sing"}, "task is 'sing'; it has to be one of detect, ground"),
        ({"backend": "magic"}, "backend"),
        ({"preset": "fast"}, "preset: unknown preset 'fast'; presets are stock, paper"),
        ({"preset": "realtime+warp"}, "preset: unknown recipe 'warp'"),
        ({"cameras": []}, "at least one name"),
        ({"cameras": ["front", "front"]}, "each only once"),
        ({"cameras": ["2nd"]}, "'2nd' is not a valid name"),
        ({"cameras": [f"c{n}" for n in range(3000)]}, "3000 names; the limit is 100"),
        ({"camera__front__topic": ""}, "camera.front.topic is empty"),
        ({"camera__front__depth_topic": "depth"}, "camera_info_topic is empty; positions need both"),
        ({"camera__front__rectified": "maybe"}, "one of auto, yes, no"),
        ({"target_frame": "/odom"}, "names of frames must not begin with /"),
        ({"camera__front__transport": "pigeon"}, "one of auto, raw, compressed"),
        ({"camera__front__region": [1, 2, 3]}, r"\[1, 2, 3\]"),
        ({"camera__front__region": [-1, 0, 3, 3]}, "none negative"),
        ({"camera__front__mono16": "half"}, r"stretch, full or \[low, high\]"),
        ({"camera__front__mono16": f"[1, {'9' * 5000}]"}, r"stretch, full or \[low, high\]"),
        ({"camera__front__mono16": "[8000, 7000]"}, "low < high"),
    ],
)
def test_invalid_values_are_refused_with_a_reason(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        Settings.of(values(**changed))


def test_rectified_is_set_or_derived_from_the_topic() -> None:
    for told, rectified in (("auto", None), ("no", False), ("yes", True)):
        changed = values(camera__front__rectified=told)
        assert Settings.of(changed).cameras[0].positions.rectified is rectified


def test_rectified_images_are_known_by_the_last_part_of_their_topics_name() -> None:
    for topic, rectified in (
        ("/front/image_rect", True),
        ("/front/image_rect_color", True),
        ("/front/image_rect/compressed", True),
        ("/front/image_raw", False),
        ("/direct_cam/image_raw", False),
        ("/rect/image_raw", False),
        ("/front/corrected", False),
    ):
        assert names_rectified(topic) is rectified, topic


def test_a_policy_refuses_by_itself() -> None:
    with pytest.raises(PolicyError, match="deadline"):
        Settings.of(values(camera__front__deadline=float("nan")))


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ParameterError, match="no checkpoint 'nowhere'"):
        Settings.of(values(model="nowhere")).check_task()


@pytest.mark.parametrize("changed", [{"prompt": "x" * 5000}, {"classes": ["cone"] * 600}])
def test_a_task_with_too_much_text_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="4096 and 512 are the limits"):
        Settings.of(values(**changed)).check_task()


def test_an_empty_array_is_the_default() -> None:
    """As rcl gives ``-p classes:=[]``: without a value."""
    specs = {spec.name: spec for spec in (*parameters.NODE, *parameters.of_camera("front"))}
    assert specs["classes"].coerce(None) == specs["classes"].coerce([]) == [""]
    assert specs["cameras"].coerce(None) == ["front"]
    assert specs["camera.front.region"].coerce(None) == [0, 0, 0, 0]


def test_numbers_are_accepted_in_all_spellings() -> None:
    specs = all_specs(("front",))
    deadline = specs["camera.front.deadline"].coerce(1)
    assert deadline == 1.0
    assert isinstance(deadline, float)
    assert specs["classes"].coerce([]) == [""]
    thermal = specs["camera.front.mono16"].coerce(array.array("q", [7000, 8000]))  # as rclpy has it
    assert Settings.of(values(camera__front__mono16=thermal)).cameras[0].mono16 == (7000, 8000)
    assert specs["threads"].coerce("many") == "many"  # rclpy refuses the type, and says so
    assert specs["score_threshold"].coerce(True) is True


@pytest.mark.parametrize("spec", [*NODE, *CAMERA], ids=lambda spec: spec.name)
def test_descriptors(spec: parameters.Spec) -> None:
    descriptor = spec.descriptor
    assert descriptor.description == spec.description
    assert descriptor.read_only is (spec.change is parameters.Change.START)
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    assert len(ranges) == bool(spec.range)
    for allowed in ranges:
        assert allowed.from_value <= spec.default <= allowed.to_value
    if spec.choices:
        assert spec.default in spec.choices
        assert all(choice in descriptor.additional_constraints for choice in spec.choices)


def test_a_typing_error_gets_the_nearest_name() -> None:
    given = [
        "use_sim_time",
        "model",
        "score_treshold",
        "qos_overrides./a.subscription.depth",
        "camera.front.toppic",
        "camera.rear.topic",
    ]
    said = list(ineffective_parameters(given, all_specs(("front",))))
    assert len(said) == 3
    assert "did you mean 'score_threshold'?" in said[0]
    assert "did you mean 'camera.front.topic'?" in said[1]
    assert said[2] == "camera.rear.topic has no effect until parameter cameras names 'rear'"


@pytest.mark.parametrize(
    ("name", "node", "counts"),
    [
        ("argus", "/argus", True),
        ("/argus", "/argus", True),
        ("argus_node", "/argus", False),
        ("argus", "/robot1/argus", False),
        ("/robot1/argus", "/robot1/argus", True),
        ("/*/argus", "/robot1/argus", True),
        ("/*/argus", "/argus", False),
        ("/**/argus", "/argus", True),
        ("/**", "/a/b/argus", True),
        ("/a/**", "/a/b/argus", True),
        ("/a/**", "/b/argus", False),
    ],
)
def test_a_parameter_file_for_another_node_gives_a_warning(
    alone: None, name: str, node: str, counts: bool, tmp_path: Path
) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump({name: {"ros__parameters": {"score_threshold": 0.9}}}))
    words = ["argus_node", "--ros-args", "--params-file", str(file)]
    said = list(ineffective_files(words, node))
    assert [f"none for {node}" in sentence for sentence in said] == ([] if counts else [True])
    # rcl itself has the last word on what counts.
    context = rclpy.Context()
    rclpy.init(context=context)
    namespace, _, own = node.rpartition("/")
    given = rclpy.create_node(own, context=context, namespace=namespace or "/", cli_args=words[1:])
    assert bool(given._parameter_overrides) == counts
    given.destroy_node()
    rclpy.shutdown(context=context)


def test_parameter_files_nest_namespaces_and_may_be_broken(tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    words = ["--params-file", str(file), "--params-file", str(tmp_path / "none.yaml")]
    file.write_text("robot1: {argus: {ros__parameters: {threads: 1}}, other: {ros__parameters: {a: 1}}}")
    assert not list(ineffective_files(words, "/robot1/argus"))
    (said,) = ineffective_files(words, "/robot2/argus")
    assert "has parameters for /robot1/argus, /robot1/other and none for /robot2/argus" in said
    for broken in ("", "[1, 2", "7", "{a: {b: 3}}", "\xff"):
        file.write_bytes(broken.encode("latin-1"))
        assert not list(ineffective_files(words, "/argus"))


def test_the_documents_are_those_of_the_table() -> None:
    remedy = "write it anew: see argus_ros/ros/parameters.py"
    assert (ROOT / "config" / "argus.yaml").read_text() == parameters.yaml(), remedy
    interface = (ROOT / "docs" / "interface.md").read_text()
    assert parameters.table(NODE) in interface, remedy
    assert parameters.table(CAMERA, "camera.NAME.") in interface, remedy


def parameter_file(name: str) -> dict[str, Any]:
    return flat(yaml.safe_load((ROOT / "config" / name).read_text())["/**"]["ros__parameters"])


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def test_the_parameter_files_are_valid() -> None:
    assert parameter_file("argus.yaml") == values()
    example = parameter_file("cameras.example.yaml")
    specs = all_specs(example["cameras"])
    assert not list(ineffective_parameters(example, specs))
    assert len(Settings.of({name: spec.value for name, spec in specs.items()} | example).cameras) == 3
