"""Frames in, reports out, with a real process at the other end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from watched import PATIENCE, UNHURRIED, Watched, asking, picture

from argus_ros.core.engine_client import EngineState
from argus_ros.core.frame import CameraPolicy, Level, PolicyError
from argus_ros.core.image import Image, Region
from argus_ros.core.job import Report
from argus_ros.core.pipeline import Camera
from argus_ros.core.questions import AskError
from argus_ros.core.runs import PUBLISH_MARGIN
from argus_ros.core.types import Detection, Outcome, Status, Task


def test_a_frame_comes_back_as_a_result_with_its_header(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("", "cone", "ball")})
    watched.ready()
    header = watched.offer(picture(80))
    result = watched.results.get(timeout=PATIENCE)
    assert (result.camera, result.header, result.outcome) == ("front", header, Outcome.PUBLISHED)
    assert result.answer is not None
    assert result.answer.text == "80 cone,ball"
    assert result.answer.detections == (Detection("cone", 0.9, 0, 0, 32, 12),)
    assert (result.width, result.height) == (64, 48)
    report = watched.report()
    times = report.times
    assert 0 < times.prepare < times.total
    assert 0 < times.wait < times.total
    assert 0 < times.publish < times.total
    assert result.times.total < times.total


def test_while_disabled_every_frame_is_reported_and_none_is_answered(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking()})
    watched.ready()
    assert watched.report_of_next().outcome is Outcome.PUBLISHED
    watched.pipeline.set_enabled(False)
    refused = [watched.report_of_next() for _ in range(3)]
    assert {(report.outcome, report.answer) for report in refused} == {(Outcome.DISABLED, None)}
    assert "~/enable" in refused[0].reason
    with pytest.raises(AskError, match="~/enable"):
        watched.pipeline.ask("front", Task(), 0.0, lambda report: None)
    watched.pipeline.set_enabled(True)
    assert watched.report_of_next().outcome is Outcome.PUBLISHED
    assert watched.pipeline.counts()["front"] == {Outcome.PUBLISHED: 2, Outcome.DISABLED: 3}


@dataclass(frozen=True, eq=False)
class SlowImage(Image):
    """Takes as long to prepare as the test wants."""

    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def size(self) -> tuple[int, int]:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        return super().size()


def slow_picture() -> SlowImage:
    image = picture()
    return SlowImage(image.data, image.encoding, image.width, image.height, image.step)


@pytest.mark.slow
def test_a_picture_that_takes_long_holds_up_its_own_camera_alone(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking(), "rear": asking()})
    watched.ready()
    for _ in range(2):
        slow = slow_picture()
        held_up = watched.offer(slow)
        assert slow.begun.wait(PATIENCE)
        for _ in range(5):
            header = watched.offer(camera="rear")
            report = watched.report()
            assert (report.header, report.outcome) == (header, Outcome.PUBLISHED)
        slow.go_on.set()
        report = watched.report()
        assert (report.header, report.outcome) == (held_up, Outcome.PUBLISHED)


@pytest.mark.slow
def test_stopping_does_not_wait_for_a_picture(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking(), "rear": asking()})
    watched.ready()
    pictures = slow_picture(), slow_picture()
    for slow, camera in zip(pictures, ("front", "rear"), strict=True):
        watched.offer(slow, camera)
        assert slow.begun.wait(PATIENCE)
    assert {report.outcome for report in watched.all_reports().values()} == {Outcome.ENGINE_DOWN}
    for slow in pictures:
        slow.go_on.set()


def test_boxes_are_moved_out_of_the_region_of_interest(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking(region=Region(20, 10, 40, 20))})
    watched.ready()
    watched.offer()
    result = watched.results.get(timeout=PATIENCE)
    assert result.answer is not None
    assert result.answer.detections == (Detection("cone", 0.9, 20, 10, 40, 15),)
    assert (result.width, result.height) == (64, 48)


@pytest.mark.slow
def test_the_newest_frame_wins_and_every_frame_is_reported(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("brief"), "rear": asking("brief")})
    watched.ready()
    for _ in range(50):
        watched.offer(camera="front")
        watched.offer(camera="rear")
    published, newest = 0, {98, 99}
    while newest:
        newest.discard(watched.results.get(timeout=PATIENCE).header)
        published += 1
    outcomes = Counter(watched.report().outcome for _ in range(100))
    assert outcomes == {Outcome.PUBLISHED: published, Outcome.SUPERSEDED: 100 - published}
    assert 2 <= published < 20


def test_bad_pictures_are_counted_with_their_reason(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking()})
    watched.ready()
    watched.offer(Image(bytes(10), "rgb8", 64, 48, 192))
    report = watched.report()
    assert report.outcome is Outcome.UNDECODABLE
    assert "needs 9216 bytes but carries 10" in report.reason
    watched.offer(Image(object(), "rgb8", 64, 48, 192))  # no picture at all
    assert watched.report().outcome is Outcome.UNDECODABLE
    watched.offer()
    assert watched.report().outcome is Outcome.PUBLISHED


@pytest.mark.slow
def test_the_next_frame_is_prepared_while_one_runs(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("sleep"), "rear": asking()})
    watched.ready()
    watched.offer(camera="front")
    watched.asleep()
    # Prepared although the engine is busy, as its refusal shows.
    watched.offer(Image(bytes(10), "rgb8", 64, 48, 192), camera="rear")
    assert watched.report().outcome is Outcome.UNDECODABLE


@pytest.mark.slow
def test_a_frame_in_flight_keeps_its_task(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("brief", "cone")})
    watched.ready()
    watched.offer()
    while watched.pipeline.engine.pending == 0 and watched.results.empty():
        time.sleep(0.001)
    watched.pipeline.set_camera("front", asking("", "ball"))
    watched.offer()
    first, second = watched.report(), watched.report()
    assert (first.task.classes, second.task.classes) == (("cone",), ("ball",))
    assert first.answer
    assert second.answer
    assert (first.answer.text, second.answer.text) == ("50 cone", "50 ball")


def test_frames_too_old_are_not_published(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": Camera(CameraPolicy(deadline=0.5))})
    watched.ready()
    watched.offer(age=1.0)
    assert watched.report().outcome is Outcome.STALE
    watched.offer(age=3600.0)  # no age but another clock
    assert watched.report().outcome is Outcome.PUBLISHED
    assert ["3600.0 s behind" in text for text in watched.warnings] == [True]


@pytest.mark.slow
def test_a_late_answer_is_withheld(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": Camera(CameraPolicy(deadline=0.04), Task(prompt="brief"))})
    watched.ready()
    watched.offer()
    report = watched.report()
    assert report.outcome is Outcome.WITHHELD
    assert report.answer is not None
    assert watched.results.empty()
    watched.pipeline.publish_late = True
    while (report := watched.report_of_next()).outcome is Outcome.STALE:  # until the next probe
        pass
    assert report.outcome is Outcome.PUBLISHED
    assert report.answer is not None
    assert report.answer.status is Status.LATE
    assert watched.results.get(timeout=PATIENCE).header == report.header


def test_an_answer_cut_short_for_its_deadline_is_published(watch: Callable[..., Watched]) -> None:
    """The engine is told when to stop, so that there is time left to publish."""
    watched = watch({"front": asking("cut")})
    watched.ready()
    report = watched.report_of_next()
    assert report.outcome is Outcome.PUBLISHED
    assert report.answer is not None
    assert report.answer.status is Status.TRUNCATED
    assert report.answer.text == f"{UNHURRIED.deadline - PUBLISH_MARGIN:.3f}"


def test_rate_caps(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": Camera(CameraPolicy(deadline=PATIENCE, rate_cap=0.01))})
    watched.ready()
    outcomes = []
    for _ in range(4):
        watched.offer()
        outcomes.append(watched.report().outcome)
    assert outcomes[0] is Outcome.PUBLISHED
    assert outcomes[-1] is Outcome.RATE_LIMITED


@pytest.mark.slow
def test_while_the_engine_loads_frames_are_reported(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking()}, "never")
    watched.offer()
    report = watched.report()
    assert report.outcome is Outcome.ENGINE_DOWN
    assert "engine" in report.reason


def test_a_bad_configuration_is_the_reason_of_every_frame(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking()}, "missing")
    while watched.states.get(timeout=PATIENCE) is not EngineState.FAILED:
        pass
    watched.offer()
    assert "no checkpoint 'missing'" in watched.report().reason


@pytest.mark.slow
def test_the_engine_dies_and_comes_back(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("sleep"), "rear": asking()})
    watched.ready()
    watched.offer(camera="front")
    watched.asleep()
    watched.offer(camera="rear")
    assert watched.pipeline.engine.pid
    os.kill(watched.pipeline.engine.pid, signal.SIGKILL)
    for _ in range(2):
        report = watched.report()
        assert report.outcome is Outcome.ENGINE_DOWN
        assert "SIGKILL" in report.reason
    watched.ready()
    for _ in range(10):  # more than there are slots: none was lost
        watched.offer(camera="rear")
        assert watched.report().outcome is Outcome.PUBLISHED
    assert watched.pipeline.engine.restarts == 1


def test_a_frame_the_engine_refuses(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("refuse")})
    watched.ready()
    for _ in range(6):
        watched.offer()
        report = watched.report()
        assert (report.outcome, report.reason) == (Outcome.ENGINE_DOWN, "this task is refused")
    assert watched.pipeline.engine.restarts == 0


@pytest.mark.slow
def test_cameras_come_and_go(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("sleep")}, hang_seconds=1000.0)
    watched.ready()
    watched.offer()
    watched.asleep()
    watched.pipeline.set_camera("rear", asking())
    watched.offer(camera="rear")
    watched.pipeline.remove_camera("rear")
    assert watched.report().outcome is Outcome.STALE
    with pytest.raises(KeyError):
        watched.pipeline.offer("rear", picture(), None, 0, 0)
    with pytest.raises(PolicyError):
        watched.pipeline.set_camera("front", Camera(CameraPolicy(deadline=-1.0)))


@pytest.mark.slow
def test_time_going_back_drops_held_frames(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("sleep")}, hang_seconds=1000.0)
    watched.ready()
    now = time.time_ns()
    watched.pipeline.offer("front", picture(), "first", now, now)
    watched.asleep()
    watched.pipeline.offer("front", picture(), "second", now, now)
    watched.pipeline.offer("front", picture(), "third", now - 10**10, now - 10**10)
    report = watched.report()
    assert (report.header, report.outcome) == ("second", Outcome.STALE)
    assert "went back" in watched.warnings[0]


@pytest.mark.slow
@pytest.mark.parametrize("doing", ["idle", "sleep", "stop"])
def test_stop_does_not_wait_for_answers_and_reports_held_frames(
    watch: Callable[..., Watched], doing: str
) -> None:
    watched = watch({"front": asking(doing), "rear": asking()}, hang_seconds=1000.0)
    watched.ready()
    if doing != "idle":
        watched.offer(camera="front")
    if doing == "sleep":
        watched.asleep()
    watched.offer(camera="rear")
    watched.offer(camera="rear")
    watched.pipeline.stop(2.0)  # or the test's time is up: the engine sleeps for longer
    watched.offer(camera="rear")
    reports = watched.all_reports()
    assert reports[max(reports)].outcome is Outcome.ENGINE_DOWN


@pytest.mark.slow
def test_a_failing_callback_harms_no_other_frame(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking()})
    failed = threading.Event()

    def fail(report: Report) -> None:
        failed.set()
        raise ValueError("a mistake of the caller's")

    watched.pipeline.reporter.on_result = fail
    watched.ready()
    watched.offer()
    assert failed.wait(PATIENCE)
    watched.report()
    watched.offer()
    assert watched.report().outcome is Outcome.PUBLISHED


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["realtime", "realtime-overlap"])
def test_overlap_changes_no_answer(watch: Callable[..., Watched], preset: str) -> None:
    cameras = {"front": asking("brief", "cone"), "rear": asking("", "ball")}
    watched = watch(cameras, config={"preset": preset})
    watched.ready()
    for value in range(0, 100, 10):
        headers = [watched.offer(picture(value + i), camera) for i, camera in enumerate(cameras)]
        results = {r.header: r.answer for r in (watched.results.get(timeout=PATIENCE) for _ in headers)}
        texts = [answer.text for header in headers if (answer := results[header])]
        assert texts == [f"{value} cone", f"{value + 1} ball"]


@pytest.mark.slow
def test_a_slow_subscriber_causes_no_late_publication(watch: Callable[..., Watched]) -> None:
    """Decided when its turn comes, not when the engine was done."""
    policy = CameraPolicy(deadline=5.0)
    watched = watch({"front": asking(), "rear": Camera(policy)})
    watched.ready()
    entered, leave = threading.Event(), threading.Event()

    def slowly(report: Report) -> None:
        watched.results.put(report)
        entered.set()
        assert leave.wait(PATIENCE)

    watched.pipeline.reporter.on_result = slowly
    watched.offer(camera="front")
    assert entered.wait(PATIENCE)
    watched.offer(camera="rear", age=4.5)
    offered = time.monotonic()
    while time.monotonic() < offered + 0.6:
        time.sleep(0.01)
    leave.set()
    assert watched.report().outcome is Outcome.PUBLISHED
    report = watched.report()
    assert (report.camera, report.outcome) == ("rear", Outcome.STALE)


@pytest.mark.slow
def test_frames_of_several_cameras_run_in_one_pass(watch: Callable[..., Watched]) -> None:
    cameras = {name: asking("batch") for name in ("front", "left", "right", "rear")}
    watched = watch(cameras | {"slow": asking("brief")}, "batches")
    watched.ready()
    sizes = Counter()
    for _ in range(20):
        watched.offer(camera="slow")
        for camera in cameras:
            watched.offer(camera=camera)
        reports = [watched.report() for _ in range(5)]
        assert {report.outcome for report in reports} == {Outcome.PUBLISHED}
        sizes.update(r.answer.text for r in reports if r.answer and r.camera != "slow")
    assert max(sizes) > "1", sizes


@pytest.mark.slow
def test_a_deadline_no_answer_can_meet(watch: Callable[..., Watched]) -> None:
    """Known once the engine has warmed up: then said of one that is there, refused where it is new.

    One that could be met on a machine with more time for it is taken, with a warning.
    """
    watched = watch({"front": Camera(CameraPolicy(deadline=0.1)), "rear": asking()}, "takes half a second")
    watched.ready()
    with pytest.raises(PolicyError, match="shortest that works"):
        watched.pipeline.set_camera("left", Camera(CameraPolicy(deadline=0.09)))
    watched.offer(camera="rear")
    assert watched.report().outcome is Outcome.PUBLISHED
    (warning,) = watched.warnings
    assert "camera front: deadline 0.100 s" in warning
    assert "the shortest that works is 0.500 s" in warning
    watched.pipeline.set_camera("front", Camera(CameraPolicy(deadline=0.1, weight=2.0)))
    watched.pipeline.set_cameras({"rear": asking(), "front": Camera(CameraPolicy(deadline=0.4))})
    assert "camera front: deadline 0.400 s is tight" in watched.warnings[-1]


LADDER = (Level("1 tile", 1, 0, 2), Level("full"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "asked"), [(LADDER[:1], "1 tiles, 2 objects"), (LADDER, "5 tiles, 0 objects")]
)
def test_the_engine_gets_the_budget_level(
    levels: tuple[Level, ...], asked: str, watch: Callable[..., Watched]
) -> None:
    watched = watch({"front": asking("budget")}, levels=levels)
    watched.ready()
    report = watched.report_of_next()
    while report.level:  # it may start low, and climbs as soon as it sees that there is room
        time.sleep(0.02)  # the camera's period: without one there never is
        report = watched.report_of_next()
    assert report.answer is not None
    assert report.answer.text == asked
