"""Plays a bag (rosbag2 or ROS 1) on its topics at recorded speed, without ``ros2 bag``.

    python -m argus_ros.ros.player BAG [--rate 2.0] [--clock] [--loop [3]] [--topics /front/image_raw ...]

Messages are published as recorded bytes; those of ROS 1 are converted to ROS 2's encoding. The player first
waits for a subscriber of every image topic, so that no frame is lost. With ``--clock`` the recording sets the
time, and a ``/clock`` in the bag is left out: two clocks would conflict.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock

from argus_ros.tools.bag import Bag, BagError
from argus_ros.tools.storage import Channel

CLOCK_INTERVAL = 0.01  #: steady seconds between two messages on /clock
SETTLING = 0.5  #: seconds between the first subscriber and the first message
DEPTH = 100  #: messages kept for a slow or not yet connected subscriber
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CLOCK = "/clock"


class Player:
    """Publishes the messages of a bag; a context manager that keeps it open. Raises BagError."""

    def __init__(self, node: Node, bag: Path, topics: Sequence[str] = (), clock: bool = False) -> None:
        self._node = node
        self._bag = Bag(bag)
        present = self._bag.topics
        if missing := [topic for topic in topics if topic not in present]:
            raise BagError(f"{bag} has no {', '.join(missing)}; it has {', '.join(present)}")
        self._publishers: dict[tuple[str, str], Publisher] = {}  # by topic and type
        # Of channels that differ only in being latched, the latched one comes last.
        for channel in {(c.topic, c.kind): c for c in self._bag.channels}.values():
            if not topics or channel.topic in topics:
                self._advertise(channel, clock)
        if not self._publishers:
            raise BagError(f"{bag} has no messages that can be published")
        self._clock = node.create_publisher(Clock, CLOCK, 10) if clock else None

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._bag.close()

    def wait_for_subscribers(self, timeout: float) -> bool:
        """Wait for a subscriber of every image topic (without one, of any topic); False after ``timeout``."""
        images = [publisher for (_, kind), publisher in self._publishers.items() if kind in IMAGES]
        awaited, enough = (images, all) if images else (list(self._publishers.values()), any)
        end = time.monotonic() + timeout
        while not enough(publisher.get_subscription_count() for publisher in awaited):
            if time.monotonic() >= end or not self._node.context.ok():
                return False
            self._tick(self._bag.start)  # subscribers may wait for the time to start
            time.sleep(0.05)
        self._settle()
        return True

    def _settle(self) -> None:
        """Wait for discovery in both directions; subscribers of images may also use /clock."""
        end = time.monotonic() + SETTLING
        while time.monotonic() < end and self._node.context.ok():
            self._tick(self._bag.start)
            time.sleep(CLOCK_INTERVAL)

    def play(self, rate: float = 1.0) -> int:
        """Publish everything once, at ``rate`` times recorded speed; returns the number of messages."""
        count = 0
        begin, started = self._bag.start, time.monotonic()
        for channel, stamp, message in self._bag.raw({topic for topic, _ in self._publishers}):
            if (publisher := self._publishers.get((channel.topic, channel.kind))) is None:
                continue
            due = started + (stamp - begin) * 1e-9 / rate
            while (left := due - time.monotonic()) > 0 and self._node.context.ok():
                self._tick(stamp - round(left * rate * 1e9))
                time.sleep(min(left, CLOCK_INTERVAL))
            if not self._node.context.ok():
                break
            self._tick(stamp)
            publisher.publish(message)
            count += 1
        return count

    def drain(self, seconds: float = 0.5) -> None:
        """Wait until the last messages have reached their subscribers, before this process ends."""
        if self._node.context.ok():
            for publisher in self._publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=seconds))
            time.sleep(seconds)  # best effort has no acknowledgement

    def _advertise(self, channel: Channel, clock: bool) -> None:
        """Create its publisher, or log why there is none."""
        package, _, name = channel.kind.partition("/msg/")
        why = kind = None
        if clock and channel.topic == CLOCK:
            why = "--clock publishes the time of the recording instead"
        elif not self._bag.readable(channel):
            why = f"its messages are {channel.encoding}, of type {channel.kind}"
        else:
            try:
                kind = getattr(importlib.import_module(f"{package}.msg"), name)
            except (ImportError, AttributeError):
                why = f"{channel.kind} is not installed"
        if why:
            self._node.get_logger().warning(f"{channel.topic} is not played: {why}")
            return
        qos = QoSProfile(depth=DEPTH)
        if channel.latched:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        self._publishers[channel.topic, channel.kind] = self._node.create_publisher(kind, channel.topic, qos)

    def _tick(self, stamp: int) -> None:
        if self._clock:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(stamp, 1_000_000_000)
            self._clock.publish(message)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("player", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bag", type=Path, help="folder of a rosbag2 bag, or a .mcap, .db3 or .bag file")
    parser.add_argument("--rate", type=_positive, default=1.0, help="times recorded speed")
    parser.add_argument("--clock", action="store_true", help="publish /clock")
    parser.add_argument(
        "--loop", type=int, nargs="?", const=0, default=1, help="number of times; without a number, for ever"
    )
    parser.add_argument("--topics", nargs="+", default=(), help="play only these")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds to wait for subscribers before it plays"
    )
    words = sys.argv if arguments is None else ["player", *arguments]
    options = parser.parse_args(remove_ros_args(words)[1:])
    signal.signal(signal.SIGINT, lambda *_: None)  # rclpy's handler ends the context, which stops playing
    rclpy.init(args=words)
    node = rclpy.create_node("player")
    try:
        with Player(node, options.bag, options.topics, options.clock) as player:
            if not player.wait_for_subscribers(options.timeout) and rclpy.ok():
                node.get_logger().warning(f"there is no subscriber after {options.timeout:g} s; playing")
            count = 0
            try:
                for _ in itertools.repeat(None, options.loop) if options.loop else itertools.repeat(None):
                    count += player.play(options.rate)
                    if not rclpy.ok():
                        break
            finally:
                player.drain()
            if rclpy.ok():  # the log is also a topic
                node.get_logger().info(f"played {count} messages")
    except BagError as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    except RuntimeError:  # rclpy raises this type
        if rclpy.ok():
            raise  # else a signal has ended the context
    finally:
        rclpy.try_shutdown()
    return 0


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
