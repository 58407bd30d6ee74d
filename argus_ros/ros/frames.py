"""Transforms between frames at the time of a stamp, from ``/tf`` and ``/tf_static``; needs tf2."""

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
except ImportError:  # optional: installed with ROS, not from PyPI
    tf2_py: ModuleType | None = None  # type: ignore[no-redef]

#: The error of a parameter that needs tf2, where tf2 is missing.
MISSING = "needs tf2_py and tf2_msgs, which are not installed: sudo apt install ros-$ROS_DISTRO-tf2-ros"


class FramesError(ValueError):
    """There is no transform; the message says why and what to do."""


class Frames:
    """Receives ``/tf`` in its own threads, so that it delays no callbacks; needs ``tf2_py``.

    The buffer is tf2's own; this class adds waiting for a transform in any thread. ``overrides`` are the
    node's parameters ``qos_overrides.*``. Raises IntakeError, after which no subscription is left.
    """

    def __init__(self, node: Node, overrides: Sequence[Parameter] = ()) -> None:
        assert tf2_py is not None
        self._buffer = tf2_py.BufferCore()
        self._news = threading.Condition()
        self._newest: dict[str, int] = {}  # newest stamp of each child frame
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
        """The transform (4, 4) from frame ``source`` to ``target`` at ``stamp`` in nanoseconds.

        Waits until ``until`` on the steady clock, or until ``stopped`` returns True, which is checked again
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
            raise FramesError(f"from {source!r} to {target!r}: {error}; correct its publisher") from None

    def wake(self) -> None:
        """Make waiting threads in ``lookup`` check whether they are stopped."""
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
                    self._buffer.clear()  # time went back; tf2 would ignore older transforms
                    self._newest.clear()
                self._newest[child] = stamp
                self._buffer.set_transform(one, "argus")
            self._news.notify_all()
