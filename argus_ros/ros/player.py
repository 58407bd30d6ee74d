"""Plays a bag (rosbag2 or ROS 1) on its topics at recorded speed, where no ``ros2 bag`` is at hand.

    python -m argus_ros.ros.player BAG [--rate 2.0] [--clock] [--loop [3]] [--topics /front/image_raw ...]

Messages are published as the bytes that were recorded, those of ROS 1 in ROS 2's encoding. It first waits
until somebody subscribes to every image topic, so that no frame is played to nobody. With ``--clock`` the
time is that of the recording, and a ``/clock`` in the bag is left out: two clocks would jump at each message.
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
DEPTH = 100  #: messages kept for a subscriber that is slow, or not yet wholly connected
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CLOCK = "/clock"


class Player:
    """Publishes what is in a bag; a context manager that holds it open. Raises BagError."""

    def __init__(self, node: Node, bag: Path, topics: Sequence[str] = (), clock: bool = False) -> None:
        self._node = node
        self._bag = Bag(bag)
        present = self._bag.topics
        if missing := [topic for topic in topics if topic not in present]:
            raise BagError(f"{bag} has no {', '.join(missing)}; it has {', '.join(present)}")
        self._publishers: dict[tuple[str, str], Publisher] = {}  # by topic and type
        # Of channels that differ in being latched alone, the latched comes last.
        for channel in {(c.topic, c.kind): c for c in self._bag.channels}.values():
            if not topics or channel.topic in topics:
                self._advertise(channel, clock)
        if not self._publishers:
            raise BagError(f"{bag} has nothing that can be published here")
        self._clock = node.create_publisher(Clock, CLOCK, 10) if clock else None

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._bag.close()

    def wait_for_subscribers(self, timeout: float) -> bool:
        """Until every image topic (any topic, in a bag without) has one; False if the time was up first."""
        images = [publisher for (_, kind), publisher in self._publishers.items() if kind in IMAGES]
        awaited, enough = (images, all) if images else (list(self._publishers.values()), any)
        end = time.monotonic() + timeout
        while not enough(publisher.get_subscription_count() for publisher in awaited):
            if time.monotonic() >= end or not self._node.context.ok():
                return False
            self._tick(self._bag.start)  # who waits for the time to begin gets it
            time.sleep(0.05)
        self._settle()
        return True

    def _settle(self) -> None:
        """Discovery is not done on both sides at once, and who takes the images may take the time, too."""
        end = time.monotonic() + SETTLING
        while time.monotonic() < end and self._node.context.ok():
            self._tick(self._bag.start)
            time.sleep(CLOCK_INTERVAL)

    def play(self, rate: float = 1.0) -> int:
        """Publish everything once, at ``rate`` times recorded speed; returns how many messages."""
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
        """Let the last messages reach their subscribers before this process ends."""
        if self._node.context.ok():
            for publisher in self._publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=seconds))
            time.sleep(seconds)  # best effort acknowledges nothing

    def _advertise(self, channel: Channel, clock: bool) -> None:
        """Make its publisher, or say why there is none."""
        package, _, name = channel.kind.partition("/msg/")
        why = kind = None
        if clock and channel.topic == CLOCK:
            why = "--clock publishes the time of the recording in its place"
        elif not self._bag.readable(channel):
            why = f"its messages are {channel.encoding}, of type {channel.kind}"
        else:
            try:
                kind = getattr(importlib.import_module(f"{package}.msg"), name)
            except (ImportError, AttributeError):
                why = f"{channel.kind} is not installed here"
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
        "--loop", type=int, nargs="?", const=0, default=1, help="play it so often; without a number, for ever"
    )
    parser.add_argument("--topics", nargs="+", default=(), help="play only these")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds to wait for subscribers; then play all the same"
    )
    words = sys.argv if arguments is None else ["player", *arguments]
    options = parser.parse_args(remove_ros_args(words)[1:])
    signal.signal(signal.SIGINT, lambda *_: None)  # rclpy's handler ends the context, and with it the playing
    rclpy.init(args=words)
    node = rclpy.create_node("player")
    try:
        with Player(node, options.bag, options.topics, options.clock) as player:
            if not player.wait_for_subscribers(options.timeout) and rclpy.ok():
                node.get_logger().warning(f"nobody subscribed within {options.timeout:g} s; playing")
            count = 0
            try:
                for _ in itertools.repeat(None, options.loop) if options.loop else itertools.repeat(None):
                    count += player.play(options.rate)
                    if not rclpy.ok():
                        break
            finally:
                player.drain()
            if rclpy.ok():  # what it says goes out on a topic, too
                node.get_logger().info(f"played {count} messages")
    except BagError as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    except RuntimeError:  # rclpy's errors are of this kind
        if rclpy.ok():
            raise  # else a signal has ended the context under what was being done
    finally:
        rclpy.try_shutdown()
    return 0


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
