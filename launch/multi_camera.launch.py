"""Several cameras on one model: ros2 launch argus_ros multi_camera.launch.py cameras_file:=cameras.yaml

The cameras are those of a parameter file like config/cameras.example.yaml, the rest is argus.launch.py's.
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
        "A parameter file that names the cameras and says for each its topic, deadline, weight, rate cap and "
        "region; copy config/cameras.example.yaml of this package.",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments of argus.launch.py are taken as well, but for those of its one camera."""
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
