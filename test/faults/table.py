"""The table of faults of a robot with three cameras, and what the node must do in each case.

Each fault is a generator: up to its ``yield`` it causes the fault, and after it it removes the cause. Its
decorator states what is expected. test_faults.py tries the faults on real processes, and document.py writes
docs/reliability.md.
"""

from __future__ import annotations

import array
import ctypes
import os
import random
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from safetensors.numpy import load_file, save_file
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

if TYPE_CHECKING:
    from faults.site import Site


@dataclass(frozen=True)
class Fault:
    group: str
    name: str
    inject: Callable[[Site], Iterator[None]]
    status: str  #: which of the diagnostics tells of it; "": none does, as nothing is wrong
    says: str  #: what that says
    engine: bool  #: the engine's process is replaced: it recovers when the model is loaded again
    quick: bool  #: tried by every `make test`
    others: bool  #: cameras that are not concerned go on being answered meanwhile


FAULTS: list[Fault] = []


def fault(
    group: str,
    status: str = "",
    says: str = "",
    *,
    engine: bool = False,
    quick: bool = False,
    others: bool = True,
) -> Callable[[Callable[[Site], Iterator[None]]], Callable[[Site], Iterator[None]]]:
    def enter(inject: Callable[[Site], Iterator[None]]) -> Callable[[Site], Iterator[None]]:
        name = (inject.__doc__ or "").strip().rstrip(".")
        FAULTS.append(Fault(group, name, inject, status, says, engine, quick, others and not engine))
        return inject

    return enter


def rgb(width: int, height: int) -> Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    image.data = array.array("B", pixels.tobytes())
    return image


def compressed(data: bytes, kind: str = "jpeg") -> CompressedImage:
    return CompressedImage(format=kind, data=array.array("B", data))


