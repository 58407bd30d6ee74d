"""For `argus doctor`: what is seen of a ROS graph, as JSON. ``python -m argus_ros.ros.look SECONDS``

It looks for some seconds, because others are discovered one by one, and up to three times as long while a
publisher is there whose node is not known yet: the two are announced apart. The standard output then holds
``{"rmw": ..., "nodes": [NAME, ...], "images": [{"topic": ..., "type": ..., "publishers": [...]}, ...]}``,
of each publisher ``{"node": ..., "reliability": ..., "durability": ...}``.
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


def seen(node: Node) -> dict[str, Any]:
    """What is known at this moment; ``complete`` unless a publisher's node is yet to be heard of."""
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


def look(node: Node, seconds: float) -> dict[str, Any]:
    """What is seen after some seconds, or after up to three times as long for the names to be complete."""
    began = time.monotonic()
    time.sleep(seconds)
    while not (found := seen(node))["complete"] and time.monotonic() - began < 3 * seconds:
        time.sleep(0.1)
    return found


def main() -> int:
    rclpy.init(args=[])
    node = rclpy.create_node("_argus_doctor", enable_rosout=False, start_parameter_services=False)
    print(json.dumps(look(node, float(sys.argv[1]))))
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
