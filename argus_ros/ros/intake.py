"""Receives the messages of one topic in its own thread."""

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

#: Seconds between two log messages about failed messages.
LOG_INTERVAL = 5.0


class IntakeError(ValueError):
    """A topic cannot be subscribed to; the message gives the reason."""


def mismatch(topic: str, event: Any) -> str:
    """The error message for a publisher with an incompatible QoS; ``topic`` is the full name."""
    policy = QoSPolicyKind(event.last_policy_kind).name.lower()
    return (
        f"a publisher on {topic} offers an incompatible QoS ({policy}): change the publisher's, or "
        f"set qos_overrides.{topic}.subscription.{policy}"
    )


class _Executor(SingleThreadedExecutor):
    """Reports messages that cannot be deserialised, which rclpy and its middleware drop silently.

    The only sign of one is a subscription that is ready and then returns no message.
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
    """Calls back for each message on ``topic`` (a full name), until stopped; ``qos_overrides`` apply.

    ``on_malformed`` is called for each message that cannot be deserialised, ``on_lost`` with the number of
    messages that the middleware reports as lost, by the publishers' sequence numbers. Raises IntakeError for
    an invalid topic or override.

    rclpy's executor waits for all entities of its node, and collects them again in Python, twice per message:
    about a millisecond for a node with parameters and a lifecycle. So the subscription belongs to a separate
    bare node: hidden (its name begins with _), without services, and with nothing else to wait for.
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
        qos = copy(qos)  # rclpy modifies it
        self._mismatch = ""

        def incompatible(event: Any) -> None:
            self._mismatch = mismatch(topic, event)
            on_incompatible(event)

        self._node = rclpy.create_node(
            f"_{node.get_name()}_{name}",
            context=node.context,
            namespace=node.get_namespace(),
            use_global_arguments=False,  # these name and remap the main node
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
            self.reports_losses = True
            try:
                self._subscription = self._node.create_subscription(
                    kind, topic, on_message, qos, event_callbacks=events, qos_overriding_options=options
                )
            except UnsupportedEventTypeError:  # the middleware does not report lost messages
                events.message_lost, self.reports_losses = None, False
                self._subscription = self._node.create_subscription(
                    kind, topic, on_message, qos, event_callbacks=events, qos_overriding_options=options
                )
        except Exception as error:  # rclpy raises many types
            self._node.destroy_node()
            raise IntakeError(f"{topic} cannot be subscribed to: {error}") from None
        self._topic = topic
        self._stopping = False
        self._executor = _Executor(node.context, on_malformed)
        self._executor.add_node(self._node)
        self.thread = threading.Thread(target=self._run, name=f"intake {name}", daemon=True)
        self.thread.start()

    def publishers(self, topic: str) -> list[TopicEndpointInfo]:
        """Publishers of a topic, given by its full name; it is not remapped as the main node's topics are."""
        return self._node.get_publishers_info_by_topic(topic)

    def fits(self, publisher: TopicEndpointInfo) -> bool:
        """Whether a publisher's QoS is compatible with the subscription's."""
        found, _ = qos_check_compatible(publisher.qos_profile, self._subscription.qos_profile)
        return found != QoSCompatibility.ERROR

    def mismatch(self) -> str:
        """The error message while a publisher has an incompatible QoS; else ""."""
        if not self._mismatch or all(map(self.fits, self.publishers(self._topic))):
            return ""
        return self._mismatch

    def stop(self) -> None:
        """Stop, and return when no callback runs any more."""
        self._stopping = True
        self._executor.create_task(lambda: None)  # a wake-up alone would not end the wait
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
                    throttle_duration_sec=LOG_INTERVAL,
                )
