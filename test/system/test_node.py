"""The node in its two processes, driven over real topics and services as a robot would."""

from __future__ import annotations

import array
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import Any
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from argus_ros.msg import DetectionArray, FrameTiming
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from processes import has_ended
from rcl_interfaces.msg import ParameterType
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from robot import LIVE, WAIT, Robot, crowding, engine_pid, jpeg, picture, start_node, visiting
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage

from argus_ros.core.types import Outcome
from argus_ros.ros.conversions import stamp_ns
from argus_ros.ros.parameter_warnings import OWN_OF_RCLPY
from argus_ros.ros.traces import trace_id

INTERFACE = Path(__file__).parents[2] / "docs" / "interface.md"
PUBLISHER = Path(__file__).with_name("image_publisher.py")
POLICY = Path(__file__).parents[2] / "config" / "sros2_policy.xml"


@pytest.fixture(scope="module")
def shared(shared_ros: Any, blank: Path) -> Iterator[Robot]:
    """Visits a node that several tests use: its model is loaded once."""
    shared_ros.node = start_node(shared_ros, blank, tracking=True, engine_hang_seconds=600.0)
    with visiting() as robot:
        yield robot


@pytest.fixture
def robot(request: pytest.FixtureRequest) -> Iterator[Robot]:
    """Visits the node that the test starts itself, else the shared one as if that had just been started."""
    if "start" in request.fixturenames:
        request.getfixturevalue("ros")
        with visiting() as robot:
            yield robot
        return
    robot = request.getfixturevalue("shared")
    engine = engine_pid(robot)
    robot.forget_all()  # late messages of the test before have arrived by now
    yield robot
    os.kill(engine, signal.SIGCONT)  # where a test failed before it did
    robot.rest()
    assert robot.set(**LIVE) == (True, "")
    assert robot.call("enable", data=True).success
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        assert robot.change(transition)


@pytest.fixture
def start(ros: Any, blank: Path) -> Callable[..., Any]:
    """Start a node for this test alone: ``start(deadline=1.0)``."""
    return partial(start_node, ros, blank)


def discovered(names: Callable[[], set[str]], expected: set[str]) -> bool:
    """Whether these are the names, once all of them have been heard of."""
    moment = threading.Event()
    for _ in range(int(10 * WAIT)):
        if names() >= expected:
            return names() == expected
        moment.wait(0.1)
    return False


def test_images_in_detections_out(robot: Robot) -> None:
    camera, image = robot.camera(), picture()
    sent: set[bytes] = set()

    def arrived() -> bool:
        sent.add(bytes(serialize_message(image.header)))
        return any(d.detections for d in robot.heard("/argus/detections"))

    robot.show(camera, image, arrived)
    found = next(d for d in robot.heard("/argus/detections") if d.detections)
    assert bytes(serialize_message(found.header)) in sent
    assert (found.camera, found.task, found.image_width, found.image_height) == ("front", "detect", 160, 120)
    assert found.status in (DetectionArray.OK, DetectionArray.TRUNCATED)
    assert found.latency > 0
    assert found.age >= found.latency
    for one in found.detections:
        assert one.label in ("cone", "ball", "box")
        assert 0 <= one.x_min < one.x_max <= 160
        assert 0 <= one.y_min < one.y_max <= 120
    timing = robot.wait("/argus/timing", lambda t: t.outcome == FrameTiming.PUBLISHED)
    assert timing.total > timing.prepare > 0

    # Parameters change while it runs: nothing scores 1, and silence would mean trouble.
    assert robot.set(score_threshold=1.0) == (True, "")
    robot.forget("/argus/detections")
    robot.show(camera, image, lambda: any(not d.detections for d in robot.heard("/argus/detections")))

    # Refused, with a reason, all or nothing.
    done, reason = robot.set(score_threshold=0.5, classes=["unicorn"])
    assert not done
    assert "unicorn" in reason
    assert "cone, ball, box" in reason
    values = robot.call("get_parameters", names=["score_threshold", "classes"]).values
    assert (values[0].double_value, list(values[1].string_array_value)) == (1.0, [""])
    done, reason = robot.set(model="other")
    assert not done
    assert "unconfigured" in reason
    assert not robot.set(camera__front__weight=-1.0)[0]
    done, reason = robot.set(score_threshold=0.5, score_treshold=0.5)
    assert not done
    assert "did you mean 'score_threshold'?" in reason
    assert not robot.set(camera__front__region=[1, 2, 3])[0]

    assert robot.set(score_threshold=0, classes=["box"], camera__front__region=[80, 60, 0, 0]) == (True, "")
    robot.forget("/argus/detections")

    def boxes() -> list[Any]:
        return [one for d in robot.heard("/argus/detections") for one in d.detections if one.x_min >= 80]

    robot.show(camera, image, boxes)
    assert {one.label for one in boxes()} == {"box"}


