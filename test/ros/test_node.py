"""What the node makes of exceptions in its own callbacks: a reason, and a node that goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest
import rclpy
from argus_ros.srv import Ask
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from argus_ros.core.engine_client import EngineState
from argus_ros.core.pipeline import Pipeline
from argus_ros.ros import node as module
from argus_ros.ros import results
from argus_ros.ros.camera import Camera
from argus_ros.ros.diagnostics import ERROR, WARN
from argus_ros.ros.node import ArgusNode


@pytest.fixture
def given() -> dict[str, Any]:
    """Parameters of the node, as given at its start."""
    return {}


@pytest.fixture
def node(alone: None, given: dict[str, Any]) -> Iterator[ArgusNode]:
    context = rclpy.Context()
    rclpy.init(context=context)
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = ArgusNode(context=context, parameter_overrides=overrides)
    yield node
    node.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


def failing(*_: object, **__: object) -> Any:
    raise RuntimeError("can't start new thread")


STEPS = ("configure", "activate", "deactivate", "cleanup")


@pytest.mark.slow  # the engine's process starts
@pytest.mark.parametrize(
    ("step", "where", "name"),
    [
        ("configure", results, "Annotator"),
        ("activate", Camera, "activate"),
        ("deactivate", Pipeline, "clear"),
        ("cleanup", Camera, "deactivate"),
    ],
)
def test_an_exception_in_a_transition_is_an_error_with_its_reason(
    step: str, where: Any, name: str, node: ArgusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before in STEPS[: STEPS.index(step)]:
        assert getattr(node, f"trigger_{before}")() == TransitionCallbackReturn.SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failing)
        assert getattr(node, f"trigger_{step}")() == TransitionCallbackReturn.ERROR
    report = node.engine_health.report(None, {})
    assert (node.engine_health.state, report.level) == (EngineState.FAILED, ERROR)
    assert f"on_{step} failed: RuntimeError: can't start new thread" in report.message
    assert node.pipeline is None
    node.watch()  # diagnostics go on
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS  # from unconfigured


@pytest.mark.slow
def test_configuring_does_not_wait_for_the_model(node: ArgusNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lifecycle manager gives up on a transition after a few seconds; a model may take minutes to load."""
    never = [sys.executable, "-c", "import time; time.sleep(1000)"]
    monkeypatch.setattr(module, "Pipeline", partial(Pipeline, command=never))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert node.pipeline is not None
    assert node.pipeline.engine.info is None  # it has not loaded
    report = node.engine_health.report(None, {})
    assert (node.engine_health.state, report.level) == (EngineState.STARTING, WARN)


@pytest.mark.parametrize(
    "add",
    [
        ArgusNode.add_pre_set_parameters_callback,
        ArgusNode.add_on_set_parameters_callback,
        ArgusNode.add_post_set_parameters_callback,
    ],
)
def test_an_exception_in_a_parameter_callback_is_a_refusal(
    add: Callable[[ArgusNode, Any], None], node: ArgusNode
) -> None:
    add(node, failing)
    result = node.set_parameters_atomically([Parameter("score_threshold", value=0.5)])
    assert not result.successful
    assert result.reason == "RuntimeError: can't start new thread"


@pytest.mark.slow
def test_an_exception_over_a_question_is_its_reason(node: ArgusNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "ask", failing)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    asking = rclpy.create_node("asking", context=node.context)
    client = asking.create_client(Ask, "/argus/ask")
    assert client.wait_for_service(60.0)
    executor = SingleThreadedExecutor(context=node.context)
    for one in (node, asking):
        executor.add_node(one)
    answered = client.call_async(Ask.Request())
    executor.spin_until_future_complete(answered, 60.0)
    response = answered.result()
    assert (response.success, response.reason) == (False, "RuntimeError: can't start new thread")
    executor.shutdown()
    asking.destroy_node()


POSITIONS = {"camera.front.camera_info_topic": "/info", "camera.front.depth_topic": "/depth"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (POSITIONS | {f"camera.front.{name}": "not/a//name"}, f"camera.front.{name}")
        for name in ("topic", "depth_topic", "camera_info_topic")
    ],
)
def test_a_topic_that_cannot_be_is_refused_by_its_parameters_name(name: str, node: ArgusNode) -> None:
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.engine_health.text.startswith(f"{name}: ")


@pytest.mark.skipif(find_spec("tf2_py") is None, reason="tf2_py is not installed")
@pytest.mark.parametrize(
    "given", [{"target_frame": "odom", "qos_overrides./tf_static.subscription.reliability": "perfect"}]
)
def test_an_override_of_tf_that_cannot_be_makes_configuring_fail(node: ArgusNode) -> None:
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.engine_health.text.startswith("/tf_static cannot be subscribed to: ")
