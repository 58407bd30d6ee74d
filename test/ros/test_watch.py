"""The ROS side of `argus watch`: its thread goes on whatever fails, and requests leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from argus_ros.msg import FrameTiming
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from robot import bare_node

from argus_ros.ros.watch import Gate, Station

PATIENCE = 30.0


def at(kind: type[Station], visit: Callable[[Any], Awaitable[None]]) -> None:
    """Visit a station whose node does not run."""

    async def run() -> None:
        station = kind("/nobody", asyncio.get_running_loop())
        try:
            await asyncio.wait_for(visit(station), PATIENCE)
        finally:
            station.close()

    asyncio.run(run())


@pytest.fixture
def somebody(alone: None) -> Iterator[Node]:
    with bare_node("somebody") as node:
        yield node


@pytest.mark.slow
def test_a_callback_that_fails_does_not_end_it(somebody: Node) -> None:
    class Stumbling(Station):
        def _timing(self, message: FrameTiming) -> None:
            if message.camera == "first":
                raise ValueError("not this one")
            super()._timing(message)

    publisher = somebody.create_publisher(FrameTiming, "/nobody/timing", 10)

    async def visit(station: Station) -> None:
        with station.viewing() as viewer:
            news = viewer.messages()
            assert '"hello"' in await anext(news)
            while not publisher.get_subscription_count():
                await asyncio.sleep(0.1)
            publisher.publish(FrameTiming(camera="first"))
            publisher.publish(FrameTiming(camera="second"))
            assert '"camera": "second"' in await anext(news)

    at(Stumbling, visit)


def test_a_request_that_is_not_answered_in_time_is_forgotten(somebody: Node) -> None:
    client = somebody.create_client(GetParameters, "/nobody/get_parameters")

    async def visit(station: Station) -> None:
        assert await station.call(client, GetParameters.Request(), 0.01) is None
        with pytest.raises(KeyError):
            client.get_pending_request(1)  # the first one's number

    at(Station, visit)


class Connection:
    """What the gate looks at of a request."""

    def __init__(self, token: str, **headers: str) -> None:
        self.query_params = {"token": token}
        self.headers = {"host": "robot:80", **headers}


def test_the_gate_takes_any_text() -> None:
    gate = Gate("0.0.0.0", 80, "secret")
    assert gate.refuses(Connection("secret")) == ""
    assert gate.refuses(Connection("secret", origin="http://robot:80"), socket=True) == ""
    assert "token" in gate.refuses(Connection("tökén"))
    assert "other pages" in gate.refuses(Connection("secret", origin="http://["))
