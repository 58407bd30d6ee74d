"""FrameScheduler: each rule about single frames by example."""

from collections import Counter

import pytest
from scheduling import RUN, ends, prepare, scheduler

from argus_ros.core.frame import CameraPolicy, Level, PolicyError, State
from argus_ros.core.latency import LatencyModel
from argus_ros.core.scheduler import FrameScheduler
from argus_ros.core.types import Outcome

# --- one frame ----------------------------------------------------------------------------------------------


def test_a_frame_goes_through_both_stages_and_is_published():
    s = scheduler("front")
    offered = s.offer("front", capture_time=0.95, now=1.0, payload="image")
    frame = s.next_prepare(1.0)
    assert frame is offered
    assert frame.payload == "image"
    assert s.next_run(1.0) == []
    s.prepared(frame, 1.005)
    assert s.next_run(1.005) == [frame]
    assert s.finished(frame, 1.025)
    (end,) = s.take_ended()
    assert end.outcome is Outcome.PUBLISHED
    assert end.reason == "0.075 s old; earliest deadline, level full"
    assert s.take_ended() == []
    assert s.next_wakeup() is None


def test_a_late_answer_is_withheld_with_its_delay():
    s = scheduler("front")
    s.offer("front", 1.0, 1.0)
    frame = prepare(s, 1.0)
    s.next_run(1.005)
    assert not s.finished(frame, 1.25)
    (end,) = s.take_ended()
    assert end.outcome is Outcome.WITHHELD
    assert end.reason == "it came 0.050 s late"


def test_a_newer_frame_takes_the_place_of_one_that_waits():
    s = scheduler("front")
    s.offer("front", 1.0, 1.0)
    newer = s.offer("front", 1.03, 1.03)
    assert ends(s) == [("front", Outcome.SUPERSEDED)]
    assert s.next_prepare(1.03) is newer


def test_a_prepared_frame_is_replaced_while_there_is_time_to_prepare_a_newer_one():
    s = scheduler("front", prior={("prepare", 0, 1): 0.005, ("run", 0, 1): 0.1})
    s.offer("front", 1.0, 1.0)
    running = prepare(s, 1.0)
    s.next_run(1.005)  # until 1.105
    s.offer("front", 1.033, 1.033)
    first = prepare(s, 1.033)
    newer = s.offer("front", 1.066, 1.066)
    assert s.next_prepare(1.066) is newer
    assert s.take_ended() == [], "the older one is there until the newer is prepared"
    s.prepared(newer, 1.071)
    assert ends(s) == [("front", Outcome.SUPERSEDED)]
    s.offer("front", 1.102, 1.102)
    assert s.next_prepare(1.102) is None, "too late to prepare another before the engine is free"
    assert s.finished(running, 1.105)
    assert s.next_run(1.105) == [newer]
    assert first.state is State.ENDED


@pytest.mark.parametrize("well", [True, False])
def test_an_engine_that_is_free_early_runs_the_older_frame(well):
    s = scheduler("front", prior={("prepare", 0, 1): 0.005, ("run", 0, 1): 0.1})
    s.offer("front", 1.0, 1.0)
    running = prepare(s, 1.0)
    s.next_run(1.005)
    s.offer("front", 1.033, 1.033)
    older = prepare(s, 1.033)
    s.offer("front", 1.066, 1.066)
    newer = s.next_prepare(1.066)
    if not well:
        s.drop(newer, Outcome.UNDECODABLE, "no image", 1.067)
    assert s.finished(running, 1.068)
    assert s.next_run(1.068) == [older]
    if well:
        s.prepared(newer, 1.071)
        assert s.finished(older, 1.1)
        assert s.next_run(1.1) == [newer]


def test_without_overlap_nothing_is_prepared_while_the_engine_runs():
    s = scheduler("front", "rear", ahead=0)
    s.offer("front", 1.0, 1.0)
    frame = prepare(s, 1.0)
    s.next_run(1.005)
    s.offer("rear", 1.006, 1.006)
    assert s.next_prepare(1.006) is None
    s.finished(frame, 1.025)
    assert s.next_prepare(1.025).camera == "rear"


def test_an_image_that_cannot_be_decoded_ends_and_frees_its_camera():
    s = scheduler("front")
    s.offer("front", 1.0, 1.0)
    s.drop(s.next_prepare(1.0), Outcome.UNDECODABLE, "it is no JPEG", 1.001)
    assert ends(s) == [("front", Outcome.UNDECODABLE)]
    s.offer("front", 1.03, 1.03)
    assert s.next_prepare(1.03)


