"""Repeats the node's answers as yolo_ros would say them, for planners that know yolo_msgs."""

from contextlib import suppress

import rclpy
from argus_ros.msg import Detection3DArray, DetectionArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from yolo_msgs.msg import Detection as YoloDetection
from yolo_msgs.msg import DetectionArray as YoloDetectionArray


class Relay(Node):
    def __init__(self):
        super().__init__("relay_yolo")
        source = self.declare_parameter("node", "/argus").value
        self._flat = self.create_publisher(YoloDetectionArray, "/yolo/detections", 10)
        self._deep = self.create_publisher(YoloDetectionArray, "/yolo/detections_3d", 10)
        self._newest = {}  # by stamp, until its places come
        self.create_subscription(DetectionArray, f"{source}/detections", self._detections, 10)
        self.create_subscription(Detection3DArray, f"{source}/detections_3d", self._places, 10)

    def _detections(self, message):
        found = YoloDetectionArray(header=message.header)
        for one in message.detections:
            yolo = YoloDetection(class_name=one.label, score=one.score, id=one.track_id)
            yolo.bbox.center.position.x = (one.x_min + one.x_max) / 2
            yolo.bbox.center.position.y = (one.y_min + one.y_max) / 2
            yolo.bbox.size.x, yolo.bbox.size.y = one.x_max - one.x_min, one.y_max - one.y_min
            found.detections.append(yolo)
        self._flat.publish(found)
        self._newest[message.header.stamp.sec, message.header.stamp.nanosec] = found
        while len(self._newest) > 50:
            self._newest.pop(next(iter(self._newest)))

    def _places(self, message):
        found = self._newest.pop((message.header.stamp.sec, message.header.stamp.nanosec), None)
        if found is None:
            return
        placed = YoloDetectionArray(header=found.header)
        for yolo, place in zip(found.detections, message.detections, strict=True):
            if place.method != place.BEARING:  # else there is no position
                yolo.bbox3d.center, yolo.bbox3d.size = place.pose, place.size
                yolo.bbox3d.frame_id = message.header.frame_id
                placed.detections.append(yolo)
        self._deep.publish(placed)


if __name__ == "__main__":
    rclpy.init()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(Relay())
