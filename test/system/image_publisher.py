"""A camera: image_publisher.py WIDTH HEIGHT COUNT. Raw rgb8 images, best effort, 30 Hz.

Waits until the receiver says that it gets images, so that discovery is over, then sends COUNT of them and
says so on a reliable topic. The frame_id of each is its number.
"""

import array
import sys
import time

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Empty, UInt32

PERIOD = 1 / 30
width, height, count = map(int, sys.argv[1:])

rclpy.init()
node = rclpy.create_node("camera")
images = node.create_publisher(Image, "image", qos_profile_sensor_data)
done = node.create_publisher(UInt32, "done", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
receiving: list[Empty] = []
node.create_subscription(Empty, "receiving", receiving.append, 1)

image = Image(width=width, height=height, encoding="rgb8", step=3 * width)
image.data = array.array("B", bytes(3 * width * height))


def send(name: str, due: float) -> float:
    time.sleep(max(0.0, due - time.monotonic()))
    image.header.frame_id = name
    image.header.stamp = node.get_clock().now().to_msg()
    images.publish(image)
    rclpy.spin_once(node, timeout_sec=0)
    # A camera that was held up does not send what it missed all at once.
    return max(due + PERIOD, time.monotonic())


due = started = time.monotonic()
while not receiving and due < started + 10:  # a receiver that gets nothing at all says nothing
    due = send("warm-up", due)
for number in range(count):
    due = send(str(number), due)
done.publish(UInt32(data=count))
done.wait_for_all_acked(rclpy.duration.Duration(seconds=10))
