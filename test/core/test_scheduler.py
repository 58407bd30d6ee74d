"""FrameScheduler: each rule by example, then its promises under random events (hypothesis)."""

import itertools
import math
import sys
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from argus_ros.core.frame import CameraPolicy, Level, PolicyError, State
from argus_ros.core.latency import LatencyModel
from argus_ros.core.scheduler import PROBE_INTERVAL, FrameScheduler
from argus_ros.core.types import Outcome
from argus_ros.tools.simulation import Scenario, Service, Source, simulate

PREPARE, RUN = 0.005, 0.020


def scheduler(*cameras, prior=None, **options):
    """Cameras by name (default policy) or as (name, policy); the engine is up."""
    policies = dict(c if isinstance(c, tuple) else (c, CameraPolicy()) for c in cameras)
    prior = {("prepare", 0, 1): PREPARE, ("run", 0, 1): RUN} if prior is None else prior
    levels = options.pop("levels", [Level()])
    made = FrameScheduler(policies, levels, LatencyModel(prior), **options)
    made.engine_up()
    return made


def prepare(s, now, took=PREPARE):
    frame = s.next_prepare(now)
    s.prepared(frame, now + took)
    return frame


def ends(s):
    return [(e.frame.camera, e.outcome) for e in s.take_ended()]


# --- one frame ------------------------------------------------------------------------------------


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


def test_an_answer_that_comes_late_is_withheld_and_says_by_how_much():
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
def test_an_engine_free_early_takes_the_older_frame_and_so_it_does_if_the_newer_is_broken(well):
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


# --- order ----------------------------------------------------------------------------------------


def test_the_earliest_deadline_goes_first_while_the_load_fits():
    s = scheduler(("lax", CameraPolicy(deadline=0.5)), ("tight", CameraPolicy(deadline=0.1)))
    s.offer("lax", 1.0, 1.0)
    s.offer("tight", 1.0, 1.0)
    assert s.next_prepare(1.0).camera == "tight"


def test_an_urgent_frame_overtakes_a_prepared_one_but_only_one_does():
    cameras = [
        (name, CameraPolicy(deadline=d)) for name, d in (("a", 0.5), ("b", 0.4), ("c", 0.2), ("d", 0.1))
    ]
    s = scheduler(*cameras)
    s.offer("a", 1.0, 1.0)
    running = prepare(s, 1.0)
    s.next_run(1.005)
    s.offer("b", 1.006, 1.006)
    waiting = prepare(s, 1.006, took=0.001)
    s.offer("c", 1.007, 1.007)
    urgent = prepare(s, 1.007, took=0.001)
    assert urgent.camera == "c"
    s.offer("d", 1.008, 1.008)
    assert s.next_prepare(1.008) is None
    s.finished(running, 1.025)
    assert s.next_run(1.025) == [urgent]
    assert waiting.state is State.PREPARED


def test_the_rate_cap_holds_on_average_and_newest_still_wins():
    s = scheduler(("front", CameraPolicy(rate_cap=20.0)))
    taken = 0
    for i in range(300):  # 10 s at 30 Hz
        now = 1.0 + i / 30
        s.offer("front", now, now)
        if frame := s.next_prepare(now):
            taken += 1
            s.finished(frame, now)
    assert taken == pytest.approx(200, abs=2)
    assert Counter(o for _, o in ends(s))[Outcome.RATE_LIMITED] == pytest.approx(100, abs=2)


def starts_under_overload(s, count, fails=lambda frame: False):
    """Cameras in the order of their first ``count`` runs, an image of each every 5 ms, a run every 20 ms."""
    starts, running = [], []
    for i in itertools.count():
        now = 1.0 + i * 0.005
        for name in s.counts:
            s.offer(name, now, now)
        for frame in running if i % 4 == 0 else ():
            s.finished(frame, now)
        while frame := s.next_prepare(now):
            if fails(frame):
                s.drop(frame, Outcome.UNDECODABLE, "no image", now)
            else:
                s.prepared(frame, now)
        if batch := s.next_run(now):
            running = batch
            starts += [frame.camera for frame in batch] if s.load().overloaded else []
        if len(starts) >= count:
            return starts


