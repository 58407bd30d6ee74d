"""The node's parameters: declared in one table, from which descriptors, documentation and defaults are made.

``Settings.of`` turns the values into what the rest of the program uses, and refuses with a reason.
Run as a module it prints ``config/argus.yaml`` or the tables of ``docs/interface.md``.
"""

from __future__ import annotations

import array
import difflib
import enum
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from yaml import YAMLError
from yaml import safe_load as yaml_of

from argus_ros.core import checkpoint, recipes
from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Mono16, Region
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import TASKS, Task
from argus_ros.vlm import prompts


class ParameterError(ValueError):
    """Values that cannot work, with what would."""


def reason_of(error: Exception) -> str:
    """What an error of rcl's says, without the lines of C that it comes from."""
    return str(error).partition(", at ")[0]


class Change(enum.Enum):
    """When a parameter may change."""

    LIVE = "while running"
    CONFIGURE = "while unconfigured"
    START = "at start only"


@dataclass(frozen=True)
class Spec:
    """One parameter. Its type is that of ``default``; a tuple stands for an array."""

    name: str
    default: Any
    description: str
    change: Change = Change.LIVE
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """Name of the type as ``ros2 param describe`` has it."""
        scalar = self.default[0] if isinstance(self.default, tuple) else self.default
        name = {bool: "boolean", int: "integer", float: "double", str: "string"}[type(scalar)]
        return name + (" array" if isinstance(self.default, tuple) else "")

    @property
    def value(self) -> Any:
        """The default as rclpy takes it."""
        return list(self.default) if isinstance(self.default, tuple) else self.default

    @property
    def descriptor(self) -> ParameterDescriptor:
        constraints = [f"one of {', '.join(self.choices)}"] if self.choices else []
        constraints.append(f"can be changed {self.change.value}")
        descriptor = ParameterDescriptor(
            description=self.description,
            additional_constraints="; ".join(constraints),
            read_only=self.change is Change.START,
        )
        if self.range:
            low, high = map(type(self.default), self.range)
            if isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
            else:
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        return descriptor

    def coerce(self, value: Any) -> Any:
        """An integer where a number is wanted, an empty array, a range: as people and YAML write them.

        rcl gives an empty array on the command line or in a file as no value at all.
        """
        if value is None:
            return self.value
        if isinstance(self.default, float) and type(value) is int:
            return float(value)
        if isinstance(self.default, tuple) and not isinstance(value, str | int | float):
            return list(value) or self.value
        if isinstance(self.default, str) and isinstance(value, (list, array.array)):  # [low, high]
            return str(list(value))
        return value


