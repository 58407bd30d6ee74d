"""Subscribes to the node's output, as a planner would, and writes every message as a line of JSON.

``python -m argus_ros.ros.listener [NODE]`` writes ``{"topic": …, "message": …}`` lines to standard output:
detections, positions, timing and diagnostics.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from argus_ros.msg import Detection3DArray, DetectionArray, FrameTiming

#: Enough for bursts; a planner that only needs the newest answer uses 1.
DEPTH = 100


def plain(value: Any) -> Any:
    """A message as dictionaries, lists and numbers."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: plain(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if isinstance(value, bytes):  # a field of type byte
        return value[0] if len(value) == 1 else list(value)
    if isinstance(value, (list, tuple, array.array, np.ndarray)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


class Listener(Node):
    """Writes what it receives, one line per message."""

    def __init__(self, target: str) -> None:
        super().__init__("argus_listener")
        for topic, kind in (
            (f"{target}/detections", DetectionArray),
            (f"{target}/detections_3d", Detection3DArray),
            (f"{target}/timing", FrameTiming),
            ("/diagnostics", DiagnosticArray),
        ):
            self._listen(topic, kind)

    def _listen(self, topic: str, kind: type) -> None:
        name = topic.rsplit("/", 1)[-1]

        def write(message: Any) -> None:
            sys.stdout.write(json.dumps({"topic": name, "message": plain(message)}) + "\n")
            sys.stdout.flush()

        self.create_subscription(kind, topic, write, DEPTH)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("node", nargs="?", default="/argus", help="full name of the node to listen to")
    arguments = rclpy.utilities.remove_ros_args(sys.argv)[1:]
    options = parser.parse_args(arguments)
    rclpy.init()
    try:
        rclpy.spin(Listener(options.node.rstrip("/")))
    except (KeyboardInterrupt, ExternalShutdownException, BrokenPipeError):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
