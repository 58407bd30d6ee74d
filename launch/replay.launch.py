"""A recording instead of cameras: ros2 launch argus_ros replay.launch.py bag:=PATH camera_topic:=/image_raw

Plays the bag once the node's model is loaded, and ends with it. The player is `ros2 bag play`, or this
package's own player if that is not installed. The command `argus replay --live` does the same without launch,
and also writes a report and compares runs.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

PYTHON = "python3"  # the first on the PATH, which the node uses; `ros2 launch` may run in another
ARGUMENTS = {
    "bag": (None, "The rosbag2 bag to play."),
    "rate": ("1.0", "Speed, relative to the recorded one."),
    "loop": ("false", "Repeat the bag."),
    "patience": ("120.0", "Most seconds to wait for the model."),
}


def generate_launch_description() -> LaunchDescription:
    """Also takes the arguments of argus.launch.py, except use_sim_time."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            OpaqueFunction(function=check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(Path(__file__).with_name("argus.launch.py"))),
                launch_arguments={"use_sim_time": "true"}.items(),
            ),
            OpaqueFunction(function=play_when_ready),
        ]
    )


def check(context: LaunchContext) -> None:
    """Check the arguments at once, not after the model is loaded."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if not Path(given["bag"]).exists():
        raise FileNotFoundError(f"bag: there is no {given['bag']}")
    for name in ("rate", "patience"):
        try:
            fits = 0.0 <= float(given[name]) < float("inf")
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{name} is {given[name]!r}; it has to be a number")
    if given["loop"].lower() not in ("true", "false"):
        raise ValueError(f"loop is {given['loop']!r}; it has to be true or false")


def play_when_ready(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The bag once the engine is up; the end of the launch with the end of the bag, or where it is not."""
    name, namespace = (LaunchConfiguration(key).perform(context) for key in ("name", "namespace"))
    node = "/" + "/".join(filter(None, (*namespace.split("/"), name)))
    patience = LaunchConfiguration("patience").perform(context)
    ready = ExecuteProcess(
        cmd=[PYTHON, "-m", "argus_ros.ros.ready", node, "--timeout", patience], output="screen"
    )
    bag = player(context)

    def after_ready(event: ProcessExited, _: LaunchContext) -> list[Action]:
        return [bag] if event.returncode == 0 else [Shutdown(reason="the model was not loaded")]

    return [
        ready,
        RegisterEventHandler(OnProcessExit(target_action=ready, on_exit=after_ready)),
        RegisterEventHandler(
            OnProcessExit(target_action=bag, on_exit=[Shutdown(reason="the bag has been played")])
        ),
    ]


def player(context: LaunchContext) -> ExecuteProcess:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    loop = ["--loop"] if given["loop"].lower() == "true" else []
    if find_spec("ros2bag"):
        play = ["ros2", "bag", "play", "--clock", "100"]
    else:
        play = [PYTHON, "-m", "argus_ros.ros.player", "--clock"]
    command = [*play, *loop, "--rate", given["rate"], given["bag"]]
    return ExecuteProcess(cmd=command, output="screen")
