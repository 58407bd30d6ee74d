"""Waits until a node's engine is ready to answer, for launch files and scripts.

    python -m argus_ros.ros.ready [NODE] [--timeout 120]

Exits with status 0 once it is ready, and with 1 and the diagnostics' message when the model cannot be loaded
or the time is up.
"""

from __future__ import annotations

import argparse
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.utilities import remove_ros_args

from argus_ros.core.engine_client import UP, EngineState

READY = {state.value for state in UP}
FAILED = {EngineState.FAILED.value, EngineState.RECOVERING.value}


class Waiting:
    """Receives the diagnostics of one node's engine."""

    def __init__(self, node: str) -> None:
        self._name = f"{node.strip('/')}: engine"
        self.said = "no diagnostics were received from the node"
        self.state = ""

    def hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._name:
                self._take(status)

    def _take(self, status: DiagnosticStatus) -> None:
        self.said = status.message
        self.state = next((value.value for value in status.values if value.key == "state"), "")


def main() -> int:
    parser = argparse.ArgumentParser("ready", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("node", nargs="?", default="/argus", help="full name of the node")
    parser.add_argument("--timeout", type=float, default=120.0, help="maximum seconds to wait")
    options = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init()
    waiting = Waiting(options.node)
    node = rclpy.create_node("argus_ready")
    node.create_subscription(DiagnosticArray, "/diagnostics", waiting.hear, 10)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end = time.monotonic() + options.timeout
    try:
        while waiting.state not in READY | FAILED and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()
    if waiting.state in READY:
        return 0
    print(f"ready: {options.node} is not: {waiting.said}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
