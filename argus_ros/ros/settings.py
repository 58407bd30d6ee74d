"""The checked values of the parameters, as typed settings.

``Settings.of`` refuses invalid values, with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from argus_ros.core import checkpoint, recipes
from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Mono16, Region
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import Task
from argus_ros.ros.parameters import CAMERA, all_specs
from argus_ros.vlm.formats import prompts


class ParameterError(ValueError):
    """Invalid parameter values; the message says which values are valid."""


def reason_of(error: Exception) -> str:
    """The message of an rcl error, without its C source lines."""
    return str(error).partition(", at ")[0]


#: Parameters with the same name in the engine's configuration.
FOR_ENGINE = (
    *("backend", "allow_download", "answer_format", "device", "dtype", "preset", "threads"),
    *("server_timeout", "server_in_flight", "server_pixels"),
)

#: More names are a mistake, and rclpy would take minutes for them.
MOST_CAMERAS = 100


@dataclass(frozen=True)
class PositionSettings:
    """Topics for a camera's positions in space; without a ``camera_info_topic`` there are none."""

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
        """The settings that the subscription depends on."""
        return self.topic, self.transport, self.reliability, self.positions


@dataclass(frozen=True)
class Settings:
    """The parameters as typed settings."""

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
    traces_endpoint: str
    cameras: tuple[CameraSettings, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from the values of every parameter, by full name. Raises ParameterError."""
        check_cameras(values["cameras"])
        for spec in all_specs(values["cameras"]).values():
            if spec.choices and values[spec.name] not in spec.choices:
                raise ParameterError(
                    f"{spec.name} is {values[spec.name]!r}; it has to be one of {', '.join(spec.choices)}"
                )
        for frame in ("target_frame", "ground_frame"):
            if values[frame].startswith("/"):
                raise ParameterError(f"{frame} is {values[frame]!r}; names of frames must not begin with /")
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
                    "traces_endpoint",
                )
            },
        )

    def check_task(self) -> None:
        """Raise ParameterError unless the model exists and supports the task."""
        try:
            model = checkpoint.read_for(self.engine)
            prompts.check(self.task, model)
            prompts.check_question(self.task, model)
        except (checkpoint.CheckpointError, prompts.TaskError) as error:
            raise ParameterError(str(error)) from None


def check_cameras(names: Sequence[str]) -> None:
    """Raise ParameterError unless these are valid names of cameras."""
    wrong = [name for name in names if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)]
    if wrong:
        raise ParameterError(
            f"cameras: {wrong[0]!r} is not a valid name; use letters, digits and _, a letter first"
        )
    if len(names) > MOST_CAMERAS:
        raise ParameterError(f"cameras has {len(names)} names; the limit is {MOST_CAMERAS}")
    if not names or len(set(names)) < len(names):
        raise ParameterError(f"cameras is {list(names)}; give at least one name, each only once")


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
