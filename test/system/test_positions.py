"""Depth and a lens in, positions out, on real topics; with TF and vision_msgs where they are installed."""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest
from argus_ros.msg import Detection3D, Detection3DArray, DetectionArray
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rendered import CAMERA_HEIGHT, crate, render
from robot import Robot, picture, start_node, visiting
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from argus_ros.ros.conversions import stamp_ns

WIDTH, HEIGHT, FOCAL = 160, 120, 120.0
DEPTH = render([crate(0.0, 3.0, 1.5)], WIDTH, HEIGHT, FOCAL).depth
FRAME = "front_optical_frame"
WITHOUT_TF = pytest.mark.skipif(find_spec("tf2_py") is None, reason="tf2_py is not installed")


def camera_info(**changes: Any) -> CameraInfo:
    k = [FOCAL, 0.0, WIDTH / 2 - 0.5, 0.0, FOCAL, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0]
    p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    given = {
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": k,
        "p": p,
    }
    return CameraInfo(**given | changes)


def millimetres() -> Image:
    values = np.round(DEPTH * 1e3).astype("<u2")
    image = Image(width=WIDTH, height=HEIGHT, encoding="16UC1", step=2 * WIDTH)
    image.data = array.array("B", values.tobytes())
    return image


def metres() -> Image:
    image = Image(width=WIDTH, height=HEIGHT, encoding="32FC1", step=4 * WIDTH)
    image.data = array.array("B", DEPTH.astype("<f4").tobytes())
    return image


def compressed() -> CompressedImage:
    png = cv2.imencode(".png", np.round(DEPTH * 1e3).astype(np.uint16))[1].tobytes()
    return CompressedImage(format="16UC1; compressedDepth png", data=array.array("B", bytes(12) + png))


class Rig:
    """A camera with depth: what it sends goes out ten times a second, with one stamp."""

    def __init__(
        self, robot: Robot, depth: Any, info: CameraInfo | None, topic: str = "/front/depth"
    ) -> None:
        self.robot, self.depth, self.info = robot, depth, info
        self.image = picture(WIDTH, HEIGHT)
        self.image.header.frame_id = FRAME
        self.depth_frame, self.depth_lag = FRAME, 0.0
        node = robot.node
        self._image = robot.camera()
        self._depth = node.create_publisher(type(depth), topic, qos_profile_sensor_data) if depth else None
        self._info = node.create_publisher(CameraInfo, "/front/camera_info", qos_profile_sensor_data)
        self._timer = node.create_timer(0.1, self._publish)

    def _publish(self) -> None:
        now = self.robot.node.get_clock().now().nanoseconds
        stamp = Time(**dict(zip(("sec", "nanosec"), divmod(now, 10**9), strict=True)))
        lagged = now - int(self.depth_lag * 1e9)
        if self.info:
            self.info.header = Header(stamp=stamp, frame_id=FRAME)
            self._info.publish(self.info)
        self.image.header.stamp = stamp
        self._image.publish(self.image)
        if self._depth:
            stamp = Time(**dict(zip(("sec", "nanosec"), divmod(lagged, 10**9), strict=True)))
            self.depth.header = Header(stamp=stamp, frame_id=self.depth_frame)
            self._depth.publish(self.depth)

    def close(self) -> None:
        self.robot.node.destroy_timer(self._timer)


@pytest.fixture
def robot(ros: Any) -> Iterator[Robot]:
    with visiting() as robot:
        robot.listen(Detection3DArray, "/argus/detections_3d")
        robot.listen(MarkerArray, "/argus/markers")
        yield robot


@pytest.fixture
def start(ros: Any, blank: Any) -> Callable[..., Any]:
    return partial(start_node, ros, blank, camera__front__camera_info_topic="/front/camera_info")


def placed(message: Detection3DArray) -> bool:
    return any(d.method == Detection3D.DEPTH for d in message.detections)


