"""FrameScheduler: which camera is next, at which budget level, and in which batch."""

import itertools
import math
import sys
from collections import Counter
from itertools import pairwise

import pytest
from scheduling import RUN, ends, prepare, scheduler

from argus_ros.core.frame import CameraPolicy, Level, State
from argus_ros.core.types import Outcome

# --- order --------------------------------------------------------------------------------------------------


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


# --- budget levels ------------------------------------------------------------------------------------------


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


# --- batches ------------------------------------------------------------------------------------------------


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
