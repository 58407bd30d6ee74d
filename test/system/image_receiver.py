"""Counts what image_publisher.py sends and prints it as JSON: how many were sent, how many arrived."""

import json
import time

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Empty, UInt32

DRAIN = 0.5  # seconds without an image after which none is under way any more
# Deep enough for all of them: what is counted is the middleware's delivery, not how fast this process reads.
QUEUE = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)

rclpy.init()
node = rclpy.create_node("receiver")
receiving = node.create_publisher(Empty, "receiving", 1)
arrived: set[str] = set()
sent: list[int] = []
latest = time.monotonic()


def on_image(image: Image) -> None:
    global latest
    latest = time.monotonic()
    if image.header.frame_id == "warm-up":
        receiving.publish(Empty())
    else:
        arrived.add(image.header.frame_id)


node.create_subscription(Image, "image", on_image, QUEUE)
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
node.create_subscription(UInt32, "done", lambda count: sent.append(count.data), latched)

while not sent or time.monotonic() < latest + DRAIN:
    rclpy.spin_once(node, timeout_sec=DRAIN)
print(json.dumps({"sent": sent[0], "arrived": len(arrived)}))
