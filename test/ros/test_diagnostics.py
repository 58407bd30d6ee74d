"""What cameras and the engine are reported as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message

from argus_ros.core.engine_client import EngineState
from argus_ros.core.protocol import ModelInfo
from argus_ros.core.types import Answer, Detection, Outcome
from argus_ros.ros.diagnostics import (
    ERROR,
    OK,
    PATIENCE,
    WARN,
    CameraHealth,
    EngineHealth,
    StampGaps,
    to_diagnostics,
)

INTERFACE = (Path(__file__).parents[2] / "docs" / "interface.md").read_text()
PERIOD = 33_333_333


def gaps(stamps: list[int]) -> StampGaps:
    counted = StampGaps()
    for stamp in stamps:
        counted.arrive(stamp)
    return counted


def test_no_gaps_no_loss() -> None:
    jitter = [0, 2, -3, 1, -1, 3]
    counted = gaps([i * PERIOD + jitter[i % 6] * 1_000_000 for i in range(100)])
    assert counted.lost == 0
    assert counted.period == pytest.approx(PERIOD * 1e-9, rel=0.1)


def test_lost_images_are_counted() -> None:
    assert gaps([i * PERIOD for i in range(100) if i < 20 or i % 10]).lost == 8


def test_losing_half_is_no_slower_camera() -> None:
    delivered = [i * PERIOD for i in range(200) if i % 3 or i % 2]
    assert gaps(delivered).lost == pytest.approx(200 - len(delivered), abs=8)


def test_a_pause_and_time_going_back_are_no_loss() -> None:
    stamps = [i * PERIOD for i in range(30)]
    assert gaps([*stamps, *(s + 10**11 for s in stamps), *stamps]).lost == 0


def health(images: int = 0, outcome: Outcome = Outcome.PUBLISHED, error: str = "") -> CameraHealth:
    """A camera at 10 Hz from second 0 on."""
    camera = CameraHealth(deadline=0.2)
    camera.activate(0.0)
    for i in range(images):
        camera.arrived(i * 100_000_000, i / 10)
        camera.ended(outcome, i / 10, error)
    return camera


def test_a_camera_that_is_well() -> None:
    camera = health(100)
    camera.published(0.05, 9.9)
    report = camera.report("/image", 9.95)
    assert report.level == OK
    assert report.values["images per second"] == "10.1"
    assert report.values["age median [s]"] == "0.050"
    assert report.values["published"] == 100


def test_invalid_boxes_are_counted_and_reported_without_valid_ones() -> None:
    camera, one = health(10), Detection("cone", 0.5, 0.0, 0.0, 1.0, 1.0)
    camera.ended(Outcome.PUBLISHED, 0.9, answer=Answer(dropped=3))
    report = camera.report("/image", 1.0)
    assert report.level == WARN
    assert "none of the model's 3 boxes" in report.message
    assert "answer_format" in report.message
    assert report.values["dropped boxes"] == 3
    camera.ended(Outcome.PUBLISHED, 1.0, answer=Answer((one,), dropped=1))
    assert camera.report("/image", 1.0).level == OK
    assert camera.report("/image", 1.0).values["dropped boxes"] == 4


def test_one_that_never_delivers() -> None:
    camera = health()
    assert camera.report("/image", PATIENCE - 0.1).level == OK
    report = camera.report("/image", PATIENCE + 0.1, "nobody publishes it")
    assert report.level == ERROR
    assert "no image yet on /image: nobody publishes it" in report.message


def test_one_that_stops() -> None:
    report = health(10).report("/image", 10.0)
    assert report.level == ERROR
    assert "no image for 9 s" in report.message


def test_a_mismatch_is_why() -> None:
    camera = health()
    camera.mismatch = "incompatible QoS (reliability)"
    assert "reliability" in camera.report("/image", 9.0, "other").message
    other = health(10)
    other.mismatch = camera.mismatch
    assert other.report("/image", 1.0).level == WARN


@pytest.mark.parametrize(
    ("outcome", "level", "text"),
    [
        (Outcome.UNDECODABLE, ERROR, "undecodable: bad"),
        (Outcome.WITHHELD, ERROR, "deadline of 0.2 s; raise it"),
        (Outcome.STALE, ERROR, "deadline"),
        (Outcome.ENGINE_DOWN, WARN, "engine is not ready"),
        (Outcome.DISABLED, OK, "~/enable"),
        (Outcome.SUPERSEDED, OK, "0 answers"),
    ],
)
def test_outcomes_of_images(outcome: Outcome, level: bytes, text: str) -> None:
    report = health(20, outcome, "bad").report("/image", 2.0)
    assert report.level == level
    assert text in report.message


def test_old_problems_are_forgotten() -> None:
    camera = health(20, Outcome.UNDECODABLE, "bad")
    for i in range(150, 300):
        camera.arrived(i * 100_000_000, i / 10)
        camera.ended(Outcome.PUBLISHED, i / 10)
    report = camera.report("/image", 30.0)
    assert report.level == OK
    assert report.values["undecodable"] == 20
    assert report.values["last error"] == "bad"


def test_answers_without_depth_are_counted_and_reported() -> None:
    camera = health(20, Outcome.PUBLISHED)
    camera.position_topics = {"depth topic": "/depth"}
    for i in range(20):
        camera.placed(True, "no depth on /depth" if i % 5 == 0 else "", "", i / 10)
    report = camera.report("/image", 2.0)
    assert report.level == WARN
    assert report.message == "4 of 20 answers without positions: no depth on /depth"
    assert (report.values["with depth"], report.values["without depth"]) == (16, 4)
    assert report.values["depth topic"] == "/depth"
    camera.placed(False, "", "no transform", 1.9)  # of a camera without depth
    assert camera.report("/image", 2.0).values["without transform"] == 1
    assert camera.report("/image", 2.0).values["with depth"] == 16


def test_losses_name_the_remedy() -> None:
    camera = CameraHealth(0.2)
    camera.activate(0.0)
    for i in range(60):
        if i < 20 or i % 3:
            camera.arrived(i * 100_000_000, i / 10)
            camera.ended(Outcome.PUBLISHED, i / 10)
    report = camera.report("/image", 6.0)
    assert report.level == WARN
    assert "fastdds_large_images.xml" in report.message


def test_an_inactive_camera_is_no_trouble() -> None:
    camera = health(5)
    camera.activate(None)
    assert (camera.report("/image", 99.0).level, camera.report("/image", 99.0).message) == (OK, "inactive")


INFO = ModelInfo("argus-nano", "cpu", "float32", ("detect",), (), 160, 1, 25, 4_500_000)


def test_malformed_messages_do_not_count_as_lost() -> None:
    camera = CameraHealth(0.5)
    camera.activate(0.0)
    for number in range(20):
        now = number / 10
        if number in (12, 13):
            camera.malformed(now)
        else:
            camera.arrived(int(now * 1e9), now)
    report = camera.report("/image", 2.0)
    assert (report.level, report.values["malformed"], report.values["lost on the way"]) == (ERROR, 2, 0)
    assert "2 messages on /image cannot be deserialised" in report.message
    camera.ended(Outcome.PUBLISHED, 2.0)
    assert camera.report("/image", 2.0).level == WARN


@pytest.mark.parametrize("told", [True, False])
def test_losses_come_from_the_middleware_or_else_from_gaps_in_stamps(told: bool) -> None:
    """A driver that leaves images out loses none on the way, which stamps alone cannot tell."""
    camera = CameraHealth(0.5)
    camera.losses_reported = told
    camera.activate(0.0)
    for number in range(20):
        now = number / 10
        if number not in (12, 13):
            camera.arrived(int(now * 1e9), now)
    assert camera.report("/image", 2.0).values["lost on the way"] == (0 if told else 2)


@pytest.mark.parametrize("count", [-1, 2**31 - 1, 2**32 - 1, 2**64 - 1])
def test_a_number_of_losses_that_cannot_be_costs_no_time_and_counts_as_one(count: int) -> None:
    camera = CameraHealth(0.5)
    camera.activate(0.0)
    camera.lost(count, 1.0)
    assert camera.report("/image", 2.0).values["lost on the way"] == 1


def test_a_camera_whose_images_all_get_lost_is_not_called_silent() -> None:
    """Raw images of 8K: the middleware says that they are lost, and no stamp ever comes."""
    camera = CameraHealth(0.5)
    camera.activate(0.0)
    for number in range(6):
        camera.lost(1, float(number))
    report = camera.report("/image", 6.0)
    assert (report.level, report.values["lost on the way"]) == (ERROR, 6)
    assert "no image yet on /image: 6 images were lost between camera and node" in report.message
    assert "nobody publishes it" in camera.report("/image", 6.0, "nobody publishes it").message
    camera.arrived(7_000_000_000, 7.0)
    assert "its publisher sends nothing" in camera.report("/image", 12.0).message


def test_the_engine_from_start_to_death_to_recovery() -> None:
    engine = EngineHealth()

    def told(**options: Any) -> tuple[bytes, str]:
        report = engine.report(INFO, {}, **options)
        return report.level, report.message

    assert engine.report(None, {}).level == OK
    engine.changed(EngineState.STARTING, "importing torch")
    assert told() == (WARN, "starting: importing torch")
    engine.changed(EngineState.RUNNING, "argus-nano on cpu")
    assert told(cause="of old") == (OK, "argus-nano on cpu")
    engine.changed(EngineState.DEGRADED, "no memory")
    assert told() == (ERROR, "degraded: no memory")
    engine.changed(EngineState.RECOVERING, "killed by SIGKILL")
    cause = {"cause": "killed by SIGKILL"}
    assert told(**cause, next_try=2.04) == (ERROR, "recovering: killed by SIGKILL; next try in 2.0 s")
    engine.changed(EngineState.RECOVERING, "importing torch")
    assert told(**cause) == (ERROR, "recovering: killed by SIGKILL; importing torch")
    engine.changed(EngineState.RUNNING, "argus-nano on cpu")
    assert told(**cause) == (OK, "argus-nano on cpu")
    engine.changed(EngineState.FAILED, "no such model")
    assert told() == (ERROR, "failed: no such model")


def test_values_are_documented_and_travel() -> None:
    camera = health(20)
    camera.published(0.1, 1.0)
    reports = [camera.report("/image", 2.0), EngineHealth().report(INFO, {"restarts": 0})]
    for report in reports:
        assert [key for key in report.values if f"`{key}`" not in INTERFACE] == []
    message = to_diagnostics(Time(sec=3), [report.status("argus: it", "cpu") for report in reports])
    received = deserialize_message(serialize_message(message), type(message))
    assert received == message