def test_work_is_paused_and_resumed_without_a_change_of_the_lifecycle(robot: Robot) -> None:
    sent = robot.stream(robot.camera(), picture())
    robot.wait("/argus/detections")
    paused = robot.call("enable", data=False)
    assert paused.success
    assert "DISABLED" in paused.message
    robot.forget_all()
    robot.wait("/argus/timing", lambda t: t.outcome == FrameTiming.DISABLED)
    assert {t.outcome for t in robot.heard("/argus/timing")} == {FrameTiming.DISABLED}
    assert all(bytes(serialize_message(t.header)) in sent for t in robot.heard("/argus/timing"))
    assert robot.heard("/argus/detections") == []
    assert robot.state() == State.PRIMARY_STATE_ACTIVE
    refused = robot.call("ask", camera="front", deadline=30.0)
    assert (refused.success, "~/enable" in refused.reason) == (False, True)
    assert "paused" in robot.status("camera front", lambda s: "paused" in s.message).message
    robot.status(
        "engine", lambda s: {"enabled": "False"}.items() <= {v.key: v.value for v in s.values}.items()
    )

    # It holds over a change of the lifecycle.
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        assert robot.change(transition)
    robot.forget_all()
    robot.wait("/argus/timing", lambda t: t.outcome == FrameTiming.DISABLED)
    assert robot.call("enable", data=True).success
    robot.wait("/argus/detections")


