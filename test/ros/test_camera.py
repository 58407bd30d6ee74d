"""A camera's subscription: what it takes, from whom, what it says of that, and what becomes of an image."""

from __future__ import annotations

import array
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Image, Region, decode
from argus_ros.core.pipeline import Camera as Promise
from argus_ros.core.pipeline import Pipeline
from argus_ros.core.protocol import EngineConfig
from argus_ros.ros import camera as module
from argus_ros.ros.camera import Camera, Source, sources
from argus_ros.ros.diagnostics import ERROR, OK, WARN
from argus_ros.ros.settings import CameraSettings, PositionSettings

WIDTH, HEIGHT = 1920, 1080
SETTINGS = CameraSettings("front", "front/image_raw", "raw", "best_effort", CameraPolicy(), Region())


def full_hd(number: int) -> ImageMessage:
    image = ImageMessage(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH)
    image.data = array.array("B", bytes([number]) * (3 * WIDTH * HEIGHT))
    image.header.stamp.sec = number
    return image


def camera(on_image: Any) -> Camera:
    silent = SimpleNamespace(info=lambda text: None)
    node: Any = SimpleNamespace(
        resolve_topic_name=lambda topic, only_expand=False: f"/{topic}", get_logger=lambda: silent
    )
    return Camera(node, SETTINGS, on_image)


def test_pixels_are_a_view_of_the_messages_memory() -> None:
    images: list[Image] = []
    message = full_hd(7)
    camera(lambda name, image, stamp, header: images.append(image)).receive(message)
    own = np.frombuffer(message.data, np.uint8)
    assert np.shares_memory(own, np.frombuffer(images[0].data, np.uint8))
    assert np.shares_memory(own, decode(images[0]).array)
    assert np.shares_memory(own, decode(images[0], Region(100, 100, 640, 480)).array)


