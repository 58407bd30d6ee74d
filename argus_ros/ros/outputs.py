"""The node's output topics: their publishers, and subscribers with an incompatible QoS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rclpy.context import Context
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from visualization_msgs.msg import MarkerArray

from argus_ros.msg import Detection3DArray, DetectionArray, FrameTiming
from argus_ros.ros import conversions
from argus_ros.ros.settings import ParameterError

#: Topic and queue depth, by message type.
TOPICS: dict[type, tuple[str, int]] = {
    DetectionArray: ("~/detections", 10),
    FrameTiming: ("~/timing", 100),
    ImageMessage: ("~/annotated", 1),
    CompressedImage: ("~/annotated/compressed", 1),
    Detection3DArray: ("~/detections_3d", 10),
    MarkerArray: ("~/markers", 10),
}
if conversions.vision_messages:
    TOPICS[conversions.vision_messages.Detection2DArray] = ("~/detections_2d", 10)
    TOPICS[conversions.vision_messages.Detection3DArray] = ("~/detections_3d/vision", 10)


class Outputs:
    """A publisher for each of ``TOPICS``, from ``create`` to ``destroy``; the message's type selects it."""

    def __init__(self, node: LifecycleNode) -> None:
        self.mismatches: dict[str, str] = {}  #: by topic: why a subscriber receives nothing
        self._node = node
        self._publishers: dict[type, LifecyclePublisher] = {}

    def create(self) -> None:
        """Create the publishers. Raises ParameterError for an invalid QoS override."""
        for kind, (topic, depth) in TOPICS.items():
            self._create(kind, topic, depth)

    def _create(self, kind: type, topic: str, depth: int) -> None:
        name = self._node.resolve_topic_name(topic)

        def incompatible(event: Any) -> None:
            policy = QoSPolicyKind(event.last_policy_kind).name.lower()
            self.mismatches[topic] = (
                f"a subscriber of {name} requests an incompatible QoS "
                f"({policy}) and receives nothing: change the subscriber's QoS, or set qos_overrides here"
            )
            self._node.get_logger().error(self.mismatches[topic])

        try:
            self._publishers[kind] = self._node.create_lifecycle_publisher(
                kind,
                topic,
                QoSProfile(depth=depth),
                event_callbacks=PublisherEventCallbacks(incompatible_qos=incompatible),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        except (InvalidParameterTypeException, RuntimeError) as error:  # for an invalid value
            raise ParameterError(f"qos_overrides of {name}: {error}") from None

    def destroy(self) -> None:
        """Destroy the publishers, all of them even where one raises."""
        with ExitStack() as ends:
            for publisher in self._publishers.values():
                ends.callback(self._node.destroy_lifecycle_publisher, publisher)

    def send(self, message: Any) -> None:
        """Publish on the topic of the message's type."""
        with until_shutdown(self._node.context):
            self._publishers[type(message)].publish(message)

    def subscribers(self, *kinds: type) -> int:
        """Number of subscribers of these types' topics."""
        return sum(self._publishers[kind].get_subscription_count() for kind in kinds)

    def counts(self) -> dict[str, int]:
        """Subscribers of each topic, by its full name."""
        return {p.topic_name: p.get_subscription_count() for p in list(self._publishers.values())}


@contextmanager
def until_shutdown(context: Context) -> Iterator[None]:
    """Ignore errors after the end of the context, which a signal can cause in any thread at any time."""
    try:
        yield
    except Exception:
        if context.ok():
            raise