def test_under_overload_a_heavy_camera_may_not_run_ahead_of_its_share():
    s = scheduler(("heavy", CameraPolicy(weight=8.0)), "b", "c")
    starts = starts_under_overload(s, 100)
    assert starts.count("heavy") == pytest.approx(80, abs=2)
    light = [i for i, name in enumerate(starts) if name != "heavy"]
    assert max(b - a for a, b in pairwise(light)) <= 7, "its runs are spread, not eight in a row"


def starts_in_ms(s, images, run, prepare, until=4000):
    """Each camera's starts on an engine that takes ``run`` ms; images: (first, period) of each, in ms."""
    starts = {name: [] for name in images}
    preparing = running = None
    ready = done = 0  # when
    for ms in range(until):
        now = ms / 1000
        for name, (first, period) in images.items():
            if ms % period == first:
                s.offer(name, now, now)
        if preparing and ms == ready:
            s.prepared(preparing, now)
            preparing = None
        if running and ms == done:
            s.finished(running, now)
            running = None
        for running in s.next_run(now):
            done = ms + run
            starts[running.camera].append(ms)
        if not preparing and (preparing := s.next_prepare(now)):
            ready = ms + prepare
    return starts


@pytest.mark.parametrize(
    ("light", "heavy", "third", "third_weight", "run", "prepare"),
    [
        pytest.param((20, 50), (15, 30), (25, 200), 16.0, 30, 10, id="one that is far ahead waits alone"),
        pytest.param((15, 200), (15, 50), (15, 30), 1.0, 50, 20, id="one often goes as nobody else is ready"),
    ],
)
def test_no_camera_starves_that_wakes_beside_one_ahead_or_went_ahead(
    light, heavy, third, third_weight, run, prepare
):
    weights = {"light": 1.0, "heavy": 16.0, "third": third_weight}
    cameras = [(name, CameraPolicy(5.0, weight)) for name, weight in weights.items()]
    s = scheduler(*cameras, prior={("prepare", 0, 1): prepare / 1000, ("run", 0, 1): run / 1000})
    images = {"light": light, "heavy": heavy, "third": third}
    for name, starts in starts_in_ms(s, images, run, prepare).items():
        bound = 2 * run * sum(weights.values()) / weights[name] + 2 * run + images[name][1]
        times = [1000, *(ms for ms in starts if ms >= 1000), 4000]
        assert max(b - a for a, b in pairwise(times)) <= bound, name


def test_the_load_follows_cameras_that_pause_and_come_back():
    s = scheduler("front")
    s.latency.observe = lambda *a, **k: None
    run_for(s, rate=30, seconds=3)
    assert s.load().load == pytest.approx(30 * RUN, rel=0.05)
    s.next_prepare(5.5)
    assert s.load().load == 0.0
    run_for(s, rate=30, seconds=1, start=60.0)
    assert s.load().load == pytest.approx(30 * RUN, rel=0.3)
    run_for(s, rate=2, seconds=20, start=61.0)
    assert s.load().load == pytest.approx(2 * RUN, rel=0.2)


def test_a_camera_does_not_pay_for_frames_that_were_not_run():
    s = scheduler("broken", "sound")
    coin = itertools.cycle([True, True, False])
    starts = starts_under_overload(s, 100, fails=lambda f: f.camera == "broken" and next(coin))
    assert starts.count("broken") == pytest.approx(50, abs=2)


@pytest.mark.parametrize("overloaded", [False, True])
def test_the_work_of_a_decision_grows_no_faster_than_n_log_n(overloaded):
    """In calls, which do not depend on the machine; its time is measured by ``argus simulate --cost``."""
    calls = {}
    for count in (8, 64):
        s = scheduler(*(f"c{i}" for i in range(count)))
        for now in (1.0, 1.01) if overloaded else (1.0,):  # of a second image the load is known
            for name in s.counts:
                s.offer(name, now, now)
        events = []
        sys.setprofile(lambda frame, event, argument, events=events: events.append(event))
        chosen = s.next_prepare(now)
        sys.setprofile(None)
        assert chosen
        assert s.load().overloaded == overloaded
        calls[count] = sum(event.endswith("call") for event in events)
    assert calls[8] > 8, "or nothing was counted"
    assert calls[64] <= calls[8] * (64 * math.log(64)) / (8 * math.log(8))