def test_an_unchanged_scene_is_answered_without_the_engine():
    s = scheduler("front")
    s.offer("front", 1.0, 1.0)
    frame = prepare(s, 1.0)
    assert s.finished(frame, 1.006)
    assert ends(s) == [("front", Outcome.PUBLISHED)]
    assert s.next_run(1.006) == []


def test_a_second_answer_to_one_frame_is_ignored():
    s = scheduler("front")
    s.offer("front", 1.0, 1.0)
    frame = prepare(s, 1.0)
    s.next_run(1.005)
    assert s.finished(frame, 1.025)
    assert not s.finished(frame, 1.026)
    s.drop(frame, Outcome.ENGINE_DOWN, "late news", 1.03)
    assert len(s.take_ended()) == 1


# --- staleness and probes -----------------------------------------------------------------------------------


def test_a_frame_that_cannot_be_in_time_is_dropped_before_work_is_spent():
    s = scheduler("front")
    s.offer("front", 0.9, 1.0)
    probe = prepare(s, 1.0)  # a run, so that no probe is due
    s.next_run(1.005)
    s.finished(probe, 1.025)
    s.take_ended()
    s.offer("front", capture_time=0.87, now=1.05)  # 0.020 s left, 0.025 s needed
    assert s.next_prepare(1.05) is None
    (end,) = s.take_ended()
    assert end.outcome is Outcome.STALE
    assert end.reason == "it would finish 0.005 s late at the lowest level"


def test_a_hopeless_camera_gets_a_probe_a_second_and_another_at_once_after_good_news():
    s = scheduler(
        ("front", CameraPolicy(deadline=0.5)), prior={("prepare", 0, 1): 0.001, ("run", 0, 1): 0.01}
    )
    for _ in range(3):
        s.latency.observe("run", 0, 1, 1.0)  # the engine has become slow
    s.offer("front", 1.0, 1.0)
    probe = s.next_prepare(1.0)
    assert probe.probe
    s.prepared(probe, 1.0)
    assert s.next_run(1.0) == [probe]
    assert not s.finished(probe, 1.9), "it came late: no reason for another before its time"
    s.offer("front", 1.95, 1.95)
    assert s.next_prepare(1.95) is None
    s.offer("front", 2.0, 2.0)
    again = s.next_prepare(2.0)
    assert again.probe
    s.prepared(again, 2.0)
    s.next_run(2.0)
    assert s.finished(again, 2.01), "the engine has recovered"
    s.offer("front", 2.05, 2.05)
    assert s.next_prepare(2.05).probe


def a_probe_that_runs_while_another_is_prepared_in_its_place():
    s = scheduler(("front", CameraPolicy(deadline=0.5)), ("rear", CameraPolicy(deadline=0.5)))
    for _ in range(3):
        s.latency.observe("run", 0, 1, 0.6)  # the engine has become slow
    s.offer("rear", 1.0, 1.0)
    running = prepare(s, 1.0)
    s.next_run(1.005)
    s.offer("front", 1.1, 1.1)
    probe = prepare(s, 1.1)
    s.offer("front", 1.3, 1.3)
    newer = s.next_prepare(1.3)
    assert probe.probe
    assert newer.probe
    s.finished(running, 1.32)  # sooner than predicted
    assert s.next_run(1.32) == [probe]
    s.prepared(newer, 1.325)
    return s, probe, newer


def test_two_probes_of_a_camera_do_not_run_one_after_the_other():
    s, probe, newer = a_probe_that_runs_while_another_is_prepared_in_its_place()
    assert not s.finished(probe, 1.7)
    assert s.next_run(1.7) == []
    assert newer.reason.startswith("it would finish")


def test_two_probes_of_a_camera_run_one_after_the_other_if_the_first_is_in_time():
    s, probe, newer = a_probe_that_runs_while_another_is_prepared_in_its_place()
    assert s.finished(probe, 1.5)
    assert s.next_run(1.5) == [newer]
    assert newer.probe


def test_a_frame_that_has_become_quick_enough_after_a_probe_is_no_probe():
    s, probe, newer = a_probe_that_runs_while_another_is_prepared_in_its_place()
    s.finished(probe, 1.65)
    for _ in range(2):
        s.latency.observe("run", 0, 1, 0.01)  # the engine has recovered
    assert s.next_run(1.65) == [newer]
    assert not newer.probe
    assert s.finished(newer, 1.66)
    assert newer.reason == "0.360 s old; its camera's turn by weight, level full"


def test_frames_without_probes_are_dropped():
    s = scheduler(("question", CameraPolicy(deadline=0.1, probed=False)), prior={("run", 0, 1): 0.09})
    s.offer("question", 0.95, 1.0)
    assert s.next_prepare(1.0) is None
    assert ends(s) == [("question", Outcome.STALE)]


