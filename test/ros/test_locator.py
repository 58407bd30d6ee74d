"""How a camera's locator starts, waits and ends, on real topics."""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
from argus_ros.msg import DetectionArray
from builtin_interfaces.msg import Time
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from robot import bare_node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Region
from argus_ros.ros.camera import Camera
from argus_ros.ros.frames import Frames, FramesError
from argus_ros.ros.intake import IntakeError
from argus_ros.ros.locator import Aims, Locator, Placed
from argus_ros.ros.settings import CameraSettings, PositionSettings

PATIENCE = 30.0
WITHOUT_TF = pytest.mark.skipif(find_spec("tf2_py") is None, reason="tf2_py is not installed")
POSITIONS = PositionSettings(camera_info_topic="/front/camera_info")
SETTINGS = CameraSettings(
    "front", "front/image_raw", "raw", "best_effort", CameraPolicy(), Region(), positions=POSITIONS
)
WITH_DEPTH = replace(SETTINGS, positions=replace(POSITIONS, depth_topic="/front/depth"))
LENS = CameraInfo(
    width=160, height=120, k=[120.0, 0.0, 79.5, 0.0, 120.0, 59.5, 0.0, 0.0, 1.0], distortion_model="plumb_bob"
)


@pytest.fixture
def node(alone: None) -> Iterator[Any]:
    with bare_node("argus") as node:
        yield node


@pytest.fixture
def driver(alone: None) -> Iterator[Any]:
    with bare_node("driver") as driver:
        yield driver


def override(topic: str, reliability: str) -> list[Parameter]:
    return [Parameter(f"qos_overrides.{topic}.subscription.reliability", value=reliability)]


def left_behind(node: Any) -> list[str]:
    """Threads of intakes, and hidden nodes."""
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("intake")]
    return threads + [name for name in node.get_node_names() if name.startswith("_argus")]


def header(second: int) -> Header:
    return Header(frame_id="front", stamp=Time(sec=second))


def answer(second: int = 1) -> DetectionArray:
    return DetectionArray(header=header(second), camera="front", image_width=160, image_height=120)


def test_qos_is_overridden(node: Any) -> None:
    overrides = override("/front/depth", "reliable") + override("/front/camera_info", "reliable")
    locator = Locator(node, WITH_DEPTH, Aims(), print, overrides)
    for topic in ("/front/depth", "/front/camera_info"):
        (info,) = node.get_subscriptions_info_by_topic(topic)
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    locator.stop()


def test_a_locator_that_cannot_start_leaves_no_subscriptions(node: Any) -> None:
    with pytest.raises(IntakeError, match=r"/front/depth cannot be subscribed to: .*perfect"):
        Locator(node, WITH_DEPTH, Aims(), print, override("/front/depth", "perfect"))
    assert not left_behind(node)


@WITHOUT_TF
def test_frames_that_cannot_start_leave_no_subscriptions(node: Any) -> None:
    with pytest.raises(IntakeError, match=r"/tf_static cannot be subscribed to: .*perfect"):
        Frames(node, override("/tf_static", "perfect"))
    assert not left_behind(node)


def test_depth_is_kept_for_as_long_as_the_deadline_is_now(node: Any) -> None:
    placed: queue.Queue[Placed] = queue.Queue()
    camera = Camera(node, WITH_DEPTH, print, on_placed=placed.put, aims=Aims(wait=1.0))
    camera.activate()
    camera.change(replace(WITH_DEPTH, policy=CameraPolicy(deadline=20.0)))
    lens = node.create_publisher(CameraInfo, "/front/camera_info", qos_profile_sensor_data)
    depth = node.create_publisher(Image, "/front/depth", qos_profile_sensor_data)
    image = Image(width=160, height=120, encoding="16UC1", step=320, data=array("B", b"\1" * 38400))

    def offset(second: int) -> float:
        camera.place(answer(second))
        return placed.get(timeout=PATIENCE).depth_offset

    for _ in range(int(PATIENCE)):
        lens.publish(LENS)
        for second in (1, 20):
            image.header = header(second)
            depth.publish(image)
        if offset(20) == 0.0:  # both have come
            break
    assert offset(1) == 0.0
    camera.deactivate()


@pytest.mark.slow
def test_a_qos_that_does_not_fit_is_the_reason_until_its_publisher_is_gone(node: Any, driver: Any) -> None:
    placed: queue.Queue[Placed] = queue.Queue()
    overrides = override("/front/depth", "reliable") + override("/front/camera_info", "reliable")
    locator = Locator(node, WITH_DEPTH, Aims(), placed.put, overrides)

    def until(trouble: str, publish: Callable[[], Any] = lambda: None) -> None:
        for _ in range(int(PATIENCE)):
            publish()
            locator.offer(answer())
            heard = placed.get(timeout=PATIENCE).depth_trouble
            if trouble in heard:
                return
            time.sleep(0.1)
        raise AssertionError(heard)

    wrong = driver.create_publisher(CameraInfo, "/front/camera_info", qos_profile_sensor_data)
    until("set qos_overrides./front/camera_info.subscription.reliability")
    driver.destroy_publisher(wrong)
    until("no camera_info arrived on /front/camera_info")
    fitting = driver.create_publisher(CameraInfo, "/front/camera_info", 1)
    until("within 0.05 s: nothing has arrived on it", lambda: fitting.publish(LENS))
    driver.create_publisher(Image, "/front/depth", qos_profile_sensor_data)
    until("set qos_overrides./front/depth.subscription.reliability")
    locator.stop()


@WITHOUT_TF
def test_a_qos_of_tf_that_does_not_fit_is_in_the_reason(node: Any, driver: Any) -> None:
    from tf2_msgs.msg import TFMessage

    frames = Frames(node)
    driver.create_publisher(TFMessage, "/tf_static", 1)  # volatile: whoever comes later would hear nothing
    said = ""
    for _ in range(int(PATIENCE)):
        with pytest.raises(FramesError) as caught:
            frames.lookup("odom", "front", 0, time.monotonic() + 0.1, lambda: False)
        said = str(caught.value)
        if "qos_overrides" in said:
            break
    assert "no transform from 'front' to 'odom'" in said
    assert "set qos_overrides./tf_static.subscription.durability" in said
    frames.stop()


@WITHOUT_TF
def test_stopping_does_not_wait_for_a_transform(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Frames(node)
    looking = threading.Event()
    lookup = frames.lookup

    def look(*asked: Any) -> Any:
        looking.set()
        return lookup(*asked)

    monkeypatch.setattr(frames, "lookup", look)
    placed: queue.Queue[Any] = queue.Queue()
    locator = Locator(node, SETTINGS, Aims("odom", wait=1e6, frames=frames), placed.put)
    publisher = node.create_publisher(CameraInfo, "/front/camera_info", qos_profile_sensor_data)
    while not looking.is_set():  # an answer that comes before the lens is placed without
        publisher.publish(LENS)
        locator.offer(answer())
        looking.wait(0.1)
    stopping = threading.Thread(target=locator.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    frames.stop()