@pytest.mark.parametrize(
    ("depth", "topic"),
    [(millimetres, "/front/depth"), (metres, "/front/depth"), (compressed, "/front/depth/compressedDepth")],
)
def test_each_answer_is_followed_by_its_places(
    robot: Robot, start: Callable[..., Any], depth: Callable[[], Any], topic: str
) -> None:
    start(camera__front__depth_topic=topic)
    rig = Rig(robot, depth(), camera_info(), topic)
    found = robot.wait("/argus/detections_3d", placed)
    rig.close()
    same = {(d.header.stamp.sec, d.header.stamp.nanosec): d for d in robot.heard("/argus/detections")}
    flat: DetectionArray = same[found.header.stamp.sec, found.header.stamp.nanosec]
    assert (found.header.frame_id, found.camera, found.trouble, found.depth_offset) == (
        FRAME,
        "front",
        "",
        0.0,
    )
    assert [d.label for d in found.detections] == [d.label for d in flat.detections]
    for two, three in zip(flat.detections, found.detections, strict=True):
        if three.method != Detection3D.DEPTH:
            continue
        x, y = (two.x_min + two.x_max) / 2, (two.y_min + two.y_max) / 2
        z = three.pose.position.z
        assert DEPTH.min() - 0.01 < z < DEPTH.max() + 0.01
        assert three.pose.position.x == pytest.approx((x - WIDTH / 2) / FOCAL * z, abs=1e-3)
        assert three.pose.position.y == pytest.approx((y - HEIGHT / 2) / FOCAL * z, abs=1e-3)
        assert three.size.x == pytest.approx((two.x_max - two.x_min) / FOCAL * z, abs=1e-3)
        assert three.covariance[0] > 0
        assert three.pose.orientation.w == 1.0
    markers = robot.wait("/argus/markers", lambda m: any(one.type == Marker.CUBE for one in m.markers))
    assert {one.ns for one in markers.markers} == {"front box", "front label"}
    status = robot.status("camera front", lambda s: True)
    values = {v.key: v.value for v in status.values}
    assert int(values["with depth"]) > 0
    assert values["depth topic"] == topic


def test_without_depth_answers_are_published_with_the_reason(robot: Robot, start: Callable[..., Any]) -> None:
    """Late, of another frame, of another shape, not there: each is a sentence, and no answer is held back."""
    start(camera__front__depth_topic="/front/depth", position_wait=0.2)
    rig = Rig(robot, millimetres(), None)

    def said(words: str) -> Detection3DArray:
        robot.forget_all()
        message = robot.wait("/argus/detections_3d", lambda m: words in m.trouble and m.detections)
        assert all(d.method == Detection3D.BEARING for d in message.detections)
        assert all(np.isnan(d.pose.position.z) for d in message.detections)
        assert robot.heard("/argus/detections")
        return message

    assert np.isnan(said("no camera_info arrived on /front/camera_info").detections[0].bearing.z)
    rig.info = camera_info(k=[0.0] * 9)
    said("K of camera_info has focal lengths 0 and 0")
    rig.info = camera_info(width=2 * WIDTH, height=2 * HEIGHT)
    said("is for 320x240 pixels, and the images have 160x120")
    rig.info = camera_info(width=2 * WIDTH, height=2 * HEIGHT, binning_x=2, binning_y=2)
    robot.wait("/argus/detections_3d", placed)
    rig.info = camera_info()
    rig.depth_lag = 1.0
    late = said("within 0.05 s: the nearest stamps differ too much")
    assert late.detections[0].bearing.z > 0.5
    rig.depth_lag, rig.depth_frame = 0.0, "depth_optical_frame"
    said("register depth to the image")
    rig.depth_frame = FRAME
    rig.depth.height, rig.depth.data = HEIGHT // 2, rig.depth.data[: WIDTH * HEIGHT]
    said("160x60 pixels and the image 160x120")
    rig.depth.encoding = "rgb8"
    said("'rgb8' is not a depth")
    status = robot.status("camera front", lambda s: "answers without positions" in s.message)
    values = {v.key: v.value for v in status.values}
    assert int(values["without depth"]) > 0
    rig.depth = millimetres()
    robot.wait("/argus/detections_3d", placed)
    rig.close()

    # Positions need the lens; both may change while it runs.
    done, reason = robot.set(camera__front__camera_info_topic="")
    assert not done
    assert "positions need both" in reason
    robot.forget_all()
    assert robot.set(camera__front__camera_info_topic="", camera__front__depth_topic="") == (True, "")


def moved(parent: str, child: str, x: float, z: float, q: tuple[float, ...], stamp: Time) -> TransformStamped:
    one = TransformStamped(header=Header(stamp=stamp, frame_id=parent), child_frame_id=child)
    one.transform.translation.x, one.transform.translation.z = x, z
    turned = one.transform.rotation
    turned.x, turned.y, turned.z, turned.w = q
    return one


#: From an optical frame into one that looks ahead: x ahead, y to the left, z up.
OPTICAL = (-0.5, 0.5, -0.5, 0.5)


