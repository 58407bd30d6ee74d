"""Transforms between frames at the time of a stamp, from ``/tf`` and ``/tf_static``, where there is tf2."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from argus_ros.core.clock import JUMP
from argus_ros.core.pose import transform
from argus_ros.ros.conversions import stamp_ns
from argus_ros.ros.intake import Intake, mismatch

try:
    import tf2_py
    from tf2_msgs.msg import TFMessage
except ImportError:  # on robots that have it; there are no wheels of it
    tf2_py: ModuleType | None = None  # type: ignore[no-redef]

#: What a parameter that needs tf2 is refused with where there is none.
MISSING = "needs tf2_py and tf2_msgs, which are not installed: sudo apt install ros-$ROS_DISTRO-tf2-ros"


class FramesError(ValueError):
    """No transform: what is wrong and what to do."""


class Frames:
    """Takes ``/tf`` in threads of its own, so that nobody's callbacks wait for it; only where ``tf2_py`` is.

    The buffer is tf2's own; what is added here is that one can wait for a transform in any thread.
    ``overrides`` are the node's parameters ``qos_overrides.*``. Raises IntakeError, and leaves nothing behind
    then.
    """

    def __init__(self, node: Node, overrides: Sequence[Parameter] = ()) -> None:
        assert tf2_py is not None
        self._buffer = tf2_py.BufferCore()
        self._news = threading.Condition()
        self._newest: dict[str, int] = {}  # stamps, by the frame that is told of
        kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)

        def take(name: str, topic: str, qos: QoSProfile, static: bool) -> Intake:
            def add(message: Any) -> None:
                self._add(message, static)

            resolved = node.resolve_topic_name(topic)

            def incompatible(event: Any) -> None:
                node.get_logger().error(mismatch(resolved, event))

            return Intake(node, name, TFMessage, resolved, qos, add, incompatible, overrides=overrides)

        with ExitStack() as intakes:
            moving = take("tf", "/tf", QoSProfile(depth=100), False)
            intakes.callback(moving.stop)
            fixed = take("tf_static", "/tf_static", kept, True)
            intakes.callback(fixed.stop)
            self._intakes = intakes.pop_all()
        self._taken = moving, fixed

    def lookup(
        self, target: str, source: str, stamp: int, until: float, stopped: Callable[[], bool]
    ) -> np.ndarray:
        """(4, 4) from frame ``source`` to ``target`` at ``stamp`` in nanoseconds.

        Waits for it until ``until`` on the steady clock, or until ``stopped`` holds, which is asked again
        after ``wake``. Raises FramesError.
        """
        assert tf2_py is not None
        with self._news:
            while True:
                try:
                    found = self._buffer.lookup_transform_core(target, source, Time(nanoseconds=stamp))
                    break
                except tf2_py.TransformException as error:
                    left = until - time.monotonic()
                    if left <= 0 or stopped() or not self._news.wait(left):
                        what = f"no transform from {source!r} to {target!r} at the image's stamp: {error}"
                        why = filter(None, (intake.mismatch() for intake in self._taken))
                        raise FramesError("; ".join((what, *why))) from None
        moved, turned = found.transform.translation, found.transform.rotation
        try:
            return transform((moved.x, moved.y, moved.z), (turned.x, turned.y, turned.z, turned.w))
        except ValueError as error:
            raise FramesError(f"from {source!r} to {target!r}: {error}; mend whoever publishes it") from None

    def wake(self) -> None:
        """Have those who wait in ``lookup`` ask whether they are stopped."""
        with self._news:
            self._news.notify_all()

    def stop(self) -> None:
        self._intakes.close()

    def _add(self, message: Any, static: bool) -> None:
        with self._news:
            for one in message.transforms:
                if static:
                    self._buffer.set_transform_static(one, "argus")
                    continue
                stamp, child = stamp_ns(one.header), one.child_frame_id
                if (self._newest.get(child, stamp) - stamp) * 1e-9 > JUMP:
                    self._buffer.clear()  # time goes back; tf2 would take nothing older than what it has
                    self._newest.clear()
                self._newest[child] = stamp
                self._buffer.set_transform(one, "argus")
            self._news.notify_all()
