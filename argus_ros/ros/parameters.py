"""The node's parameters, in one table, from which descriptors, documents and defaults are made.

``settings.py`` checks their values. Run as a module this prints ``config/argus.yaml`` or the tables of
``docs/interface.md``.
"""

from __future__ import annotations

import array
import enum
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from argus_ros.core import checkpoint
from argus_ros.core.types import TASKS


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
        "traces_endpoint",
        "",
        "Address of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318, that gets a "
        "trace of every frame. Empty: none. Needs opentelemetry.",
        Change.CONFIGURE,
    ),
    Spec(
        "cameras",
        ("front",),
        "Names of the cameras. Each has its own parameters camera.NAME.*.",
    ),
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


def of_camera(name: str) -> tuple[Spec, ...]:
    """The specs of one camera, with full names."""

    def named(spec: Spec) -> Spec:
        default = spec.default.replace("NAME", name) if isinstance(spec.default, str) else spec.default
        return replace(spec, name=f"camera.{name}.{spec.name}", default=default)

    return tuple(named(spec) for spec in CAMERA)


def all_specs(cameras: Iterable[str]) -> dict[str, Spec]:
    """Every parameter by its full name."""
    return {spec.name: spec for spec in (*NODE, *(s for camera in cameras for s in of_camera(camera)))}


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
