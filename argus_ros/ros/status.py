"""Publishes the node's ``/diagnostics``: of its engine, its outputs and each camera."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray

from argus_ros.core import fastdds
from argus_ros.core.engine_client import UP
from argus_ros.ros import diagnostics

if TYPE_CHECKING:
    from argus_ros.ros.node import ArgusNode

NAMESAKE_INTERVAL = 60.0  #: seconds between two warnings about another node with this name
LEFT_BEHIND_INTERVAL = 30.0  #: seconds between two checks for shared memory of killed processes


class Status:
    """Publishes the node's diagnostics. ``short`` is a message about missing shared memory, or ""."""

    def __init__(self, node: ArgusNode, short: str) -> None:
        self._node = node
        self._short = short
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._next_check, self._left = 0.0, ""  # next check for left shared memory, its result

    def publish(self) -> None:
        """Publish the current state."""
        node = self._node
        engine = node.pipeline.engine if node.pipeline else None
        info = engine.info if engine else None
        name = node.get_fully_qualified_name().lstrip("/")
        statuses = [self._engine_report().status(f"{name}: engine", info.device if info else "")]
        statuses.append(self._outputs_report().status(f"{name}: outputs"))
        for camera in node.cameras.values():
            statuses.append(camera.report().status(f"{name}: camera {camera.settings.name}", camera.topic))
        stamp = node.get_clock().now().to_msg()
        self._publisher.publish(diagnostics.to_diagnostics(stamp, statuses))

    def _engine_report(self) -> diagnostics.Report:
        health, pipeline = self._node.engine_health, self._node.pipeline
        values: dict[str, object] = {"enabled": self._node.enabled}
        if not pipeline:
            return health.report(None, values, "", None)
        engine, load = pipeline.engine, pipeline.load()
        values |= {
            "process": engine.pid or "none",
            "spare process": engine.spare,
            "restarts": engine.restarts,
            "failed inferences": engine.failures,
            "last error": engine.last_error,
            "load": f"{load.load:.2f}",
            "overloaded": load.overloaded,
            "shortest deadline [s]": f"{pipeline.shortest_deadline():.3f}",
        }
        if metrics := self._node.results.metrics:
            metrics.engine(health.state in UP, load.load, engine.restarts)
        next_try = engine.next_try - time.monotonic() if engine.next_try else None
        return health.report(engine.info, values, engine.last_error, next_try)

    def _outputs_report(self) -> diagnostics.Report:
        counts = self._node.results.outputs.counts()
        values = {f"subscribers of {topic}": count for topic, count in counts.items()}
        memory = self._short, self._left_behind()
        trouble = [
            *self._node.results.outputs.mismatches.values(),
            *filter(None, (self._namesake(), *memory)),
        ]
        if trouble:
            return diagnostics.Report(diagnostics.WARN, "; ".join(trouble), values)
        return diagnostics.Report(diagnostics.OK, f"{sum(values.values())} subscribers", values)

    def _namesake(self) -> str:
        """A warning where another node has the same name; else ""."""
        own = self._node.get_name(), self._node.get_namespace()
        if self._node.get_node_names_and_namespaces().count(own) < 2:
            return ""
        name = self._node.get_fully_qualified_name()
        said = (
            f"another node is also named {name} (or one was killed less than 20 s ago): both answer the "
            f"same images on {name}/detections; give one of them another name (-r __node:=NAME)"
        )
        self._node.get_logger().warning(said, throttle_duration_sec=NAMESAKE_INTERVAL)
        return said

    def _left_behind(self) -> str:
        """The message about shared memory of killed processes, from the last check."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check, self._left = now + LEFT_BEHIND_INTERVAL, fastdds.left_behind()
            if self._left:
                self._node.get_logger().warning(self._left, once=True)
        return self._left