NODE = (
    Spec("autostart", True, "Configure and activate at start, without a lifecycle manager.", Change.START),
    Spec(
        "model",
        checkpoint.DEFAULT,
        "A checkpoint: the name of a shipped one, the path of a folder in transformers' format, or a hub id. "
        "With backend openai: the address of a server, http://HOST:PORT/v1 or http://HOST:PORT/v1#MODEL.",
        Change.CONFIGURE,
    ),
    Spec(
        "backend",
        "native",
        "What runs the model. native: this package (fast); transformers: any model of that library for "
        "images and text; openai: an OpenAI-compatible server.",
        Change.CONFIGURE,
        choices=("native", "transformers", "openai"),
    ),
    Spec(
        "allow_download",
        False,
        "Download a missing checkpoint from the hub. model is then ORG/NAME@COMMIT with the full commit.",
        Change.CONFIGURE,
    ),
    Spec(
        "answer_format",
        "auto",
        "The format in which an open model writes boxes. auto: by its architecture.",
        Change.CONFIGURE,
        choices=("auto", *checkpoint.FORMATS),
    ),
    Spec(
        "device",
        "auto",
        "auto (a GPU if there is one), cpu, cuda, cuda:1 ...",
        Change.CONFIGURE,
    ),
    Spec(
        "dtype",
        "auto",
        "Precision of the model. auto: bfloat16 on a GPU that supports it, else float32.",
        Change.CONFIGURE,
        choices=("auto", "float32", "bfloat16", "float16"),
    ),
    Spec(
        "preset",
        "realtime",
        "Which latency recipes are on: stock (none), paper, realtime or edge. Add or remove recipes by name, "
        "for example realtime+still_gate-overlap.",
        Change.CONFIGURE,
    ),
    Spec(
        "server_timeout",
        8.0,
        "Longest time [s] of a request to a server, with retries. The camera's deadline may end it sooner.",
        Change.CONFIGURE,
        (0.1, 600.0),
    ),
    Spec("server_in_flight", 4, "Most concurrent requests to a server.", Change.CONFIGURE, (1, 64)),
    Spec(
        "server_pixels",
        1_000_000,
        "Largest number of pixels of an image that is sent to a server. Larger images are scaled down.",
        Change.CONFIGURE,
        (4096, 100_000_000),
    ),
    Spec("threads", 0, "CPU threads of the engine. 0: all cores but one.", Change.CONFIGURE, (0, 256)),
    Spec(
        "task",
        "detect",
        "What to ask of each image.",
        choices=TASKS,
    ),
    Spec(
        "classes",
        ("",),
        "The classes that task detect looks for. ['']: every class of the model.",
    ),
    Spec("prompt", "", "The phrase for task ground, or the question for task ask."),
    Spec("score_threshold", 0.3, "Detections with a lower score are not published.", range=(0.0, 1.0)),
    Spec(
        "tracking",
        False,
        "Give each object a track_id that it keeps from frame to frame. Needs norfair-enough.",
        Change.CONFIGURE,
    ),
    Spec(
        "publish_late",
        False,
        "Publish answers that are older than their camera's deadline with status LATE. false: withhold them.",
    ),
    Spec(
        "max_clock_skew",
        5.0,
        "If a stamp differs by more than this [s] from the node's clock, ages count from the arrival.",
        Change.CONFIGURE,
        (0.0, 3600.0),
    ),
    Spec(
        "engine_hang_seconds",
        10.0,
        "An inference that takes longer than this [s] and longer than 20 times its prediction counts as "
        "hung: the node restarts the engine.",
        Change.CONFIGURE,
        (0.1, 3600.0),
    ),
    Spec(
        "spare_engine",
        False,
        "Keep a second process with the model loaded, which takes over at once if the engine's process is "
        "lost. It needs the same memory again, and is not started if that memory is not available.",
        Change.CONFIGURE,
    ),
    Spec(
        "target_frame",
        "",
        "The frame of positions, transformed by TF at the image's stamp. Empty: the frame of the image.",
        Change.CONFIGURE,
    ),
    Spec(
        "ground_frame",
        "",
        "A TF frame whose plane z = 0 is the ground. An object without depth is placed where the lower "
        "edge of its box meets this plane. Empty: it gets no position.",
        Change.CONFIGURE,
    ),
    Spec(
        "position_wait",
        0.1,
        "Longest time [s] that a position waits for its depth and for TF. The detections never wait.",
        Change.CONFIGURE,
        (0.0, 10.0),
    ),
    Spec(
        "metrics_port",
        0,
        "TCP port on which the node serves the figures of ~/timing to Prometheus, at /metrics. 0: none. "
        "Needs prometheus-client.",
        Change.CONFIGURE,
        (0, 65535),
    ),
    Spec(
        "metrics_address",
        "127.0.0.1",
        "The local address on which metrics_port is opened. Everybody who can reach it can read the metrics.",
        Change.CONFIGURE,
    ),
    Spec(
        "cameras",
        ("front",),
        "Names of the cameras. Each has its own parameters camera.NAME.*.",
    ),
)

#: What goes to the engine under its own name.
FOR_ENGINE = (
    *("backend", "allow_download", "answer_format", "device", "dtype", "preset", "threads"),
    *("server_timeout", "server_in_flight", "server_pixels"),
)