def test_the_time_of_different_work_is_learnt_apart():
    s = scheduler("front", ("question", CameraPolicy(deadline=5.0, work="caption")))
    s.offer("question", 1.0, 1.0)
    frame = prepare(s, 1.0)
    assert s.next_run(1.0) == [frame]
    s.finished(frame, 2.0)
    assert s.latency.predict("caption", 0) == pytest.approx(1.0)
    assert s.latency.predict("run", 0) == RUN
    assert s.shortest_deadline() < 0.1 < 1.0 < s.shortest_deadline("caption")
    assert "camera question: deadline 0.500 s is tight" in s.check_deadline(
        "question", CameraPolicy(deadline=0.5, work="caption")
    )
    with pytest.raises(PolicyError, match=r"camera question: deadline 0\.200 s is shorter"):
        s.set_policy("question", CameraPolicy(deadline=0.2, work="caption"))


def test_different_work_is_not_done_in_one_batch():
    s = scheduler("front", ("question", CameraPolicy(work="caption")), ahead=2, max_batch=2)
    s.offer("front", 1.0, 1.0)
    s.offer("question", 1.0, 1.0)
    frames = [prepare(s, 1.0), prepare(s, 1.0)]
    assert s.next_run(1.0) == frames[:1]


def test_frames_past_their_deadline_end_at_the_wakeup():
    s = scheduler("front", "rear")
    s.offer("front", 1.0, 1.0)
    prepare(s, 1.0)
    s.next_run(1.005)  # and hangs
    s.offer("rear", 1.01, 1.01)
    prepare(s, 1.01)
    s.offer("front", 1.02, 1.02)
    assert s.next_wakeup() == pytest.approx(1.21)
    s.next_prepare(1.3)
    assert ends(s) == [("front", Outcome.STALE), ("rear", Outcome.STALE)]
    assert s.next_wakeup() is None


# --- the engine, time and cameras ---------------------------------------------------------------------------


def test_while_the_engine_is_down_every_frame_ends_at_once():
    s = FrameScheduler({"front": CameraPolicy()}, [Level()], LatencyModel())
    s.offer("front", 1.0, 1.0)
    (end,) = s.take_ended()
    assert (end.outcome, end.reason) == (Outcome.ENGINE_DOWN, "the engine is not ready yet")
    s.engine_up()
    s.offer("front", 2.0, 2.0)
    running = prepare(s, 2.0)
    s.next_run(2.005)
    s.offer("front", 2.01, 2.01)
    prepared = prepare(s, 2.01)
    s.offer("front", 2.02, 2.02)
    s.engine_down("it was killed")
    assert Counter(ends(s)) == {("front", Outcome.ENGINE_DOWN): 3}
    assert not s.finished(running, 2.03)
    assert s.next_run(2.03) == []
    assert prepared.reason == "it was killed"
    s.engine_up()
    s.offer("front", 2.1, 2.1)
    prepare(s, 2.1)
    assert len(s.next_run(2.105)) == 1


def test_disabling_ends_held_and_new_frames_and_withholds_answers():
    s = scheduler("front", "rear")
    s.offer("front", 1.0, 1.0)
    running = prepare(s, 1.0)
    s.next_run(1.005)
    s.offer("front", 1.01, 1.01)
    s.offer("rear", 1.01, 1.01)
    prepare(s, 1.01)
    s.set_enabled(False)
    assert Counter(ends(s)) == {("front", Outcome.DISABLED): 1, ("rear", Outcome.DISABLED): 1}
    assert not s.finished(running, 1.02)
    s.offer("front", 1.03, 1.03)
    assert ends(s) == [("front", Outcome.DISABLED)] * 2
    assert s.next_prepare(1.03) is None
    s.set_enabled(True)
    s.offer("front", 1.04, 1.04)
    prepare(s, 1.04)
    assert len(s.next_run(1.045)) == 1


def test_a_frame_in_the_worker_ends_when_the_worker_is_done_with_it():
    s = scheduler("front")
    s.offer("front", 1.0, 1.0)
    frame = s.next_prepare(1.0)
    s.engine_down("it was killed")
    assert s.take_ended() == []
    s.prepared(frame, 1.01)
    assert ends(s) == [("front", Outcome.ENGINE_DOWN)]


def test_whether_an_answer_is_in_time_is_decided_when_it_is_published():
    s = scheduler("front", "rear")
    for camera, published in (("front", 1.19), ("rear", 1.21)):
        s.offer(camera, 1.0, 1.0)
        frame = prepare(s, 1.0)
        s.next_run(1.005)
        s.answered(frame, 1.02)
        assert ends(s) == []
        in_time = camera == "front"
        assert s.finished(frame, published) == in_time
        assert ends(s) == [(camera, Outcome.PUBLISHED if in_time else Outcome.WITHHELD)]