def test_nothing_is_copied_before_a_frame_is_chosen() -> None:
    """From the subscription into the scheduler: an engine that is not up chooses none."""
    pipeline = Pipeline(
        EngineConfig("none"), Tiling(160, 160), {"front": Promise()}, on_result=lambda report: None
    )
    subscribed = camera(lambda name, image, stamp, header: pipeline.offer(name, image, header, stamp, stamp))
    messages = [full_hd(number) for number in range(1, 5)]
    tracemalloc.start()
    for message in messages:
        subscribed.receive(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(pipeline.counts()["front"].values()) == len(messages)
    assert peak < 100_000, "one image has 6 million bytes"


def test_the_range_of_16_bit_greys_is_the_cameras() -> None:
    images: list[Image] = []
    subscribed = camera(lambda name, image, stamp, header: images.append(image))
    subscribed.settings = replace(SETTINGS, mono16=(7000, 8000))
    subscribed.receive(full_hd(7))
    assert images[0].mono16 == (7000, 8000)


# --- on real topics -----------------------------------------------------------------------------

PATIENCE = 30.0
AUTO = replace(SETTINGS, transport="auto")


class Driver:
    """A camera driver's node and another's, and one that takes their images, as in another process."""

    def __init__(self, *arguments: str) -> None:
        self._contexts = rclpy.Context(), rclpy.Context()
        for context in self._contexts:
            rclpy.init(context=context)
        there, here = self._contexts
        self.node = rclpy.create_node("driver", context=there, namespace="/robot")
        self.other = rclpy.create_node("other", context=there)
        self.taker: Any = rclpy.create_node("argus", context=here, cli_args=["--ros-args", *arguments])
        self.taken: list[tuple[str, int]] = []
        self._news = threading.Condition()
        self._executor = SingleThreadedExecutor(context=here)
        self._executor.add_node(self.taker)

    def close(self) -> None:
        for node in (self.node, self.other, self.taker):
            node.destroy_node()  # else it is discovered for as long as this process lives
        for context in self._contexts:
            rclpy.shutdown(context=context)

    def camera(self, settings: CameraSettings = AUTO, overrides: Sequence[Parameter] = ()) -> Camera:
        def take(name: str, image: Image, stamp: int, header: Any) -> None:
            with self._news:
                self.taken.append((header.frame_id, stamp))
                self._news.notify_all()

        return Camera(self.taker, settings, take, overrides)

    def send(self, publisher: Any, frame_id: str = "", second: int = 1) -> None:
        """Publish an image until it arrives."""
        image = jpeg() if publisher.msg_type is CompressedImage else grey()
        image.header.frame_id, image.header.stamp.sec = frame_id, second
        with self._news:
            self.taken.clear()
            for _ in range(int(PATIENCE * 10)):
                publisher.publish(image)
                if self._news.wait_for(lambda: self.taken, 0.1):
                    assert self.taken[-1] == (frame_id, second * 10**9)
                    return
        raise AssertionError("it did not arrive")

    def until(self, holds: Callable[[], Any]) -> None:
        """Serve the node that takes the images until something has come about."""
        for _ in range(int(PATIENCE * 10)):
            if holds():
                return
            self._executor.spin_once(timeout_sec=0.1)
        raise AssertionError("it did not come about")


def grey() -> ImageMessage:
    return ImageMessage(width=4, height=4, encoding="mono8", step=4, data=array.array("B", bytes(16)))


def jpeg() -> CompressedImage:
    return CompressedImage(format="jpeg", data=array.array("B", cv2.imencode(".jpg", np.zeros((8, 8)))[1]))


@pytest.fixture
def drive(alone: None) -> Iterator[Callable[..., Driver]]:
    """``drive("-r", "a:=b")``: with these arguments of the node that takes images."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(Driver(*arguments)))


@pytest.fixture
def driver(drive: Callable[..., Driver]) -> Driver:
    return drive()


def publish(node: Node, kind: type, topic: str) -> Any:
    return node.create_publisher(kind, topic, qos_profile_sensor_data)


def test_the_graph_shows_the_expected_topic(driver: Driver) -> None:
    subscribed = driver.camera()
    subscribed.activate()
    driver.until(lambda: driver.node.count_subscribers("/front/image_raw") == 1)
    subscribed.deactivate()
    driver.until(lambda: driver.node.count_subscribers("/front/image_raw") == 0)


@pytest.mark.slow
def test_names_are_remapped_once(drive: Callable[..., Driver]) -> None:
    """As rclpy itself does it: with a chain of rules, a second time would make them another camera's."""
    rules = "left/image_raw:=/right/image_raw", "right/image_raw:=/left/image_raw"
    driver = drive(*(word for rule in rules for word in ("-r", rule)))
    plain = driver.taker.create_subscription(ImageMessage, "left/image_raw", print, 1)
    assert plain.topic_name == "/right/image_raw"
    driver.taker.destroy_subscription(plain)
    subscribed = driver.camera(replace(AUTO, topic="left/image_raw"))
    subscribed.activate()
    driver.send(publish(driver.node, ImageMessage, "/right/image_raw"))
    assert subscribed.topic == "/right/image_raw"

    def named() -> bool:
        subscribed.watch()
        return subscribed.health.publishers == ("/robot/driver",)

    driver.until(named)
    subscribed.deactivate()


@pytest.mark.parametrize(
    ("topic", "transport", "expected"),
    [
        ("front", "auto", [("/front", "raw"), ("/front", "compressed"), ("/front/compressed", "compressed")]),
        ("front", "raw", [("/front", "raw")]),
        ("front", "compressed", [("/front", "compressed"), ("/front/compressed", "compressed")]),
        ("front/compressed", "auto", [("/front/compressed", "compressed"), ("/front/compressed", "raw")]),
        ("rear", "compressed", [("/eye", "compressed"), ("/eye/compressed", "compressed")]),
        ("side", "compressed", [("/side", "compressed"), ("/squeezed", "compressed")]),
    ],
)
def test_the_topics_searched_for_images(
    drive: Callable[..., Driver], topic: str, transport: str, expected: list[tuple[str, str]]
) -> None:
    driver = drive("-r", "rear:=/eye", "-r", "side/compressed:=/squeezed")
    found = sources(driver.taker, replace(SETTINGS, topic=topic, transport=transport))
    assert list(found) == [Source(*source) for source in expected]


@pytest.mark.slow
def test_a_topic_without_messages_is_given_up(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    subscribed = driver.camera()
    raw = publish(driver.node, ImageMessage, "/front/image_raw")
    compressed = publish(driver.node, CompressedImage, "/front/image_raw/compressed")
    subscribed.activate()
    driver.until(lambda: not subscribed.searching)
    assert subscribed.topic == "/front/image_raw"
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    subscribed.watch()
    assert subscribed.topic == "/front/image_raw/compressed"
    driver.send(compressed)
    subscribed.watch()
    assert subscribed.topic == "/front/image_raw/compressed", "what delivers stays"

    # The driver is started anew, and sends the other kind alone.
    driver.node.destroy_publisher(compressed)
    driver.until(lambda: not subscribed.publishers(subscribed.source))
    subscribed.watch()
    assert subscribed.topic == "/front/image_raw"
    driver.send(raw)
    subscribed.deactivate()


@pytest.mark.slow
def test_compressed_images_are_found_below_the_topic_that_carries_raw_ones(driver: Driver) -> None:
    """As users of image_transport write it."""
    publish(driver.node, ImageMessage, "/front/image_raw")
    compressed = publish(driver.node, CompressedImage, "/front/image_raw/compressed")
    subscribed = driver.camera(replace(SETTINGS, transport="compressed"))
    subscribed.activate()
    driver.until(lambda: subscribed.topic == "/front/image_raw/compressed")
    driver.send(compressed)
    subscribed.deactivate()


def test_two_publishers_of_one_topic_are_named_once(driver: Driver) -> None:
    said: list[str] = []
    driver.taker.get_logger = lambda: SimpleNamespace(info=print, warning=said.append)
    live = publish(driver.node, ImageMessage, "/front/image_raw")
    subscribed = driver.camera()
    subscribed.activate()
    driver.send(live, "live", 100)
    subscribed.watch()
    assert not subscribed.shared
    assert subscribed.report().level == OK
    played = publish(driver.other, ImageMessage, "/front/image_raw")
    driver.until(lambda: "other" in [p.node_name for p in subscribed.publishers(subscribed.source)])
    for _ in range(3):
        driver.send(played, "played", 97)  # at once: the first stamp that goes back has them counted
        assert subscribed.shared
        driver.send(live, "live", 100)
        subscribed.watch()
        assert subscribed.report().level == WARN
    report = subscribed.report()
    assert "2 publishers send to /front/image_raw (/other, /robot/driver)" in report.message
    assert said == [f"camera front: {report.message}"]
    driver.other.destroy_publisher(played)
    driver.until(lambda: len(subscribed.publishers(subscribed.source)) == 1)
    subscribed.watch()
    assert subscribed.report().level == OK
    subscribed.deactivate()


def test_silence_and_its_end_are_logged_once_each(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    driver.taker.get_logger = lambda: SimpleNamespace(info=said.append, warning=said.append)
    monkeypatch.setattr("argus_ros.ros.diagnostics.PATIENCE", 0.0)
    subscribed = driver.camera()
    subscribed.activate()
    for _ in range(3):
        subscribed.watch()
    assert subscribed.report().level == ERROR
    assert said == [
        "camera front: waiting for images on /front/image_raw",
        "camera front: no image yet on /front/image_raw: nobody publishes it; check the topic's name, its "
        "namespace and ROS_DOMAIN_ID",
    ]
    publisher = publish(driver.node, ImageMessage, "/front/image_raw")
    for _ in range(2):
        driver.send(publisher)
        driver.send(publisher)
        subscribed.watch()
        subscribed.watch()
    assert said[2] == "camera front: raw images from /front/image_raw"
    assert "no image for 0 s on /front/image_raw: its publisher sends nothing" in said[3]
    assert said[4] == "camera front: raw images arrive again from /front/image_raw"
    assert len(said) == 6
    subscribed.deactivate()


@pytest.mark.slow
def test_a_camera_without_positions_keeps_working_and_reports_it(driver: Driver) -> None:
    wrong = Parameter("qos_overrides./front/camera_info.subscription.reliability", value="perfect")
    wanted = PositionSettings(camera_info_topic="/front/camera_info")
    subscribed = driver.camera(replace(AUTO, positions=wanted), [wrong])
    subscribed.activate()
    driver.send(publish(driver.node, ImageMessage, "/front/image_raw"))
    subscribed.watch()
    report = subscribed.report()
    assert report.level == WARN
    assert report.message.startswith("no positions: /front/camera_info cannot be subscribed to: ")
    subscribed.deactivate()
