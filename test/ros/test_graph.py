"""`argus doctor` lists the ROS graph while discovery is in progress."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")
from argus_ros.ros import graph


class Discovering:
    """In place of a node: its graph has one camera, whose node's name arrives with the third question."""

    def __init__(self) -> None:
        self.asked = 0

    def get_name(self) -> str:
        return "_argus_doctor"

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        return [("/image", ["sensor_msgs/msg/Image"])]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return []

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        self.asked += 1
        name = "driver" if self.asked >= 3 else "_NODE_NAME_UNKNOWN_"
        policy = SimpleNamespace(name="RELIABLE")
        qos = SimpleNamespace(reliability=policy, durability=policy)
        return [SimpleNamespace(node_name=name, node_namespace="/", qos_profile=qos)]


@pytest.mark.slow
def test_it_waits_for_the_name_of_a_publishers_node() -> None:
    found = graph.settled(Discovering(), 0.2)  # type: ignore[arg-type]
    assert found["images"][0]["publishers"][0]["node"] == "/driver"