# --- staleness and probes --------------------------------------------------------------------------


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


def test_what_is_not_to_be_probed_is_dropped_though_it_never_ran():
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


def test_what_waits_beyond_its_deadline_ends_at_the_wakeup():
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


# --- budget levels ----------------------------------------------------------------------------------

LADDER = (Level("low"), Level("mid"), Level("high"))
LADDER_PRIOR = {("prepare", n, 1): 0.001 for n in range(3)} | {
    ("run", n, 1): seconds for n, seconds in enumerate((0.01, 0.02, 0.04))
}


def run_for(s, rate, seconds, start=1.0, deadline_left=None):
    """Offer frames of all cameras at ``rate`` and answer as predicted; levels of the last half."""
    levels = []
    for i in range(int(rate * seconds)):
        now = start + i / rate
        for name in s.counts:
            s.offer(name, now if deadline_left is None else now + deadline_left - 0.2, now)
        while frame := s.next_prepare(now):
            s.prepared(frame, now)
            for running in s.next_run(now):
                s.finished(running, now)
            levels.append(frame.level)
    return levels[len(levels) // 2 :]


def test_the_highest_level_is_taken_where_time_and_load_allow():
    assert set(run_for(scheduler("front", prior=LADDER_PRIOR, levels=LADDER), rate=10, seconds=6)) == {2}


def test_the_deadline_limits_the_level():
    s = scheduler("front", prior=LADDER_PRIOR, levels=LADDER)
    s.latency.observe = lambda *a, **k: None  # as predicted, though this test answers at once
    assert set(run_for(s, rate=5, seconds=6, deadline_left=0.045)) == {1}


def test_the_load_of_all_cameras_limits_the_level():
    s = scheduler("a", "b", "c", "d", prior=LADDER_PRIOR, levels=LADDER)
    s.latency.observe = lambda *a, **k: None
    assert set(run_for(s, rate=10, seconds=6)) == {1}, "40 frames/s at 0.02 s fit, at 0.04 s they do not"
    assert not s.load().overloaded


# --- batches ------------------------------------------------------------------------------------------


def batchable(together, deadline=0.2):
    prior = {("prepare", 0, 1): 0.001, ("run", 0, 1): 0.02, ("run", 0, 2): together}
    cameras = [(name, CameraPolicy(deadline)) for name in ("a", "b")]
    s = scheduler(*cameras, prior=prior, ahead=2, max_batch=2)
    for name in ("a", "b"):
        s.offer(name, 1.0, 1.0)
    for _ in range(2):
        s.prepared(s.next_prepare(1.0), 1.0)
    return s


def test_frames_of_two_cameras_run_together_and_teach_the_batch():
    s = batchable(together=0.03)
    batch = s.next_run(1.0)
    assert [f.camera for f in batch] == ["a", "b"]
    assert s.finished(batch[0], 1.05)
    assert s.next_run(1.05) == [], "the engine is busy until the whole batch is answered"
    assert s.finished(batch[1], 1.05)
    assert s.latency.predict("run", 0, 2) > 0.03
    assert s.latency.predict("run", 0, 1) < s.latency.predict("run", 0, 2)


def test_no_batch_where_one_of_its_frames_would_miss_its_deadline():
    s = batchable(together=0.03, deadline=0.045)
    assert len(s.next_run(1.0)) == 2
    s = batchable(together=0.039, deadline=0.0385)
    assert len(s.next_run(1.0)) == 1


def test_no_batch_that_takes_longer_than_its_frames_one_by_one():
    assert len(batchable(together=0.05).next_run(1.0)) == 1


# --- the engine, time and cameras ----------------------------------------------------------------------


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


def test_disabled_ends_what_is_held_and_what_comes_and_keeps_an_answer_back():
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


def test_time_going_back_clears_what_is_held_and_withholds_what_runs():
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


def test_a_removed_camera_leaves_nothing_behind_and_may_come_back():
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


# --- promises under random events ------------------------------------------------------------------------


class Events(RuleBasedStateMachine):
    """Any order of events: every frame ends once, counts add up, memory is bounded, nothing stays stuck."""

    def __init__(self):
        super().__init__()
        self.now = 1.0
        self.ended = {}
        self.offered = Counter()
        self.preparing, self.running, self.unpublished = [], [], []
        self.out = set()  # frames between next_prepare and their end

    @initialize(ahead=st.integers(0, 3), max_batch=st.integers(1, 3), levels=st.integers(1, 3))
    def start(self, ahead, max_batch, levels):
        prior = {(stage, n, 1): 0.01 * (n + 1) for stage in ("prepare", "run") for n in range(levels)}
        ladder = [Level(str(n)) for n in range(levels)]
        self.s = FrameScheduler(
            {"a": CameraPolicy(0.3, 4.0), "b": CameraPolicy(0.1), "c": CameraPolicy(0.2, 1.0, 5.0)},
            ladder,
            LatencyModel(prior),
            ahead=ahead,
            max_batch=min(max_batch, max(1, ahead)),
        )
        self.s.engine_up()
        self.down = False
        self.cameras = {"a", "b", "c"}

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 0.03, 0.3, 2.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(camera=st.sampled_from("abc"), age=st.sampled_from([-1.0, 0.0, 0.05, 0.15, 9.0]))
    def offer(self, camera, age):
        if camera in self.cameras:
            self.s.offer(camera, self.now - age, self.now)
            self.offered[camera] += 1

    @rule()
    def next_prepare(self):
        if frame := self.s.next_prepare(self.now):
            assert frame.state is State.PREPARING
            self.preparing.append(frame)
            self.out.add(frame)

    @precondition(lambda self: self.preparing)
    @rule(well=st.booleans(), which=st.integers(0, 9))
    def prepared(self, well, which):
        frame = self.preparing.pop(which % len(self.preparing))
        if well:
            self.s.prepared(frame, self.now)
        else:
            self.s.drop(frame, Outcome.UNDECODABLE, "no image", self.now)

    @rule()
    def next_run(self):
        batch = self.s.next_run(self.now)
        if batch:
            assert not self.down
            assert not [f for f in self.running if f.state is State.RUNNING]
            assert len({f.camera for f in batch}) == len(batch) <= self.s.max_batch
            assert len({f.level for f in batch}) == 1
            self.running = batch

    @precondition(lambda self: self.running)
    @rule(well=st.booleans(), truncated=st.booleans())
    def answered(self, well, truncated):
        frame = self.running.pop()
        if well:
            self.s.answered(frame, self.now, truncated=truncated)
            self.unpublished.append(frame)
            self.out.discard(frame)
        else:
            self.s.drop(frame, Outcome.ENGINE_DOWN, "it failed", self.now)

    @precondition(lambda self: self.unpublished)
    @rule()
    def finished(self):
        frame = self.unpublished.pop()
        if self.s.finished(frame, self.now):
            assert self.now <= frame.deadline

    @rule()
    def engine(self):
        self.down = not self.down
        if self.down:
            self.s.engine_down("gone")
        else:
            self.s.engine_up()

    @rule(camera=st.sampled_from([None, "a", "b", "c"]))
    def clear(self, camera):
        self.s.clear("time went back", camera)

    @rule(
        camera=st.sampled_from("abc"),
        deadline=st.sampled_from([0.05, 0.2, 1.0]),
        weight=st.sampled_from([1.0, 8.0]),
    )
    def policy(self, camera, deadline, weight):
        try:
            self.s.set_policy(camera, CameraPolicy(deadline, weight))
            self.cameras.add(camera)
        except PolicyError:
            assert deadline < self.s.shortest_deadline()

    @rule(camera=st.sampled_from("abc"))
    def remove(self, camera):
        if camera in self.cameras:
            self.s.remove_camera(camera)
            self.cameras.remove(camera)

    @invariant()
    def every_frame_ends_once_and_counts_add_up(self):
        if not hasattr(self, "s"):
            return
        for end in self.s.take_ended():
            assert end.frame not in self.ended
            assert end.reason
            assert end.frame.state is State.ENDED
            self.ended[end.frame] = end.outcome
            self.out.discard(end.frame)
        assert self.s.offered == self.offered
        assert Counter((f.camera, o) for f, o in self.ended.items()) == {
            (camera, outcome): n for camera, counts in self.s.counts.items() for outcome, n in counts.items()
        }
        assert len(self.out) <= self.s.ahead + 2 + self.s.max_batch

    def teardown(self):
        """Whatever happened: let go of everything and no frame is left."""
        if not hasattr(self, "s"):
            return
        for frame in self.preparing:
            self.s.prepared(frame, self.now)
        for frame in self.running + self.unpublished:
            self.s.finished(frame, self.now)
        self.s.clear("the end")
        self.every_frame_ends_once_and_counts_add_up()
        assert len(self.ended) == sum(self.offered.values())


TestEvents = Events.TestCase
TestEvents.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


class Watched:
    """A scheduler whose every decision is checked as it is made."""

    def __init__(self, scenario):
        self.s = scenario.scheduler()
        self.newest = {}
        self.started = {}
        self.ran = {}  # when each camera's last run began; without those that were probes in time
        self.now = 0.0
        self.busy = self.selected = 0

    def offer(self, camera, capture_time, now, payload=None):
        frame = self.s.offer(camera, capture_time, now, payload)
        if frame.state is State.WAITING:
            self.newest[camera] = frame
        return frame

    def next_prepare(self, now):
        self.now = now
        frame = self.s.next_prepare(now)
        if frame:
            assert frame is self.newest[frame.camera], "newest wins"
            assert now <= frame.deadline
        elif not self.busy and not any(
            f.state in (State.PREPARING, State.PREPARED) for f in self.newest.values()
        ):
            assert self.s.next_wakeup() is None, "work conserving: nothing waits while all is idle"
        return frame

    def prepared(self, frame, now):
        self.s.prepared(frame, now)

    def next_run(self, now):
        self.now = now
        batch = self.s.next_run(now)
        for frame in batch:
            seconds = self.s.latency.predict("run", frame.level, len(batch))
            assert frame.probe or now + seconds <= frame.deadline, "nothing past saving is run"
            assert self.started.get(frame.camera, 0) < frame.id, "never an older one after a newer"
            self.started[frame.camera] = frame.id
            assert not frame.probe or self.probe_due(frame.camera, now), "a second lies before a probe"
            self.ran[frame.camera] = now
        self.busy += len(batch)
        return batch

    def finished(self, frame, now):
        self.busy -= 1
        published = self.s.finished(frame, now)
        assert published == (now <= frame.deadline)
        if published and frame.probe:
            del self.ran[frame.camera]
        return published

    def probe_due(self, camera, now):
        return now >= self.ran.get(camera, -math.inf) + PROBE_INTERVAL

    def take_ended(self):
        ended = self.s.take_ended()
        for end in ended:
            dropped_early = end.outcome is Outcome.STALE and self.now < end.frame.deadline
            assert not (dropped_early and self.probe_due(end.frame.camera, self.now)), "a probe was due"
        return ended


@st.composite
def scenarios(draw):
    count = draw(st.integers(1, 8))
    names = [f"c{i}" for i in range(count)]
    levels = draw(st.integers(1, 3))
    max_batch = draw(st.integers(1, 3))
    load = draw(st.floats(0.2, 4.0))
    sources = {
        name: Source(
            rate=draw(st.sampled_from([5.0, 15.0, 30.0])),
            poisson=draw(st.booleans()),
            jitter=draw(st.sampled_from([0.0, 0.01])),
            burst=draw(st.sampled_from([1, 1, 3])),
            delay=draw(st.sampled_from([0.0, 0.03])),
        )
        for name in names
    }
    seconds = load / sum(source.rate for source in sources.values())
    noise = draw(st.sampled_from([0.0, 0.1, 0.5]))
    engine = {
        (level, batch): [seconds * (level + 1) / levels * (1 + 0.5 * (batch - 1))]
        for level in range(levels)
        for batch in range(1, max_batch + 1)
    }
    least = 2.0 * seconds
    return Scenario(
        cameras={
            name: CameraPolicy(
                least + draw(st.sampled_from([0.05, 0.1, 0.3])),
                draw(st.sampled_from([0.5, 1.0, 4.0])),
                draw(st.sampled_from([0.0, 0.0, 10.0])),
            )
            for name in names
        },
        sources=sources,
        prepare=Service({(level, 1): [0.2 * seconds] for level in range(levels)}, noise),
        engine=Service(engine, noise, draw(st.sampled_from([(1.0, 0.0, 0.0), (20.0, 1.0, 2.0)]))),
        levels=tuple(Level(str(level)) for level in range(levels)),
        seconds=4.0,
        ahead=max(draw(st.integers(0, 3)), max_batch if max_batch > 1 else 0),
        max_batch=max_batch,
        seed=draw(st.integers(0, 10_000)),
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(scenarios())
def test_every_decision_keeps_the_promises(scenario):
    watched = Watched(scenario)
    trace = simulate(scenario, watched)
    ids = [ended.frame.id for _, ended in trace.ended]
    assert len(ids) == len(set(ids))
    assert trace.offered == len(ids) + trace.held
    assert trace.held <= len(scenario.cameras) + scenario.ahead + 2 + scenario.max_batch
    assert sum(sum(counts.values()) for counts in watched.s.counts.values()) == len(ids)


@settings(max_examples=10, deadline=None)
@given(scenarios())
def test_the_same_events_lead_to_the_same_decisions(scenario):
    first, second = (simulate(scenario, scenario.scheduler()) for _ in range(2))

    def story(trace):
        return [(now, e.frame.id, e.outcome, e.reason) for now, e in trace.ended]

    assert story(first) == story(second)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_under_overload_no_camera_waits_longer_than_the_bound(data):
    """2 fair periods, a camera period, and a batch for the engine and for each frame prepared ahead."""
    count = data.draw(st.integers(2, 12))
    names = [f"c{i}" for i in range(count)]
    weights = {n: data.draw(st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])) for n in names}
    rates = {n: data.draw(st.sampled_from([5.0, 10.0, 15.0, 30.0, 60.0])) for n in names}
    seconds = data.draw(st.floats(1.15, 5.0)) / sum(rates.values())
    noise = data.draw(st.sampled_from([0.0, 0.05, 0.2]))
    scenario = Scenario(
        cameras={n: CameraPolicy(deadline=5.0, weight=weights[n]) for n in names},
        sources={n: Source(rates[n]) for n in names},
        prepare=Service({(0, 1): [seconds * data.draw(st.floats(0.05, 0.6))]}, noise),
        engine=Service({(0, 1): [seconds]}, noise),
        seconds=6.0,
        ahead=data.draw(st.integers(1, 2)),
        seed=data.draw(st.integers(0, 10_000)),
    )
    trace = simulate(scenario, scenario.scheduler())
    runs = [run for run in trace.runs if run.start >= 1.0]  # the load is known by then
    longest = max(run.end - run.start for run in runs)
    starts = defaultdict(list)
    for run in runs:
        starts[run.frames[0].camera].append(run.start)
    for name in names:
        fair_period = longest * sum(weights.values()) / weights[name]
        bound = 2 * fair_period + (1 + scenario.ahead) * longest + 1 / rates[name]
        times = [1.0, *starts[name], scenario.seconds]
        # A tenth more: a light camera was alone for a moment, then many wake (docs/scheduling.md, Limits).
        assert max(b - a for a, b in pairwise(times)) <= 1.1 * bound, name