def encoded(extension: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(extension, pixels, list(options))[1].tobytes()


# --- a camera -----------------------------------------------------------------------------------


@fault("camera", "camera front", "nobody publishes it", quick=True)
def dies(site: Site) -> Iterator[None]:
    """its driver dies"""
    site.unplug("front")
    yield
    site.plug("front", Image, "/front/image_raw")


@fault("camera", "camera front", "its publisher sends nothing")
def freezes(site: Site) -> Iterator[None]:
    """it freezes: its driver lives and publishes nothing"""
    site.feeds["front"].message = None
    yield
    site.feeds["front"].message = rgb(160, 120)


@fault("camera")
def floods(site: Site) -> Iterator[None]:
    """it floods: a thousand images a second"""
    feed = site.feeds["front"]
    timer = site.robot.node.create_timer(0.001, feed.publish)
    site.sleep(2.0)
    yield
    site.robot.node.destroy_timer(timer)


@fault("camera")
def sizes(site: Site) -> Iterator[None]:
    """it changes its size with every image"""
    for number in range(20):
        site.feeds["front"].message = rgb(16 + 37 * number, 700 - 33 * number)
        site.sleep(0.1)
    yield
    site.feeds["front"].message = rgb(160, 120)


@fault("camera")
def encodings(site: Site) -> Iterator[None]:
    """it changes its encoding with every image"""
    for encoding, size in [("mono8", 1), ("bgra8", 4), ("bayer_rggb8", 1), ("mono16", 2), ("yuv422", 2)] * 3:
        image = Image(width=160, height=120, encoding=encoding, step=160 * size)
        image.data = array.array("B", bytes(160 * 120 * size))
        site.feeds["front"].message = image
        site.sleep(0.1)
    yield
    site.feeds["front"].message = rgb(160, 120)


@fault("camera", "camera front", "lost between camera and node")
def huge(site: Site) -> Iterator[None]:
    """it publishes raw images of 8K (99.5 MB each), which the middleware loses"""
    site.feeds["front"].message, image = None, rgb(7680, 4320)
    publisher = site.feeds["front"].publisher
    timer = site.robot.node.create_timer(1.0, lambda: publisher.publish(site.stamped(image)))
    yield
    site.robot.node.destroy_timer(timer)
    site.feeds["front"].message = rgb(160, 120)


@fault("camera", "camera front", "offers an incompatible QoS")
def reliability(site: Site) -> Iterator[None]:
    """it publishes best effort, and reliable is asked for"""
    assert site.robot.set(camera__front__reliability="reliable") == (True, "")
    yield
    assert site.robot.set(camera__front__reliability="best_effort") == (True, "")


@fault("camera", "camera front", "its type is std_msgs/msg/String, which is not an image")
def other_type(site: Site) -> Iterator[None]:
    """its topic carries another type of message"""
    publisher = site.robot.node.create_publisher(String, "/words", 1)
    assert site.robot.set(camera__front__topic="/words") == (True, "")
    yield
    assert site.robot.set(camera__front__topic="/front/image_raw") == (True, "")
    site.robot.node.destroy_publisher(publisher)


@fault("camera")
def twins(site: Site) -> Iterator[None]:
    """two publishers share one topic"""
    twin = site.robot.node.create_publisher(Image, "/front/image_raw", 5)
    timer = site.robot.node.create_timer(0.1, lambda: twin.publish(site.stamped(rgb(80, 60))))
    site.sleep(1.5)
    yield
    site.robot.node.destroy_timer(timer)
    site.robot.node.destroy_publisher(twin)


def wrong_stamp(change: Callable[[int], int], seconds: float = 1.5) -> Callable[[Site], Iterator[None]]:
    def inject(site: Site) -> Iterator[None]:
        site.feeds["front"].restamp = change
        site.sleep(seconds)
        yield
        site.feeds["front"].restamp = None

    return inject


def listed(doc: str, inject: Callable[[Site], Iterator[None]]) -> Callable[[Site], Iterator[None]]:
    inject.__doc__ = doc
    return inject


HOUR = 3_600_000_000_000
fault("camera")(listed("its stamps are zero", wrong_stamp(lambda now: 0)))
fault("camera")(listed("its clock is an hour ahead", wrong_stamp(lambda now: now + HOUR)))
fault("camera")(listed("its clock is an hour behind", wrong_stamp(lambda now: now - HOUR)))
fault("camera")(
    listed(
        "its time goes back every half second, as in a looped bag", wrong_stamp(lambda now: now % 500_000_000)
    )
)
fault("camera", quick=True)(
    listed("its stamps are random", wrong_stamp(lambda now: random.Random(now).randrange(1 << 61)))
)

# --- pictures -----------------------------------------------------------------------------------


def bad_picture(camera: str, message: Image | CompressedImage) -> Callable[[Site], Iterator[None]]:
    def inject(site: Site) -> Iterator[None]:
        good, site.feeds[camera].message = site.feeds[camera].message, message
        yield
        site.feeds[camera].message = good

    return inject


def raw(**changes: object) -> Image:
    image = rgb(160, 120)
    for name, value in changes.items():
        setattr(image, name, value)
    return image


def scans(count: int) -> bytes:
    """A small file of a large progressive JPEG, whose last scan comes again and again."""
    picture = encoded(".jpg", np.zeros((4000, 4000, 3), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = picture.rfind(b"\xff\xda")
    return picture[:last] + picture[last:-2] * count + picture[-2:]


def huge_header() -> bytes:
    picture = bytearray(encoded(".jpg", np.zeros((64, 64, 3), np.uint8)))
    at = picture.find(b"\xff\xc0")
    picture[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(picture)


JPEG = encoded(".jpg", np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8))
UNDECODABLE = {
    "front": {
        "of an unknown encoding": raw(encoding="wobble8"),
        "whose rows are longer than its step": raw(step=7),
        "cut off in the middle": raw(data=array.array("B", bytes(1000))),
        "with width 0": raw(width=0),
        "that claims four billion pixels a side": raw(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1),
        "without data": raw(data=array.array("B")),
    },
    "squeezed": {
        "a JPEG cut off": compressed(JPEG[:500]),
        "a JPEG of noise": compressed(JPEG[:100] + random.Random(1).randbytes(2000) + b"\xff\xd9"),
        "a JPEG whose header claims 65000x65000 pixels": compressed(huge_header()),
        "a progressive JPEG with 200 scans of 16 megapixels": compressed(scans(200)),
        "a PNG of 16 megapixels, 16 bits and alpha, in 150 KB": compressed(
            encoded(".png", np.zeros((4000, 4000, 4), np.uint16)), "png"
        ),
        "bytes that are not an image": compressed(random.Random(2).randbytes(5000)),
        "no bytes": compressed(b""),
    },
}
for _camera, _messages in UNDECODABLE.items():
    for _name, _message in _messages.items():
        fault(
            "picture", f"camera {_camera}", "undecodable", quick="scans" in _name or "four billion" in _name
        )(listed(_name, bad_picture(_camera, _message)))


@fault("picture", "camera front", "cannot be deserialised", quick=True)
def malformed(site: Site) -> Iterator[None]:
    """a message cut off, so that it cannot be deserialised"""
    good = site.feeds["front"].message
    site.feeds["front"].message = bytes(serialize_message(good))[:200]
    yield
    site.feeds["front"].message = good


# --- the engine's process -----------------------------------------------------------------------


def killed(number: signal.Signals) -> Callable[[Site], Iterator[None]]:
    def inject(site: Site) -> Iterator[None]:
        os.kill(site.engine(), number)
        yield

    return inject


for _number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT):
    fault("engine", "engine", _number.name, engine=True, quick=_number is signal.SIGKILL)(
        listed(f"{_number.name}", killed(_number))
    )


@fault("engine", "engine", "hung: no answer within", engine=True)
def stopped(site: Site) -> Iterator[None]:
    """SIGSTOP: it hangs"""
    os.kill(site.engine(), signal.SIGSTOP)
    yield


@fault("engine", others=False)
def paused(site: Site) -> Iterator[None]:
    """SIGSTOP for half a second"""
    engine = site.engine()
    os.kill(engine, signal.SIGSTOP)
    site.sleep(0.5)
    yield
    os.kill(engine, signal.SIGCONT)


def killed_while_loading(number: signal.Signals) -> Callable[[Site], Iterator[None]]:
    def inject(site: Site) -> Iterator[None]:
        first = site.engine()
        os.kill(first, signal.SIGKILL)
        second = site.engine(running=False, other_than=first)
        os.kill(second, number)
        yield

    return inject


for _number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
    fault("engine", "engine", _number.name, engine=True)(
        listed(f"SIGKILL, and {_number.name} while the next one loads", killed_while_loading(_number))
    )


def socket_of(engine: int) -> socket.socket:
    """The engine's own end of the socket to the node (pidfd_getfd, which takes it from that process)."""
    pidfd = os.pidfd_open(engine)
    try:
        arguments = Path(f"/proc/{engine}/cmdline").read_text().split("\0")
        number = int(arguments[arguments.index("--connection") + 1])
        fd = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, number, 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return socket.socket(fileno=fd)
    finally:
        os.close(pidfd)


def says(message: bytes) -> Callable[[Site], Iterator[None]]:
    def inject(site: Site) -> Iterator[None]:
        with socket_of(site.engine()) as end:
            end.send(message)
        yield

    return inject


fault("engine", "engine", "broke the protocol", engine=True, quick=True)(
    listed("it sends bytes that are not a message", says(bytes(range(200))))
)
fault("engine", "engine", "broke the protocol", engine=True)(
    listed("it sends a pickle", says(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."))
)
fault("engine", "engine", "broke the protocol", engine=True)(
    listed("it sends a message that is too large", says(bytes((1 << 17) + 1)))
)


@fault("engine", "engine", "engine's process", engine=True)
def hangs_up(site: Site) -> Iterator[None]:
    """it closes its connection"""
    with socket_of(site.engine()) as end:
        end.shutdown(socket.SHUT_RDWR)
    yield


@fault("engine", quick=True)
def truncates(site: Site) -> Iterator[None]:
    """somebody truncates its shared memory (the seal refuses this)"""
    refused = 0
    for pid in (site.node.pid, site.engine()):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                if "memfd:argus_ros" in os.readlink(path := f"/proc/{pid}/fd/{fd}"):
                    os.truncate(path, 0)
            except PermissionError:
                refused += 1
    assert refused
    yield


@fault("engine", "engine", "holds NaN", engine=True)
def broken_weights(site: Site) -> Iterator[None]:
    """it dies, and its weights have turned to NaN"""
    file = site.checkpoint / "model.safetensors"
    good = file.read_bytes()
    weights = {name: np.full_like(tensor, np.nan) for name, tensor in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    os.kill(site.engine(), signal.SIGKILL)
    yield
    file.write_bytes(good)


@fault("engine", "engine", "Too many open files", engine=True)
def no_descriptors(site: Site) -> Iterator[None]:
    """it dies while the node has no descriptors left to start another"""
    engine, limits = site.engine(), resource.prlimit(site.node.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(site.node.pid, resource.RLIMIT_NOFILE, (16, limits[1]))  # it has more open
    os.kill(engine, signal.SIGKILL)
    yield
    resource.prlimit(site.node.pid, resource.RLIMIT_NOFILE, limits)


@fault("engine", "engine", "no checkpoint", engine=True)
def no_checkpoint(site: Site) -> Iterator[None]:
    """it dies while its checkpoint is missing"""
    away = site.checkpoint.with_name("away")
    site.checkpoint.rename(away)
    os.kill(site.engine(), signal.SIGKILL)
    yield
    away.rename(site.checkpoint)


# --- the node -----------------------------------------------------------------------------------


@fault("node", others=False)
def node_paused(site: Site) -> Iterator[None]:
    """SIGSTOP for two seconds"""
    site.node.signal(signal.SIGSTOP)
    site.sleep(2.0)
    site.node.signal(signal.SIGCONT)
    yield


@fault("node")
def full_disk(site: Site) -> Iterator[None]:
    """the disk under its log is full"""
    if not site.small_disk:
        pytest.skip("only root may mount a small disk")
    filler = site.small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    for threshold in (0.1, 0.0) * 20:  # each is one more line of the log, as is what is wrong with the image
        site.robot.set(score_threshold=threshold)
    good, site.feeds["front"].message = site.feeds["front"].message, raw(encoding="wobble8")
    site.sleep(1.0)
    site.feeds["front"].message = good
    assert any(site.small_disk.glob("*.log"))
    yield
    filler.unlink()


@fault("node", "outputs", "another node is also named /argus")
def namesake(site: Site) -> Iterator[None]:
    """another node takes its name"""
    from robot import bare_node

    with bare_node("argus"):
        yield


@fault("node", quick=True)
def parameter_storm(site: Site) -> Iterator[None]:
    """two hundred changes of parameters, half of them refused"""
    for number in range(100):
        assert site.robot.set(score_threshold=number / 1000) == (True, "")
        assert not site.robot.set(camera__front__deadline=-1.0)[0]
    yield
    assert site.robot.set(score_threshold=0.0) == (True, "")


@fault("node")
def questions(site: Site) -> Iterator[None]:
    """a hundred questions at once; each is answered or refused"""
    asked = [site.robot.begin("ask", camera="front", deadline=20.0) for _ in range(100)]
    answers = [site.robot.result(future) for future in asked]
    assert all(answer.success or answer.reason for answer in answers)
    yield


@fault("node", quick=True)
def lifecycle(site: Site) -> Iterator[None]:
    """thirty lifecycle transitions in random order, valid and invalid ones"""
    dice = random.Random(3)
    for _ in range(30):
        site.robot.change(dice.choice((Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE, 99)))
    site.robot.change(Transition.TRANSITION_ACTIVATE)
    yield


@fault("node", others=False)
def cameras_come_and_go(site: Site) -> Iterator[None]:
    """its cameras are removed and added again, twenty times"""
    for number in range(20):
        cameras = [["front"], ["rear", "squeezed"], ["squeezed", "front", "rear"]][number % 3]
        assert site.robot.set(cameras=cameras) == (True, "")
    yield
    assert site.robot.set(cameras=["front", "rear", "squeezed"]) == (True, "")


@fault("node")
def subscriber(site: Site) -> Iterator[None]:
    """a subscriber stops taking its detections (reliable, everything kept)"""
    code = (
        "import rclpy, os; from argus_ros.msg import DetectionArray; from rclpy.qos import *\n"
        "rclpy.init(); node = rclpy.create_node('deaf')\n"
        "qos = QoSProfile(history=HistoryPolicy.KEEP_ALL)\n"
        "def take(message): print('stopped', flush=True); os.kill(os.getpid(), 19)\n"
        "node.create_subscription(DetectionArray, '/argus/detections', take, qos); rclpy.spin(node)"
    )
    deaf = site.ros.start("deaf", sys.executable, "-c", code)
    deaf.wait_for("stopped")
    site.sleep(3.0)
    yield
    deaf.signal(signal.SIGKILL)


@fault("node", others=False)
def no_clock(site: Site) -> Iterator[None]:
    """simulated time without a clock, then one that jumps ahead, back and stands still"""
    assert site.robot.set(use_sim_time=True) == (True, "")
    publisher = site.robot.node.create_publisher(
        Clock, "/clock", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    )
    for seconds in (1000, 1001, 90000, 5, 6, 6, 6):
        message = Clock()
        message.clock.sec = seconds
        publisher.publish(message)
        site.sleep(0.2)
    yield
    assert site.robot.set(use_sim_time=False) == (True, "")
    site.robot.node.destroy_publisher(publisher)
