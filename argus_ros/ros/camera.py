"""One camera's subscription: finds out what is published, takes it, and says why nothing comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import QoSPolicyKind, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from argus_ros.core.image import Image
from argus_ros.ros.conversions import stamp_ns
from argus_ros.ros.diagnostics import CameraHealth, Report
from argus_ros.ros.intake import Intake, IntakeError
from argus_ros.ros.parameters import CameraSettings

#: camera, image, stamp [ns], header
OnImage = Callable[[str, Image, int, Header], None]

LOOK_INTERVAL = 0.2  #: seconds between two looks at what is published, until something is
_TYPES = {"raw": ImageMessage, "compressed": CompressedImage}
_NAMES = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}


class Camera:
    """Subscribes while active; images are handed on in a thread of the camera's own.

    ``overrides`` are the node's parameters ``qos_overrides.*``, as given at its start.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: CameraSettings,
        on_image: OnImage,
        overrides: Sequence[Parameter] = (),
    ) -> None:
        self.settings = settings
        self.health = CameraHealth(settings.policy.deadline)
        self._node = node
        self._on_image = on_image
        self._overrides = overrides
        self._intake: Intake | None = None
        self._look: Timer | None = None
        self._topic = node.resolve_topic_name(settings.topic)
        #: The one subscribed to, remapped and in full; before that the one looked at.
        self.topic = self._topic

    def activate(self) -> None:
        self.health.activate(time.monotonic())
        if self.settings.transport != "auto":
            self._subscribe(self._topic, self.settings.transport)
        elif not self._detect():
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._look = self._node.create_timer(LOOK_INTERVAL, self._detect, clock=steady)

    def deactivate(self) -> None:
        self.health.activate(None)
        self._stop_looking()
        if self._intake:
            self._intake.stop()
            self._intake = None
        self.topic = self._topic

    def report(self) -> Report:
        return self.health.report(self.topic, time.monotonic(), self._why_silent())

    # --- subscribing ----------------------------------------------------------------------------

    def _detect(self) -> bool:
        """Subscribe to whichever kind of image is published, raw first."""
        for topic in (self._topic, f"{self._topic}/compressed"):
            published = {_NAMES.get(kind) for kind in self._published(topic)}
            for transport in ("raw", "compressed"):
                if transport in published:
                    self._stop_looking()
                    self._subscribe(topic, transport)
                    return True
        return False

    def _stop_looking(self) -> None:
        if self._look:
            self._node.destroy_timer(self._look)
            self._look = None

    def _subscribe(self, topic: str, transport: str) -> None:
        qos = copy(qos_profile_sensor_data)
        if self.settings.reliability == "reliable":
            qos.reliability = ReliabilityPolicy.RELIABLE
        self.topic = self._node.resolve_topic_name(topic)
        try:
            self._intake = Intake(
                self._node,
                self.settings.name,
                _TYPES[transport],
                self.topic,
                qos,
                self._receive,
                self._incompatible,
                self._malformed,
                self._overrides,
            )
        except IntakeError as error:  # which is not to take the other cameras, or the node, with it
            self._complain(str(error))
            return
        self._node.get_logger().info(f"camera {self.settings.name}: {transport} images from {self.topic}")

    def _receive(self, message: Any) -> None:
        stamp = stamp_ns(message.header)
        self.health.arrived(stamp, time.monotonic())
        image = Image.of(message, self.settings.mono16, self.settings.decode_budget)
        self._on_image(self.settings.name, image, stamp, message.header)

    def _malformed(self) -> None:
        self.health.malformed(time.monotonic())

    # --- trouble --------------------------------------------------------------------------------

    def _incompatible(self, event: Any) -> None:
        policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        self._complain(
            f"a publisher on {self.topic} offers a QoS that does not fit, by its {policy}; no image comes "
            f"from it: change the publisher's, or here {self._remedy(policy)}"
        )

    def _complain(self, mismatch: str) -> None:
        self.health.mismatch = mismatch
        self._node.get_logger().error(f"camera {self.settings.name}: {mismatch}")

    def _remedy(self, policy: str) -> str:
        if policy == "reliability":
            return f"set camera.{self.settings.name}.reliability to best_effort"
        return f"set qos_overrides.{self.topic}.subscription.{policy}"

    def _published(self, topic: str) -> set[str]:
        return {info.topic_type for info in self._node.get_publishers_info_by_topic(topic)}

    def _why_silent(self) -> str:
        published = self._published(self.topic)
        if not published:
            return "nobody publishes it; check the topic's name, its namespace and ROS_DOMAIN_ID"
        if not any(kind in _NAMES for kind in published):
            return f"it carries {', '.join(sorted(published))}, no image"
        wanted = self.settings.transport
        if wanted != "auto" and wanted not in {_NAMES.get(kind) for kind in published}:
            kinds = ", ".join(sorted(published))
            return f"it carries {kinds}; set camera.{self.settings.name}.transport to auto"
        return ""
