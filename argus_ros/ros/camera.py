"""One camera's subscription: finds its topic, receives images, and reports why none arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import QoSPolicyKind, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.timer import Timer
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from argus_ros.core import fastdds
from argus_ros.core.clock import JUMP
from argus_ros.core.image import Image
from argus_ros.msg import DetectionArray
from argus_ros.ros.conversions import stamp_ns
from argus_ros.ros.diagnostics import PATIENCE, CameraHealth, Report
from argus_ros.ros.intake import Intake, IntakeError
from argus_ros.ros.locator import Aims, Locator, OnPlaced
from argus_ros.ros.settings import CameraSettings, ParameterError, reason_of

#: camera, image, stamp [ns], header
OnImage = Callable[[str, Image, int, Header], None]

SEARCH_INTERVAL = 0.2  #: seconds between two searches for a publisher
_TYPES = {"raw": ImageMessage, "compressed": CompressedImage}
_NAMES = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}


@dataclass(frozen=True)
class Source:
    """A possible topic of a camera's images."""

    topic: str  #: full name after remapping
    transport: str  #: raw or compressed


def sources(node: LifecycleNode, settings: CameraSettings) -> tuple[Source, ...]:
    """The possible topics of a camera's images, in order of preference.

    Names are remapped here only: a second remapping could turn them into another camera's topic. Raises
    RuntimeError (rcl's) for an invalid name.
    """
    topic = node.resolve_topic_name(settings.topic)
    below = f"{settings.topic}/compressed"
    compressed = node.resolve_topic_name(below)
    if compressed == node.resolve_topic_name(below, only_expand=True):  # no remapping rule of its own
        compressed = f"{topic}/compressed"
    there = [Source(topic, "raw"), Source(topic, "compressed"), Source(compressed, "compressed")]
    if topic.endswith("/compressed"):
        there = [there[1], there[0]]
    return tuple(source for source in there if settings.transport in ("auto", source.transport))


