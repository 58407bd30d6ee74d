"""A recording instead of cameras: ros2 launch argus_ros replay.launch.py bag:=PATH camera_topic:=/image_raw

Plays with `ros2 bag play`; `argus replay` does the same without it, writes a report and compares runs.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    TimerAction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

ARGUMENTS = {
    "bag": (None, "The rosbag2 bag to play."),
    "rate": ("1.0", "Times recorded speed."),
    "loop": ("false", "Play it again and again."),
    "delay": ("10.0", "Seconds that the node gets to load its model before the bag starts."),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments of argus.launch.py are taken as well, but for use_sim_time."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(Path(__file__).with_name("argus.launch.py"))),
                launch_arguments={"use_sim_time": "true"}.items(),
            ),
            TimerAction(period=LaunchConfiguration("delay"), actions=[OpaqueFunction(function=player)]),
        ]
    )


def player(context: LaunchContext) -> list[ExecuteProcess]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    loop = ["--loop"] if given["loop"].lower() == "true" else []
    command = ["ros2", "bag", "play", given["bag"], "--clock", "100", "--rate", given["rate"], *loop]
    return [ExecuteProcess(cmd=command, output="screen")]
