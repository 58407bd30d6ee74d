"""One camera: ros2 launch argus_ros argus.launch.py camera_topic:=/camera/image_raw

An argument that is not given has the node's default (config/argus.yaml lists all defaults).
"""

from __future__ import annotations

import os

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

# Standard library only: `ros2 launch` runs outside the environment that has the node's packages.
from argus_ros.core.fastdds import PROFILE_VARIABLES, with_large_images

CAMERA = "front"  # the node's default
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
ARGUMENTS = {
    "camera": (CAMERA, "Name of the camera, as in DetectionArray.camera."),
    "camera_topic": ("", "Topic of its images, raw or compressed; empty: CAMERA/image_raw."),
    "model": ("", "A shipped checkpoint's name or the path of a folder; empty: the node's default."),
    "params_file": ("", "A parameter file; config/argus.yaml of this package shows every parameter."),
    "namespace": ("", "Namespace of the node and of relative camera topics."),
    "name": ("argus", "Name of the node; its topics are NAME/detections and so on."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "use_sim_time": ("", "true: use the time of /clock, for example of a bag; empty: false."),
    "autostart": ("", "false: a lifecycle manager configures and activates the node; empty: true."),
    "respawn": ("false", "Start the node again if it ends."),
}


def generate_launch_description() -> LaunchDescription:
    profile = with_large_images(os.environ)
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            *(SetEnvironmentVariable(name, profile[name]) for name in PROFILE_VARIABLES if name in profile),
            OpaqueFunction(function=node),
        ]
    )


def node(context: LaunchContext) -> list[Node]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    camera = given["camera"]
    logger = ".".join(filter(None, [*given["namespace"].split("/"), given["name"]]))
    if given["params_file"] and not os.path.isfile(given["params_file"]):
        raise FileNotFoundError(f"params_file: there is no file {given['params_file']}")
    if given["log_level"].lower() not in LOG_LEVELS:
        raise ValueError(f"log_level is {given['log_level']!r}; it has to be {', '.join(LOG_LEVELS)}")
    parameters: list[object] = [given["params_file"]] if given["params_file"] else []
    # An argument wins over the file; one left empty leaves the file's value, or the node's default.
    overrides: dict[str, object] = {}
    for name in ("use_sim_time", "autostart"):
        if given[name]:
            overrides[name] = truth(given, name)
    if given["camera_topic"] or not given["params_file"]:
        overrides["cameras"] = [camera]
    if given["camera_topic"]:
        overrides[f"camera.{camera}.topic"] = given["camera_topic"]
    if given["model"]:
        overrides["model"] = given["model"]
    return [
        Node(
            package="argus_ros",
            executable="argus_node",
            name=given["name"],
            namespace=given["namespace"],
            parameters=parameters + ([overrides] if overrides else []),
            arguments=["--ros-args", "--log-level", f"{logger}:={given['log_level']}"],
            respawn=truth(given, "respawn"),
            respawn_delay=2.0,
            output="screen",
            emulate_tty=True,
        )
    ]


def truth(given: dict[str, str], name: str) -> bool:
    if given[name].lower() not in ("true", "false"):
        raise ValueError(f"{name} is {given[name]!r}; it has to be true or false")
    return given[name].lower() == "true"
