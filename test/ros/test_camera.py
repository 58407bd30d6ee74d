"""A camera's subscription, without a middleware's help: what is done with an image before it is chosen."""

from __future__ import annotations

import array
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from sensor_msgs.msg import Image as ImageMessage

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.image import Image, Region, decode
from argus_ros.core.pipeline import Camera as Promise
from argus_ros.core.pipeline import Pipeline
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.scheduler import CameraPolicy
from argus_ros.ros.camera import Camera
from argus_ros.ros.parameters import CameraSettings

WIDTH, HEIGHT = 1920, 1080
SETTINGS = CameraSettings("front", "front/image_raw", "raw", "best_effort", CameraPolicy(), Region())


def full_hd(number: int) -> ImageMessage:
    image = ImageMessage(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH)
    image.data = array.array("B", bytes([number]) * (3 * WIDTH * HEIGHT))
    image.header.stamp.sec = number
    return image


def camera(on_image: Any) -> Camera:
    node: Any = SimpleNamespace(resolve_topic_name=lambda topic: f"/{topic}")
    return Camera(node, SETTINGS, on_image)


def test_pixels_are_seen_in_the_messages_own_memory() -> None:
    images: list[Image] = []
    message = full_hd(7)
    camera(lambda name, image, stamp, header: images.append(image))._receive(message)
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
        subscribed._receive(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(pipeline.counts()["front"].values()) == len(messages)
    assert peak < 100_000, "one image has 6 million bytes"


def test_the_range_of_16_bit_greys_is_the_cameras() -> None:
    images: list[Image] = []
    subscribed = camera(lambda name, image, stamp, header: images.append(image))
    subscribed.settings = replace(SETTINGS, mono16=(7000, 8000))
    subscribed._receive(full_hd(7))
    assert images[0].mono16 == (7000, 8000)