def delays_of_positions(robot: Robot) -> list[float]:
    """Seconds from detections to their positions, of nine answers that find no transform."""
    robot.forget_all()
    arrived: dict[tuple[type, int], float] = {}

    def note(message: Any) -> None:
        arrived[type(message), stamp_ns(message.header)] = time.monotonic()

    for kind, topic in (DetectionArray, "/argus/detections"), (Detection3DArray, "/argus/detections_3d"):
        robot.node.create_subscription(kind, topic, note, 100)

    delays: dict[int, float] = {}

    def enough(message: Detection3DArray) -> bool:
        stamp = stamp_ns(message.header)
        flat, placed = (arrived.get((kind, stamp)) for kind in (DetectionArray, Detection3DArray))
        if flat and placed and "no transform" in message.trouble:
            delays[stamp] = placed - flat
        return len(delays) >= 9

    robot.wait("/argus/detections_3d", enough)
    return list(delays.values())


@WITHOUT_TF
def test_positions_in_another_frame_and_on_the_ground(robot: Robot, start: Callable[..., Any]) -> None:
    from tf2_msgs.msg import TFMessage

    position_wait = 0.5
    start(target_frame="odom", ground_frame="base", position_wait=position_wait)
    rig = Rig(robot, None, camera_info())
    none = robot.wait("/argus/detections_3d", lambda m: m.trouble and m.detections)
    assert none.header.frame_id == FRAME
    assert "no transform from 'front_optical_frame'" in none.trouble

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    fixed = robot.node.create_publisher(TFMessage, "/tf_static", latched)
    moving = robot.node.create_publisher(TFMessage, "/tf", 10)
    fixed.publish(TFMessage(transforms=[moved("base", FRAME, 0.0, CAMERA_HEIGHT, OPTICAL, Time())]))

    def drive() -> None:
        now = robot.node.get_clock().now().to_msg()
        moving.publish(TFMessage(transforms=[moved("odom", "base", 10.0, 0.0, (0.0, 0.0, 0.0, 1.0), now)]))

    timer = robot.node.create_timer(0.05, drive)
    robot.forget_all()
    found = robot.wait("/argus/detections_3d", lambda m: m.header.frame_id == "odom" and not m.trouble)
    assert (found.origin.x, found.origin.z) == (10.0, pytest.approx(CAMERA_HEIGHT))
    grounded = robot.wait(
        "/argus/detections_3d",
        lambda m: not m.trouble and any(d.method == Detection3D.GROUND for d in m.detections),
    )
    for one in grounded.detections:
        assert one.bearing.x > 0.5  # ahead
        if one.method == Detection3D.GROUND:
            assert one.pose.position.x > 10.0
            assert one.pose.position.z == pytest.approx(one.size.y / 2, abs=0.15 * one.size.y + 0.05)
    # The detections themselves go on while TF stands still: they never wait for it.
    robot.node.destroy_timer(timer)
    delays = delays_of_positions(robot)
    assert median(delays) > position_wait / 2, delays
    # An unknown frame and a cyclic tree are reported, too.
    now = robot.node.get_clock().now().to_msg()
    loop = [moved("a", "odom", 0.0, 0.0, OPTICAL, now), moved("odom", "a", 0.0, 0.0, OPTICAL, now)]
    for _ in range(20):
        moving.publish(TFMessage(transforms=loop))
        time.sleep(0.02)
    robot.forget_all()
    assert robot.wait("/argus/detections_3d", lambda m: m.trouble).header.frame_id == FRAME
    assert robot.state() == State.PRIMARY_STATE_ACTIVE
    rig.close()


@pytest.mark.skipif(find_spec("tf2_py") is not None, reason="tf2_py is installed")
def test_without_tf2_a_frame_is_refused_with_the_package(robot: Robot, start: Callable[..., Any]) -> None:
    process = start(autostart="false", target_frame="odom")
    assert not robot.change(Transition.TRANSITION_CONFIGURE)
    line = process.wait_for("needs tf2_py")
    assert "target_frame" in line
    assert "tf2-ros" in line


@pytest.mark.skipif(find_spec("vision_msgs") is None, reason="vision_msgs is not installed")
def test_vision_msgs_carry_the_same(robot: Robot, start: Callable[..., Any]) -> None:
    import vision_msgs.msg

    robot.listen(vision_msgs.msg.Detection3DArray, "/argus/detections_3d/vision")
    start(camera__front__depth_topic="/front/depth")
    rig = Rig(robot, metres(), camera_info())
    vision = robot.wait("/argus/detections_3d/vision", lambda m: m.detections)
    ours = robot.wait("/argus/detections_3d", lambda m: m.header == vision.header)
    rig.close()
    places = [d for d in ours.detections if d.method != Detection3D.BEARING]
    assert len(vision.detections) == len(places)
    for theirs, own in zip(vision.detections, places, strict=True):
        assert (theirs.bbox.center, theirs.bbox.size) == (own.pose, own.size)
        assert theirs.results[0].hypothesis.class_id == own.label
        assert theirs.results[0].pose.covariance[7] == own.covariance[4]
