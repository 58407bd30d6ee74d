"""Several cameras on one model: ros2 launch argus_ros multi_camera.launch.py cameras_file:=cameras.yaml

The cameras come from a parameter file like config/cameras.example.yaml. All else is as in argus.launch.py.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

ARGUMENTS = {
    "cameras_file": (
        None,
        "A parameter file with the cameras and the topic, deadline, weight, rate cap and region of each; "
        "copy config/cameras.example.yaml of this package.",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """Also takes the arguments of argus.launch.py, except those of its one camera."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            OpaqueFunction(function=check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(Path(__file__).with_name("argus.launch.py"))),
                launch_arguments={
                    "params_file": LaunchConfiguration("cameras_file"),
                    "camera_topic": "",
                }.items(),
            ),
        ]
    )


def check(context: LaunchContext) -> None:
    given = LaunchConfiguration("cameras_file").perform(context)
    if not Path(given).is_file():
        raise FileNotFoundError(f"cameras_file: there is no file {given}")