#: Of each camera, under ``camera.NAME.``; NAME in a default is the camera's.
CAMERA = (
    Spec("topic", "NAME/image_raw", "Image topic, relative to the node's namespace."),
    Spec(
        "transport",
        "auto",
        "raw: sensor_msgs/Image. compressed: sensor_msgs/CompressedImage, on the topic itself or on "
        "TOPIC/compressed. auto: the one that is published, raw first.",
        choices=("auto", "raw", "compressed"),
    ),
    Spec(
        "reliability",
        "best_effort",
        "QoS of the subscription. best_effort receives from every publisher.",
        choices=("best_effort", "reliable"),
    ),
    Spec(
        "deadline",
        0.5,
        "Largest age [s] of an answer: publication minus header.stamp.",
        range=(0.001, 600.0),
    ),
    Spec(
        "weight",
        1.0,
        "Share of the engine under overload, relative to others.",
        range=(0.01, 100.0),
    ),
    Spec("rate_cap", 0.0, "Largest number of images per second to process. 0: all.", range=(0.0, 1000.0)),
    Spec(
        "region",
        (0, 0, 0, 0),
        "Region of interest: x, y, width, height in pixels. A width or height of 0 reaches to the edge.",
    ),
    Spec(
        "mono16",
        "stretch",
        "The values that become black and white in an image of one 16-bit channel (mono16, 16UC1). stretch: "
        "the least and the greatest value of each image; full: 0 and the largest value of the bit depth; or "
        "[low, high].",
    ),
    Spec(
        "decode_budget",
        32.0,
        "Largest cost of decoding a compressed image, in megapixels of a baseline JPEG (32 take about "
        "0.3 s). Each further scan of a progressive JPEG counts a quarter, a PNG once per byte of a pixel.",
        range=(0.1, 10000.0),
    ),
    Spec(
        "depth_topic",
        "",
        "Depth that is registered to the camera's images, raw or TOPIC/compressedDepth, for positions in "
        "space. Empty: none.",
    ),
    Spec(
        "camera_info_topic",
        "",
        "The camera's sensor_msgs/CameraInfo, for directions and positions in space. Empty: none.",
    ),
    Spec(
        "depth_slop",
        0.05,
        "Largest difference [s] between the stamps of an image and of its depth.",
        range=(0.0, 10.0),
    ),
    Spec(
        "rectified",
        "auto",
        "Whether the images are rectified, so that the node uses P of the camera_info and not K and D. auto: "
        "yes if the last part of the remapped topic name has the word 'rect' in it (image_rect, "
        "image_rect_color).",
        choices=("auto", "yes", "no"),
    ),
)

#: More names than this are a mistake, over which rclpy would take minutes.
MOST_CAMERAS = 100

#: Parameters that rclpy declares by itself.
OWN_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def of_camera(name: str) -> tuple[Spec, ...]:
    """The specs of one camera, with full names."""

    def named(spec: Spec) -> Spec:
        default = spec.default.replace("NAME", name) if isinstance(spec.default, str) else spec.default
        return replace(spec, name=f"camera.{name}.{spec.name}", default=default)

    return tuple(named(spec) for spec in CAMERA)


def all_specs(cameras: Iterable[str]) -> dict[str, Spec]:
    """Every parameter by its full name."""
    return {spec.name: spec for spec in (*NODE, *(s for camera in cameras for s in of_camera(camera)))}


@dataclass(frozen=True)
class PositionSettings:
    """What a camera's positions in space are made from; none where there is no ``camera_info_topic``."""

    depth_topic: str = ""
    camera_info_topic: str = ""
    slop: float = 0.05
    rectified: bool | None = None  #: None: by the name of the images' topic


@dataclass(frozen=True)
class CameraSettings:
    name: str
    topic: str
    transport: str
    reliability: str
    policy: CameraPolicy
    region: Region
    mono16: Mono16 = "stretch"
    decode_budget: float = 32.0
    positions: PositionSettings = PositionSettings()

    @property
    def subscription(self) -> tuple[object, ...]:
        """What it is subscribed by."""
        return self.topic, self.transport, self.reliability, self.positions


