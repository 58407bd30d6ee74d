"""A topic taken in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from rclpy.event_handler import QoSSubscriptionEventType, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from std_msgs.msg import String

from argus_ros.ros.intake import Intake, IntakeError

PATIENCE = 30.0


@pytest.fixture
def node(alone: None) -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-r", "__node:=other"], context=context)
    node = rclpy.create_node("node", context=context, namespace="/robot")
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def take(node: Node, heard: Any, **overrides: object) -> Intake:
    given = [Parameter(f"qos_overrides./topic.subscription.{k}", value=v) for k, v in overrides.items()]
    return Intake(node, "front", String, "/topic", QoSProfile(depth=5), heard, heard, overrides=given)


def say(node: Node, word: str, heard: queue.Queue[Any]) -> Any:
    publisher = node.create_publisher(String, "/topic", 5)
    for _ in range(int(PATIENCE * 10)):
        publisher.publish(String(data=word))
        try:
            return heard.get(timeout=0.1)
        except queue.Empty:
            continue
    raise AssertionError("nothing was heard")


def test_messages_arrive_in_a_separate_thread_until_stop(node: Node) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    intake = take(node, lambda message: heard.put((message.data, threading.current_thread().name)))
    assert say(node, "hello", heard) == ("hello", "intake front")
    assert ("_other_front", "/robot") in node.get_node_names_and_namespaces()
    intake.stop()
    assert "intake front" not in [thread.name for thread in threading.enumerate()]
    assert node.count_subscribers("/topic") == 0


def test_a_message_that_goes_wrong_does_not_end_it(node: Node) -> None:
    heard: queue.Queue[Any] = queue.Queue()

    def stumble(message: Any) -> None:
        heard.put(message.data)
        raise ValueError("not this one")

    intake = take(node, stumble)
    assert say(node, "first", heard) == "first"
    while say(node, "second", heard) != "second":
        pass
    intake.stop()


def test_qos_is_overridden(node: Node) -> None:
    intake = take(node, print, reliability="best_effort")
    (info,) = node.get_subscriptions_info_by_topic("/topic")
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    intake.stop()


def test_a_qos_that_cannot_be_is_refused(node: Node) -> None:
    with pytest.raises(IntakeError, match=r"/topic cannot be subscribed to: .*perfect"):
        take(node, print, reliability="perfect")
    assert node.count_subscribers("/topic") == 0


def test_it_ends_with_its_context(node: Node) -> None:
    intake = take(node, print)
    rclpy.shutdown(context=node.context)
    intake.thread.join(PATIENCE)
    assert not intake.thread.is_alive()
    intake.stop()


def test_a_message_that_cannot_be_deserialised_is_reported(node: Node) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    malformed = threading.Event()

    def take(message: Any) -> None:
        heard.put(message.data)

    qos = QoSProfile(depth=5)
    intake = Intake(node, "front", String, "/topic", qos, take, take, malformed.set)
    assert say(node, "good", heard) == "good"
    assert not malformed.is_set()
    publisher = node.create_publisher(String, "/topic", qos)
    for _ in range(int(PATIENCE * 10)):
        publisher.publish(serialize_message(String(data="cut off"))[:10])
        if malformed.wait(0.1):
            break
    assert malformed.is_set()
    intake.stop()
    assert heard.empty() or set(heard.queue) == {"good"}


def test_a_middleware_that_does_not_tell_of_losses_will_do(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None here is one: rclpy is made to answer as it does there."""
    handler = rclpy.event_handler.EventHandler

    def unsupported(*, event_type: Any, **options: Any) -> Any:
        if event_type == QoSSubscriptionEventType.RCL_SUBSCRIPTION_MESSAGE_LOST:
            raise UnsupportedEventTypeError("not supported")
        return handler(event_type=event_type, **options)

    monkeypatch.setattr(rclpy.event_handler, "EventHandler", unsupported)
    heard: queue.Queue[Any] = queue.Queue()
    intake = take(node, lambda message: heard.put(message.data))
    assert not intake.reports_losses
    assert say(node, "good", heard) == "good"
    intake.stop()
