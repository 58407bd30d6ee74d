"""What the cameras see, line by line: python3 subscriber.py, in a shell with the workspace sourced."""

from contextlib import suppress

import rclpy
from argus_ros.msg import DetectionArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile


class Planner(Node):
    def __init__(self) -> None:
        super().__init__("planner")
        # Only the newest counts: depth 1. Reliable, as the node publishes.
        self.create_subscription(DetectionArray, "/argus/detections", self.take, QoSProfile(depth=1))

    def take(self, seen: DetectionArray) -> None:
        """An empty array says that nothing was seen; no array at all that something is wrong."""
        stamp = f"{seen.header.stamp.sec}.{seen.header.stamp.nanosec:09}"
        print(f"{stamp} {seen.camera}: {len(seen.detections)} objects, {seen.age:.3f} s old", flush=True)
        for one in seen.detections:
            box = f"({one.x_min:.0f}, {one.y_min:.0f}) to ({one.x_max:.0f}, {one.y_max:.0f})"
            print(f"  {one.label} {one.score:.2f} at {box}", flush=True)


rclpy.init()
with suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(Planner())