@dataclass(frozen=True)
class Settings:
    """The parameters as the rest of the program takes them."""

    engine: EngineConfig
    task: Task
    score_threshold: float
    tracking: bool
    publish_late: bool
    max_clock_skew: float
    engine_hang_seconds: float
    spare_engine: bool
    target_frame: str
    ground_frame: str
    position_wait: float
    metrics_port: int
    metrics_address: str
    cameras: tuple[CameraSettings, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """From the values of every parameter, by full name. Raises ParameterError with the reason."""
        check_cameras(values["cameras"])
        for spec in all_specs(values["cameras"]).values():
            if spec.choices and values[spec.name] not in spec.choices:
                raise ParameterError(
                    f"{spec.name} is {values[spec.name]!r}; it has to be one of {', '.join(spec.choices)}"
                )
        for frame in ("target_frame", "ground_frame"):
            if values[frame].startswith("/"):
                raise ParameterError(f"{frame} is {values[frame]!r}; names of frames do not begin with /")
        try:
            recipes.preset(values["preset"])
        except ValueError as error:
            raise ParameterError(f"preset: {error}") from None
        return cls(
            engine=EngineConfig(
                checkpoint=values["model"],
                **{name: values[name] for name in FOR_ENGINE},
            ),
            task=Task(values["task"], tuple(c for c in values["classes"] if c.strip()), values["prompt"]),
            cameras=tuple(_camera(name, values) for name in values["cameras"]),
            **{
                name: values[name]
                for name in (
                    *("score_threshold", "tracking", "publish_late"),
                    *("max_clock_skew", "engine_hang_seconds", "spare_engine"),
                    *("target_frame", "ground_frame", "position_wait", "metrics_port", "metrics_address"),
                )
            },
        )

    def check_task(self) -> None:
        """Raise ParameterError unless the model is there and can do the task."""
        try:
            model = checkpoint.read_for(self.engine)
            prompts.check(self.task, model)
            prompts.check_question(self.task, model)
        except (checkpoint.CheckpointError, prompts.TaskError) as error:
            raise ParameterError(str(error)) from None


def check_cameras(names: Sequence[str]) -> None:
    """Raise ParameterError unless these can be names of cameras."""
    wrong = [name for name in names if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)]
    if wrong:
        raise ParameterError(
            f"cameras: {wrong[0]!r} cannot be a name; use letters, digits and _, a letter first"
        )
    if len(names) > MOST_CAMERAS:
        raise ParameterError(f"cameras has {len(names)} names; {MOST_CAMERAS} are the most")
    if not names or len(set(names)) < len(names):
        raise ParameterError(f"cameras is {list(names)}; give at least one name, each once")


def _camera(name: str, values: Mapping[str, Any]) -> CameraSettings:
    value = {spec.name: values[f"camera.{name}.{spec.name}"] for spec in CAMERA}
    region = tuple(value["region"])
    if len(region) != 4 or min(region) < 0:
        raise ParameterError(
            f"camera.{name}.region is {list(region)}; it has to be [x, y, width, height] in pixels, "
            "none negative"
        )
    if not value["topic"]:
        raise ParameterError(f"camera.{name}.topic is empty; give the topic of its images")
    return CameraSettings(
        name,
        value["topic"],
        value["transport"],
        value["reliability"],
        CameraPolicy(value["deadline"], value["weight"], value["rate_cap"]),
        Region(*region),
        _mono16(name, value["mono16"]),
        value["decode_budget"],
        _positions(name, value),
    )


def _positions(name: str, value: Mapping[str, Any]) -> PositionSettings:
    if value["depth_topic"] and not value["camera_info_topic"]:
        raise ParameterError(
            f"camera.{name}.depth_topic is {value['depth_topic']!r} and camera.{name}.camera_info_topic "
            "is empty; positions need both"
        )
    rectified = {"yes": True, "no": False}.get(value["rectified"])
    return PositionSettings(value["depth_topic"], value["camera_info_topic"], value["depth_slop"], rectified)


def _mono16(name: str, value: str) -> Mono16:
    if value == "stretch":
        return "stretch"
    if value == "full":
        return "full"
    given = re.fullmatch(r"\[\s*(\d{1,5})\s*,\s*(\d{1,5})\s*\]", value)
    if not given or not 0 <= int(given[1]) < int(given[2]) < 1 << 16:
        raise ParameterError(
            f"camera.{name}.mono16 is {value!r}; it has to be stretch, full or [low, high] with "
            "0 <= low < high <= 65535"
        )
    return int(given[1]), int(given[2])