class Camera:
    """Subscribes while active; passes images on in the camera's own thread.

    ``overrides`` are the node's parameters ``qos_overrides.*`` from its start. Call ``watch`` about every
    second. Raises ParameterError for an invalid topic.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: CameraSettings,
        on_image: OnImage,
        overrides: Sequence[Parameter] = (),
        on_placed: OnPlaced = lambda placed: None,
        aims: Aims = Aims(),  # noqa: B008 (nothing in it can change)
    ) -> None:
        self.settings = settings
        self.health = CameraHealth(settings.policy.deadline)
        self._node = node
        self._on_image = on_image
        self._overrides = overrides
        with _given_by(f"camera.{settings.name}.topic"):
            self._sources = sources(node, settings)
        for parameter in ("depth_topic", "camera_info_topic"):  # report an invalid name when it is set
            with _given_by(f"camera.{settings.name}.{parameter}"):
                node.resolve_topic_name(getattr(settings.positions, parameter) or "~")
        self.source = self._sources[0]  # the one in use, or the first to try
        self._intake: Intake | None = None
        self._on_placed, self._aims = on_placed, aims
        self._locator: Locator | None = None
        self._search_timer: Timer | None = None
        self._since = 0.0  # time of the subscription
        self._delivered = False  # whether an image has arrived since
        self._newest = 0  # stamp
        self._silent = self._mixed = False  # as last logged
        self._why_silent = ""

    @property
    def topic(self) -> str:
        """Full name of the topic in use, after remapping; before activation the first one to try."""
        return self.source.topic

    @property
    def searching(self) -> bool:
        """Whether it still searches for a topic with a publisher."""
        return self._search_timer is not None

    @property
    def shared(self) -> bool:
        """Whether several publishers send images to it."""
        return len(self.health.publishers) > 1

    def activate(self) -> None:
        self.health.activate(time.monotonic())
        self._silent, self._why_silent = False, ""
        self._log().info(f"camera {self.settings.name}: waiting for images on {self.topic}")
        self._start_locator()
        self._subscribe(self._sources[0])  # at once, so that the graph shows the topic
        if len(self._sources) > 1 and not self._find():
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._search_timer = self._node.create_timer(SEARCH_INTERVAL, self._find, clock=steady)

    def deactivate(self) -> None:
        self.health.activate(None)
        self._stop_searching()
        self._unsubscribe()
        if self._locator:
            self._locator.stop()
            self._locator = None
        self.source = self._sources[0]

    def change(self, settings: CameraSettings) -> None:
        """Change the settings, without a change of the subscription."""
        self.settings, self.health.deadline = settings, settings.policy.deadline
        if locator := self._locator:
            locator.expect(settings.policy.deadline)

    def place(self, detections: DetectionArray) -> None:
        """Compute an answer's positions in space, if the camera has any; returns at once."""
        if locator := self._locator:
            locator.offer(detections)

    def watch(self) -> None:
        """Check for images and for their publishers; log each problem once."""
        if not self._intake:
            return
        if not self._search_timer:
            self._find()
        self._update_publishers()
        self._why_silent = self._silence_reason()
        if self.shared and not self._mixed:
            self._log().warning(f"camera {self.settings.name}: {self.health.mixture(self.topic)}")
        self._mixed = self.shared
        if self.health.silence(time.monotonic()) and not self._silent:
            self._silent = True
            self._log().warning(f"camera {self.settings.name}: {self.report().message}")

    def report(self) -> Report:
        """The camera's diagnostics as of the last ``watch``; thread-safe."""
        return self.health.report(self.topic, time.monotonic(), self._why_silent)

    # --- subscribing ----------------------------------------------------------------------------

    def _start_locator(self) -> None:
        if not self.settings.positions.camera_info_topic:
            return
        try:
            self._locator = Locator(self._node, self.settings, self._aims, self._on_placed, self._overrides)
        except (IntakeError, RuntimeError) as error:  # images work without positions
            self.health.no_positions = f"no positions: {reason_of(error)}"
            self._log().error(f"camera {self.settings.name}: {self.health.no_positions}")
            return
        self.health.position_topics = self._locator.topics

    def _find(self) -> bool:
        """Subscribe to a topic that has publishers, unless images arrive; returns whether there is one.

        A topic without images is given up after PATIENCE: drivers advertise types that they do not send.
        """
        published = [source for source in self._sources if self.publishers(source)]
        waited = time.monotonic() - self._since
        here = self.source in published and (self._delivered or waited < PATIENCE)
        at = self._sources.index(self.source)
        others = [s for s in self._sources[at + 1 :] + self._sources[:at] if s in published]
        if others and not here:
            self._subscribe(others[0])
        if published:
            self._stop_searching()
        return bool(published)

    def _stop_searching(self) -> None:
        if self._search_timer:
            self._node.destroy_timer(self._search_timer)
            self._search_timer = None

    def _subscribe(self, source: Source) -> None:
        self._unsubscribe()
        qos = copy(qos_profile_sensor_data)
        if self.settings.reliability == "reliable":
            qos.reliability = ReliabilityPolicy.RELIABLE
        self.source, self._since, self._delivered = source, time.monotonic(), False
        self.health.mismatch, self.health.publishers = "", ()
        try:
            self._intake = Intake(
                self._node,
                self.settings.name,
                _TYPES[source.transport],
                source.topic,
                qos,
                self.receive,
                self._incompatible,
                self._malformed,
                self._lost,
                self._overrides,
            )
            self.health.losses_reported = self._intake.reports_losses
        except IntakeError as error:  # the other cameras and the node keep working
            self._log_mismatch(str(error))

    def _unsubscribe(self) -> None:
        if self._intake:
            self._intake.stop()
            self._intake = None

    def receive(self, message: Any) -> None:
        stamp = stamp_ns(message.header)
        if self._silent or not self._delivered:
            again = "arrive again " if self._delivered else ""
            self._silent, self._delivered = False, True
            images = f"{self.source.transport} images {again}from {self.topic}"
            self._log().info(f"camera {self.settings.name}: {images}")
        if (self._newest - stamp) * 1e-9 > JUMP and not self.shared:  # time went back
            self._update_publishers()
        self._newest = stamp
        self.health.arrived(stamp, time.monotonic())
        image = Image.of(message, self.settings.mono16, self.settings.decode_budget)
        self._on_image(self.settings.name, image, stamp, message.header)

    def _malformed(self) -> None:
        self.health.malformed(time.monotonic())

    def _lost(self, count: int) -> None:
        self.health.lost(count, time.monotonic())

    # --- trouble --------------------------------------------------------------------------------

    def _incompatible(self, event: Any) -> None:
        policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        self._log_mismatch(
            f"a publisher on {self.topic} offers an incompatible QoS ({policy}); no image arrives "
            f"from it: change the publisher's QoS, or {self._remedy(policy)}"
        )

    def _log_mismatch(self, mismatch: str) -> None:
        self.health.mismatch = mismatch
        self._log().error(f"camera {self.settings.name}: {mismatch}")

    def _remedy(self, policy: str) -> str:
        if policy == "reliability":
            return f"set camera.{self.settings.name}.reliability to best_effort"
        return f"set qos_overrides.{self.topic}.subscription.{policy}"

    def _log(self) -> Any:
        return self._node.get_logger()

    # --- who publishes --------------------------------------------------------------------------

    def _published(self, topic: str) -> list[TopicEndpointInfo]:
        return self._intake.publishers(topic) if self._intake else []

    def publishers(self, source: Source) -> list[TopicEndpointInfo]:
        """Publishers of the source's type of image."""
        return [p for p in self._published(source.topic) if _NAMES.get(p.topic_type) == source.transport]

    def _update_publishers(self) -> None:
        """Record the publishers of images, and clear a QoS mismatch whose publisher is gone."""
        if not self._intake:
            return
        fitting = self.publishers(self.source)
        if self.health.mismatch and all(map(self._intake.fits, fitting)):
            self.health.mismatch = ""
        self.health.publishers = tuple(sorted(map(full_name, filter(self._intake.fits, fitting))))

    def _silence_reason(self) -> str:
        """Why no image arrives, as far as known."""
        published = {info.topic_type for info in self._published(self.topic)}
        if not published:
            return "nobody publishes it; check the topic's name, its namespace and ROS_DOMAIN_ID"
        if not any(kind in _NAMES for kind in published):
            return f"its type is {', '.join(sorted(published))}, which is not an image"
        wanted = self.settings.transport
        if wanted != "auto" and wanted not in {_NAMES.get(kind) for kind in published}:
            kinds = ", ".join(sorted(published))
            return f"its type is {kinds}; set camera.{self.settings.name}.transport to auto"
        unheard = all(map(nameless, self.publishers(self.source)))
        if unheard and (users := fastdds.other_users(self._node.context.get_domain_id())):
            return (
                f"a process of user {' and '.join(users)} is in this ROS domain, and Fast DDS's shared "
                "memory does not work between users: run driver and node as the same user, or set "
                "FASTDDS_BUILTIN_TRANSPORTS=UDPv4 for both (not with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST)"
            )
        return ""


@contextmanager
def _given_by(parameter: str) -> Iterator[None]:
    """Turn rcl's error about a topic's name into a ParameterError that names the parameter."""
    try:
        yield
    except RuntimeError as error:
        raise ParameterError(f"{parameter}: {reason_of(error)}") from None


def nameless(publisher: TopicEndpointInfo) -> bool:
    """Whether discovery has reported the publisher but not its node."""
    return "UNKNOWN" in publisher.node_name


def full_name(publisher: TopicEndpointInfo) -> str:
    """Full name of the publisher's node; discovery may report it late or never."""
    if nameless(publisher):
        return "a node of unknown name"
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
