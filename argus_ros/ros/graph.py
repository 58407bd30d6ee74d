"""Lists the ROS graph as JSON, for `argus doctor`: ``python -m argus_ros.ros.graph SECONDS``.

It waits some seconds, as discovery takes time, and up to three times as long while the node of a publisher is
unknown, as DDS announces both separately. Then it writes to standard output ``{"complete": ..., "rmw": ...,
"nodes": [NAME, ...], "images": [{"topic": ..., "type": ..., "publishers": [...]}, ...]}``, with each
publisher as ``{"node": ..., "reliability": ..., "durability": ...}``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import rclpy
from rclpy.node import Node

from argus_ros.ros.camera import full_name, nameless

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def current(node: Node) -> dict[str, Any]:
    """The graph as known now; ``complete`` unless the node of a publisher is unknown."""
    images = []
    complete = True
    for topic, kinds in node.get_topic_names_and_types():
        publishers = node.get_publishers_info_by_topic(topic) if set(kinds) & set(IMAGES) else []
        complete = complete and not any(map(nameless, publishers))
        if publishers:
            images.append(
                {
                    "topic": topic,
                    "type": ", ".join(kinds),
                    "publishers": [
                        {
                            "node": full_name(publisher),
                            "reliability": publisher.qos_profile.reliability.name.lower(),
                            "durability": publisher.qos_profile.durability.name.lower(),
                        }
                        for publisher in publishers
                    ],
                }
            )
    own = node.get_name()
    names = [
        f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces() if name != own
    ]
    return {
        "complete": complete,
        "rmw": rclpy.utilities.get_rmw_implementation_identifier(),
        "nodes": sorted(names),
        "images": images,
    }


def settled(node: Node, seconds: float) -> dict[str, Any]:
    """The graph after ``seconds``, or after up to three times as long until all names are known."""
    began = time.monotonic()
    time.sleep(seconds)
    while not (found := current(node))["complete"] and time.monotonic() - began < 3 * seconds:
        time.sleep(0.1)
    return found


def main() -> int:
    rclpy.init(args=[])
    node = rclpy.create_node("_argus_doctor", enable_rosout=False, start_parameter_services=False)
    print(json.dumps(settled(node, float(sys.argv[1]))))
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