def complaints(given: Iterable[str], specs: Mapping[str, Spec]) -> Iterator[str]:
    """A sentence for each parameter given at start without effect, with the nearest that has one."""
    for name in given:
        if name in specs or name.startswith(OWN_OF_RCLPY):
            continue
        camera = re.fullmatch(r"camera\.(\w+)\.(\w+)", name)
        if camera and camera[2] in {spec.name for spec in CAMERA}:
            yield f"{name} has no effect until parameter cameras names {camera[1]!r}"
            continue
        near = difflib.get_close_matches(name, specs, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        yield f"there is no parameter {name!r}, so its value is ignored{meant}"


def unmeant_files(words: Sequence[str], node: str) -> Iterator[str]:
    """A sentence for each ``--params-file`` of a command line that has nothing for ``node``, given in full.

    rcl passes over it without a word. What cannot be read is rcl's to say.
    """
    for file in (after for word, after in pairwise(words) if word == "--params-file"):
        try:
            nodes = list(_nodes_of(yaml_of(Path(file).read_text())))
        except (OSError, ValueError, YAMLError):
            continue
        if nodes and not any(_pattern(name).fullmatch(node) for name in nodes):
            yield (
                f"{file} has parameters for {', '.join(nodes)} and none for {node}, so nothing of it counts; "
                f"put {node} or /** over those that are meant for this node"
            )


def _nodes_of(tree: Any, name: str = "") -> Iterator[str]:
    """Names over ``ros__parameters``, which may be nested by namespaces."""
    for key, below in tree.items() if isinstance(tree, dict) else ():
        if key == "ros__parameters":
            yield name
        else:
            yield from _nodes_of(below, f"{name}/{str(key).strip('/')}")


def _pattern(name: str) -> re.Pattern[str]:
    """Of the full names that a name in a parameter file stands for: ``*`` is one part, ``**`` any number."""
    parts = {"**": "(/[^/]+)*", "*": "/[^/]+"}
    return re.compile("".join(parts.get(part, f"/{re.escape(part)}") for part in name.strip("/").split("/")))


# --- documents ----------------------------------------------------------------------------------


def table(specs: Iterable[Spec], prefix: str = "") -> str:
    """A Markdown table."""
    rows = ["| parameter | type | default | may change | what |", "|---|---|---|---|---|"]
    for spec in specs:
        allowed = f" One of {', '.join(spec.choices)}." if spec.choices else ""
        allowed += f" {spec.range[0]:g} to {spec.range[1]:g}." if spec.range else ""
        what = f"{spec.description}{allowed}"
        rows.append(
            f"| `{prefix}{spec.name}` | {spec.type} | `{_yaml(spec.value)}` | {spec.change.value} | {what} |"
        )
    return "\n".join(rows)


def yaml() -> str:
    """Every parameter with its default, as a commented parameter file."""
    lines = [
        "# Every parameter of argus_node with its default.",
        "# Written by `python -m argus_ros.ros.parameters yaml`.",
        "/**:",
        "  ros__parameters:",
    ]
    for spec in NODE:
        lines += [*_comment(spec, 4), f"    {spec.name}: {_yaml(spec.value)}"]
    for camera in next(spec.default for spec in NODE if spec.name == "cameras"):
        lines += ["    camera:", f"      {camera}:"]
        for spec in of_camera(camera):
            lines += [*_comment(spec, 8), f"        {spec.name.rpartition('.')[2]}: {_yaml(spec.value)}"]
    return "\n".join(lines) + "\n"


def _comment(spec: Spec, indent: int) -> list[str]:
    allowed = f" [{', '.join(spec.choices)}]" if spec.choices else ""
    allowed += f" [{spec.range[0]:g} .. {spec.range[1]:g}]" if spec.range else ""
    text = f"{spec.description}{allowed} May change {spec.change.value}."
    return ["", *(f"{'':{indent}}# {line}" for line in textwrap.wrap(text, 90))]


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, str):
        return f"'{value}'" if not value or set(value) & set("{}:#") else value
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    if sys.argv[1:] == ["yaml"]:
        print(yaml(), end="")
    else:
        print(table(NODE), table(CAMERA, "camera.NAME."), sep="\n\n")