def test_an_answer_about_to_be_published_outlives_the_engine_but_not_its_time():
    s = scheduler("front", "rear")
    frames = []
    for camera in ("front", "rear"):
        s.offer(camera, 1.0, 1.0)
        frames.append(prepare(s, 1.0))
        s.next_run(1.005)
        s.answered(frames[-1], 1.02)
    s.engine_down("it was killed")
    s.clear("time went back", "rear")
    assert [s.finished(frame, 1.03) for frame in frames] == [True, False]
    assert ends(s) == [("front", Outcome.PUBLISHED), ("rear", Outcome.WITHHELD)]


def test_time_going_back_drops_held_frames_and_withholds_running_ones():
    s = scheduler("front", "rear")
    s.offer("front", 1.0, 1.0)
    running = prepare(s, 1.0)
    s.next_run(1.005)
    s.offer("front", 1.01, 1.01)
    s.offer("rear", 1.01, 1.01)
    s.clear("time went back", "front")
    assert ends(s) == [("front", Outcome.STALE)]
    assert s.next_prepare(1.012).camera == "rear"
    assert not s.finished(running, 1.02)
    (end,) = s.take_ended()
    assert (end.outcome, end.reason) == (Outcome.WITHHELD, "time went back")


def test_a_removed_camera_leaves_no_state_and_can_be_added_again():
    s = scheduler("front")
    s.offer("front", 1.0, 1.0)
    preparing = s.next_prepare(1.0)
    s.offer("front", 1.01, 1.01)
    s.remove_camera("front")
    with pytest.raises(KeyError):
        s.offer("front", 1.02, 1.02)
    s.set_policy("front", CameraPolicy())
    s.prepared(preparing, 1.03)
    assert ends(s) == [("front", Outcome.STALE)] * 2
    s.offer("front", 1.04, 1.04)
    assert s.next_prepare(1.04)
    assert s.offered["front"] == 3


def test_a_policy_changes_while_it_runs():
    s = scheduler("front")
    waiting = s.offer("front", 1.0, 1.0)
    s.set_policy("front", CameraPolicy(deadline=0.5))
    assert waiting.deadline == 1.5


def test_a_deadline_out_of_reach_is_refused_with_the_shortest_that_works():
    with pytest.raises(PolicyError, match=r"camera front: .* the shortest that works is 0\.025 s"):
        scheduler(("front", CameraPolicy(deadline=0.006)))
    s = scheduler("front")
    with pytest.raises(PolicyError):
        s.set_policy("front", CameraPolicy(deadline=0.006))
    assert s.offer("front", 1.0, 1.0).deadline == 1.2, "the policy is as it was"


def test_a_deadline_is_not_refused_because_the_machine_is_busy():
    s = scheduler("front")
    for now in (1.0, 2.0):
        s.offer("front", now, now)
        frame = prepare(s, now)
        s.next_run(now + 0.005)
        s.finished(frame, now + 0.9)
    assert s.shortest_deadline() > 0.2, "the engine has become slow"
    s.set_policy("front", CameraPolicy(weight=2.0))
    tight = CameraPolicy(deadline=0.19, weight=2.0)
    assert "deadline 0.190 s is tight: the fastest level" in s.check_deadline("front", tight)
    s.set_policy("front", tight)
    assert s.check_deadline("front", CameraPolicy(deadline=s.shortest_deadline())) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 0.0},
        {"deadline": float("nan")},
        {"weight": -1.0},
        {"weight": float("inf")},
        {"rate_cap": -1.0},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong):
    with pytest.raises(PolicyError, match=next(iter(wrong))):
        CameraPolicy(**wrong)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="levels"):
        scheduler("front", levels=())
    with pytest.raises(ValueError, match="max_batch"):
        scheduler("front", ahead=1, max_batch=2)


@pytest.mark.parametrize("delay", [-3.0, 0.0, 1.0])
def test_a_camera_at_1000_hz_with_odd_ages_does_no_harm(delay):
    s = scheduler("mad", ("good", CameraPolicy()))
    for i in range(2000):
        now = 1.0 + i / 1000
        s.offer("mad", now - delay, now)
        if i % 100 == 0:
            s.offer("good", now, now)
        for frame in s.next_run(now):
            s.finished(frame, now)
        if frame := s.next_prepare(now):
            s.prepared(frame, now)
    assert s.counts["good"][Outcome.PUBLISHED] >= 18
