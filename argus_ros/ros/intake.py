"""Takes the messages of one topic in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSCompatibility, QoSPolicyKind, QoSProfile, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

#: Seconds between two complaints about messages that went wrong.
COMPLAINT_INTERVAL = 5.0


class IntakeError(ValueError):
    """A topic that cannot be subscribed to, and why."""


def mismatch(topic: str, event: Any) -> str:
    """What is wrong and what to do, where a publisher's QoS does not fit; ``topic`` in full."""
    policy = QoSPolicyKind(event.last_policy_kind).name.lower()
    return (
        f"a publisher on {topic} offers a QoS that does not fit, by its {policy}: change the publisher's, or "
        f"set qos_overrides.{topic}.subscription.{policy}"
    )


class _Executor(SingleThreadedExecutor):
    """Reports messages that cannot be deserialised, about which rclpy and its middleware say nothing.

    All that is seen of one is that the subscription has something to take and then nothing comes.
    """

    def __init__(self, context: Context, on_malformed: Callable[[], None]) -> None:
        super().__init__(context=context)
        self._on_malformed = on_malformed

    def _take_subscription(self, subscription: Any) -> Any:
        taken = super()._take_subscription(subscription)
        if taken is None:
            self._on_malformed()
        return taken


class Intake:
    """Calls back for what comes on ``topic``, given in full, until stopped; ``qos_overrides`` apply.

    ``on_malformed`` is called for each message that cannot be deserialised, ``on_lost`` with how many the
    middleware says were lost on the way, as publishers number theirs. Raises IntakeError where the topic or
    an override cannot be.

    rclpy's executor waits for all that its node has, and gathers that anew, in Python, twice for each
    message: about a millisecond for a node with parameters and a lifecycle. So the subscription is that of a
    bare node beside ``node``: hidden (its name begins with _), without services, with this one thing to
    wait for.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        kind: type,
        topic: str,
        qos: QoSProfile,
        on_message: Callable[[Any], None],
        on_incompatible: Callable[[Any], None],
        on_malformed: Callable[[], None] = lambda: None,
        on_lost: Callable[[int], None] = lambda count: None,
        overrides: Sequence[Parameter] = (),
    ) -> None:
        self._logger = node.get_logger()
        qos = copy(qos)  # rclpy writes overrides into it
        self._mismatch = ""

        def incompatible(event: Any) -> None:
            self._mismatch = mismatch(topic, event)
            on_incompatible(event)

        self._node = rclpy.create_node(
            f"_{node.get_name()}_{name}",
            context=node.context,
            namespace=node.get_namespace(),
            use_global_arguments=False,  # they name and remap the node itself
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("start_type_description_service", value=False), *overrides],
        )
        try:
            events = SubscriptionEventCallbacks(
                incompatible_qos=incompatible,
                message_lost=lambda event: on_lost(event.total_count_change),
            )
            options = QoSOverridingOptions.with_default_policies()
            #: Whether the middleware reports lost messages.
            self.tells_losses = True
            try:
                self._subscription = self._node.create_subscription(
                    kind, topic, on_message, qos, event_callbacks=events, qos_overriding_options=options
                )
            except UnsupportedEventTypeError:  # the middleware does not report lost messages
                events.message_lost, self.tells_losses = None, False
                self._subscription = self._node.create_subscription(
                    kind, topic, on_message, qos, event_callbacks=events, qos_overriding_options=options
                )
        except Exception as error:  # rclpy raises many kinds
            self._node.destroy_node()
            raise IntakeError(f"{topic} cannot be subscribed to: {error}") from None
        self._topic = topic
        self._stopping = False
        self._executor = _Executor(node.context, on_malformed)
        self._executor.add_node(self._node)
        self.thread = threading.Thread(target=self._run, name=f"intake {name}", daemon=True)
        self.thread.start()

    def publishers(self, topic: str) -> list[TopicEndpointInfo]:
        """Who publishes on a topic, given in full: it is not remapped, as the node's own would be."""
        return self._node.get_publishers_info_by_topic(topic)

    def fits(self, publisher: TopicEndpointInfo) -> bool:
        """Whether its QoS is good enough for the subscription's."""
        found, _ = qos_check_compatible(publisher.qos_profile, self._subscription.qos_profile)
        return found != QoSCompatibility.ERROR

    def mismatch(self) -> str:
        """What is wrong and what to do, while there is a publisher whose QoS does not fit; else empty."""
        if not self._mismatch or all(map(self.fits, self.publishers(self._topic))):
            return ""
        return self._mismatch

    def stop(self) -> None:
        """Return when no callback runs any more."""
        self._stopping = True
        self._executor.create_task(lambda: None)  # merely woken up, it would go on waiting
        self.thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._executor.spin_once()
            except ExternalShutdownException:
                return
            except Exception as error:  # one message must not end the thread
                if not self._node.context.ok():
                    return
                self._logger.error(
                    f"{self._topic}: a message was lost: {type(error).__name__}: {error}",
                    throttle_duration_sec=COMPLAINT_INTERVAL,
                )