def test_prometheus_gets_the_values_of_timing(robot: Robot, start: Callable[..., Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start(metrics_port=port)
    moment = threading.Event()

    def counts() -> Counter[str]:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.findall(r'^argus_frames_total{camera="front",outcome="(\w+)"} (\S+)', text, re.MULTILINE)
        return Counter({outcome: int(float(count)) for outcome, count in found})

    def settled() -> Counter[str]:
        """Once no frame is on its way any more."""
        before = counts()
        while moment.wait(0.5) or (now := counts()) != before:
            before = now
        return before

    camera = robot.camera()
    robot.show(camera, picture(), lambda: robot.heard("/argus/detections"))
    before = settled()
    robot.forget("/argus/timing")
    robot.show(camera, picture(), lambda: len(robot.heard("/argus/timing")) >= 3)
    told = settled() - before
    assert told["published"] >= 1
    assert told == Counter(Outcome(t.outcome).name.lower() for t in robot.heard("/argus/timing"))
    # A second node finds the port taken, says so, and does not configure.
    other = start(metrics_port=port)
    assert "set metrics_port" in other.wait_for("metrics cannot be served", WAIT)


def test_a_collector_gets_the_trace_of_what_was_published(robot: Robot, start: Callable[..., Any]) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from collector import Collector

    with Collector() as collector:
        start(traces_endpoint=collector.address)
        robot.show(robot.camera(), picture(), lambda: robot.heard("/argus/detections"))
        identity = trace_id("front", stamp_ns(robot.heard("/argus/detections")[0].header)).to_bytes(16, "big")
        root = collector.wait(lambda s: s.name == "frame" and s.trace_id == identity, WAIT)
        stages = [span.name for span in collector.spans() if span.parent_span_id == root.span_id]
    assert {"queue", "preprocess", "prefill", "decode", "publish"} <= set(stages)


def test_objects_keep_their_names_while_tracking_is_on(robot: Robot) -> None:
    robot.show(robot.camera(), picture(), lambda: len(robot.heard("/argus/detections")) >= 4)
    names = [[one.track_id for one in d.detections] for d in robot.heard("/argus/detections")]
    assert all(names[0])
    assert len(set(names[0])) == len(names[0])
    assert all(set(later) == set(names[0]) for later in names)


def test_a_question_is_answered_beside_the_stream(robot: Robot) -> None:
    engine = engine_pid(robot)
    refused = robot.ask(camera="front")
    assert not refused.success
    assert refused.reason == "no image of camera front has arrived"
    sent = robot.stream(robot.camera(), picture())
    robot.wait("/argus/detections")

    answered = robot.ask(classes=["box"], deadline=30.0)
    assert answered.success, answered.reason
    answer = answered.answer
    assert bytes(serialize_message(answer.header)) in sent
    assert (answer.camera, answer.task, answer.image_width) == ("front", "detect", 160)
    assert {one.label for one in answer.detections} == {"box"}
    assert answer.age > answer.latency > 0
    answered = robot.ask(prompt="How many cones are there?", deadline=30.0)
    assert (answered.success, answered.reason, answered.answer.task) == (True, "", "ask")

    assert "unicorn" in robot.ask(classes=["unicorn"]).reason
    unknown = robot.ask(prompt="is the door open?")
    assert not unknown.success
    assert "it answers 'how many CLASSES are there' and 'is there a [COLOUR] CLASS'" in unknown.reason
    assert "cannot do 'ground'" in robot.ask(task="ground", prompt="the box").reason
    assert "there is no camera 'rear'; there is front" in robot.ask(camera="rear").reason
    assert "the shortest that works" in robot.ask(deadline=1e-4).reason

    # While one is being answered everything else is, too.
    os.kill(engine, signal.SIGSTOP)
    waiting = robot.begin("ask", deadline=60.0)
    assert robot.set(score_threshold=0.1) == (True, "")
    too_late = robot.ask(deadline=1.0)
    assert not too_late.success
    assert "late" in too_late.reason or "deadline" in too_late.reason
    assert not waiting.done()
    os.kill(engine, signal.SIGCONT)
    assert robot.result(waiting).success
    stamps = [(t.header.stamp.sec, t.header.stamp.nanosec) for t in robot.heard("/argus/timing")]
    assert len(stamps) == len(set(stamps)), "a question is no image of the stream"


def test_parameters_are_answered_while_an_inference_is_outstanding(
    robot: Robot, record_property: Callable[[str, object], None]
) -> None:
    engine = engine_pid(robot)
    robot.stream(robot.camera(), picture())
    robot.wait("/argus/detections")
    os.kill(engine, signal.SIGSTOP)  # an inference as long as wanted
    robot.forget("/argus/timing")
    robot.wait("/argus/timing", lambda t: t.outcome == FrameTiming.SUPERSEDED)
    assert robot.set(score_threshold=0.5) == (True, "")
    answered = len(robot.heard("/argus/detections"))
    taken = []
    for number in range(20):
        asked = time.monotonic()
        assert robot.set(score_threshold=number / 100) == (True, "")
        taken.append(time.monotonic() - asked)
    assert len(robot.heard("/argus/detections")) == answered, "the inference is still outstanding"
    record_property("to set a parameter meanwhile, median", f"{statistics.median(taken) * 1e3:.1f} ms")
    assert statistics.median(taken) < 0.05 * crowding()
    os.kill(engine, signal.SIGCONT)
    robot.forget("/argus/detections")
    robot.wait("/argus/detections")


def test_late_answers_are_published_on_request_and_marked(robot: Robot) -> None:
    engine = engine_pid(robot)
    robot.stream(robot.camera(), picture())
    robot.wait("/argus/detections")
    assert robot.set(publish_late=True, camera__front__deadline=5.0) == (True, "")
    late = []
    while not late:  # what is stopped need not be at work
        robot.forget("/argus/timing")
        os.kill(engine, signal.SIGSTOP)
        robot.wait("/argus/timing", lambda t: t.outcome == FrameTiming.STALE)  # one waited 5 s
        robot.forget("/argus/detections")
        os.kill(engine, signal.SIGCONT)
        robot.wait("/argus/detections")
        late = [d for d in robot.heard("/argus/detections") if d.status == DetectionArray.LATE]
    assert late[0].age > 5.0


def test_bad_images_are_dropped_and_compressed_ones_taken(robot: Robot, shared_ros: Any) -> None:
    assert robot.set(camera__front__topic="/squeezed") == (True, "")
    camera = robot.camera(CompressedImage, "/squeezed/compressed")
    broken = CompressedImage(format="jpeg", data=array.array("B", b"no picture"))
    robot.show(
        camera,
        broken,
        lambda: any(t.outcome == FrameTiming.UNDECODABLE for t in robot.heard("/argus/timing")),
    )
    shared_ros.node.wait_for("neither JPEG nor PNG")
    robot.status("camera front", lambda s: s.level == DiagnosticStatus.ERROR and "undecodable" in s.message)
    robot.listen(CompressedImage, "/argus/annotated/compressed")
    robot.show(camera, jpeg(), lambda: robot.heard("/argus/annotated/compressed"))
    drawn = robot.heard("/argus/annotated/compressed")[0]
    assert cv2.imdecode(np.frombuffer(drawn.data, np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)


def test_an_engine_that_dies_or_hangs_is_reported_and_replaced(
    robot: Robot, start: Callable[..., Any]
) -> None:
    process = start(engine_hang_seconds=1.0)
    first = engine_pid(robot)
    camera, image = robot.camera(), picture()
    robot.show(camera, image, lambda: robot.heard("/argus/detections"))

    os.kill(first, signal.SIGKILL)
    robot.status("engine", lambda s: s.level == DiagnosticStatus.ERROR and "SIGKILL" in s.message)
    second = engine_pid(robot)
    assert second != first
    robot.forget("/argus/detections")
    robot.show(camera, image, lambda: robot.heard("/argus/detections"))

    os.kill(second, signal.SIGSTOP)
    robot.show(camera, image, lambda: "hung: no answer" in process.output)
    assert engine_pid(robot) not in (first, second)
    robot.forget("/argus/detections")
    robot.show(camera, image, lambda: robot.heard("/argus/detections"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_it_ends_at_a_signal_in_the_middle_of_an_inference(
    robot: Robot, start: Callable[..., Any], number: signal.Signals
) -> None:
    """And its engine with it, which is stopped and can do nothing about it."""
    process = start()
    engine = engine_pid(robot)
    camera, image = robot.camera(), picture()
    robot.show(camera, image, lambda: robot.heard("/argus/detections"))
    os.kill(engine, signal.SIGSTOP)  # an inference that never ends
    robot.forget("/argus/timing")
    robot.show(  # one is with the engine now, so others are superseded
        camera, image, lambda: any(t.outcome == FrameTiming.SUPERSEDED for t in robot.heard("/argus/timing"))
    )
    watch = os.pidfd_open(engine)
    process.signal(number)
    assert process.wait(2.0 * crowding()) == (-number if number is signal.SIGKILL else 0)
    assert select.select([watch], [], [], WAIT)[0]  # readable once the engine's process has ended
    os.close(watch)
    assert "Traceback" not in process.output
    if number is not signal.SIGKILL:  # it has taken leave; of a process that was killed others hear in 20 s
        for _ in range(100):
            if "argus" not in robot.node.get_node_names():
                break
            threading.Event().wait(0.1)
        assert "argus" not in robot.node.get_node_names()


@pytest.mark.parametrize(
    ("number", "moments"),
    [
        (signal.SIGINT, (0.0, 0.3, 1.5)),
        (signal.SIGTERM, (0.01, 0.6, 3.0)),
        (signal.SIGHUP, (0.03, 0.1, 1.0)),
    ],
)
def test_a_signal_during_the_start_ends_the_node_in_order(
    ros: Any, start: Callable[..., Any], number: signal.Signals, moments: tuple[float, ...]
) -> None:
    """From Python's first instruction on: while it imports, makes the node, and while the engine loads."""
    for moment in moments:
        process = start()
        wait = threading.Event().wait
        command = Path(f"/proc/{process.pid}/cmdline")  # first a shell's, then env's
        while not re.match(r"[^\0]*python3\0[^\0]*argus_node\.py\0", command.read_text()):
            wait(0.001)
        wait(moment)
        process.signal(number)
        assert process.wait() == 0, moment
        assert "Traceback" not in process.output
        assert "not valid" not in process.output


def test_cameras_come_and_go_while_it_runs(robot: Robot, start: Callable[..., Any]) -> None:
    start(
        preset="realtime+still_gate+token_budget",
        camera__rear__topic="/behind",  # for when it comes
        camera__rear__deadline=30.0,
    )
    front, rear, image = robot.camera(), robot.camera(topic="/behind"), picture()

    def heard_of(camera: str) -> list[Any]:
        return [d for d in robot.heard("/argus/detections") if d.camera == camera]

    robot.show(front, image, lambda: heard_of("front"))
    assert robot.set(cameras=["front", "rear"]) == (True, "")
    robot.show(rear, image, lambda: heard_of("rear"))

    # The scene stands still.
    reused = DetectionArray.REUSED
    robot.show(rear, image, lambda: any(d.status == reused for d in heard_of("rear")))
    assert not robot.set(camera__rear__deadline=0.0)[0]  # what is too short for this engine: test_pipeline.py

    assert robot.set(cameras=["rear"], score_threshold=0.5) == (True, "")
    assert not robot.set(camera__rear__topic="two words")[0]
    robot.forget("/argus/detections")
    assert robot.set(camera__rear__topic="/above") == (True, "")
    above = robot.camera(topic="/above")

    def show_all() -> list[Any]:
        front.publish(image)
        rear.publish(image)
        return heard_of("rear")

    robot.show(above, image, show_all)
    assert not heard_of("front")
    assert robot.set(cameras=["rear", "front"], camera__front__weight=2.0) == (True, "")
    robot.show(front, image, lambda: heard_of("front"))


def test_a_looped_recording_with_its_clock_keeps_going(
    robot: Robot, start: Callable[..., Any], ros: Any, tmp_path: Path
) -> None:
    begin, period, count = 1_700_000_000_000_000_000, 100_000_000, 10
    types = get_typestore(Stores.ROS2_JAZZY)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        images = bag.add_connection(
            "/front/image_raw/compressed", "sensor_msgs/msg/CompressedImage", typestore=types
        )
        for stamp in range(begin, begin + count * period, period):
            image = jpeg()
            image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
            bag.write(images, stamp, bytes(serialize_message(image)))
    process = start(use_sim_time=True)
    engine_pid(robot)
    ros.start("player", sys.executable, "-m", "argus_ros.ros.player", tmp_path / "bag", "--clock", "--loop")

    def rounds(_: Any) -> bool:
        stamps = [d.header.stamp.nanosec for d in robot.heard("/argus/detections")]
        return sum(later < earlier for earlier, later in pairwise(stamps)) >= 3

    robot.wait("/argus/detections", rounds)
    ages = [d.age for d in robot.heard("/argus/detections")]
    assert all(0.0 <= age < 30.0 for age in ages)
    process.wait_for("the ROS clock went back")
    assert "ages count from arrival" not in process.output
    robot.status("camera front", lambda s: s.level == DiagnosticStatus.OK)


def test_lifecycle(robot: Robot, start: Callable[..., Any], blank: Path) -> None:
    wrong = {"qos_overrides./right.subscription.depth": "many"}
    start(autostart="false", model="no-such-model", **wrong)
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert not robot.change(Transition.TRANSITION_CONFIGURE)
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    robot.status("engine", lambda s: s.level == DiagnosticStatus.ERROR and "no-such-model" in s.message)
    assert not robot.set(model="nor-this-one")[0]
    assert robot.set(model=str(blank), cameras=["left", "right"]) == (True, "")
    assert robot.set(camera__left__topic="/left", camera__right__topic="/right") == (True, "")

    assert robot.change(Transition.TRANSITION_CONFIGURE)
    engine = engine_pid(robot)
    assert robot.node.count_subscribers("/left") == 0
    robot.camera(topic="/left")
    robot.camera(topic="/right")
    assert robot.change(Transition.TRANSITION_ACTIVATE)
    status = robot.status("camera right", lambda s: s.level == DiagnosticStatus.ERROR)  # of that one alone
    assert "/right cannot be subscribed to" in status.message
    assert "'many'" in status.message
    robot.status("camera left", lambda s: s.level == DiagnosticStatus.ERROR and "/left" in s.message)
    assert robot.node.count_subscribers("/left") == 1
    assert robot.change(Transition.TRANSITION_DEACTIVATE)
    robot.status("camera left", lambda s: s.message == "inactive")
    assert not has_ended(engine)
    assert robot.change(Transition.TRANSITION_CLEANUP)
    assert has_ended(engine)
    assert robot.change(Transition.TRANSITION_CONFIGURE)
    assert robot.change(Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert robot.state() == State.PRIMARY_STATE_FINALIZED


def test_models_that_cannot_be_read_are_refused_and_the_node_lives(
    robot: Robot, start: Callable[..., Any], blank: Path, tmp_path: Path
) -> None:
    loop, locked, broken = (tmp_path / name for name in ("loop", "locked", "broken"))
    loop.symlink_to(loop)
    locked.mkdir(mode=0)
    broken.mkdir()
    (broken / "config.json").write_bytes(b'{"model_type": "\xff')

    # At start it stays unconfigured, and says why.
    process = start(model="~nosuchuser/model")
    status = robot.status("engine", lambda s: s.level == DiagnosticStatus.ERROR)
    assert "checkpoint '~nosuchuser/model' cannot be opened" in status.message
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED

    for path, reason in (
        ("~nosuchuser/model", "cannot be opened"),
        ("x" * 5000, "cannot be opened: File name too long"),
        (str(loop), "no checkpoint"),
        (str(locked), "cannot be opened" if os.geteuid() else "no checkpoint"),
        (str(broken), "config.json"),
        ("", "no checkpoint"),
    ):
        done, said = robot.set_one("model", path)
        assert not done, path
        assert reason in said
        assert len(said) < 500
    assert robot.set_one("model", str(blank)) == (True, "")
    assert robot.change(Transition.TRANSITION_CONFIGURE)
    assert robot.change(Transition.TRANSITION_ACTIVATE)
    assert "while the node is unconfigured" in robot.set_one("model", "~nosuchuser/model")[1]
    robot.show(robot.camera(), picture(), lambda: robot.heard("/argus/detections"))
    assert "Traceback" not in process.output


def test_invalid_outputs_are_reported(robot: Robot, start: Callable[..., Any]) -> None:
    start(**{"qos_overrides./argus/timing.publisher.depth": "many"})
    status = robot.status("engine", lambda s: s.level == DiagnosticStatus.ERROR)
    assert "qos_overrides of /argus/timing" in status.message
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED


def test_silence_and_a_qos_that_does_not_fit_are_reported(robot: Robot, start: Callable[..., Any]) -> None:
    process = start(camera__front__reliability="reliable", camera__front__transport="raw")
    status = robot.status("camera front", lambda s: s.level == DiagnosticStatus.ERROR)
    assert "nobody publishes it" in status.message
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    robot.listen(DetectionArray, "/argus/detections", latched)
    robot.status("outputs", lambda s: s.level == DiagnosticStatus.WARN and "durability" in s.message)
    robot.camera()
    line = process.wait_for("offers an incompatible QoS")
    assert "reliability" in line
    assert "/front/image_raw" in line
    robot.status("camera front", lambda s: s.level == DiagnosticStatus.ERROR and "reliability" in s.message)


#: Starts a program as another user who may read what this one has, such as the environment.
AS_ANOTHER = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


@pytest.mark.skipif(
    os.geteuid() != 0 or not which("setpriv") or subprocess.run([*AS_ANOTHER, "true"]).returncode != 0,
    reason="only root starts a program as another user",
)
def test_a_driver_of_another_user_is_named_as_the_cause(
    robot: Robot, start: Callable[..., Any], ros: Any, tmp_path: Path
) -> None:
    logs = tmp_path / "of another"
    logs.mkdir()
    os.chown(logs, 65534, 65534)
    start(camera__front__topic="/image", camera__front__transport="raw")
    driver = [*AS_ANOTHER, sys.executable, PUBLISHER, "160", "120", "100000"]
    ros.start("driver", *driver, environment={"ROS_LOG_DIR": str(logs)})
    reported = re.compile("memory does not work between users|^[1-9][0-9]* images")
    status = robot.status("camera front", lambda s: reported.search(s.message))
    if "images," in status.message:
        pytest.skip("this Fast DDS passes images on between users")
    assert "a process of user nobody is in this ROS domain" in status.message
    assert status.level == DiagnosticStatus.ERROR


def test_parameters_are_described(robot: Robot, start: Callable[..., Any]) -> None:
    start(autostart="false", score_treshold=0.5).wait_for("; did you mean 'score_threshold'?")
    names = ["autostart", "score_threshold", "camera.front.region"]
    descriptors = robot.call("describe_parameters", names=names).descriptors
    assert descriptors[0].read_only
    assert descriptors[1].floating_point_range[0].to_value == 1.0
    assert descriptors[2].type == ParameterType.PARAMETER_INTEGER_ARRAY
    assert all(descriptor.description for descriptor in descriptors)


def test_the_sros2_policy_has_exactly_what_the_node_uses(robot: Robot) -> None:
    """For one camera, front; what a subscription to another kind of image takes is allowed as well."""
    policy = ElementTree.parse(POLICY).getroot()
    for name, namespace in (("argus", "/"), ("_argus_front", "/")):
        profile = policy.find(f".//profile[@node='{name}'][@ns='{namespace}']")
        assert profile is not None

        def allowed(path: str, profile: ElementTree.Element = profile) -> set[str]:
            return {(one.text or "").replace("~", "/argus") for one in profile.findall(path)}

        node, own = robot.node, (name, namespace)
        published = {topic for topic, _ in node.get_publisher_names_and_types_by_node(*own)}
        subscribed = {topic for topic, _ in node.get_subscriber_names_and_types_by_node(*own)}
        served = {service for service, _ in node.get_service_names_and_types_by_node(*own)}
        optional = (
            {"/argus/detections_2d", "/argus/detections_3d/vision"}
            if find_spec("vision_msgs") is None
            else set()
        )
        assert published == allowed("topics[@publish='ALLOW']/topic") - optional
        assert subscribed - {"/parameter_events"} <= allowed("topics[@subscribe='ALLOW']/topic")
        assert served == allowed("services[@reply='ALLOW']/service")


def test_fifty_questions_at_once_are_all_answered_or_refused(robot: Robot) -> None:
    robot.stream(robot.camera(), picture())
    robot.wait("/argus/detections")
    asked = [robot.begin("ask", deadline=30.0) for _ in range(50)]
    answers = [robot.result(future) for future in asked]
    assert all(answer.success or "questions are being answered" in answer.reason for answer in answers)
    assert any(answer.success for answer in answers)


def test_the_interface_is_the_documented_one(robot: Robot, start: Callable[..., Any]) -> None:
    """docs/interface.md against the running node, both ways."""
    start(autostart="false")
    assert robot.change(Transition.TRANSITION_CONFIGURE)
    document = INTERFACE.read_text()
    topics = re.search(r"^Published.*?\n\n(.*?)\n\n", document, re.DOTALL | re.MULTILINE)
    assert topics
    documented = dict(re.findall(r"^\| `(\S+)` \| `(\S+)/(?:\S+)`", topics[1], re.MULTILINE))
    if find_spec("vision_msgs") is None:
        del documented["~/detections_2d"], documented["~/detections_3d/vision"]

    def published() -> set[str]:
        names = {name for name, _ in robot.node.get_publisher_names_and_types_by_node("argus", "/")}
        return names - {"/rosout", "/parameter_events"}

    def served() -> set[str]:
        services = robot.node.get_service_names_and_types_by_node("argus", "/")
        return {
            name
            for name, kinds in services
            if any(kind.startswith(("argus_ros/", "std_srvs/")) for kind in kinds)
        }

    assert discovered(published, {name.replace("~", "/argus") for name in documented})
    documented = re.findall(
        r"^\| `(~/\w+)` \| `(?:argus_ros|std_srvs)/\w+` \| ", document.split("## Services")[1], re.M
    )
    assert discovered(served, {name.replace("~", "/argus") for name in documented})
    names = robot.call("list_parameters").result.names
    tables = set(re.findall(r"^\| `([\w.]+)` \| (?:boolean|integer|double|string)", document, re.MULTILINE))
    own = {name for name in names if not name.startswith(OWN_OF_RCLPY)}
    assert {name.replace("NAME", "front") for name in tables} == own


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"score_threshold": 2.0}, "score_threshold"),
        ({"task": "sing"}, "detect, ground"),
        ({"threads": "many"}, "threads"),
        ({"prompt": 123}, "prompt"),  # YAML's number, bool and date are no words
        ({"classes": "[on, off]"}, "classes"),
        ({"cameras": "['a b']"}, "'a b'"),
        ({"classes": "[cone"}, "[cone"),  # rcl's to refuse
    ],
)
def test_a_wrong_parameter_at_start_ends_it_with_a_reason(
    start: Callable[..., Any], given: dict[str, object], reason: str
) -> None:
    process = start(**given)
    assert process.wait(WAIT) == 1
    assert process.output.splitlines()[-1].startswith("argus_node: ")
    assert reason in process.output
    assert "Traceback" not in process.output
