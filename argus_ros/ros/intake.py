"""Takes a subscription's messages in a thread of its own."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.subscription import Subscription


class Elsewhere(MutuallyExclusiveCallbackGroup):
    """Of a subscription, and the events of its QoS, that no executor is to wait for."""

    def can_execute(self, entity: object) -> bool:
        return False


class Intake:
    """Calls back for what comes to a subscription, made with a group ``Elsewhere``, until stopped.

    rclpy's executors wait for all that a node has, and in Python they gather that anew, twice for each
    message: about a millisecond for a node with a lifecycle. Here the subscription is all there is to wait
    for, in the way of ``rclpy.wait_for_message``; and images are not held up by services and timers.
    """

    def __init__(self, node: Node, subscription: Subscription) -> None:
        self._node = node
        self._subscription = subscription
        self._stopping = False
        self._woken = GuardCondition(None, None, node.context)
        self._thread = threading.Thread(target=self._run, name=subscription.topic_name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when no callback runs any more; the subscription may then be destroyed."""
        self._stopping = True
        self._woken.trigger()
        self._thread.join()
        self._woken.destroy()

    def _run(self) -> None:
        subscription, events = self._subscription, self._subscription.event_handlers
        context = self._node.context.handle
        with ExitStack() as in_use:
            for handle in (subscription.handle, self._woken.handle, context, *events):
                in_use.enter_context(handle)
            wait_set = _rclpy.WaitSet(1, 1, 0, 0, 0, len(events), context)
            while not self._stopping:
                wait_set.clear_entities()
                wait_set.add_subscription(subscription.handle)
                wait_set.add_guard_condition(self._woken.handle)
                for event in events:
                    event.add_to_wait_set(wait_set)
                wait_set.wait(-1)
                ready = [event for event in events if event.is_ready(wait_set)]
                try:
                    self._take(ready)
                except Exception as error:  # one message must not end the thread
                    what = f"{subscription.topic_name}: {type(error).__name__}: {error}"
                    self._node.get_logger().error(f"a message was not taken: {what}")

    def _take(self, ready: list[Any]) -> None:
        for event in ready:
            if (data := event.take_data()) is not None:
                event.callback(data)
        taken = self._subscription.handle.take_message(self._subscription.msg_type, False)
        if taken and not self._stopping:
            self._subscription.callback(taken[0])
